"""How much one key may ask for. Counted in this process's memory: N API processes allow N times as much."""

import math
import time

from limits import RateLimitItem, RateLimitItemPerDay, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter, RateLimiter, SlidingWindowCounterRateLimiter

from app.errors import TooManyRequests
from app.settings import Settings

MEGABYTE = 1_000_000


class Quotas:
    """Counts what each key asks for; a caller without a key, on loopback, is not counted."""

    def __init__(self, settings: Settings) -> None:
        storage = MemoryStorage()
        self._exact = MovingWindowRateLimiter(storage)
        # Megabytes come by the thousand; the exact limiter would keep an entry for each.
        self._approximate = SlidingWindowCounterRateLimiter(storage)
        self._requests = parse(settings.rate_limit)
        self._submissions = parse(settings.submission_limit)
        self._uploads = RateLimitItemPerDay(settings.upload_megabytes_per_day)

    def count_request(self, owner: str, *, submits: bool) -> None:
        """One more request of this key.

        Raises:
            TooManyRequests: that is one too many; Retry-After says when to come back.
        """
        self._hit(self._exact, self._requests, "requests", owner)
        if submits:
            self._hit(self._exact, self._submissions, "submissions", owner)

    def count_upload(self, owner: str, *, bytes_received: int) -> None:
        """So many bytes of an upload have been received.

        Raises:
            TooManyRequests: they are more than this key may send in a day.
        """
        megabytes = max(1, math.ceil(bytes_received / MEGABYTE))
        self._hit(self._approximate, self._uploads, "uploaded megabytes", owner, cost=megabytes)

    def _hit(self, limiter: RateLimiter, item: RateLimitItem, what: str, owner: str, *, cost: int = 1) -> None:
        if limiter.hit(item, what, owner, cost=cost):
            return
        wait = max(1, math.ceil(limiter.get_window_stats(item, what, owner).reset_time - time.time()))
        raise TooManyRequests(
            f"this key is limited to {item.amount} {what} in {item.multiples} {item.GRANULARITY.name}; "
            f"come back in {wait} s",
            headers={"Retry-After": str(wait)},
        )
