"""What a key stores."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.api.dependencies import ReaderDep, ReadSessionDep, SettingsDep
from app.api.route import Route
from app.errors import Forbidden
from app.schemas.usage import UsageAnswer
from app.services import usage

router = APIRouter(prefix="/v1/usage", tags=["usage"], route_class=Route)

OwnerQuery = Annotated[
    str | None, Query(min_length=1, max_length=64, description="Of another key, by its id; for admins. Default: yours.")
]


@router.get("")
def get_usage(
    session: ReadSessionDep, settings: SettingsDep, caller: ReaderDep, owner: OwnerQuery = None
) -> UsageAnswer:
    """How many bytes your uploads and fine-tuned weights take, how many they may, and which are the largest."""
    if owner is not None and not caller.owns(owner):
        raise Forbidden("what another key stores is for admins to see")
    return usage.of(session, settings, owner or caller.owner)
