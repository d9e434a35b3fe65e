"""Workers."""

from fastapi import APIRouter

from app.api.dependencies import ReaderDep, ReadSessionDep, SettingsDep
from app.api.route import Route
from app.schemas.workers import WorkerAnswer
from app.services import workers

router = APIRouter(prefix="/v1/workers", tags=["workers"], route_class=Route)


@router.get("")
def list_workers(session: ReadSessionDep, caller: ReaderDep, settings: SettingsDep) -> list[WorkerAnswer]:
    """The processes that compute: their devices, what they do, and when each was last heard of."""
    return workers.answers(session, settings)
