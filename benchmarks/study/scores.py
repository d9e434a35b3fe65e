"""From the cells of the study to one table: what every score says of every model on every target.

    python -m benchmarks.study.scores --zoo DIR --work DIR

writes ``results.csv`` beside this file, a row a model and target; ``ensembles.csv``, a row a chosen ensemble;
``noise.csv``, how far the truth agrees with itself; and ``samples.csv``, metrics on samples of other sizes.
``forerank evaluate benchmarks/study/results.csv`` judges the scores; `benchmarks.study.report` writes the page.
"""

import argparse
import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.study import zoo
from benchmarks.study.measure import FOLDS, Cells
from estimators.arrays.sampling import sample_indices
from estimators.catalog import METRICS, Evidence
from estimators.comparison.abstention import abstentions
from estimators.comparison.consensus import consensus
from estimators.comparison.evaluation import evaluate
from estimators.comparison.history import prior
from estimators.comparison.recommendation import recommend
from estimators.ensembles.held_out import probe_predictions, select_held_out
from estimators.ensembles.selection import build_pool, select
from estimators.score import CannotBeComputed, InvalidEvidence, Score

FOLDER = Path(__file__).parent
RESULTS, ENSEMBLES = FOLDER / "results.csv", FOLDER / "ensembles.csv"
NOISE, SAMPLE_SIZES = FOLDER / "noise.csv", FOLDER / "samples.csv"
# Those that a ranking has by default.
ADVISING = ("nce", "logme", "tmi")
SAMPLES = (50, 100, 200, 400, 800)
JUDGED_BY_SIZE = ("nce", "leep", "logme", "tmi")
SIZES = (2, 3)
POINTS = 100.0
Numbers = NDArray[np.float64]


