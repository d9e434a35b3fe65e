"""One forward pass: what the extractor is told, and what it answers."""

from app.contracts.base import Contract
from app.contracts.models import InputConfiguration, ModelCard, ModelSpec


class ExtractionCommand(Contract):
    """Run a model once over a sample.

    Attributes:
        dataset_id: whose index says what the images are.
        sample_indices: (N,) positions in it, the order of the rows.
        keys: layer -> key in the feature store; ``"head"`` or a module's name.
        transforms_of_job: input configurations that the job still needs, filled by the same decode.
        batch_size: images of the first attempt; None: the settings say.
    """

    spec: ModelSpec
    card: ModelCard
    dataset_id: str
    sample_indices: tuple[int, ...]
    keys: dict[str, str]
    transforms_of_job: tuple[InputConfiguration, ...] = ()
    batch_size: int | None = None


class ExtractionResult(Contract):
    """What a forward pass took.

    Attributes:
        n: samples.
        seconds: of each stage.
        images_per_second: of the forward pass; None if there was nothing to do.
        memory_bytes: the most that it held, of the device's memory, or on a CPU of the process's.
    """

    n: int
    keys: dict[str, str]
    seconds: dict[str, float]
    images_per_second: float | None = None
    images_decoded: int = 0
    models_loaded: int = 0
    batch_size: int | None = None
    memory_bytes: int | None = None
    device: str
    threads: int
    warnings: tuple[str, ...] = ()
