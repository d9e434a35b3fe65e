"""What a worker process holds; workflows find it here, since the engine calls them with ids only."""

from dataclasses import dataclass

from app.db.session import Database
from app.processes.pool import ProcessPool
from app.settings import Settings
from workers.device.extractor import Extractor
from workers.store.features import FeatureStore


@dataclass(frozen=True)
class Runtime:
    """Everything that workflows need besides their ids."""

    settings: Settings
    database: Database
    features: FeatureStore
    extractor: Extractor
    scorers: ProcessPool

    def close(self) -> None:
        """End the processes and give the connections back."""
        self.extractor.close()
        self.scorers.close()
        self.database.close()


_current: Runtime | None = None


def start(runtime: Runtime) -> None:
    """Make this the runtime of the process."""
    global _current
    _current = runtime


def current() -> Runtime:
    """The runtime of the process."""
    if _current is None:
        raise RuntimeError("the worker has not been started")
    return _current