class Pool:
    """One target: the models whose truth and features are measured, and what each left."""

    def __init__(self, cells: Cells, target: str, entries: Sequence[Mapping[str, Any]]) -> None:
        self.target = target
        self._cells = cells
        sizes = [size for size in ("96", "64") if self._measured(entries, f"evidence-{size}")]
        self.size = sizes[0] if sizes else "64"
        self.entries = [e for e in entries if self._has(e, "truth-0") and self._has(e, f"evidence-{self.size}")]
        self.names = [e["name"] for e in self.entries]
        self.truths = [self._truth(e) for e in self.entries]
        self.accuracies = np.array([self._cells.found[identity]["accuracy"] for identity in self.truths])
        self.test = [cells.arrays(identity) for identity in self.truths]

    def _measured(self, entries: Sequence[Mapping[str, Any]], cell: str) -> bool:
        return any(self._has(entry, cell) for entry in entries)

    def _identity(self, entry: Mapping[str, Any], cell: str) -> str:
        return f"{self.target}/{entry['name']}/{cell}"

    def _has(self, entry: Mapping[str, Any], cell: str) -> bool:
        return self._identity(entry, cell) in self._cells.found

    def _truth(self, entry: Mapping[str, Any], seed: int = 0) -> str:
        """The cell of the more accurate run, where a second was made at a lower rate."""
        usual = self._identity(entry, f"truth-{seed}")
        slower = f"{usual}-slower"
        found = self._cells.found
        return slower if slower in found and found[slower]["accuracy"] > found[usual]["accuracy"] else usual

    def second_seed(self) -> Numbers:
        """(M,) accuracy of another seed; NaN where it was not measured."""
        found = [self._cells.found.get(self._truth(entry, 1), {}) for entry in self.entries]
        return np.array([cell.get("accuracy", np.nan) for cell in found])

    @property
    def parameters(self) -> Numbers:
        """(M,) base-10 logarithms."""
        return np.array([math.log10(entry["parameters"]) for entry in self.entries])

    def labels(self) -> NDArray[np.int64]:
        """Of all images whose features at the small size were stored."""
        stored: NDArray[np.int64] = self._cells.arrays(self._identity(self.entries[0], f"evidence-{self.size}"))[
            "labels"
        ]
        return stored

    def trained_on(self) -> int:
        """How many images."""
        return len(self.labels()) - (len(self.test[0]["labels"]) if self.size == "64" else 0)

    def evidence(self, entry: Mapping[str, Any], size: str, rows: NDArray[np.int64] | None = None) -> Evidence:
        """Of the images that were trained on, or of some rows."""
        stored = self._cells.arrays(self._identity(entry, f"evidence-{size}"))
        chosen = np.arange(self.trained_on()) if rows is None else rows
        return Evidence(
            features=stored["features"][chosen].astype(np.float64),
            labels=stored["labels"][chosen],
            source_probabilities=stored["probabilities"][chosen].astype(np.float64),
        )

    def metrics(
        self, size: str, names: Sequence[str], rows: NDArray[np.int64] | None = None
    ) -> tuple[dict[str, Numbers], dict[str, str]]:
        """Metric -> (M,) values, and metric -> why it abstains; empty if the evidence was not measured for all."""
        if not all(self._has(entry, f"evidence-{size}") for entry in self.entries):
            return {}, {}
        pool: dict[str, list[Score | None]] = {name: [] for name in names}
        for entry in self.entries:
            evidence = self.evidence(entry, size, rows)
            for name in names:
                pool[name].append(_computed(name, evidence))
        values: dict[str, Numbers] = {}
        for name, scores in pool.items():
            given = [score for score in scores if score is not None]
            if len(given) < 2:
                continue
            combine = METRICS[name].combine
            told = iter(combine(given) if combine is not None else [score.value for score in given])
            values[name] = np.array([np.nan if score is None else float(next(told)) for score in scores])
        present = {name: [score for score in pool[name] if score is not None] for name in values}
        return values, abstentions(present)

    def folds(self) -> int:
        """How many of the trial's folds all models have."""
        return min(sum(self._has(entry, f"trial-{fold}") for fold in range(FOLDS)) for entry in self.entries)

    def trial(self, folds: int) -> dict[str, Numbers]:
        """(M, N) losses and hits of the first folds; NaN where an image was not held out."""
        losses = np.full((len(self.entries), self.trained_on()), np.nan)
        correct = losses.copy()
        for place, runs in enumerate(self.predictions(folds)):
            for run in runs:
                chosen = run["probabilities"][np.arange(run["labels"].size), run["labels"]]
                losses[place, run["rows"]] = -np.log(np.maximum(chosen, np.finfo(np.float32).tiny))
                correct[place, run["rows"]] = run["probabilities"].argmax(axis=1) == run["labels"]
        return {"losses": losses, "correct": correct}

    def predictions(self, folds: int) -> list[list[dict[str, NDArray[Any]]]]:
        """Of each model: each fold's probabilities, rows and labels."""
        return [
            [self._cells.arrays(self._identity(entry, f"trial-{fold}")) for fold in range(folds)]
            for entry in self.entries
        ]


def _computed(name: str, evidence: Evidence) -> Score | None:
    try:
        return METRICS[name].compute(evidence)
    except (CannotBeComputed, InvalidEvidence):
        return None


def agreed(values: Mapping[str, Numbers]) -> Numbers:
    """The consensus as a score: minus the place."""
    order = np.asarray(consensus(list(values.values())).order)
    places = np.full(len(next(iter(values.values()))), np.nan)
    places[order] = -np.arange(len(order), dtype=np.float64)
    return places


def advised(**evidence: Any) -> Numbers:
    """The recommendation's score."""
    return recommend(**evidence).score


def history_of(pool: Pool, others: Sequence[Pool]) -> Numbers:
    """(M,) the merit by what the models reached on the other targets, shrunk towards their parameters."""
    table = np.full((len(pool.names), len(others)), np.nan)
    for column, other in enumerate(others):
        for row, name in enumerate(pool.names):
            if name in other.names:
                table[row, column] = other.accuracies[other.names.index(name)]
    return prior(table, pool.parameters[:, None]).merit


