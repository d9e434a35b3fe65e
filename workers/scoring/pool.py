"""Warm processes that compute scores and ensembles, so that no metric can hold the worker's interpreter."""

from app.processes.pool import ProcessPool
from app.processes.role import YIELDING, Role
from app.processes.threads import thread_count
from app.settings import Settings

THREADS_PER_SCORER = 4
SCORER = Role(
    name="scorer",
    module="workers.scoring.commands",
    time_setting="scoring_time_limit_seconds",
    memory_setting="scorer_memory_megabytes",
    niceness=YIELDING,
    remedy="take a smaller sample",
)


def scorer_count(settings: Settings) -> int:
    """How many scorers run for one device."""
    return max(1, thread_count(settings) // THREADS_PER_SCORER)


def scorer_pool(settings: Settings) -> ProcessPool:
    """The scorers of one worker; their commands are those of `workers.scoring.commands`."""
    return ProcessPool(settings, SCORER, scorer_count(settings))
