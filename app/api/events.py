"""A ranking's events as a stream (server-sent events)."""

import random
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Response
from fastapi.sse import format_sse_event
from starlette.responses import StreamingResponse

from app.api.dependencies import DatabaseDep, FeedDep, ReaderDep, SettingsDep
from app.api.paths import RankingPath
from app.api.problems import problem_responses
from app.api.route import Route
from app.contracts.events import EVENTS, EndEvent, Event
from app.services import rankings
from app.services.events import Happening
from app.services.feed import Subscription
from app.settings import Settings

router = APIRouter(prefix="/v1/rankings", tags=["rankings"], route_class=Route)

RECONNECT_MILLISECONDS = 2000
# The client comes back with Last-Event-ID.
LONGEST_STREAM_SECONDS = 3600

LastEventHeader = Annotated[
    int | None,
    Header(alias="Last-Event-ID", ge=0, le=2**62, description="The id of the last event that was received."),
]


MEDIA_TYPE = "text/event-stream"


def _described(kind: type[Event]) -> dict[str, Any]:
    """One event of the stream, as the document shows it."""
    data = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": f"#/components/schemas/{kind.__name__}"},
    }
    return {
        "type": "object",
        "required": ["id", "event", "data"],
        "properties": {"id": {"type": "string"}, "event": {"const": kind.type}, "data": data},
    }


STREAM_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The events.",
        "content": {MEDIA_TYPE: {"itemSchema": {"oneOf": [_described(kind) for kind in EVENTS.values()]}}},
    }
}


def _followed(ranking: RankingPath, database: DatabaseDep, caller: ReaderDep) -> str:
    # Looked up before the stream begins, while 404 can still be answered; the connection is given back at once.
    with database.reading() as session:
        return rankings.get(session, caller, ranking).id


FollowedDep = Annotated[str, Depends(_followed)]


async def _subscription(
    followed: FollowedDep, feed: FeedDep, caller: ReaderDep, last_event_id: LastEventHeader = None
) -> AsyncIterator[Subscription]:
    with feed.follow(followed, owner=caller.owner, after=last_event_id or 0) as subscription:
        yield subscription


# It ends with the response, not with the function.
SubscriptionDep = Annotated[Subscription, Depends(_subscription, scope="request")]


# Response has no media type of its own, so that the document describes single events, not the whole stream as a text.
@router.get("/{ranking}/events", response_class=Response, responses=STREAM_RESPONSE | problem_responses(404, 503))
async def follow_ranking(subscription: SubscriptionDep, settings: SettingsDep) -> StreamingResponse:
    """Follow a ranking: `state` when it changes, `model` as each model goes from stage to stage, and `end`.

    Each event has an id. A client that comes back with the header `Last-Event-ID` misses nothing and gets nothing
    twice. Comments come in between as heartbeats. Polling `GET /v1/rankings/{ranking}` tells the same. `503` says that
    too many streams are open.
    """
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(subscription, settings), media_type=MEDIA_TYPE, headers=headers)


async def _stream(subscription: Subscription, settings: Settings) -> AsyncIterator[bytes]:
    ends = time.monotonic() + LONGEST_STREAM_SECONDS
    yield format_sse_event(comment="events of a ranking", retry=RECONNECT_MILLISECONDS)
    while time.monotonic() < ends:
        # Streams that were opened together should not all be silent, and then speak, at the same moment.
        silence = settings.events_heartbeat_seconds * random.uniform(0.5, 1)  # noqa: S311 - no secret
        happenings = await subscription.take(seconds=silence)
        if subscription.revoked:
            return
        if not happenings:
            yield format_sse_event(comment="still here")
            continue
        yield b"".join(map(_formatted, happenings))
        if isinstance(happenings[-1].event, EndEvent):
            return


def _formatted(happening: Happening) -> bytes:
    return format_sse_event(data_str=happening.data, event=happening.event.type, id=str(happening.sequence))
