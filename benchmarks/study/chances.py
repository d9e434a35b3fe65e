"""Do the chances to be the best hold on targets that they were not fitted on?

    python -m benchmarks.study.chances

fits `estimators.comparison.calibration` on the published table of tllib and on the study's own table, and states the
chances of every target by a fit on all others. The two sources share no model, image, code or recipe.
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study.scores import ADVISING, FOLDER, RESULTS
from estimators.comparison.calibration import Bin, Calibration, calibrate, chances, reliability
from estimators.comparison.recommendation import recommend

PUBLISHED = FOLDER.parents[1] / "tests" / "reference" / "published"
POOL_SIZES = (2, 3, 4, 6, 8, 10)
SUB_POOLS = 40


@dataclass(frozen=True, slots=True)
class Pool:
    """What was known of a target's models, and how accurate they became.

    Attributes:
        source: ``tllib`` or ``study``.
        known, metrics: lists of (M,) numbers.
        accuracies: (M,).
    """

    source: str
    target: str
    known: Sequence[Sequence[float]]
    metrics: Sequence[Sequence[float]]
    accuracies: Sequence[float]

    def part(self, chosen: Sequence[int]) -> "Pool":
        """The same of some models."""

        def of(values: Sequence[float]) -> list[float]:
            return [values[place] for place in chosen]

        return Pool(self.source, self.target, [*map(of, self.known)], [*map(of, self.metrics)], of(self.accuracies))

    @property
    def pair(self) -> tuple[Any, Any]:
        """(scores of the advice without a trial, accuracies)."""
        return recommend(known=self.known, metrics=self.metrics).score, np.asarray(self.accuracies)


def pools(results: Path = RESULTS) -> list[Pool]:
    """All targets: parameters, and of NCE, LogME and TMI what the table has."""
    return [*_published(), *_own(results)]


def _published() -> list[Pool]:
    with (PUBLISHED / "torchvision_models.csv").open(newline="") as file:
        size = {row["model"]: math.log10(float(row["million_parameters"])) for row in csv.DictReader(file)}
    found = []
    for target, table in json.loads((PUBLISHED / "tllib_benchmark.json").read_text()).items():
        models: Mapping[str, Mapping[str, float]] = table["models"]
        metrics = [[row[name] for row in models.values()] for name in ("NCE", "LogME")]
        accuracies = [row["Finetuned Acc"] for row in models.values()]
        found.append(Pool("tllib", target, [[size[name] for name in models]], metrics, accuracies))
    return found


def _own(results: Path) -> list[Pool]:
    with results.open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = []
    for target in dict.fromkeys(row["target"] for row in rows):
        of = [row for row in rows if row["target"] == target]

        def column(name: str, of: Sequence[Mapping[str, str]] = of) -> list[float]:
            return [float(row[name]) if row[name] else math.nan for row in of]

        found.append(Pool("study", target, [column("parameters")], [*map(column, ADVISING)], column("accuracy")))
    return found


def fitted(chosen: Sequence[Pool]) -> Calibration:
    """On all models of these targets."""
    found = calibrate([pool.pair for pool in chosen])
    if found is None:
        raise ValueError(f"{len(chosen)} targets are too few")
    return found


def left_out(of: Sequence[Pool]) -> list[tuple[Pool, Calibration]]:
    """Each target with the fit on all the others."""
    return [(pool, fitted([other for other in of if other is not pool])) for pool in of]


def outcomes(judged: Sequence[tuple[Pool, Calibration]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stated chances of all models, whether each was the best (shared by ties), and whether it was advised first."""
    stated, truth, first = [], [], []
    for pool, calibration in judged:
        scores, accuracies = pool.pair
        best = accuracies == accuracies.max()
        stated.append(chances(scores, calibration))
        truth.append(best / best.sum())
        first.append(np.arange(len(scores)) == scores.argmax())
    return np.concatenate(stated), np.concatenate(truth), np.concatenate(first)


def sub_pools(judged: Sequence[tuple[Pool, Calibration]], size: int) -> list[tuple[Pool, Calibration]]:
    """Random pools of that many models, each with its target's fit."""
    rng = np.random.default_rng(size)
    return [
        (pool.part(rng.choice(len(pool.accuracies), size, replace=False)), calibration)
        for pool, calibration in judged
        for _ in range(SUB_POOLS)
    ]


def tables() -> str:
    """What the page shows."""
    everything = pools()
    by_source = {source: [pool for pool in everything if pool.source == source] for source in ("tllib", "study")}
    judged = left_out(everything)
    crossed = [(pool, fitted(by_source["study" if pool.source == "tllib" else "tllib"])) for pool in everything]
    ways = {"all other targets": judged, "the other source alone": crossed}
    lines = [
        "| fitted on | targets | chance of the first, stated | came true | mean log chance of the best | "
        "of equal chances |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for way, of in ways.items():
        stated, truth, first = outcomes(of)
        surprise = float(np.sum(truth * np.log(stated))) / len(of)
        equal = -float(np.mean([np.log(len(pool.accuracies)) for pool, _ in of]))
        lines.append(
            f"| {way} | {len(of)} | {100 * stated[first].mean():.0f} % | {100 * truth[first].mean():.0f} % "
            f"| {surprise:.2f} | {equal:.2f} |"
        )
    lines += ["", "| stated | models | mean stated | were the best |", "| --- | --- | --- | --- |"]
    lines += [_row(each) for each in reliability(*outcomes(judged)[:2])]
    lines += ["", "| models in the pool | chance of the first, stated | came true |", "| --- | --- | --- |"]
    for size in POOL_SIZES:
        stated, truth, first = outcomes(sub_pools(judged, size))
        lines.append(f"| {size} | {100 * stated[first].mean():.0f} % | {100 * truth[first].mean():.0f} % |")
    return "\n".join(lines) + "\n"


def _row(each: Bin) -> str:
    return (
        f"| {100 * each.low:.0f} to {100 * each.high:.0f} % | {each.count} | {100 * each.stated:.1f} % "
        f"| {100 * each.observed:.1f} % |"
    )


def main() -> None:
    """Print the fit and the tables."""
    print(fitted(pools()), tables(), sep="\n\n")


if __name__ == "__main__":
    main()
