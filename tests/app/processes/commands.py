"""Commands of a child process that needs no libraries."""

import os
import threading
import time

from app.contracts.progress import Progress
from app.processes.errors import Problem
from app.processes.role import Commands
from app.settings import Settings


def commands(settings: Settings) -> Commands:
    kept: list[bytearray] = []

    def refuse(payload, progress):
        raise Problem(payload["detail"])

    def sleep(payload, progress):
        progress(Progress(stage="sleep", done=0, total=1))
        time.sleep(payload["seconds"])
        return "slept"

    def spin(payload, progress):
        began = time.process_time()
        while time.process_time() - began < payload["seconds"]:
            pass
        return "spun"

    def allocate(payload, progress):
        try:
            kept.append(bytearray(int(payload["megabytes"] * 1e6)))
        except MemoryError:
            return "no memory"
        kept.clear()
        return "allocated"

    return {
        "echo": lambda payload, progress: payload,
        "environment": lambda payload, progress: os.environ.get(payload["name"]),
        "database": lambda payload, progress: settings.database_url.get_secret_value(),
        "refuse": refuse,
        "break": lambda payload, progress: payload["missing"],
        "exit": lambda payload, progress: os._exit(payload["code"]),
        "die": lambda payload, progress: os.kill(os.getpid(), payload["signal"]),
        "sleep": sleep,
        "spin": spin,
        "allocate": allocate,
        "threads": lambda payload, progress: threading.active_count(),
    }
