"""How many threads a process that computes may use."""

import os

from app.settings import Settings


def thread_count(settings: Settings) -> int:
    """The setting, or one thread for each core that this process may run on."""
    if settings.threads:
        return settings.threads
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
