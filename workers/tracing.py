"""Steps as spans of the trace of the request that submitted their ranking; see `app.tracing`.

Workflows are replayed and steps are not, so only steps are traced.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from app import tracing
from app.db.repositories.rankings import Rankings
from workers.runtime import current

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
# Of the arguments of a step, in order.
NAMES = ("forerank.ranking_id", "forerank.model_id", "forerank.fold")


def traced(name: str) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Have a step, whose first argument is the id of a ranking, be a span of that ranking's trace."""

    def decorate(work: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        @wraps(work)
        def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            if not tracing.is_on():
                return work(*args, **kwargs)
            with current().database.reading() as session:
                ranking = Rankings(session).get(str(args[0]))
            parent = None if ranking is None else ranking.traceparent
            with tracing.span(name, parent=parent, attributes=dict(zip(NAMES, args, strict=False))):  # type: ignore[arg-type]
                return work(*args, **kwargs)

        return run

    return decorate
