"""Facts of timm's models that only a table knows: `timm_facts.csv`, made by `workers.catalog.measure`.

Parameters, multiply-adds and weight bytes were counted; ImageNet accuracies are those of timm's own results table, of
each name the best row. `SOURCES` says where each fact comes from, and goes with it wherever it is published.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("timm_facts.csv")
SOURCES = {
    "parameters": "counted on timm 1.0.31 (workers/catalog/measure.py)",
    "gmacs": "half of what torch's FLOP counter counts on timm 1.0.31 (workers/catalog/measure.py)",
    "weight_bytes": "counted on timm 1.0.31 in 32 bits (workers/catalog/measure.py)",
    "top1": "results/results-imagenet.csv of huggingface/pytorch-image-models, "
    "commit 7479d451a6dfd8af27f941b8e82a7402461fae80, Apache-2.0",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one pre-trained name; None: not known.

    Attributes:
        gmacs: billions of multiply-adds for one image of the published input size.
        weight_bytes: of the state in 32 bits, which is what the published files hold.
        top1: percent on ImageNet's validation images, at ``top1_input_size`` pixels.
    """

    parameters: int | None = None
    gmacs: float | None = None
    weight_bytes: int | None = None
    top1: float | None = None
    top1_input_size: int | None = None


@cache
def table() -> dict[str, Facts]:
    """Name -> facts."""
    with TABLE.open(newline="") as file:
        return {
            row["name"]: Facts(
                parameters=int(row["parameters"]) if row["parameters"] else None,
                gmacs=float(row["gmacs"]) if row["gmacs"] else None,
                weight_bytes=int(row["weight_bytes"]) if row["weight_bytes"] else None,
                top1=float(row["top1"]) if row["top1"] else None,
                top1_input_size=int(row["top1_input_size"]) if row["top1_input_size"] else None,
            )
            for row in csv.DictReader(file)
        }
