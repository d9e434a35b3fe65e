"""Data sets."""

from fastapi import APIRouter, Response, status

from app.api.dependencies import JobsDep, ReaderDep, ReadSessionDep, SessionDep, SettingsDep, SubmitterDep
from app.api.pagination import ListingDep
from app.api.paths import DatasetPath
from app.api.problems import problem_responses
from app.api.route import Route
from app.contracts.states import ResourceState
from app.schemas.datasets import DatasetAnswer, DatasetCreate
from app.schemas.page import Page
from app.services import datasets

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=Route)


@router.post("", status_code=status.HTTP_202_ACCEPTED, responses=problem_responses(409))
def create_dataset(
    body: DatasetCreate,
    response: Response,
    session: SessionDep,
    jobs: JobsDep,
    settings: SettingsDep,
    caller: SubmitterDep,
) -> DatasetAnswer:
    """Register labelled images. A worker counts and fingerprints them: poll `Location` until `state` is `ready`."""
    dataset = datasets.register(session, jobs, settings, caller, body)
    response.headers.update({"Location": f"/v1/datasets/{dataset.id}", "Retry-After": "1"})
    return dataset


@router.get("")
def list_datasets(
    session: ReadSessionDep, caller: ReaderDep, listing: ListingDep, state: ResourceState | None = None
) -> Page[DatasetAnswer]:
    """The data sets that you may see, newest first."""
    return datasets.page(session, caller, listing, state=state)


@router.get("/{dataset}", responses=problem_responses(404))
def get_dataset(dataset: DatasetPath, session: ReadSessionDep, caller: ReaderDep) -> DatasetAnswer:
    """One data set, by id or name: its state, its images of each class, and the files that could not be read."""
    return datasets.show(session, caller, dataset)


@router.delete("/{dataset}", status_code=status.HTTP_204_NO_CONTENT, responses=problem_responses(404, 409))
def delete_dataset(dataset: DatasetPath, session: SessionDep, caller: SubmitterDep, settings: SettingsDep) -> None:
    """Forget a data set that no ranking needs. Images given by path stay where they are; uploaded ones are removed."""
    datasets.delete(session, settings, caller, dataset)
