"""The advice in words, for plain orders."""

import numpy as np
import pytest

from app.contracts.advice import AdvisedModel, Rung
from estimators.comparison.recommendation import Recommendation
from workers.ranking.advice import in_words, listed

EVIDENCE: dict[Rung, str] = {"known": "the number of parameters", "metrics": "nce and tmi"}


def advised(*places: dict[Rung, float], fine_tune: int) -> list[AdvisedModel]:
    return [
        AdvisedModel(model_id=f"m{rank}", name=f"model-{rank}", score=0.5, places=place, fine_tune=rank < fine_tune)
        for rank, place in enumerate(places)
    ]


def found(expected_regret: tuple[float, ...] | None) -> Recommendation:
    return Recommendation(np.arange(3), np.full(3, 0.5), {}, 2, expected_regret)


ORDER = advised({"known": 1, "metrics": 0.5}, {"known": 0, "metrics": 1}, {"known": 0.5, "metrics": 0}, fine_tune=2)


def test_it_names_whom_to_fine_tune_and_which_rungs_agree() -> None:
    text = in_words(ORDER, EVIDENCE, found(None), None)
    assert "Fine-tune model-0 and model-1, in this order; the other is less promising." in text
    assert "model-0 leads by what is known (the number of parameters)." in text
    assert "It does not lead by the metrics (nce and tmi)." in text


@pytest.mark.parametrize(
    ("evidence", "expected_regret", "said"),
    [
        (EVIDENCE, None, "not known without a trial"),
        (EVIDENCE | {"trial": "2 models"}, None, "the first was not tried on as many images as the others"),
        (EVIDENCE | {"trial": "2 models"}, (0.021, 0.004), "may be 2.1 points above the first and 0.4 above the best"),
    ],
    ids=["no trial", "cut off", "trial"],
)
def test_it_says_how_much_another_may_be_better_or_why_that_is_not_known(
    evidence: dict[Rung, str], expected_regret: tuple[float, ...] | None, said: str
) -> None:
    assert said in in_words(ORDER, evidence, found(expected_regret), None)


def test_without_evidence_it_prefers_nobody() -> None:
    assert in_words(ORDER, {}, found(None), None).startswith("Nothing tells these models apart")


@pytest.mark.parametrize(("words", "text"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")])
def test_words_are_listed_as_in_a_sentence(words: list[str], text: str) -> None:
    assert listed(words) == text
