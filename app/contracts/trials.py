"""A trial: a short fine-tuning of a model, fold by fold, so that every image is predicted once by a model that has not
seen it.
"""

from typing import Literal

from pydantic import AliasChoices, Field

from app.contracts.base import Body

SMALLEST_SIDE = 32


class ImageChoice(Body):
    """How images are shown to a model that is fine-tuned; the same for all models."""

    size: int | None = Field(96, ge=SMALLEST_SIDE, le=1024, description="Side of the images; null: each model's own.")
    crop: Literal["squash", "own"] = Field(
        "squash", description="`squash`: the whole image, its shape not kept; `own`: each model's own crop."
    )
    flip: bool = Field(False, description="Mirror images at random; only where that keeps their class.")
    seed: int = Field(0, ge=0, le=2**32 - 1)


class TrialChoice(ImageChoice):
    """How models are tried. The same folds, size and recipe for all of them."""

    folds: int = Field(
        3, ge=2, le=10, description="Parts of the sample; each is predicted by a model trained on the rest."
    )
    epochs: int = Field(
        3, ge=1, le=50, description="Of each fold. One is too short: models are worse before they are better."
    )
    winners: int = Field(
        3,
        ge=1,
        le=100,
        # Stored questions may have the older name.
        validation_alias=AliasChoices("winners", "first"),
        description="How many of the best models to find: after each fold, models leave whose loss is surely not among "
        "this many of the lowest.",
    )
    models: int | None = Field(
        None, ge=1, le=5000, description="Try only this many models, the most promising ones; null: all."
    )
    budget_seconds: float | None = Field(None, gt=0, le=30 * 86400, description="The trial ends after this long.")
