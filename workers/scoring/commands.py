"""What a scorer's process is asked to do."""

from app.contracts.ensembles import EnsemblesCommand
from app.contracts.scores import ScoreCommand
from app.processes.role import Commands
from app.scoring.metric import start_linear_algebra
from app.settings import Settings
from workers.scoring.ensembles import choose_ensembles
from workers.scoring.metrics import compute_scores


def commands(settings: Settings) -> Commands:
    """The commands by name."""
    start_linear_algebra()
    return {
        "score": lambda payload, progress: [
            result.plain() for result in compute_scores(ScoreCommand.read(payload), settings, progress)
        ],
        "ensembles": lambda payload, progress: [
            result.plain() for result in choose_ensembles(EnsemblesCommand.read(payload), settings, progress)
        ],
    }
