"""timm's factory with arguments that a user chose: nothing large is made before the weights' header agrees with it."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from types import FunctionType
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration

from workers.device.weights import check_complete
from workers.errors import ModelRefused, Problem

# Pixels of a side, positions and the like may be larger than any dimension of small weights.
LARGEST_NUMBER = 65_536
# Some architectures make parameters and modules that they replace before they are done.
SPARE_PARAMETERS = 1_000
SPARE_MODULES = 10_000
MODULES_PER_TENSOR = 20
NOT_OVERRIDDEN = frozenset({"variant", "pretrained"})


def build(architecture: str, header: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> nn.Module:
    """A model without its weights, which fit it completely.

    Args:
        architecture: timm's name without a tag.
        header: of the weights, tensors without content (see `workers.device.weights.read_header`).
        arguments: of timm's factory, ``num_classes`` among them. One that the architecture fixes itself is overridden.

    Raises:
        ModelRefused: timm cannot build it, or the weights do not fit it.
    """
    check_numbers(arguments, header)
    with bounded(len(header)):
        try:
            with torch.device("meta"):
                outline = _create(architecture, arguments)
        except NotImplementedError:
            # An architecture that reads values while it is built; the real thing is compared all the same.
            outline = None
        if outline is not None:
            check_complete(outline, header)
        module = _create(architecture, arguments)
    check_complete(module, header)
    return module


def check_numbers(arguments: Mapping[str, Any], header: Mapping[str, Tensor]) -> None:
    """No number in the arguments is larger than what the weights could need: a depth, a width, a side.

    Raises:
        ModelRefused: one is; the message names the argument.
    """
    largest = max([LARGEST_NUMBER, len(header), *(size for tensor in header.values() for size in tensor.shape)])
    for name, value in arguments.items():
        for number in _numbers(value):
            if not abs(number) <= largest:
                raise ModelRefused(
                    f"the argument {name} holds {number:g}, which no part of the weights needs: at most {largest}"
                )


@contextmanager
def bounded(tensors: int) -> Iterator[None]:
    """While active, building a model ends as soon as it has far more parts than the weights have tensors."""
    parameters = modules = 0

    def count_parameter(*_: Any) -> None:
        nonlocal parameters
        parameters += 1
        if parameters > 2 * tensors + SPARE_PARAMETERS:
            raise ModelRefused(f"the arguments make far more parameters than the {tensors} tensors of the weights")

    def count_module(*_: Any) -> None:
        nonlocal modules
        modules += 1
        if modules > MODULES_PER_TENSOR * tensors + SPARE_MODULES:
            raise ModelRefused(f"the arguments make far more layers than the {tensors} tensors of the weights")

    handles = [
        registration.register_module_parameter_registration_hook(count_parameter),
        registration.register_module_module_registration_hook(count_module),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _create(architecture: str, arguments: Mapping[str, Any]) -> nn.Module:
    try:
        with _overriding(architecture, arguments) as rest:
            module: nn.Module = timm.create_model(architecture, pretrained=False, **rest)
            return module
    except (Problem, NotImplementedError):
        raise
    except Exception as error:
        given = {name: value for name, value in arguments.items() if name != "num_classes"}
        raise ModelRefused(f"timm cannot build {architecture} with {given or 'no arguments'}: {error}") from error


@contextmanager
def _overriding(architecture: str, arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """While active, the function behind the architecture gets those arguments that the architecture fixes itself.

    ``mobilenetv1_100`` calls ``_gen_mobilenet_v1`` with a width of its own, so a width handed to it would come twice.
    Yields the other arguments, for ``timm.create_model``.
    """
    entry = timm.model_entrypoint(architecture)
    scope, rest = entry.__globals__, dict(arguments)
    replaced: dict[str, Any] = {}
    for name in entry.__code__.co_names:
        function = scope.get(name)
        if not isinstance(function, FunctionType) or not function.__module__.startswith("timm."):
            continue
        taken = (inspect.signature(function).parameters.keys() & arguments.keys()) - NOT_OVERRIDDEN
        if taken:
            replaced[name] = function
            scope[name] = _with(function, {argument: rest.pop(argument) for argument in taken & rest.keys()})
    try:
        yield rest
    finally:
        scope.update(replaced)


def _with(function: Callable[..., Any], given: Mapping[str, Any]) -> Callable[..., Any]:
    signature = inspect.signature(function)

    @wraps(function)
    def call(*positional: Any, **named: Any) -> Any:
        fixed = signature.bind_partial(*positional).arguments
        return function(**{**fixed, **named, **given})

    return call


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, str):
        # Definitions of blocks count their repeats: "dsa_r6_k3_s2_c512".
        yield from (float(digits) for digits in re.findall(r"\d+", value))
    elif isinstance(value, (int, float)):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _numbers(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _numbers(item)
