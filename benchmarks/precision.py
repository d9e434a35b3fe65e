"""How far half precision of the forward pass moves each metric, and whether it changes the order of models.

    python -m benchmarks.precision --zoo DIR [--images 300] [--side 96]

The zoo is a folder with ``zoo.json`` (see `benchmarks.study.zoo.entries`), the target scikit-learn's digits. A row for
each metric and precision: the largest change of a value, as a share of the spread of the models in 32 bits, and
Kendall's tau between the two orders.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau

from benchmarks.study import targets, zoo
from benchmarks.study.measure import pixels_of
from estimators.catalog import METRICS, Evidence
from estimators.score import CannotBeComputed, InvalidEvidence, Score

PRECISIONS = ("float32", "bfloat16", "float16")


def evidence_of(folder: Path, images: int, side: int, precision: str) -> list[Evidence]:
    """Of every model of the zoo."""
    target = targets.load("digits", None)
    rows = target.train[:images]
    found = []
    for entry in zoo.entries(folder):
        config = zoo.input_of(entry, side)
        pixels = pixels_of(target, rows, config)
        with torch.autocast("cpu", getattr(torch, precision), enabled=precision != "float32"):
            features, probabilities = zoo.frozen(zoo.build(entry, folder), pixels, config)
        found.append(
            Evidence(
                features=features.astype(np.float64),
                labels=target.labels[rows],
                source_probabilities=probabilities.astype(np.float64),
            )
        )
    return found


def values_of(metric: str, evidence: Sequence[Evidence]) -> NDArray[np.float64] | None:
    """(M,) values; None if the metric cannot be computed of these."""
    scores: list[Score] = []
    try:
        scores = [METRICS[metric].compute(each) for each in evidence]
    except (CannotBeComputed, InvalidEvidence):
        return None
    combine = METRICS[metric].combine
    return np.array(combine(scores) if combine else [score.value for score in scores], dtype=np.float64)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--side", type=int, default=96)
    given = parser.parse_args()
    pools = {name: evidence_of(given.zoo, given.images, given.side, name) for name in PRECISIONS}
    count = len(pools["float32"][0].labels)
    print(f"{len(pools['float32'])} models, {count} images, {given.side} pixels\n")
    print("| metric | precision | largest change / spread of the models | Kendall tau of the orders |")
    print("| --- | --- | --- | --- |")
    for metric in METRICS:
        exact = values_of(metric, pools["float32"])
        for precision in PRECISIONS[1:]:
            moved = values_of(metric, pools[precision])
            if exact is None or moved is None:
                print(f"| {metric} | {precision} | cannot be computed | |")
                continue
            spread = float(np.ptp(exact)) or np.nan
            tau = float(kendalltau(exact, moved).statistic)
            print(f"| {metric} | {precision} | {np.abs(moved - exact).max() / spread:.2g} | {tau:.2f} |")


if __name__ == "__main__":
    main()
