"""Data sets as archives."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response, UploadFile, status
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from app.api.dependencies import DatabaseDep, JobsDep, SessionDep, SettingsDep, SubmitterDep
from app.api.forms import MULTIPART, FilePart, FormRoute
from app.api.problems import problem_responses
from app.api.route import StrictRequest
from app.contracts.base import Body
from app.contracts.caller import Caller
from app.schemas.datasets import DatasetAnswer, DatasetDescription
from app.services import uploads, usage


class UploadRoute(FormRoute):
    """Refuses an archive that cannot fit what its key may store before a byte of it is read."""

    async def read(self, request: Request, caller: Caller) -> StrictRequest:
        """As every form, unless it is too large for its key."""
        # A retry may ask for the answer to what is stored already.
        if "idempotency-key" not in request.headers:
            state, length = request.app.state, request.headers.get("content-length", "")
            sent = int(length) if length.isascii() and length.isdigit() else 0
            await run_in_threadpool(usage.check_before, state.database, state.settings, caller.owner, sent=sent)
        return await super().read(request, caller)


router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=UploadRoute)


def _incoming(settings: SettingsDep, caller: SubmitterDep) -> Iterator[uploads.Incoming]:
    with uploads.incoming(settings) as folder:
        yield folder


# Asked for before the session: what is asked for first ends last, after the commit.
IncomingDep = Annotated[uploads.Incoming, Depends(_incoming, scope="function")]


class DatasetForm(DatasetDescription):
    """An archive of labelled images."""

    # Every value of a form is a text.
    model_config = Body.model_config | {"strict": False}

    file: FilePart = Field(
        description="A zip, tar or tar.gz with one folder of images per class, or the images that a manifest names."
    )
    manifest: UploadFile | str | None = Field(
        None,
        description="A CSV file with the columns `path`, `label` and perhaps `split`; or, as a text, the name of such "
        "a file in the archive.",
    )


@router.post("/upload", status_code=status.HTTP_202_ACCEPTED, responses=problem_responses(409, 507))
def upload_dataset(
    body: Annotated[DatasetForm, MULTIPART],
    response: Response,
    upload: IncomingDep,
    database: DatabaseDep,
    session: SessionDep,
    jobs: JobsDep,
    settings: SettingsDep,
    caller: SubmitterDep,
) -> DatasetAnswer:
    """Register the images of an archive. Poll `Location` until `state` is `ready`."""
    manifest = body.manifest if body.manifest is None or isinstance(body.manifest, str) else body.manifest.file
    dataset = uploads.register(
        session,
        jobs,
        settings,
        caller,
        upload,
        body,
        archive=body.file.file,
        archive_name=body.file.filename or "",
        manifest=manifest,
        room=usage.room(database, settings, caller.owner),
    )
    response.headers.update({"Location": f"/v1/datasets/{dataset.id}", "Retry-After": "1"})
    return dataset