def scores_of(pool: Pool, others: Sequence[Pool]) -> tuple[dict[str, Numbers], dict[str, str]]:
    """Score -> (M,) values, and which metrics abstain on the images' small size."""
    names = list(METRICS)
    small, silent = pool.metrics(pool.size, names)
    native, _ = pool.metrics("native", names)
    voting = {name: values for name, values in small.items() if name not in silent}
    history = history_of(pool, others)
    scores = {"parameters": pool.parameters, "history": history}
    scores |= small
    scores |= {f"{name}, own input": values for name, values in native.items()}
    scores["consensus of all metrics"] = agreed(voting)
    default = [small[name] for name in ADVISING if name in voting]
    rungs: dict[str, dict[str, Any]] = {
        "known": {"known": [pool.parameters]},
        "history ": {"known": [history]},
        "metrics": {"metrics": default},
    }
    if native:
        rungs["own-input metrics"] = {"metrics": [native[name] for name in ADVISING]}
    for folds in sorted({min(1, pool.folds()), pool.folds()} - {0}):
        tried = pool.trial(folds)
        said = "one fold" if folds == 1 else f"{folds} folds"
        scores[f"trial ({said}), likelihood"] = -np.nanmean(tried["losses"], axis=1)
        scores[f"trial ({said}), accuracy"] = np.nanmean(tried["correct"], axis=1)
        rungs[f"trial ({said})"] = tried
    for known in ("known", "history "):
        for metrics in ("", "metrics", "own-input metrics"):
            for trial in ("", *(name for name in rungs if name.startswith("trial"))):
                chosen = [name for name in (known, metrics, trial) if name]
                if len(chosen) > 1 and all(name in rungs for name in chosen):
                    combined = {key: value for name in chosen for key, value in rungs[name].items()}
                    scores[f"advice: {', '.join(name.strip() for name in chosen)}"] = advised(**combined)
    return scores, silent


def by_sample(pool: Pool, draws: int = 3) -> list[dict[str, Any]]:
    """Weighted tau of metrics on stratified samples of all images whose features are there, tested ones included."""
    if pool.size != "64":
        return []
    labels = pool.labels()
    rows = []
    for count in (count for count in SAMPLES if count < len(labels)):
        for draw in range(draws):
            chosen = sample_indices(labels, max_samples=count, seed=draw)
            for name, values in pool.metrics("64", JUDGED_BY_SIZE, chosen)[0].items():
                found = evaluate(scores=values, accuracies=pool.accuracies, resamples=0)["weighted_kendall"].value
                rows.append({"target": pool.target, "metric": name, "images": count, "draw": draw, "tau": found})
    return rows


def noise_of(pool: Pool, draws: int = 300) -> dict[str, Any]:
    """How close models are, and an oracle: the truth on one resample of the test images, judged by that on another."""
    hits = np.array([one["probabilities"].argmax(axis=1) == one["labels"] for one in pool.test], dtype=np.float64)
    rng = np.random.default_rng(0)
    count = hits.shape[1]
    taus, regrets = [], []
    for _ in range(draws):
        oracle, truth = (hits[:, rng.integers(count, size=count)].mean(axis=1) for _ in range(2))
        found = evaluate(scores=oracle, accuracies=POINTS * truth, resamples=0)
        taus.append(found["weighted_kendall"].value)
        regrets.append(found["regret_1"].value)
    near = int(np.sum(pool.accuracies >= pool.accuracies.max() - 0.01))
    return {
        "target": pool.target,
        "classes": int(pool.test[0]["labels"].max()) + 1,
        "trained on": pool.trained_on(),
        "tested on": count,
        "side": int(pool.size),
        "best": float(pool.accuracies.max()),
        "worst": float(pool.accuracies.min()),
        "within a point of the best": near,
        "slower": sum(identity.endswith("slower") for identity in pool.truths),
        "oracle tau": float(np.mean([tau for tau in taus if tau is not None])),
        "oracle regret": float(np.mean([regret for regret in regrets if regret is not None])),
    }


