"""Turns for work that few may do at once: waiting takes no thread, and no owner can keep the others out."""

import asyncio
from collections import deque

from app.errors import Unavailable


class Turns:
    """So many at once; the others wait, and owners take turns whatever number of requests each has waiting.

    When too many wait, the newest request of the owner with the most of them is turned away. For one event loop.
    """

    def __init__(self, at_once: int, *, waiting_limit: int, limit_seconds: float) -> None:
        self._free = at_once
        self._waiting_limit = waiting_limit
        self._limit_seconds = limit_seconds
        # Owners in the order of their next turns, each with its requests in the order of arrival.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def take(self, owner: str) -> None:
        """Wait for a turn; give it back with `give_back`.

        Raises:
            Unavailable: too many wait, or no turn came in time.
        """
        if self._free and not self._waiting:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        self._turn_away()
        try:
            async with asyncio.timeout(self._limit_seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                # The turn came at the same moment; somebody else may have it.
                self.give_back()
            raise self._unavailable() if isinstance(error, TimeoutError) else error from None
        finally:
            self._forget(owner, turn)

    def give_back(self) -> None:
        """End a turn; the next owner's oldest request has it."""
        while self._waiting:
            owner = next(iter(self._waiting))
            requests = self._waiting.pop(owner)
            turn = requests.popleft()
            if requests:
                self._waiting[owner] = requests
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _turn_away(self) -> None:
        if sum(map(len, self._waiting.values())) <= self._waiting_limit:
            return
        # Of equals the one that came last, so that who waits alone is not turned away for a newcomer.
        owner = max(reversed(self._waiting), key=lambda name: len(self._waiting[name]))
        turn = self._waiting[owner].pop()
        if not self._waiting[owner]:
            del self._waiting[owner]
        if not turn.done():
            turn.set_exception(self._unavailable())

    def _forget(self, owner: str, turn: "asyncio.Future[None]") -> None:
        requests = self._waiting.get(owner)
        if requests is not None and turn in requests:
            requests.remove(turn)
            if not requests:
                del self._waiting[owner]

    def _unavailable(self) -> Unavailable:
        return Unavailable("all scoring processes are busy; try again soon", headers={"Retry-After": "10"})
