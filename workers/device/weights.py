"""Weights: read without running anything, watched while timm loads them, and refused unless they are all there."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from timm.models import _builder
from torch import Tensor, nn

from workers.errors import ModelRefused

NAMED_KEYS = 10


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file; a pickle, or a header that lies about its size, is refused."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelRefused(f"{path.name} is not a sound safetensors file: {error}") from error


def read_header(path: Path) -> dict[str, Tensor]:
    """The names and shapes of a file's tensors, as tensors without content; a header that lies is refused."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: torch.empty(file.get_slice(name).get_shape(), device="meta") for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelRefused(f"{path.name} is not a sound safetensors file: {error}") from error


def check_complete(module: nn.Module, state: Mapping[str, Tensor], *, more_allowed: bool = False) -> None:
    """Every tensor of the module is in ``state`` in its shape, and nothing else is, unless ``more_allowed``."""
    own = module.state_dict()
    missing = [name for name in own if name not in state]
    unexpected = [] if more_allowed else [name for name in state if name not in own]
    shapes = [
        f"{name} ({tuple(state[name].shape)} in the file, {tuple(own[name].shape)} in the model)"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    faults = [
        f"{len(names)} {what}: {', '.join(names[:NAMED_KEYS])}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if names
    ]
    if faults:
        raise ModelRefused(
            f"the weights do not fit the architecture completely ({'; '.join(faults)}): "
            "check the architecture, its arguments and num_classes"
        )


def check_finite(module: nn.Module) -> None:
    """No value is NaN or infinite, be it in the file or left by ``watched_loading``."""
    broken = [
        name for name, value in module.state_dict().items() if value.is_floating_point() and not value.isfinite().all()
    ]
    if broken:
        raise ModelRefused(
            f"{len(broken)} tensors were not in the weights or are not finite: {', '.join(broken[:NAMED_KEYS])}"
        )


@contextmanager
def watched_loading() -> Iterator[list[nn.Module]]:
    """While active, timm's loader starts from NaN and refuses a state that does not fit the model key by key.

    timm drops a classifier of another width, adapts a first convolution, and some models load foreign formats, all
    without an error; whatever stays NaN was not in the file.
    """
    original = _builder.load_pretrained
    loaded: list[nn.Module] = []

    def load(model: nn.Module, *positional: Any, **named: Any) -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(torch.nan)
        plain = model.load_state_dict

        def checked(state: Mapping[str, Tensor], strict: bool = True, **more: Any) -> Any:
            # Not strict is how timm says of some of its own models that the file holds more than the model uses.
            check_complete(model, state, more_allowed=not strict)
            return plain(state, strict=strict, **more)

        model.load_state_dict = checked  # type: ignore[method-assign, assignment]
        try:
            original(model, *positional, **named)
        finally:
            del model.load_state_dict
        loaded.append(model)

    _builder.load_pretrained = load
    try:
        yield loaded
    finally:
        _builder.load_pretrained = original


def weights_digest(module: nn.Module) -> str:
    """SHA-256 over the sorted (name, dtype, shape, bytes) of the module's state."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        array = value.detach().cpu().contiguous()
        digest.update(json.dumps([name, str(array.dtype), list(array.shape)]).encode() + b"\n")
        digest.update(array.numpy().tobytes())
    return digest.hexdigest()
