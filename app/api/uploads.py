"""Data sets as archives: the same path as data sets by location, told apart by the content type."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response, status
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.routing import Match
from starlette.types import Scope

from app.api.datasets import answer
from app.api.dependencies import JobsDep, SessionDep, SettingsDep, SubmitterDep
from app.api.forms import receive_form, replay_form, upload_counter
from app.api.route import Route
from app.errors import Invalid
from app.schemas.datasets import DatasetAnswer, DatasetUpload
from app.services import uploads


class FormRoute(Route):
    """Takes the requests of its path that are forms; what is not goes on to the next route."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As Starlette's routes do, on the content type too."""
        if not Headers(scope=scope).get("content-type", "").lower().startswith("multipart/form-data"):
            return Match.NONE, {}
        return super().matches(scope)


router = APIRouter(prefix="/v1/datasets", route_class=FormRoute)


def _incoming(settings: SettingsDep, caller: SubmitterDep) -> Iterator[uploads.Incoming]:
    with uploads.incoming(settings) as folder:
        yield folder


# Asked for before the session: what is asked for first ends last, after the commit.
IncomingDep = Annotated[uploads.Incoming, Depends(_incoming, scope="function")]


@router.post("", status_code=status.HTTP_202_ACCEPTED, response_model=DatasetAnswer, include_in_schema=False)
async def upload_dataset(
    request: Request,
    response: Response,
    upload: IncomingDep,
    session: SessionDep,
    jobs: JobsDep,
    settings: SettingsDep,
    caller: SubmitterDep,
) -> DatasetAnswer | Response:
    """Register the images of an archive."""
    form = await receive_form(
        request,
        upload.folder,
        texts=tuple(DatasetUpload.model_fields),
        files=("file", "manifest"),
        count=upload_counter(request, caller),
    )
    if (first := await replay_form(request, form)) is not None:
        return first
    file = form.files.get("file")
    if file is None:
        detail = "send the archive as the part `file`, with a file name"
        raise Invalid(detail, errors=[{"pointer": "/file", "detail": detail}])
    try:
        body = DatasetUpload.model_validate(form.texts, strict=False)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error
    manifest = form.files.get("manifest")
    row = await run_in_threadpool(
        uploads.register,
        session,
        jobs,
        settings,
        caller,
        upload,
        body,
        archive=file.path,
        archive_name=file.name,
        manifest=manifest.path if manifest else None,
    )
    response.headers.update({"Location": f"/v1/datasets/{row.id}", "Retry-After": "1"})
    return answer(row)
