"""Data sets."""

from fastapi import APIRouter, Response, status

from app.api.dependencies import JobsDep, ReaderDep, ReadSessionDep, SessionDep, SettingsDep, SubmitterDep
from app.api.pagination import CursorQuery, LimitQuery, TimeQuery, page_of
from app.api.paths import DatasetPath
from app.api.problems import problem_responses
from app.api.route import Route
from app.db.repositories.datasets import Datasets
from app.db.tables import Dataset, ResourceState
from app.schemas.datasets import DatasetAnswer, DatasetCreate
from app.schemas.page import Page
from app.services import datasets

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=Route)


def answer(row: Dataset) -> DatasetAnswer:
    """A row as users see it."""
    columns = {name: getattr(row, name) for name in DatasetAnswer.model_fields if hasattr(row, name)}
    return DatasetAnswer(
        **columns,
        location=datasets.location(row),
        class_count=None if row.class_counts is None else len(row.class_counts),
    )


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
    row = datasets.register(session, jobs, settings, caller, body)
    response.headers.update({"Location": f"/v1/datasets/{row.id}", "Retry-After": "1"})
    return answer(row)


@router.get("")
def list_datasets(
    session: ReadSessionDep,
    caller: ReaderDep,
    limit: LimitQuery = 50,
    cursor: CursorQuery = None,
    state: ResourceState | None = None,
    owner: str | None = None,
    created_after: TimeQuery = None,
    created_before: TimeQuery = None,
) -> Page[DatasetAnswer]:
    """The data sets that you may see, newest first."""
    rows = Datasets(session).page(
        caller,
        limit=limit,
        before=cursor,
        owner=owner,
        created_after=created_after,
        created_before=created_before,
        conditions=[] if state is None else [Dataset.state == state],
    )
    return page_of(rows, limit, answer)


@router.get("/{dataset}", responses=problem_responses(404))
def get_dataset(dataset: DatasetPath, session: ReadSessionDep, caller: ReaderDep) -> DatasetAnswer:
    """One data set, by id or name: its state, its images of each class, and the files that could not be read."""
    return answer(datasets.get(session, caller, dataset))


@router.delete("/{dataset}", status_code=status.HTTP_204_NO_CONTENT, responses=problem_responses(404, 409))
def delete_dataset(dataset: DatasetPath, session: SessionDep, caller: SubmitterDep, settings: SettingsDep) -> None:
    """Forget a data set that no ranking needs. Images given by path stay where they are; uploaded ones are removed."""
    datasets.delete(session, settings, caller, dataset)
