"""One forward pass that keeps everything: pooled features, source logits, named layers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def forward(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """Pooled features and classifier logits of a timm model.

    Args:
        images: (B, 3, H, W), normalised.

    Returns:
        features (B, D), the input of the classifier; logits (B, S), or None if the model has no classifier.
    """
    network: Any = model
    maps = network.forward_features(images)
    features = pool(network.forward_head(maps, pre_logits=True), images.shape[0])
    if not getattr(model, "num_classes", 0):
        return features, None
    # timm's own head a second time, from the same maps: some models put more than a linear layer after the features.
    return features, network.forward_head(maps)


def probabilities(logits: Tensor) -> Tensor:
    """(B, S) float32 probabilities of (B, S) logits.

    Softmax is taken in 64 bits on the CPU (a device may lack them). A single logit s gives
    [1 - sigmoid(s), sigmoid(s)].
    """
    wide = logits.to("cpu", torch.float64)
    if wide.shape[1] == 1:
        positive = wide.sigmoid()
        return torch.cat([1 - positive, positive], dim=1).float()
    return wide.softmax(dim=1).float()


def pool(output: Tensor, batch: int, *, channels_last: bool = False) -> Tensor:
    """(B, D): the mean over the positions of (B, D, H, W), of (B, H, W, D) if ``channels_last``, or of (B, T, D)."""
    if output.shape[0] != batch:
        raise ValueError(f"the layer gives {output.shape[0]} rows for {batch} images: it runs on parts of an image")
    match output.ndim:
        case 2:
            return output
        case 3:
            return output.mean(dim=1)
        case 4:
            return output.mean(dim=(1, 2) if channels_last else (2, 3))
        case dimensions:
            raise ValueError(f"the layer's output has {dimensions} dimensions: 2, 3 or 4 can be pooled")


@contextmanager
def watch_layers(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """While active, each forward pass leaves the pooled output of every named module in the dictionary.

    Raises:
        ValueError: the model has no module of that name.
    """
    seen: dict[str, Tensor] = {}
    modules = dict(model.named_modules())
    if unknown := [name for name in names if name not in modules]:
        raise ValueError(
            f"the model has no layer {', '.join(unknown)}; it has, for instance, {', '.join(list(modules)[1:9])}"
        )
    handles = [modules[name].register_forward_hook(_keeper(model, name, seen)) for name in names]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _keeper(model: nn.Module, name: str, seen: dict[str, Tensor]) -> Any:
    channels = _channels(model).get(name)
    nhwc = getattr(model, "output_fmt", "NCHW") == "NHWC"

    def keep(module: nn.Module, arguments: tuple[Tensor, ...], output: Any) -> None:
        tensor = output[0] if isinstance(output, (tuple, list)) else output
        if not isinstance(tensor, Tensor):
            raise ValueError(f"the layer {name} does not give a tensor")
        last = nhwc
        if channels is not None and tensor.ndim == 4 and (tensor.shape[1] == channels) != (tensor.shape[3] == channels):
            last = tensor.shape[3] == channels
        seen[name] = pool(tensor, arguments[0].shape[0], channels_last=last)

    return keep


def _channels(model: nn.Module) -> Mapping[str, int]:
    information: Any = getattr(model, "feature_info", None)
    entries = information.info if hasattr(information, "info") else information or []
    return {entry["module"]: entry["num_chs"] for entry in entries if "module" in entry and "num_chs" in entry}
