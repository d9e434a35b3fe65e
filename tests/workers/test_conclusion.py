"""What is said of a ranking at its end."""

import numpy as np
import pytest

from app.contracts.question import IntervalChoice
from app.contracts.scores import DrawnScores
from app.db.tables import RankingScore, Score
from workers.ranking.conclusion import competition_ranks, summarize

INTERVALS = IntervalChoice()


def cell(model: str, metric: str, value: float | None, values: list[float] | None = None) -> tuple[RankingScore, Score]:
    resamples = None if values is None else DrawnScores(method="reweighted", values=tuple(values))
    return (
        RankingScore(ranking_id="r", model_id=model, layer="head", metric=metric, score_id=f"{model}-{metric}"),
        Score(id=f"{model}-{metric}", value=value, warnings=(), details={}, resamples=resamples),
    )


def test_equal_scores_share_the_better_rank() -> None:
    assert competition_ranks({"a": 1.0, "b": 3.0, "c": 3.0, "d": 2.0}) == {"b": 1, "c": 1, "d": 3, "a": 4}


def test_rounding_is_no_merit() -> None:
    assert set(competition_ranks({"a": 9.000000000000002, "b": 9.0, "c": 8.999999999999996}).values()) == {1}


def test_the_consensus_follows_metrics_that_agree() -> None:
    cells = [cell(m, k, v) for k in ("leep", "tmi") for m, v in (("a", 1.0), ("b", 3.0), ("c", 2.0))]
    summary = summarize(INTERVALS, ["a", "b", "c"], cells)
    assert summary.order == ("b", "c", "a")
    assert summary.disagreement is not None
    assert summary.disagreement.mean_kendall_tau == pytest.approx(1.0)


def test_a_metric_that_cannot_tell_the_models_apart_has_no_vote_and_is_named() -> None:
    cells = [cell(m, "leep", v) for m, v in (("a", -1.0), ("b", -3.0), ("c", -2.0))]
    saturated = [cell(m, "sfda", v) for m, v in (("a", 1 - 3e-7), ("b", 1.0), ("c", 1 - 2e-8))]
    summary = summarize(INTERVALS, ["a", "b", "c"], [*cells, *saturated])
    assert summary.order == ("a", "c", "b")
    assert summary.abstentions == {"sfda": "saturated: 3 of 3 models have reached the end of the range of SFDA"}
    assert summary.ranks["sfda"] == {"b": 1, "c": 2, "a": 3}
    assert summary.disagreement is not None
    assert set(summary.disagreement.kendall_tau) == {"leep"}


def test_without_a_metric_that_votes_the_order_is_that_of_the_request() -> None:
    cells = [cell(m, "sfda", 1.0) for m in ("a", "b")]
    summary = summarize(INTERVALS, ["b", "a"], cells)
    assert (summary.order, summary.consensus) == (("b", "a"), None)
    assert set(summary.abstentions) == {"sfda"}


def test_a_model_without_scores_comes_last() -> None:
    cells = [cell("a", "leep", None), cell("b", "leep", -1.0)]
    assert summarize(INTERVALS, ["a", "b"], cells).order == ("b", "a")


def test_the_chance_to_be_best_counts_resamples() -> None:
    cells = [cell("a", "leep", 2.0, [2.0, 2.0, 2.0, 0.0]), cell("b", "leep", 1.0, [1.0, 1.0, 1.0, 1.0])]
    chances = summarize(INTERVALS, ["a", "b"], cells).metrics["leep"]
    assert chances.chance_first_on_another_sample == {"a": 0.75, "b": 0.25}


def test_an_interval_holds_the_share_that_was_asked_for() -> None:
    values = [float(value) for value in np.linspace(0, 1, 101)]
    interval = summarize(INTERVALS, ["a"], [cell("a", "leep", 0.5, values)]).intervals["a"]["leep"]
    assert (interval.low, interval.high) == (pytest.approx(0.05), pytest.approx(0.95))


def pool_cell(model: str, value: float, energy: float, values: list[float] | None) -> tuple[RankingScore, Score]:
    found = cell(model, "etran", value, values)
    found[1].details = {"energy": energy}
    if values is not None:
        found[1].resamples = DrawnScores(
            method="linear", values=tuple(values), parts={"energy": (energy,) * len(values)}
        )
    return found


def test_metrics_of_pools_are_combined_over_the_models() -> None:
    cells = [pool_cell("a", 0.2, 5.0, None), pool_cell("b", 0.8, 3.0, None)]
    assert summarize(INTERVALS, ["a", "b"], cells).pool_values["etran"] == pytest.approx({"a": 0.15, "b": 0.85})


def test_metrics_of_pools_are_drawn_over_the_models() -> None:
    cells = [
        pool_cell("a", 0.5, 5.0, [0.4, 0.6, 0.4, 0.6]),
        pool_cell("b", 0.8, 3.0, [0.8, 0.8, 0.8, 0.8]),
        pool_cell("c", 0.0, 4.0, [0.0, 0.0, 0.0, 0.0]),
    ]
    summary = summarize(INTERVALS, ["a", "b", "c"], cells)
    spans = {model: found["etran"].high - found["etran"].low for model, found in summary.intervals.items()}
    # Model a lies at 0.4/0.8 or 0.6/0.8 of the span, of which ETran takes 0.85; the others do not move.
    assert spans == pytest.approx({"a": 0.85 * 0.25, "b": 0.0, "c": 0.0})
    assert summary.metrics["etran"].chance_first_on_another_sample == {"a": 0.0, "b": 1.0, "c": 0.0}


def test_a_metric_of_pools_has_no_interval_when_a_model_has_no_draws() -> None:
    cells = [pool_cell("a", 0.5, 5.0, [0.4, 0.6]), pool_cell("b", 0.8, 3.0, None)]
    summary = summarize(INTERVALS, ["a", "b"], cells)
    assert (summary.intervals, summary.metrics["etran"].resamples) == ({}, 0)
