"""Charts as Vega-Lite documents: data and encoding only; the page that draws them brings the colours."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.schemas.rankings import ModelRow

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
POINTS = {"type": "point", "filled": True, "size": 90}
MILLION = 1e6
# Dark on the light colours of a heat map, whatever the page's own colours are.
INK = {"value": "#17202a"}


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure of a page: its element's name, what it shows, and the same in words for people who do not see it."""

    name: str
    title: str
    text: str
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Axis:
    """What a model can be placed by.

    Attributes:
        value: of a model; None if it has none.
        sign: 1 where more is better, -1 where less is.
    """

    name: str
    title: str
    value: Callable[[ModelRow], float | None]
    sign: int = 1


TRIAL = Axis(
    "trial",
    "Accuracy in the trial, %",
    lambda row: None if row.trial is None or row.trial.accuracy is None else 100 * row.trial.accuracy,
)
COSTS = (
    Axis("parameters", "Million parameters", lambda row: row.parameters and row.parameters / MILLION, -1),
    Axis("images_per_second", "Images per second", lambda row: row.images_per_second),
)


def score_axes(rows: Sequence[ModelRow], titles: Mapping[str, str]) -> list[Axis]:
    """The scores that a chart can show: of the trial, if there was one, and of each metric."""
    tried = [TRIAL] if any(TRIAL.value(row) is not None for row in rows) else []
    return tried + [Axis(name, title, partial(_score, name)) for name, title in titles.items()]


def _score(metric: str, row: ModelRow) -> float | None:
    score = row.scores.get(metric)
    return score.value if score else None


def cost(rows: Sequence[ModelRow], x: Axis, y: Axis) -> Chart:
    """A score against what a model costs, and the models that none beats in both (the Pareto front)."""
    places = [(row.model, x.value(row), y.value(row)) for row in rows]
    known = [(model, a, b) for model, a, b in places if a is not None and b is not None]
    front = pareto_front([(x.sign * a, y.sign * b) for _, a, b in known])
    left, right = min_and_max([a for _, a, _ in known])
    low, high = min_and_max([b for _, _, b in known])
    data: list[dict[str, Any]] = [
        {"model": model, "x": a, "y": b, "front": index in front, "side": "right" if 2 * a > left + right else "left"}
        for index, (model, a, b) in enumerate(known)
    ]
    best = sorted((point for point in data if point["front"]), key=lambda point: point["x"])
    _name_apart(best, width=right - left, height=high - low)
    encoding = {
        name: {"field": name, "type": "quantitative", "title": axis.title, "scale": {"zero": False}}
        for name, axis in (("x", x), ("y", y))
    }
    tooltip = [{"field": "model", "title": "Model"}] + [
        {"field": name, "title": axis.title, "format": ".4~g"} for name, axis in (("x", x), ("y", y))
    ]
    step = "step-after" if x.sign < 0 else "step-before"
    return Chart(
        "cost",
        "Score against cost",
        f"Up and to the {'left' if x.sign < 0 else 'right'} is better. No model beats these in both; the line joins "
        f"them: {', '.join(point['model'] for point in best) or 'none has both'}.",
        {
            "$schema": SCHEMA,
            "height": 280,
            "data": {"values": data},
            "encoding": encoding,
            "layer": [
                {
                    "transform": [{"filter": "datum.front"}],
                    "mark": {"type": "line", "interpolate": step, "strokeDash": [4, 3]},
                },
                {
                    "mark": POINTS,
                    "encoding": {
                        "opacity": {"condition": {"test": "datum.front", "value": 1}, "value": 0.45},
                        "tooltip": tooltip,
                    },
                },
                *(
                    {
                        "transform": [{"filter": f"datum.name && datum.side === '{side}'"}],
                        "mark": {"type": "text", "align": side, "dx": dx, "dy": -10, "limit": 220},
                        "encoding": {"text": {"field": "name"}},
                    }
                    for side, dx in (("left", 6), ("right", -6))
                ),
            ],
        },
    )


def _name_apart(points: Sequence[dict[str, Any]], *, width: float, height: float) -> None:
    """Name points, from left to right, by their models; a name that would lie on the one before is left out."""
    last: dict[str, Any] | None = None
    for point in points:
        if last is None or point["x"] - last["x"] > 0.15 * width or abs(point["y"] - last["y"]) > 0.1 * height:
            point["name"] = point["model"]
            last = point


def min_and_max(values: Sequence[float]) -> tuple[float, float]:
    """Both ends; zeros of nothing."""
    return (min(values), max(values)) if values else (0.0, 0.0)


def pareto_front(points: Sequence[tuple[float, float]]) -> set[int]:
    """Indices of the points that no other point beats in both coordinates; higher is better in each."""
    order = sorted(range(len(points)), key=lambda index: (-points[index][0], -points[index][1]))
    front: set[int] = set()
    best = float("-inf")
    for index in order:
        if points[index][1] > best:
            front.add(index)
            best = points[index][1]
    return front


def agreement(correlations: Mapping[str, Mapping[str, float | str]], titles: Mapping[str, str]) -> Chart | None:
    """Kendall's tau between the orders of each pair of metrics, as a heat map; a pair without one is left empty."""
    if len(correlations) < 2:
        return None
    data = [
        {"first": titles[first], "second": titles[second], "tau": tau}
        for first, row in correlations.items()
        for second, tau in row.items()
        if not isinstance(tau, str)
    ]
    axis = {"title": None, "labelAngle": -40}
    return Chart(
        "agreement",
        "Do the metrics agree?",
        "Kendall's tau between the orders in which two metrics put the models: 1 the same order, 0 unrelated, "
        "−1 the reverse.",
        {
            "$schema": SCHEMA,
            "height": {"step": 34},
            "data": {"values": data},
            "encoding": {
                "x": {"field": "first", "type": "nominal", "axis": axis, "sort": None},
                "y": {"field": "second", "type": "nominal", "axis": {"title": None}, "sort": None},
            },
            "layer": [
                {
                    "mark": {"type": "rect", "tooltip": {"content": "data"}},
                    "encoding": {
                        "color": {
                            "field": "tau",
                            "type": "quantitative",
                            "legend": None,
                            "scale": {"domain": [-1, 0, 1], "range": ["#c2513f", "#f2f2f2", "#2d7fb0"]},
                        }
                    },
                },
                {
                    "mark": {"type": "text"},
                    "encoding": {
                        "text": {"field": "tau", "type": "quantitative", "format": ".2f"},
                        "color": INK,
                    },
                },
            ],
        },
    )


def over_time(places: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Each model's rank from run to run; ``places`` are dictionaries with model, at (ISO 8601) and rank."""
    if len({place["at"] for place in places}) < 2:
        return None
    rank = {
        "field": "rank",
        "type": "quantitative",
        "title": "Rank",
        "scale": {"reverse": True, "zero": False},
        "axis": {"tickMinStep": 1},
    }
    return Chart(
        "over-time",
        "Rank over time",
        "Rank 1 is at the top. The table above has the present ranks.",
        {
            "$schema": SCHEMA,
            "height": 300,
            "data": {"values": list(places)},
            "mark": {"type": "line", "point": True, "tooltip": {"content": "data"}},
            "encoding": {
                "x": {"field": "at", "type": "temporal", "title": None},
                "y": rank,
                "color": {"field": "model", "type": "nominal", "title": None},
            },
        },
    )
