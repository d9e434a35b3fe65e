"""What the trainer's process is asked to do."""

import os

from app.contracts.fine_tuning import FineTuningCommand
from app.processes.role import Commands
from app.settings import Settings
from workers.device.extraction import configure_torch
from workers.device.training import fine_tune

# Trials give way to forward passes and scores, which others wait for.
NICENESS = 5


def commands(settings: Settings) -> Commands:
    """Prepare torch; the commands by name."""
    os.nice(NICENESS)
    configure_torch(settings)
    return {
        "fine_tune": lambda payload, progress: fine_tune(FineTuningCommand.read(payload), settings, progress).plain()
    }
