"""What a worker costs while there is nothing to do: `python -m benchmarks.idle [seconds] [database URL]`.

Starts a worker on SQLite, or on the PostgreSQL database of that URL, lets it settle, and prints the processor time that
it and the processes below it took.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from sqlalchemy import exists, select

from app import jobs
from app.db.migrate import upgrade
from app.db.session import Database
from app.db.tables import CatalogModel
from app.settings import Settings

# The engine looks for schedules every second for a minute after its start.
SETTLING_SECONDS = 60.0


def processor_seconds(worker: psutil.Process) -> list[float]:
    """Taken so far: by the worker itself, and by the processes that it started."""
    own, *others = (process.cpu_times() for process in (worker, *worker.children(recursive=True)))
    return [own.user + own.system, sum(times.user + times.system for times in others)]


def wait_until_settled(settings: Settings, worker: psutil.Process) -> None:
    """Until its models are listed and queues are looked at rarely."""
    database = Database(settings.url)
    try:
        while not is_listed(database):
            assert worker.is_running(), "the worker ended"
            time.sleep(0.5)
    finally:
        database.close()
    time.sleep(SETTLING_SECONDS)


def is_listed(database: Database) -> bool:
    with database.reading() as session:
        return session.scalar(select(exists().select_from(CatalogModel))) is True


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with tempfile.TemporaryDirectory() as folder:
        given = {"database_url": sys.argv[2]} if len(sys.argv) > 2 else {}
        settings = Settings(home=Path(folder), **given)
        database = Database(settings.url)
        upgrade(database)
        jobs.upgrade(settings)
        database.close()
        process = subprocess.Popen(
            [sys.executable, "-m", "workers"],
            env=os.environ | settings.environment() | {"FORERANK_LOG_LEVEL": "warning"},
            stdin=subprocess.DEVNULL,
        )
        try:
            worker = psutil.Process(process.pid)
            wait_until_settled(settings, worker)
            before, began = processor_seconds(worker), time.monotonic()
            time.sleep(seconds)
            taken = processor_seconds(worker)
            passed = time.monotonic() - began
        finally:
            process.terminate()
            process.wait()
    own, others = ((after - first) / passed for after, first in zip(taken, before, strict=True))
    print(f"an idle worker took {own:.2%} of a core in {passed:.0f} s, and its processes {others:.2%}")


if __name__ == "__main__":
    main()