def ensembles_of(pool: Pool, advice: Numbers) -> list[dict[str, Any]]:
    """What each method chose, and what the average of the fine-tuned members reached on the test images."""
    labels = pool.test[0]["labels"]
    test = {name: one["probabilities"].astype(np.float64) for name, one in zip(pool.names, pool.test, strict=True)}

    def reached(members: Sequence[str]) -> float:
        return float(np.mean(np.mean([test[name] for name in members], axis=0).argmax(axis=1) == labels))

    evidence = [pool.evidence(entry, pool.size) for entry in pool.entries]
    terms = build_pool(
        names=pool.names,
        labels=evidence[0].labels,
        source_probabilities=[one.source_probabilities for one in evidence],
        features=[one.features for one in evidence],
        source_features=[None] * len(evidence),
        label_spaces=[entry["source_dataset"] for entry in pool.entries],
    )
    probes = [probe_predictions(features=one.features, labels=one.labels) for one in evidence]
    first = [pool.names[index] for index in np.argsort(-advice, kind="stable")]
    rows = []
    for size in SIZES:
        chosen: dict[str, Sequence[str]] = {f"first {size} of the advice": first[:size]}
        for method in ("osborn", "ms_leep", "e_leep"):
            chosen[method] = select(terms, size=size, method=method).members
        chosen["held out, linear probes"] = select_held_out(
            names=pool.names, probabilities=probes, labels=evidence[0].labels, size=size, resamples=2
        ).members
        if pool.folds() == FOLDS:
            runs = [
                {key: np.concatenate([fold[key] for fold in of]) for key in of[0]} for of in pool.predictions(FOLDS)
            ]
            chosen["held out, trial"] = select_held_out(
                names=pool.names,
                probabilities=[run["probabilities"].astype(np.float64) for run in runs],
                labels=runs[0]["labels"],
                size=size,
                resamples=2,
            ).members
        rows += [
            {
                "target": pool.target,
                "size": size,
                "method": method,
                "members": " + ".join(members),
                "accuracy": reached(members),
                "best_single": float(pool.accuracies.max()),
                "advised_single": float(pool.accuracies[pool.names.index(first[0])]),
            }
            for method, members in chosen.items()
        ]
    return rows


def pools_of(cells: Cells, folder: Path) -> list[Pool]:
    """All targets whose models were all fine-tuned."""
    entries = zoo.entries(folder)
    targets = dict.fromkeys(identity.split("/")[0] for identity in cells.found)
    pools = [Pool(cells, target, entries) for target in targets]
    return [pool for pool in pools if len(pool.entries) == len(entries)]


def main() -> None:
    """Write both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    pools = pools_of(Cells(arguments.work), arguments.zoo)
    rows: list[dict[str, Any]] = []
    ensembles: list[dict[str, Any]] = []
    samples: list[dict[str, Any]] = []
    for pool in pools:
        scores, silent = scores_of(pool, [other for other in pools if other is not pool])
        best = [name for name in scores if name.startswith("advice: known") and "own-input" not in name][-1]
        ensembles += ensembles_of(pool, scores[best])
        print(
            f"{pool.target}: {len(pool.names)} models, {pool.folds()} folds; abstaining: {', '.join(silent) or 'none'}"
        )
        samples += by_sample(pool)
        second = pool.second_seed()
        rows += [
            {"target": pool.target, "model": name, "accuracy": pool.accuracies[place], "second seed": second[place]}
            | {score: values[place] for score, values in scores.items()}
            for place, name in enumerate(pool.names)
        ]
    _write(RESULTS, rows)
    _write(ENSEMBLES, ensembles)
    _write(NOISE, [noise_of(pool) for pool in pools])
    _write(SAMPLE_SIZES, samples)


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_text(row.get(column)) for column in columns] for row in rows)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return "" if value is None else str(value)


if __name__ == "__main__":
    main()
