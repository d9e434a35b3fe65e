"""What a scorer's process is asked to do."""

from app.processes.role import Commands
from app.settings import Settings
from workers.scoring.ensembles import choose_ensembles
from workers.scoring.metrics import compute_scores


def commands(settings: Settings) -> Commands:
    """The commands by name."""
    return {
        "score": lambda payload, progress: compute_scores(payload, settings, progress),
        "ensembles": lambda payload, progress: choose_ensembles(payload, settings, progress),
    }
