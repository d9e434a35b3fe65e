"""The advice in words, for plain orders, and its chances."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from app.contracts.advice import AdvisedModel, Rung
from app.db.advice_tables import Evaluation, RankingTrial, TrialState
from app.db.tables import Model, RankingScore, Score
from estimators.comparison.calibration import PUBLISHED
from estimators.comparison.recommendation import Recommendation
from workers.ranking.advice import advise, in_words, listed
from workers.store.features import HEAD

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


def test_a_model_that_is_left_alone_is_not_preferred_to_others() -> None:
    assert in_words(ORDER[:1], {}, found(None), None) == "model-0 is the only one of these models that could be judged."


def test_without_evidence_it_prefers_nobody() -> None:
    assert in_words(ORDER, {}, found(None), None).startswith("Nothing tells these models apart")


@pytest.mark.parametrize(("words", "text"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")])
def test_words_are_listed_as_in_a_sentence(words: list[str], text: str) -> None:
    assert listed(words) == text


def recommendation(count: int, evaluations: Sequence[Evaluation] = (), trials: Sequence[RankingTrial] = ()) -> Any:
    """Of this many models that parameters and NCE order alike."""
    models = [Model(id=f"m{place}", name=f"model-{place}", parameters=10**place) for place in range(count)]
    cells = [
        (RankingScore(model_id=model.id, metric="nce", layer=HEAD), Score(metric="nce", value=float(place)))
        for place, model in enumerate(models)
    ]
    return advise(models, cells, (), evaluations, trials)


def test_chances_come_from_the_study_until_own_evaluations_suffice() -> None:
    advice = recommendation(10)
    assert (advice.chances_from, advice.chances_basis) == (PUBLISHED[frozenset({"known", "metrics"})].targets, "study")
    assert sum(model.chance_best for model in advice.order) == pytest.approx(1)
    stated = [model.chance_best for model in advice.order]
    assert stated == sorted(stated, reverse=True)
    assert f"with a chance of {100 * stated[0]:.0f} %" in advice.text


def test_own_evaluations_replace_the_study() -> None:
    scores = {f"m{place}": place / 9 for place in range(10)}
    evaluations = [
        Evaluation(target_fingerprint=str(target), rungs=["known", "metrics"], advised_scores=scores, accuracies=scores)
        for target in range(9)
    ]
    advice = recommendation(10, evaluations)
    assert (advice.chances_from, advice.chances_basis) == (9, "evaluations")


@pytest.mark.parametrize(
    ("count", "trials"),
    [(13, []), (10, [RankingTrial(model_id="m3", state=TrialState.EXCLUDED)])],
    ids=["more models than any earlier target had", "a trial left models out"],
)
def test_chances_that_nothing_supports_are_not_known(count: int, trials: list[RankingTrial]) -> None:
    advice = recommendation(count, trials=trials)
    assert {model.chance_best for model in advice.order} == {None}
    assert "The chance that the first is the best when fine-tuned is not known." in advice.text
