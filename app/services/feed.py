"""One look at the database, again and again, for all streams of events of this process."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.contracts.events import EndEvent
from app.db.session import Database
from app.errors import Unavailable
from app.services.events import Happening, News, news
from app.settings import Settings

# Of events that a client has not taken yet; then its ranking is not read for it until it has.
LONGEST_BACKLOG = 2000
RETRY_SECONDS = 10

log = structlog.stdlib.get_logger("forerank.events")


class Subscription:
    """One stream's place in the events of a ranking."""

    def __init__(self, ranking_id: str, owner: str, sequence: int) -> None:
        self.ranking_id = ranking_id
        self.owner = owner
        self.sequence = sequence
        self.revoked = False
        self._backlog: list[Happening] = []
        self._arrived = asyncio.Event()

    @property
    def is_hungry(self) -> bool:
        """Whether more events may be put into its backlog."""
        return not self.revoked and len(self._backlog) < LONGEST_BACKLOG

    async def take(self, *, seconds: float) -> list[Happening]:
        """The events that came since the last call, oldest first; none when the time is over or the key revoked."""
        try:
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        except TimeoutError:
            return []
        self._arrived.clear()
        taken, self._backlog = self._backlog, []
        return taken

    def deliver(self, found: News) -> bool:
        """Keep what is new to this stream; whether there was anything."""
        if self.owner in found.revoked:
            self.revoked = True
            self._arrived.set()
            return True
        fresh = [event for event in found.happenings.get(self.ranking_id, ()) if event.sequence > self.sequence]
        if not fresh and self.ranking_id in found.ended:
            again = EndEvent(ranking_id=self.ranking_id, state=found.ended[self.ranking_id])
            fresh = [Happening(self.sequence, again)]
        if fresh:
            self.sequence = fresh[-1].sequence
            self._backlog += fresh
            self._arrived.set()
        return bool(fresh)


class Feed:
    """All streams of this process; reads the database while there are any, on one thread, with one connection."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._seconds = settings.events_polling_seconds
        self._limit = settings.events_stream_limit
        self._subscriptions: set[Subscription] = set()
        self._came = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None

    @contextmanager
    def follow(self, ranking_id: str, *, owner: str, after: int) -> Iterator[Subscription]:
        """A place in the events of a ranking, after the one of that number. Call it on the event loop.

        Raises:
            Unavailable: this process has as many streams as it may.
        """
        if len(self._subscriptions) >= self._limit:
            raise Unavailable(
                f"{self._limit} streams of events are open, which is the limit; poll the ranking, or come back later",
                headers={"Retry-After": str(RETRY_SECONDS)},
            )
        subscription = Subscription(ranking_id, owner, after)
        self._subscriptions.add(subscription)
        self._came.set()
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="events")
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    async def close(self) -> None:
        """Stop reading."""
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)

    async def _poll(self) -> None:
        away = False
        while self._subscriptions:
            self._came.clear()
            more = False
            try:
                more = await self._look()
                away = False
            except SQLAlchemyError as error:
                # A database that restarts is back soon, and the followers should not notice.
                if not away:
                    log.warning("the events cannot be read; trying again", exc_info=error)
                away = True
            if not more:
                await self._rest()

    async def _rest(self) -> None:
        """Wait for the next turn; newcomers need not wait for their first events."""
        try:
            async with asyncio.timeout(self._seconds):
                await self._came.wait()
        except TimeoutError:
            return
        # Many come together: one look for all of them.
        await asyncio.sleep(min(self._seconds, 0.05))

    async def _look(self) -> bool:
        hungry = [subscription for subscription in self._subscriptions if subscription.is_hungry]
        positions: dict[str, int] = {}
        for subscription in hungry:
            known = positions.get(subscription.ranking_id, subscription.sequence)
            positions[subscription.ranking_id] = min(known, subscription.sequence)
        found = await asyncio.to_thread(news, self._database, positions, {each.owner for each in hungry})
        for subscription in hungry:
            if subscription.deliver(found):
                # Streams that are all told at once would all send before any other request has its turn.
                await asyncio.sleep(0)
        return found.more
