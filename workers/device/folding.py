"""Batch normalisation folded into the convolutions before it: the same function of the image in fewer passes."""

from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Subclasses may compute their weights anew in each pass.
CONVOLUTIONS = (nn.Conv2d, Conv2dSame)
NORMS = (nn.BatchNorm2d, BatchNormAct2d)
# Functions that only ask what a tensor is.
LOOKS = frozenset({"__get__", "dim", "size"})


def fold_batch_norms(model: nn.Module, images: Tensor, *, kept: Collection[str] = ()) -> int:
    """Fold, in place, each batch normalisation whose input is a convolution's output that nothing else reads.

    With scale s = gamma / sqrt(variance + epsilon) of each channel, weights become W s and the bias
    beta + (b - mean) s, in 64 bits. Which layers follow each other is seen in one forward pass, so a convolution that
    is used twice, or whose output also goes elsewhere, is left as it is.

    Args:
        model: in evaluation mode; its ``forward_features`` and ``forward_head`` are run once.
        images: (B, 3, H, W); one image is enough.
        kept: names of modules whose outputs must not change.

    Returns:
        The number of batch normalisations that were folded.
    """
    names = {module: name for name, module in model.named_modules()}
    observed = _Observed()
    with ExitStack() as hooks:
        for module, name in names.items():
            if type(module) in CONVOLUTIONS:
                hooks.callback(module.register_forward_hook(observed.convolved).remove)
            if type(module) in NORMS and module.running_var is not None:
                hooks.callback(module.register_forward_pre_hook(observed.normalised).remove)
            if name in kept:
                hooks.callback(module.register_forward_hook(observed.keep).remove)
        network: Any = model
        with torch.inference_mode(), observed:
            network.forward_head(network.forward_features(images))
    pairs = observed.pairs()
    for convolution, norm in pairs:
        _fold(convolution, norm)
        # timm's own class applies its activation too.
        rest = [part for part in (getattr(norm, "drop", None), getattr(norm, "act", None)) if part is not None]
        model.set_submodule(names[norm], nn.Sequential(*rest))
    return len(pairs)


class _Observed(TorchFunctionMode):
    """Which convolutions feed which batch normalisations, and what else their outputs feed."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[nn.Module, int] = {}
        self._sources: dict[nn.BatchNorm2d, nn.Conv2d] = {}
        self._by_output: dict[int, nn.Conv2d] = {}
        self._uses: dict[nn.Conv2d, int] = {}
        # Alive, so that no other tensor gets the identity of one of them.
        self._outputs: list[Tensor] = []

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if getattr(function, "__name__", "") not in LOOKS:
            for argument in (*args, *named.values()):
                for tensor in argument if isinstance(argument, (list, tuple)) else (argument,):
                    self._use(tensor)
        return function(*args, **named)

    def convolved(self, module: nn.Conv2d, arguments: Any, output: Tensor) -> None:
        self._calls[module] = self._calls.get(module, 0) + 1
        self._outputs.append(output)
        self._by_output[id(output)] = module
        self._uses[module] = 0

    def normalised(self, module: nn.BatchNorm2d, arguments: tuple[Tensor, ...]) -> None:
        self._calls[module] = self._calls.get(module, 0) + 1
        if (source := self._by_output.get(id(arguments[0]))) is not None:
            self._sources[module] = source

    def keep(self, module: nn.Module, arguments: Any, output: Any) -> None:
        # One more use than a batch normalisation may be.
        self._use(output)

    def pairs(self) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        return [
            (source, norm)
            for norm, source in self._sources.items()
            if self._uses[source] == 1 and self._calls[source] == self._calls[norm] == 1
        ]

    def _use(self, value: Any) -> None:
        if (source := self._by_output.get(id(value))) is not None:
            self._uses[source] += 1


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    state = {name: tensor.double() for name, tensor in norm.state_dict().items()}
    scale = (state["running_var"] + norm.eps).rsqrt() * state.get("weight", 1)
    bias = (0 if convolution.bias is None else convolution.bias.double()) - state["running_mean"]
    weight = (convolution.weight.double() * scale.view(-1, 1, 1, 1)).to(convolution.weight.dtype)
    convolution.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
    convolution.bias = nn.Parameter(
        (state.get("bias", 0) + bias * scale).to(convolution.weight.dtype), requires_grad=False
    )
