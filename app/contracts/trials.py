"""A trial: a short fine-tuning of a model, fold by fold, so that every image is predicted once by a model that has not
seen it.
"""

from typing import Literal

from pydantic import Field

from app.contracts.base import Body, Contract
from app.contracts.models import InputConfiguration, ModelCard, ModelSpec

SMALLEST_SIDE = 32


class TrialChoice(Body):
    """How models are tried. The same folds, size and recipe for all of them."""

    folds: int = Field(
        3, ge=2, le=10, description="Parts of the sample; each is predicted by a model trained on the rest."
    )
    epochs: int = Field(
        3, ge=1, le=50, description="Of each fold. One is too short: models are worse before they are better."
    )
    size: int | None = Field(96, ge=SMALLEST_SIDE, le=1024, description="Side of the images; null: each model's own.")
    crop: Literal["squash", "own"] = Field(
        "squash", description="`squash`: the whole image, its shape not kept; `own`: each model's own crop."
    )
    flip: bool = Field(False, description="Mirror images at random; only where that keeps their class.")
    first: int = Field(
        3, ge=1, le=100, description="After each fold, models whose loss surely is not among the lowest so many leave."
    )
    models: int | None = Field(None, ge=1, le=5000, description="Try only the most promising so many; null: all.")
    budget_seconds: float | None = Field(None, gt=0, le=30 * 86400, description="The trial ends after so long.")
    seed: int = Field(0, ge=0, le=2**32 - 1)


class FineTuningRecipe(Contract):
    """What decides the numbers of a run, beside model, images and folds; see `workers.device.fine_tuning.Recipe`."""

    epochs: int
    body_rate: float | None = None
    shift: float = 0.0
    flip: bool = False
    seed: int = 0


class FoldCommand(Contract):
    """Train on all folds but one, and predict that one.

    Attributes:
        dataset_id: whose index says what the images are.
        sample_indices: (N,) positions in it.
        key: under which the predictions are stored.
        input: the transform, with the model's own mean and standard deviation.
        folds: how many; dealt out by `estimators.arrays.sampling.stratified_folds` with the recipe's seed.
        fold: the one to predict.
    """

    spec: ModelSpec
    card: ModelCard
    dataset_id: str
    sample_indices: tuple[int, ...]
    key: str
    input: InputConfiguration
    folds: int
    fold: int
    recipe: FineTuningRecipe


class FoldResult(Contract):
    """What a fold gave.

    Attributes:
        nll: mean negative logarithm of the probability of the true class, over the held-out images.
        accuracy, probe_accuracy: of the fine-tuned model, and of the linear probe that it started from.
        side: of the images, in pixels; a model that cannot take the asked one has its own.
        part: images computed at once; less than a batch if memory was short.
    """

    nll: float
    accuracy: float
    probe_accuracy: float
    images: int
    side: int
    body_rate: float
    part: int
    seconds: float
    device: str
    warnings: tuple[str, ...] = ()
