"""What the extractor's process is asked to do."""

from pydantic import TypeAdapter

from app.contracts.extraction import ExtractionCommand
from app.contracts.models import ModelSpec
from app.processes.role import Commands
from app.settings import Settings
from workers.catalog.publish import publish_catalog
from workers.device.extraction import configure_torch, extract
from workers.device.loading import inspect_model

MODEL: TypeAdapter[ModelSpec] = TypeAdapter(ModelSpec)


def commands(settings: Settings) -> Commands:
    """Prepare torch; the commands by name."""
    configure_torch(settings)
    return {
        "inspect_model": lambda payload, progress: inspect_model(MODEL.validate_python(payload), settings).plain(),
        "extract": lambda payload, progress: extract(ExtractionCommand.read(payload), settings, progress).plain(),
        "publish_catalog": lambda payload, progress: [entry.plain() for entry in publish_catalog()],
    }
