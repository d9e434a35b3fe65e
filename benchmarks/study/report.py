"""Judge every score by the fine-tuned truth of the study, and write the tables of ``docs/truth.md``.

    python -m benchmarks.study.report --zoo DIR --work DIR [--output docs/truth.md]

Reads what `benchmarks.study.measure` left; a model counts on a target if it has a truth and a first fold there.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.study import zoo
from benchmarks.study.measure import FOLDS, Cells
from estimators.catalog import METRICS, Evidence
from estimators.comparison.evaluation import evaluate, over_targets
from estimators.comparison.recommendation import recommend
from estimators.score import CannotBeComputed, InvalidEvidence

ADVISING = ("nce", "logme", "tmi")
# The metrics of the advice, and LEEP, whose order depends most on the size of the images.
JUDGED = ("nce", "logme", "tmi", "leep")
POINTS = 100.0
MARK = "<!-- measured -->\n"


class Pool:
    """One target: its models, their truth and what each left."""

    def __init__(self, cells: Cells, target: str, entries: Sequence[Mapping[str, Any]], folds: Sequence[int]) -> None:
        needed = ["truth-0", "evidence-native", *(f"trial-{fold}" for fold in folds)]
        self.entries = [e for e in entries if all(f"{target}/{e['name']}/{cell}" in cells.found for cell in needed)]
        self.target = target
        self._cells = cells
        self._folds = folds
        self.accuracies = np.array([self.found(e, "truth-0")["accuracy"] for e in self.entries])

    def found(self, entry: Mapping[str, Any], cell: str) -> dict[str, Any]:
        """The values of a cell."""
        return dict(self._cells.found[f"{self.target}/{entry['name']}/{cell}"])

    def arrays(self, entry: Mapping[str, Any], cell: str) -> dict[str, NDArray[Any]]:
        """Its arrays."""
        return self._cells.arrays(f"{self.target}/{entry['name']}/{cell}")

    def metrics(self, size: str) -> dict[str, list[float]]:
        """Metric -> value by model."""
        values: dict[str, list[float]] = {}
        for name in JUDGED:
            values[name] = [self._metric(name, entry, size) for entry in self.entries]
        return values

    def _metric(self, name: str, entry: Mapping[str, Any], size: str) -> float:
        stored = self.arrays(entry, f"evidence-{size}")
        evidence = Evidence(
            features=stored["features"], labels=stored["labels"], source_probabilities=stored["probabilities"]
        )
        try:
            return float(METRICS[name].compute(evidence).value)
        except (CannotBeComputed, InvalidEvidence):
            return float("nan")

    def trial(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(M, N) losses and hits."""
        rows = []
        for entry in self.entries:
            folds = [self.arrays(entry, f"trial-{fold}") for fold in self._folds]
            count = 1 + max(int(fold["rows"].max()) for fold in folds)
            losses, hits = np.full(count, np.nan), np.full(count, np.nan)
            for fold in folds:
                chosen = fold["probabilities"][np.arange(fold["labels"].size), fold["labels"]]
                losses[fold["rows"]] = -np.log(np.maximum(chosen, np.finfo(np.float32).tiny))
                hits[fold["rows"]] = fold["probabilities"].argmax(axis=1) == fold["labels"]
            rows.append((losses, hits))
        width = max(losses.size for losses, _ in rows)
        padded = [[np.pad(a, (0, width - a.size), constant_values=np.nan) for a in row] for row in rows]
        return np.stack([row[0] for row in padded]), np.stack([row[1] for row in padded])

    def probe(self) -> list[float]:
        """Mean accuracy of the linear probe on the folds."""
        folds = [[self.found(e, f"trial-{fold}")["probe_accuracy"] for fold in self._folds] for e in self.entries]
        return [float(np.mean(row)) for row in folds]


def scores_of(pool: Pool) -> dict[str, list[float] | NDArray[np.float64]]:
    """Score -> value by model: baselines, metrics by the models' own transform, the trial, and the advice."""
    parameters = [float(np.log10(entry["parameters"])) for entry in pool.entries]
    native = pool.metrics("native")
    small = pool.metrics("96")
    losses, hits = pool.trial()
    known, metrics = [parameters], [native[name] for name in ADVISING]
    tried = {"losses": losses, "correct": hits}

    def advised(**evidence: Any) -> NDArray[np.float64]:
        order = recommend(**evidence).order
        places = np.empty(len(order))
        places[order] = -np.arange(len(order))
        return places

    return {
        "parameters": parameters,
        **{f"{name} (native)": values for name, values in native.items()},
        **{f"{name} (96 px)": values for name, values in small.items()},
        "linear probe (96 px)": pool.probe(),
        "trial, accuracy": np.nanmean(hits, axis=1),
        "trial, likelihood": -np.nanmean(losses, axis=1),
        "advice: known": advised(known=known),
        "advice: metrics": advised(metrics=metrics),
        "advice: known and metrics (default)": advised(known=known, metrics=metrics),
        "advice: known and trial": advised(known=known, **tried),
        "advice: metrics and trial": advised(metrics=metrics, **tried),
        "advice: known, metrics and trial": advised(known=known, metrics=metrics, **tried),
        "random": [0.0] * len(parameters),
    }


