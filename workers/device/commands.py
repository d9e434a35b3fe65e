"""What the extractor's process is asked to do."""

from app.processes.role import Commands
from app.settings import Settings
from workers.catalog.publish import publish_catalog
from workers.device.extraction import configure_torch, extract
from workers.device.loading import inspect_model


def commands(settings: Settings) -> Commands:
    """Prepare torch; the commands by name."""
    configure_torch(settings)
    return {
        "inspect_model": lambda payload, progress: inspect_model(payload["model"], settings).as_dict(),
        "extract": lambda payload, progress: extract(payload, settings, progress),
        "publish_catalog": lambda payload, progress: publish_catalog(),
    }
