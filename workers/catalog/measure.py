"""Count the parameters, multiply-adds and weight bytes of every pre-trained name of the installed timm.

``python -m workers.catalog.measure [--results results-imagenet.csv] > workers/catalog/timm_facts.csv``

Networks are built on torch's meta device, which computes shapes and allocates nothing. Multiply-adds are half of what
torch's FLOP counter counts (convolutions, matrix products, attention) for one image of the input size that the weights
were published with. The ImageNet accuracies are those of timm's own table (``results/results-imagenet.csv`` of its
repository, Apache-2.0), where it lists the name; `--results` says where that table lies.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

COLUMNS = ("name", "parameters", "gmacs", "weight_bytes", "top1", "top1_input_size")


def measure(name: str) -> dict[str, Any]:
    """Parameters, GMACs and bytes of the state, counted on the meta device; empty values where that cannot be done."""
    config: Any = timm.get_pretrained_cfg(name)
    # What the meta device cannot do differs from network to network; a value that cannot be counted is left empty.
    try:
        with torch.device("meta"):
            model = timm.create_model(name, pretrained=False).eval().requires_grad_(False)
    except Exception as error:
        sys.stderr.write(f"{name}: not built: {error}\n")
        return {"name": name, "parameters": None, "gmacs": None, "weight_bytes": None}
    counted = {
        "name": name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "weight_bytes": sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values()),
        "gmacs": None,
    }
    try:
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            model(torch.empty((1, *config.input_size), device="meta"))
        counted["gmacs"] = round(counter.get_total_flops() / 2e9, 4)
    except Exception as error:
        sys.stderr.write(f"{name}: not counted: {error}\n")
    return counted


def published(path: Path | None) -> dict[str, dict[str, str]]:
    """Name -> its best row in timm's results table, which lists some at several input sizes."""
    if path is None:
        return {}
    best: dict[str, dict[str, str]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            known = best.get(row["model"])
            if known is None or float(row["top1"]) > float(known["top1"]):
                best[row["model"]] = row
    return best


def rows(results: Path | None) -> Iterator[dict[str, Any]]:
    """One row a pre-trained name; tags of one architecture and input are counted once."""
    accuracies = published(results)
    known: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name in timm.list_pretrained():
        config: Any = timm.get_pretrained_cfg(name)
        key = (name.partition(".")[0], tuple(config.input_size), config.num_classes)
        if key not in known:
            known[key] = measure(name)
        accuracy = accuracies.get(name, {})
        yield {
            **known[key],
            "name": name,
            "top1": accuracy.get("top1"),
            "top1_input_size": accuracy.get("img_size"),
        }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m workers.catalog.measure", description=__doc__)
    parser.add_argument("--results", type=Path, help="timm's results-imagenet.csv")
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows(parser.parse_args().results):
        writer.writerow(row)


if __name__ == "__main__":
    main()
