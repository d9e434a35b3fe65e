"""What the charts of the pages are drawn from."""

import pytest

from app.schemas.rankings import ModelRow, ScoreAnswer
from app.web import charts
from app.web.charts import pareto_front

COST, SPEED = charts.COSTS


def row(model: str, *, parameters: int, speed: float, score: float | None) -> ModelRow:
    """A model that has been ranked by LEEP."""
    answer = ScoreAnswer(value=score, rank=1, seconds=0.1, warnings=[], details={}, problem=None, interval=None)
    return ModelRow(
        model_id=model,
        model=model,
        state="succeeded",
        stage=None,
        done=1,
        total=1,
        scores={"leep": answer},
        layers={},
        consensus_rank=None,
        trial=None,
        parameters=parameters,
        seconds=None,
        images_per_second=speed,
        evidence_reused=False,
        warnings=[],
        problem=None,
    )


ROWS = [
    row("small", parameters=1_000_000, speed=90, score=0.2),
    row("beaten", parameters=6_000_000, speed=10, score=0.1),
    row("large", parameters=9_000_000, speed=30, score=0.9),
    row("unscored", parameters=2_000_000, speed=50, score=None),
]


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([], set()),
        ([(1, 1)], {0}),
        ([(1, 2), (2, 1), (0, 0)], {0, 1}),
        ([(1, 1), (1, 2), (2, 2)], {2}),
        ([(1, 1), (1, 1)], {0}),
    ],
)
def test_pareto_front_is_what_none_beats_in_both(points: list[tuple[float, float]], front: set[int]) -> None:
    assert pareto_front(points) == front


@pytest.mark.parametrize("axis", [COST, SPEED])
def test_models_that_none_beats_are_told_in_words(axis: charts.Axis) -> None:
    (leep,) = charts.score_axes(ROWS, {"leep": "LEEP"})
    text = charts.cost(ROWS, axis, leep).text
    assert ("small" in text, "large" in text, "beaten" in text) == (True, True, False)


def test_model_without_the_score_is_not_drawn() -> None:
    (leep,) = charts.score_axes(ROWS, {"leep": "LEEP"})
    points = charts.cost(ROWS, COST, leep).document["data"]["values"]
    assert [point["model"] for point in points] == ["small", "beaten", "large"]


def test_name_that_would_lie_on_another_is_left_out() -> None:
    close = [row(f"m{place}", parameters=900_000 + place, speed=1, score=place / 100) for place in range(3)]
    (leep,) = charts.score_axes(ROWS, {"leep": "LEEP"})
    points = charts.cost([*close, *ROWS], COST, leep).document["data"]["values"]
    assert [point["name"] for point in points if "name" in point] == ["m0", "small", "large"]
