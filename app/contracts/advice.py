"""What the service advises: an order, which models to fine-tune, why, and how sure."""

from typing import Literal

from pydantic import Field

from app.contracts.base import Contract

Rung = Literal["known", "metrics", "trial"]


class AdvisedModel(Contract):
    """A model's place in the order.

    Attributes:
        score: weighted mean of the places, from 0 to 1.
        places: on each rung from 0 (last) to 1 (first); a rung that says nothing of the model is left out.
        fine_tune: whether it is one of those worth fine-tuning.
        trial: how its trial ended, if it was tried.
    """

    model_id: str
    name: str
    score: float
    places: dict[Rung, float]
    fine_tune: bool
    trial: str | None = None
    chance_best: float | None = Field(
        None, description="To be the best of these when fine-tuned, calibrated on evaluations; null: not known."
    )


class ExpectedRegret(Contract):
    """How many points of accuracy the best of all may be above the best of the first k: mean over resampled images."""

    k: int
    points: float


class Recommendation(Contract):
    """The advice of a ranking.

    Attributes:
        order: best first.
        fine_tune: ids of the models worth fine-tuning.
        expected_regret: by the trial's held-out predictions, so of short fine-tuning, and of this sample's noise only;
            empty where it is not known.
        evidence: what each rung rests on, in words.
        chances_from: targets on which the chances are calibrated; null: they are not known.
        text: the advice in plain words.
    """

    order: tuple[AdvisedModel, ...]
    fine_tune: tuple[str, ...]
    expected_regret: tuple[ExpectedRegret, ...] = ()
    evidence: dict[Rung, str]
    chances_from: int | None = None
    text: str
