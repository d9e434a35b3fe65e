"""How long fine-tunings will take, from the measured speed of forward passes."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.contracts.finetunes import VALIDATION_SHARE, FineTuningChoice
from app.contracts.question import SampleChoice
from app.db.tables import Dataset, Model

# Training on an image costs as much as this many forward passes: forward, backward, and the optimiser's step.
PASSES_OF_A_STEP = 4.0


@dataclass(frozen=True, slots=True)
class TrainingTime:
    """Attributes:
    seconds: of all runs of the models whose speed is known, one after the other; None if none is known.
    unmeasured: names of models that never ran here.
    images: that are used; None before the target was inspected.
    runs: of each model.
    """

    seconds: float | None
    unmeasured: tuple[str, ...]
    images: int | None
    runs: int


def seconds_of(
    choice: FineTuningChoice, sample: SampleChoice, target: Dataset, models: Sequence[Model]
) -> TrainingTime:
    """Forward passes of all images, and steps over those that are trained on, at each model's last measured speed.

    A speed holds for the model's own input; time grows with the area of the image.
    """
    rates = len(choice.rate_multiples) if len(choice.rate_multiples) > 1 else 0
    runs = rates + choice.seeds
    images = target.image_count
    if images is not None and sample.max_samples is not None:
        images = min(images, sample.max_samples)
    unmeasured = tuple(model.name for model in models if not (model.images_per_second and model.input_size))
    seconds: float | None = None
    if images is not None and len(unmeasured) < len(models):
        train = images * (1 - choice.test_share)
        trained = choice.epochs * train * (rates * (1 - VALIDATION_SHARE) + choice.seeds)
        passes = runs * images + PASSES_OF_A_STEP * trained
        seconds = sum(
            passes * ((choice.size or model.input_size) / model.input_size) ** 2 / model.images_per_second
            for model in models
            if model.images_per_second and model.input_size
        )
    return TrainingTime(seconds=seconds, unmeasured=unmeasured, images=images, runs=runs)
