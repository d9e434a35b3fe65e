"""Evaluate scores against fine-tuned accuracies: one computation for the API and for ``forerank evaluate``."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

RANDOM = "random"
POINTS = 100.0
# Measures that a paired test compares, and whether more is better.
TESTED = {"weighted_kendall": 1.0, "regret_1": -1.0}


@dataclass(frozen=True, slots=True)
class Truth:
    """Fine-tuned accuracies of one target, and the scores to be judged.

    Attributes:
        models: their names.
        accuracies: (M,) from 0 to 1; NaN where unknown.
        scores: name -> (M,) numbers, higher being better; NaN where a model has none.
    """

    models: Sequence[str]
    accuracies: Sequence[float]
    scores: Mapping[str, Sequence[float]]


def evaluate_target(truth: Truth, *, resamples: int = 500, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Score -> ``models`` (how many were compared) and each measure's value and 95 % interval; regrets in points.

    A random choice is judged along with the scores. A score that fewer than two models have is left out.
    """
    from estimators.comparison.evaluation import evaluate

    accuracies = POINTS * np.asarray(truth.accuracies, dtype=np.float64)
    results = {}
    for name, values in {**truth.scores, RANDOM: np.zeros_like(accuracies)}.items():
        scores = np.asarray(values, dtype=np.float64)
        known = ~np.isnan(accuracies) & ~np.isnan(scores)
        if known.sum() < 2:
            continue
        found = evaluate(scores=scores[known], accuracies=accuracies[known], resamples=resamples, seed=seed)
        results[name] = {"models": int(known.sum())} | {measure: asdict(of) for measure, of in found.items()}
    return results


def evaluate_table(targets: Mapping[str, Truth], *, resamples: int = 500, seed: int = 0) -> dict[str, Any]:
    """``targets``: `evaluate_target` of each; over several also ``means`` by score and ``tests`` of pairs."""
    from estimators.comparison.evaluation import MEASURES, over_targets

    results = {target: evaluate_target(truth, resamples=resamples, seed=seed) for target, truth in targets.items()}
    answer: dict[str, Any] = {"targets": results}
    if len(results) > 1:
        values = {
            score: {measure: [_value(of.get(score), measure) for of in results.values()] for measure in MEASURES}
            for score in dict.fromkeys(score for of in results.values() for score in of)
        }
        answer["means"] = {
            score: {measure: asdict(over_targets(found, seed=seed)) for measure, found in measures.items()}
            for score, measures in values.items()
        }
        answer["tests"] = _tests(values, seed)
    return answer


def _tests(values: Mapping[str, Mapping[str, list[float]]], seed: int) -> list[dict[str, Any]]:
    from estimators.comparison.evaluation import paired_test

    found = []
    scores = list(values)
    for measure, sign in TESTED.items():
        for place, first in enumerate(scores):
            for second in scores[place + 1 :]:
                a, b = (sign * np.asarray(values[score][measure]) for score in (first, second))
                if not np.isnan(a - b).all():
                    test = asdict(paired_test(list(a), list(b), seed=seed))
                    found.append({"measure": measure, "first": first, "second": second, **test})
    return found


def _value(of_score: Mapping[str, Any] | None, measure: str) -> float:
    value = None if of_score is None else of_score[measure]["value"]
    return float("nan") if value is None else float(value)


def read_table(path: Path, *, accuracy: str, target: str, model: str, percent: bool) -> dict[str, Truth]:
    """Read a CSV file: target -> its models. Columns with other text than numbers are left out.

    Raises:
        ValueError: a column is missing, or an accuracy is not a number from 0 to 1 (or 100); the message names it.
    """
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        header = list(reader.fieldnames or [])
        rows = list(reader)
    if accuracy not in header:
        raise ValueError(f"{path} has no column {accuracy!r}; it has {', '.join(header) or 'none'}")
    if not rows:
        raise ValueError(f"{path} has no rows")
    scale = POINTS if percent else 1.0
    for line, row in enumerate(rows, start=2):
        value = _number(row[accuracy])
        if value is None or not (np.isnan(value) or 0 <= value <= scale):
            hint = "" if percent else " (are they percent? then give --percent)"
            raise ValueError(f"line {line}: {accuracy} must be from 0 to {scale:g}, not {row[accuracy]!r}{hint}")
    columns = [
        name
        for name in header
        if name not in (accuracy, target, model) and all(_number(row[name]) is not None for row in rows)
    ]
    if not columns:
        raise ValueError(f"{path} has no column of numbers besides {accuracy!r}")
    groups: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(row.get(target) or "", []).append(row)
    return {
        name: Truth(
            models=[row.get(model) or str(place) for place, row in enumerate(members, start=1)],
            accuracies=[(_number(row[accuracy]) or 0.0) / scale for row in members],
            scores={column: [float(_number(row[column]) or 0.0) for row in members] for column in columns},
        )
        for name, members in groups.items()
    }


def _number(text: str | None) -> float | None:
    """NaN for an empty cell; None if it holds anything but a finite number."""
    if not text:
        return float("nan")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def show_evaluation(answer: Mapping[str, Any]) -> None:
    """Print a table a target, and the means over several."""
    from rich.console import Console

    console = Console()
    for target, scores in answer["targets"].items():
        console.print(_table(target or "all models", scores))
    if "means" in answer:
        console.print(_table(f"mean over {len(answer['targets'])} targets", answer["means"]))


def _table(title: str, scores: Mapping[str, Mapping[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(title=title)
    table.add_column("score")
    columns = {
        "weighted_kendall": "weighted tau", "kendall": "tau", "spearman": "rho", "pearson": "r",
        "regret_1": "regret, points", "regret_3": "of three", "rel_1": "rel@1", "rel_3": "rel@3",
    }  # fmt: skip
    for heading in columns.values():
        table.add_column(heading, justify="right")
    order = sorted(scores, key=lambda name: -(scores[name]["weighted_kendall"]["value"] or 0.0))
    for name in order:
        table.add_row(name, *(_shown(scores[name][measure]) for measure in columns))
    return table


def _shown(measure: Mapping[str, Any]) -> str:
    if measure["value"] is None:
        return "-"
    if measure["low"] is None:
        return f"{measure['value']:.2f}"
    return f"{measure['value']:.2f} [{measure['low']:.2f}, {measure['high']:.2f}]"
