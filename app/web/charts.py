"""Charts as Vega-Lite documents: data and encoding only; the page that draws them brings the colours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


def cost(rows: Sequence[ModelRow], metric: str, title: str) -> Chart | None:
    """A metric against the number of parameters, and the models that none beats in both (the Pareto front)."""
    points: list[dict[str, Any]] = [
        {"model": row.model, "parameters": row.parameters / MILLION, "score": score.value}
        for row in rows
        if (score := row.scores.get(metric)) and score.value is not None and row.parameters
    ]
    if len(points) < 2:
        return None
    front = pareto_front([(-point["parameters"], point["score"]) for point in points])
    data = [point | {"front": index in front} for index, point in enumerate(points)]
    x = {"field": "parameters", "type": "quantitative", "title": "Million parameters", "scale": {"zero": False}}
    y = {"field": "score", "type": "quantitative", "title": title, "scale": {"zero": False}}
    dimmed = {"condition": {"test": "datum.front", "value": 1}, "value": 0.45}
    best = ", ".join(points[index]["model"] for index in sorted(front, key=lambda index: points[index]["parameters"]))
    return Chart(
        "cost",
        f"{title} against size",
        f"Up and to the left is better. No model is both smaller and better than these, which the line joins: {best}.",
        {
            "$schema": SCHEMA,
            "width": "container",
            "height": 280,
            "data": {"values": data},
            "layer": [
                {
                    "transform": [{"filter": "datum.front"}],
                    "mark": {"type": "line", "interpolate": "step-after", "strokeDash": [4, 3]},
                    "encoding": {"x": x, "y": y},
                },
                {
                    "mark": POINTS | {"tooltip": {"content": "data"}},
                    "encoding": {
                        "x": x,
                        "y": y,
                        "opacity": dimmed,
                    },
                },
                {
                    "transform": [{"filter": "datum.front"}],
                    "mark": {"type": "text", "align": "left", "dx": 8, "dy": -8, "limit": 220},
                    "encoding": {"x": x, "y": y, "text": {"field": "model"}},
                },
            ],
        },
    )


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


def agreement(correlations: Mapping[str, Mapping[str, float | None]], titles: Mapping[str, str]) -> Chart | None:
    """Kendall's tau between the orders of each pair of metrics, as a heat map."""
    if len(correlations) < 2:
        return None
    data = [
        {"first": titles[first], "second": titles[second], "tau": tau}
        for first, row in correlations.items()
        for second, tau in row.items()
        if tau is not None
    ]
    axis = {"title": None, "labelAngle": -40}
    return Chart(
        "agreement",
        "Do the metrics agree?",
        "Kendall's tau between the orders in which two metrics put the models: 1 the same order, 0 unrelated, "
        "−1 the reverse.",
        {
            "$schema": SCHEMA,
            "width": "container",
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
                            "title": "tau",
                            "scale": {"domain": [-1, 0, 1], "range": ["#c2513f", "#f2f2f2", "#2d7fb0"]},
                        }
                    },
                },
                {
                    "mark": {"type": "text"},
                    "encoding": {
                        "text": {"field": "tau", "type": "quantitative", "format": ".2f"},
                        "color": {"value": "#17202a"},
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
            "width": "container",
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
