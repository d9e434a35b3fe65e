"""Steps that no loss of the database and no stop of the worker can fail."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import ParamSpec, TypeVar

import structlog
from dbos import DBOS

from app.contracts.base import Contract, JsonObject
from app.db.outages import outlast_outages
from workers.engine import Abandoned
from workers.errors import Stopping
from workers.runtime import current

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Content = TypeVar("Content", bound=Contract)

# Of errors that are neither an outage of the database nor known problems, such as a file system that stumbles.
RETRY = {"retries_allowed": True, "max_attempts": 3, "interval_seconds": 5.0, "backoff_rate": 2.0}
# A job is given up when this many workers died while it ran; see `workers.engine.requeue` for which deaths count.
DEATHS = 6
ATTEMPTS = DEATHS - 1

log = structlog.stdlib.get_logger(__name__)

_names: set[str] = set()


def growing_pauses() -> Iterator[float]:
    """Seconds between two looks at something that takes a moment or an hour; the engine keeps a row of each."""
    pause = 0.1
    while True:
        yield pause
        pause = min(2 * pause, 2.0)


def step(name: str, work: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """``work`` as a step of the engine.

    It waits out every outage of the database, which is no failure and counts as no attempt, and ends without an outcome
    when the worker stops, so that it is done again elsewhere.

    Raises:
        ValueError: another step has that name; the engine would only warn, and take one for the other.
    """
    if name in _names:
        raise ValueError(f"two steps are named {name}")
    _names.add(name)

    @wraps(work)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        lasting = outlast_outages(work, longest_pause=current().settings.database_retry_seconds)
        try:
            return lasting(*args, **kwargs)
        except (Abandoned, Stopping) as reason:
            log.warning("a step ends without an outcome", step=name, reason=str(reason))
            raise Abandoned(str(reason)) from reason

    return DBOS.step(name=name, **RETRY)(run)  # type: ignore[arg-type]


def contract_step(name: str, work: Callable[Parameters, Content], kind: type[Content]) -> Callable[Parameters, Content]:
    """As `step`, for work that gives a contract: the engine stores it by the names of its members."""

    @wraps(work)
    def plain(*args: Parameters.args, **kwargs: Parameters.kwargs) -> JsonObject:
        return work(*args, **kwargs).plain()

    stored = step(name, plain)

    @wraps(work)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Content:
        return kind.read(stored(*args, **kwargs))

    return run
