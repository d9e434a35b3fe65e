"""Data sets as archives."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Response, UploadFile, status
from pydantic import Field

from app.api.dependencies import JobsDep, SessionDep, SettingsDep, SubmitterDep
from app.api.forms import MULTIPART, FilePart, FormRoute
from app.api.problems import problem_responses
from app.contracts.base import Body
from app.schemas.datasets import DatasetAnswer, DatasetDescription
from app.services import uploads

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=FormRoute)


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
        description="A zip, tar or tar.gz with one folder of images a class, or with the images that a manifest names."
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
    )
    response.headers.update({"Location": f"/v1/datasets/{dataset.id}", "Retry-After": "1"})
    return dataset
