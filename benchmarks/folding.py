"""Fold the batch normalisations of one network of every family in timm, and compare the features.

    python -m benchmarks.folding

Prints, for the smallest network of each family, how many were folded, and the largest difference of its features as a
share of the largest feature. Weights and statistics are random. Some families refuse small images and get their own.
"""

import csv
from importlib import resources

import timm
import torch
from timm.layers.norm_act import BatchNormAct2d
from timm.models import model_entrypoint
from torch import Tensor, nn

from workers.device.folding import fold_batch_norms

SIZE = 128
TOLERANCE = 1e-5


def disturb(network: nn.Module) -> None:
    """Give batch normalisations statistics and parameters as training leaves them."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)


def smallest_of_each_family() -> list[str]:
    """The architecture with the fewest parameters in each of timm's files that has batch normalisation."""
    with resources.files("workers.catalog").joinpath("timm_facts.csv").open() as file:
        parameters = {row["name"].partition(".")[0]: int(row["parameters"]) for row in csv.DictReader(file)}
    families: dict[str, str] = {}
    for name in sorted(parameters, key=parameters.__getitem__):
        family = model_entrypoint(name).__module__
        if family not in families:
            families[family] = name
    return [name for _, name in sorted(families.items()) if _has_batch_norms(name)]


def compare(name: str) -> tuple[int, int, float]:
    """Batch normalisations in all, those folded, and the difference that it makes."""
    torch.manual_seed(0)
    network = timm.create_model(name).eval()
    disturb(network)
    count = sum(type(module) in (nn.BatchNorm2d, BatchNormAct2d) for module in network.modules())
    images = torch.rand(2, 3, SIZE, SIZE)
    try:
        expected = _features(network, images)
    except (AssertionError, RuntimeError):
        images = torch.rand(2, *network.pretrained_cfg["input_size"])  # type: ignore[index]
        expected = _features(network, images)
    folded = fold_batch_norms(network, images[:1])
    difference = (_features(network, images) - expected).abs().max() / expected.abs().max()
    return count, folded, float(difference)


def _features(network: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        features: Tensor = network.forward_head(network.forward_features(images), pre_logits=True)  # type: ignore[operator]
        return features


def _has_batch_norms(name: str) -> bool:
    try:
        with torch.device("meta"):
            network = timm.create_model(name)
    except (NotImplementedError, RuntimeError):
        # It reads values while it is built.
        network = timm.create_model(name)
    return any(type(module) in (nn.BatchNorm2d, BatchNormAct2d) for module in network.modules())


def main() -> None:
    """Print the table; ends with an error if a network changed."""
    names = smallest_of_each_family()
    print("| network | batch normalisations | folded | difference |\n| --- | --- | --- | --- |")
    worst = 0.0
    for name in names:
        count, folded, difference = compare(name)
        worst = max(worst, difference)
        print(f"| {name} | {count} | {folded} | {difference:.1e} |", flush=True)
    print(f"\n{len(names)} families, the largest difference {worst:.1e} (allowed {TOLERANCE:.0e})")
    if worst > TOLERANCE:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
