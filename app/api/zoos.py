"""Zoos."""

from fastapi import APIRouter, Response, status

from app.api.dependencies import JobsDep, ReaderDep, ReadSessionDep, SessionDep, SettingsDep, SubmitterDep
from app.api.pagination import ListingDep
from app.api.paths import ZooPath
from app.api.problems import problem_responses
from app.api.route import Route
from app.schemas.page import Page
from app.schemas.zoos import ZooAnswer, ZooCreate
from app.services import zoos

router = APIRouter(prefix="/v1/zoos", tags=["zoos"], route_class=Route)


@router.post("", status_code=status.HTTP_201_CREATED, responses=problem_responses(409))
def create_zoo(
    body: ZooCreate,
    response: Response,
    session: SessionDep,
    jobs: JobsDep,
    settings: SettingsDep,
    caller: SubmitterDep,
) -> ZooAnswer:
    """Name a set of models, listed or found by a query, so that rankings can ask for all of them.

    Listed models that are not registered yet are registered; one that is not available is listed in `unavailable`, and
    the others go on. A query is asked anew each time that a ranking starts.
    """
    zoo = zoos.create(session, jobs, settings, caller, body)
    response.headers["Location"] = f"/v1/zoos/{zoo.id}"
    return zoo


@router.get("")
def list_zoos(session: ReadSessionDep, caller: ReaderDep, listing: ListingDep) -> Page[ZooAnswer]:
    """The zoos that you may see, newest first."""
    return zoos.page(session, caller, listing)


@router.get("/{zoo}", responses=problem_responses(404))
def get_zoo(zoo: ZooPath, session: ReadSessionDep, caller: ReaderDep) -> ZooAnswer:
    """One zoo, by id or name, with those of its models that are yours or shared."""
    return zoos.show(session, caller, zoo)


@router.delete("/{zoo}", status_code=status.HTTP_204_NO_CONTENT, responses=problem_responses(404, 409))
def delete_zoo(zoo: ZooPath, session: SessionDep, caller: SubmitterDep) -> None:
    """Forget a zoo; its models stay."""
    zoos.delete(session, caller, zoo)
