"""Two tables side by side."""

import pytest
from starlette.testclient import TestClient

from app.contracts.rankings import Counters
from app.contracts.states import ModelRunState, RankingState
from app.schemas.rankings import ModelMove, ModelRow, RankedMetric, ResultsAnswer, ScoreAnswer, TargetAnswer
from app.services.comparison import side_by_side
from tests.app.test_frame import problem


def row(name: str, *, state: ModelRunState = ModelRunState.SUCCEEDED, **scores: float | None) -> ModelRow:
    return ModelRow(
        model_id=name,
        model=name.upper(),
        state=state,
        stage=None,
        done=0,
        total=0,
        scores={
            metric: ScoreAnswer(value=value, rank=None, seconds=0, warnings=[], details={}, problem=None, interval=None)
            for metric, value in scores.items()
        },
        layers={},
        consensus_rank=None,
        trial=None,
        parameters=None,
        seconds=None,
        images_per_second=None,
        evidence_reused=False,
        warnings=[],
        problem=None,
    )


def table(*rows: ModelRow, target: str = "t", metrics: tuple[str, ...] = ("leep",)) -> ResultsAnswer:
    return ResultsAnswer(
        ranking_id="r",
        state=RankingState.SUCCEEDED,
        target=TargetAnswer.model_construct(id=target, name=target, sample=None),
        metrics=[RankedMetric(name=name, parameters={}, title=name, unit="", interpretation="") for name in metrics],
        models=list(rows),
        recommendation=None,
        summary=None,
        counters=Counters(),
    )


def moves(before: ResultsAnswer, after: ResultsAnswer) -> dict[str, ModelMove]:
    return {move.model_id: move for move in side_by_side(before, after).models}


def test_places_gained_are_positive() -> None:
    found = moves(table(row("a"), row("b"), row("c")), table(row("c"), row("a"), row("b")))
    assert {name: move.moved_up for name, move in found.items()} == {"a": -1, "b": -1, "c": 2}


def test_order_is_that_of_the_second_and_then_what_it_lacks() -> None:
    assert list(moves(table(row("a"), row("b")), table(row("c"), row("a")))) == ["c", "a", "b"]


def test_model_of_one_ranking_has_one_place_and_did_not_move() -> None:
    new = moves(table(row("a")), table(row("a"), row("b")))["b"]
    assert (new.first_place, new.second_place, new.moved_up, new.score_changes) == (None, 2, None, {})


def test_failed_model_has_no_place() -> None:
    failed = row("a", state=ModelRunState.FAILED)
    found = moves(table(failed, row("b")), table(row("a"), row("b")))
    assert (found["a"].first_place, found["b"].first_place) == (None, 1)


def test_change_is_the_second_score_minus_the_first() -> None:
    found = moves(table(row("a", leep=-2.0)), table(row("a", leep=-0.5)))
    assert found["a"].score_changes == {"leep": 1.5}


@pytest.mark.parametrize("lost", [{}, {"leep": None}])
def test_score_of_one_ranking_only_has_no_change(lost: dict[str, float | None]) -> None:
    assert moves(table(row("a", leep=1.0)), table(row("a", **lost)))["a"].score_changes == {}


def test_only_shared_metrics_are_compared() -> None:
    before = table(row("a", leep=1.0, tmi=1.0), metrics=("leep", "tmi"))
    after = table(row("a", leep=2.0, nce=1.0), metrics=("leep", "nce"))
    found = side_by_side(before, after)
    assert [metric.name for metric in found.metrics] == ["leep"]
    assert found.models[0].score_changes == {"leep": 1.0}


def test_scores_of_different_targets_are_not_compared() -> None:
    found = side_by_side(table(row("a", leep=1.0)), table(row("a", leep=2.0), target="other"))
    assert (found.same_target, found.metrics, found.models[0].score_changes) == (False, [], {})


def test_unknown_ranking_is_named(app_client: TestClient) -> None:
    answer = app_client.get("/v1/rankings/no/comparison?first=neither")
    assert "neither" in problem(answer, 404)["detail"]
