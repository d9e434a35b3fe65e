"""What the trainer's process is asked to do."""

import os

from app.contracts.trials import FoldCommand
from app.processes.role import Commands
from app.settings import Settings
from workers.device.extraction import configure_torch
from workers.device.trials import run_fold

# Trials give way to forward passes and scores, which others wait for.
NICENESS = 5


def commands(settings: Settings) -> Commands:
    """Prepare torch; the commands by name."""
    os.nice(NICENESS)
    configure_torch(settings)
    return {"run_fold": lambda payload, progress: run_fold(FoldCommand.read(payload), settings, progress).plain()}
