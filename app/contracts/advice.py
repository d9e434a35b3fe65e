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


class AdvisedEnsemble(Contract):
    """The best average of probabilities among the tried models, chosen by their held-out predictions.

    The images that chose the members also judge them, which flatters the ensemble a little.

    Attributes:
        members: names, in the order in which they were added.
        accuracy, log_loss: of the average, after short fine-tuning.
        best_single: name of the best single model by log loss.
        accuracy_gain_points, low, high: against it, with a 90 % interval over images.
    """

    members: tuple[str, ...]
    accuracy: float
    log_loss: float
    best_single: str
    accuracy_gain_points: float
    low: float
    high: float


class Recommendation(Contract):
    """The advice of a ranking.

    Attributes:
        order: best first.
        fine_tune: ids of the models worth fine-tuning.
        expected_regret: by the trial's held-out predictions, so of short fine-tuning, and of this sample's noise only;
            empty where it is not known.
        ensemble: of the tried models; null unless two were tried on all folds.
        evidence: what each rung rests on, in words.
        chances_from: targets on which the chances are calibrated; null: they are not known.
        chances_basis: whether those targets are your own evaluations or those of published tables and Forerank's study.
        text: the advice in plain words.
    """

    order: tuple[AdvisedModel, ...]
    fine_tune: tuple[str, ...]
    expected_regret: tuple[ExpectedRegret, ...] = ()
    ensemble: AdvisedEnsemble | None = None
    evidence: dict[Rung, str]
    chances_from: int | None = None
    chances_basis: Literal["evaluations", "study"] | None = None
    text: str
