"""A ranking's events as a stream (server-sent events)."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy.exc import OperationalError
from starlette.concurrency import run_in_threadpool

from app.api.dependencies import DatabaseDep, ReaderDep, ReadSessionDep, SettingsDep
from app.api.paths import RankingPath
from app.api.problems import problem_responses
from app.api.route import Route
from app.services import events, rankings

router = APIRouter(prefix="/v1/rankings", tags=["rankings"], route_class=Route)

RECONNECT_MILLISECONDS = 2000
# The client comes back with Last-Event-ID; a key that was revoked does not.
LONGEST_STREAM_SECONDS = 3600
SLOWEST_POLLING_SECONDS = 3.0

log = structlog.stdlib.get_logger("forerank.events")


def _followed(ranking: RankingPath, session: ReadSessionDep, caller: ReaderDep) -> str:
    return rankings.get(session, caller, ranking).id


# Found before the stream begins, which could not answer 404 any more.
FollowedDep = Annotated[str, Depends(_followed, scope="function")]
LastEventHeader = Annotated[
    int | None,
    Header(alias="Last-Event-ID", ge=0, le=2**62, description="The id of the last event that was received."),
]


@router.get("/{ranking}/events", response_class=EventSourceResponse, responses=problem_responses(404))
async def follow_ranking(
    followed: FollowedDep,
    database: DatabaseDep,
    settings: SettingsDep,
    last_event_id: LastEventHeader = None,
) -> AsyncIterator[ServerSentEvent]:
    """Follow a ranking: `state` when it changes, `model` as each model goes from stage to stage, and `end`.

    Each event has an id. Who comes back with the header `Last-Event-ID` misses nothing and gets nothing twice.
    Comments come in between as heartbeats. Polling `GET /v1/rankings/{ranking}` tells the same.
    """
    sequence = last_event_id or 0
    began = spoke = time.monotonic()
    wait = settings.events_polling_seconds
    yield ServerSentEvent(comment="events of a ranking", retry=RECONNECT_MILLISECONDS)
    while time.monotonic() - began < LONGEST_STREAM_SECONDS:
        found = await _since(database, followed, sequence)
        for happening in found:
            data: dict[str, Any] = {"ranking_id": followed, **happening.data}
            if happening.at is not None:
                data["at"] = happening.at.isoformat()
            yield ServerSentEvent(id=str(happening.sequence), event=happening.type, data=data)
            if happening.type == events.LAST:
                return
            sequence = happening.sequence
        if found:
            spoke = time.monotonic()
            wait = settings.events_polling_seconds
        elif time.monotonic() - spoke >= settings.events_heartbeat_seconds:
            yield ServerSentEvent(comment="still here")
            spoke = time.monotonic()
        await asyncio.sleep(wait)
        # While nothing happens, ask less often.
        wait = min(wait * 1.25, max(SLOWEST_POLLING_SECONDS, settings.events_polling_seconds))


async def _since(database: DatabaseDep, ranking_id: str, sequence: int) -> list[events.Happening]:
    try:
        return await run_in_threadpool(events.since, database, ranking_id, sequence)
    except OperationalError as error:
        # A database that restarts is back soon, and the followers should not notice.
        log.warning("the database does not answer", exc_info=error)
        return []