def ceiling(pool: Pool, draws: int = 300) -> dict[str, float]:
    """What another draw of the test images would say of the truth: an oracle judged by a resampled truth."""
    hits = []
    for entry in pool.entries:
        stored = pool.arrays(entry, "truth-0")
        hits.append(stored["probabilities"].argmax(axis=1) == stored["labels"])
    table = np.array(hits, dtype=np.float64)
    rng = np.random.default_rng(0)
    taus, regrets = [], []
    for _ in range(draws):
        oracle, truth = (table[:, rng.integers(table.shape[1], size=table.shape[1])].mean(axis=1) for _ in range(2))
        found = evaluate(scores=oracle, accuracies=POINTS * truth, resamples=0)
        taus.append(found["weighted_kendall"].value)
        regrets.append(found["regret_1"].value)
    return {"weighted_kendall": float(np.mean([t for t in taus if t is not None])), "regret_1": float(np.mean(regrets))}


def table_of(pools: Sequence[Pool]) -> str:
    """Every score on every target, and the means."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for pool in pools:
        for name, values in scores_of(pool).items():
            scores = np.asarray(values, dtype=np.float64)
            known = np.isfinite(scores)
            if known.sum() < len(scores) / 2:
                continue
            measures = evaluate(scores=scores[known], accuracies=POINTS * pool.accuracies[known], resamples=0)
            best = pool.accuracies.max() - pool.accuracies[known].max()
            found.setdefault(name, {})[pool.target] = {
                "tau": np.nan if measures["weighted_kendall"].value is None else measures["weighted_kendall"].value,
                "regret": float(measures["regret_1"].value or 0.0) + POINTS * best,
                "regret of three": float(measures["regret_3"].value or 0.0) + POINTS * best,
            }
    targets = [pool.target for pool in pools]
    columns = ["tau", "regret", "regret of three"]
    lines = [
        "| score | "
        + " | ".join(f"{target}: {column}" for target in targets for column in columns)
        + " | mean tau | mean regret | mean regret of three |",
        "| --- |" + " --- |" * (3 * len(targets) + 3),
    ]

    def mean(rows: Mapping[str, Mapping[str, float]], column: str) -> float:
        value = over_targets([rows.get(target, {}).get(column, np.nan) for target in targets]).value
        return np.nan if value is None else value

    order = sorted(found, key=lambda name: -np.nan_to_num(mean(found[name], "tau"), nan=-9))
    for name in order:
        cells = [found[name].get(target, {}).get(column, np.nan) for target in targets for column in columns]
        cells += [mean(found[name], column) for column in columns]
        lines.append(f"| {name} | " + " | ".join("-" if np.isnan(cell) else f"{cell:.2f}" for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the tables, or write them below the mark of a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    cells, entries = Cells(arguments.work), zoo.entries(arguments.zoo)
    targets = list(dict.fromkeys(identity.split("/")[0] for identity in cells.found))
    parts: list[str] = []
    for folds in ([0], list(range(FOLDS))):
        pools = [pool for target in targets if len((pool := Pool(cells, target, entries, folds)).entries) >= 5]
        if not pools:
            continue
        sizes = ", ".join(f"{pool.target} ({len(pool.entries)} models)" for pool in pools)
        parts.append(f"### {len(folds)} fold{'s' if len(folds) > 1 else ''}: {sizes}\n\n{table_of(pools)}")
        if len(folds) == 1:
            noise = {pool.target: ceiling(pool) for pool in pools}
            shown = [f"{t}: tau {n['weighted_kendall']:.2f}, regret {n['regret_1']:.2f}" for t, n in noise.items()]
            parts.append(
                f"An oracle, the truth on one draw of the test images judged by another: {'; '.join(shown)}.\n"
            )
    text = "\n".join(parts)
    if arguments.output is None:
        print(text)
        return
    page = arguments.output.read_text()
    arguments.output.write_text(page[: page.index(MARK) + len(MARK)] + "\n" + text)


if __name__ == "__main__":
    main()
