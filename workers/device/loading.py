"""Find, load and digest a model; say what its input wants. Weights that did not load completely are refused."""

import difflib
import json
import logging
import urllib.error
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn

from app.contracts.models import (
    HubSpec,
    InputConfiguration,
    LocalFolderSpec,
    ModelCard,
    ModelSpec,
    TimmSpec,
    WeightsFileSpec,
)
from app.paths import OutsideRoots, Roots, model_roots
from app.settings import Settings
from workers.device.building import bounded, build, check_numbers
from workers.device.forward import forward
from workers.device.hub import offline_if_unreachable
from workers.device.memory import is_out_of_memory
from workers.device.weights import (
    NAMED_KEYS,
    check_finite,
    read_header,
    read_safetensors,
    watched_loading,
    weights_digest,
)
from workers.errors import ModelRefused, ModelUnavailable, Problem
from workers.inspection.weights import files_of

# Of weights in the older format, which has no header.
UNKNOWN_TENSORS = 10_000
# Arguments of timm's factory that choose weights or wrap the model, which a specification must not do.
FORBIDDEN_ARGUMENTS = frozenset(
    (
        "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "pretrained_filter_fn",
        "pretrained_model_args", "checkpoint_path", "cache_dir", "features_only", "out_indices", "feature_cls",
        "feature_cfg", "scriptable", "exportable", "no_jit", "in_chans", "num_classes", "device", "dtype",
    )
)  # fmt: skip


MEMORY_SETTING = "FORERANK_EXTRACTOR_MEMORY_MEGABYTES"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A complete model in 32 bits on the CPU, in evaluation mode, and its card."""

    module: nn.Module
    card: ModelCard


def inspect_model(spec: ModelSpec, settings: Settings) -> ModelCard:
    """Load the model, run it on one blank image, and describe it. See ``load_model``."""
    # Before they are loaded: a file that changes meanwhile is found to have changed.
    files = files_of(spec, settings)
    return load_model(spec, settings).card.model_copy(update={"files": files})


def load_model(spec: ModelSpec, settings: Settings) -> LoadedModel:
    """Build the model and load its weights.

    Args:
        spec: where the weights are.
        settings: roots of local models.

    Raises:
        ModelRefused: not a sound specification, or the weights are incomplete, of other shapes, or not safe to read.
        ModelUnavailable: the weights cannot be reached.
    """
    try:
        with torch.random.fork_rng(devices=[]), _quiet():
            module = _build(spec, settings)
    except Problem:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise ModelRefused(f"the model needs more memory than a model may have ({MEMORY_SETTING})") from error
        raise _translated(error, spec) from error
    module = module.float().eval().requires_grad_(False)
    check_finite(module)
    return LoadedModel(module, _describe(module, spec))


def _build(spec: ModelSpec, settings: Settings) -> nn.Module:
    match spec:
        case TimmSpec():
            name = _known_name(spec.name)
            with offline_if_unreachable():
                return _create(name)
        case HubSpec():
            revision = f"@{spec.revision}" if spec.revision else ""
            with offline_if_unreachable():
                return _create(f"hf-hub:{spec.name}{revision}")
        case LocalFolderSpec():
            folder = _local(spec.path, settings)
            header = _check_local_folder(folder)
            with bounded(len(header) or UNKNOWN_TENSORS):
                return _create(f"local-dir:{folder}")
        case WeightsFileSpec():
            return _from_file(spec, _local(spec.path, settings))


def _known_name(name: str) -> str:
    if any(character in name for character in "/\\:"):
        raise ModelRefused(
            f"{name!r} is not a timm name: use the kind hf-hub for a repository of the hub, local-dir for a folder"
        )
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise ModelRefused(
            f"timm {timm.__version__} has no architecture {architecture!r}.{_nearest(architecture, timm.list_models())}"
        )
    tagged = timm.list_pretrained(f"{architecture}.*") + [
        known for known in timm.list_pretrained(architecture) if known == architecture
    ]
    if not tagged:
        raise ModelRefused(
            f"timm has no pre-trained weights for {architecture!r}: use the kind file with weights of your own"
        )
    if tag and name not in tagged:
        raise ModelRefused(f"timm has no weights {name!r}. It has: {', '.join(tagged[:NAMED_KEYS])}")
    return name


def _nearest(name: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return f" Did you mean {', '.join(nearest)}?" if nearest else ""


def _local(path: str, settings: Settings) -> Path:
    try:
        resolved = model_roots(settings).resolve(path)
    except OutsideRoots:
        resolved = None
    if resolved is None or not resolved.exists():
        raise ModelRefused(f"{path} does not exist under FORERANK_MODEL_ROOTS: add its root, or move it there")
    return resolved


def _check_local_folder(folder: Path) -> dict[str, Tensor]:
    """The header of the folder's weights; empty if they are not safetensors."""
    if not (folder / "config.json").is_file():
        raise ModelRefused(
            f"{folder} has no config.json: a local model has the hub's layout, config.json and model.safetensors"
        )
    header: dict[str, Tensor] = {}
    for path in folder.iterdir():
        try:
            Roots((folder,)).resolve(path)
        except OutsideRoots:
            raise ModelRefused(f"{path.name} is a link that leads outside of {folder}") from None
        if path.suffix == ".safetensors":
            header |= read_header(path)
    arguments = json.loads((folder / "config.json").read_text()).get("model_args", {})
    _check_arguments({name: value for name, value in arguments.items() if name not in ("num_classes", "in_chans")})
    check_numbers(arguments, header)
    return header


def _check_arguments(arguments: Mapping[str, Any]) -> None:
    if forbidden := sorted(FORBIDDEN_ARGUMENTS & set(arguments)):
        raise ModelRefused(
            f"the arguments {', '.join(forbidden)} cannot be given: they decide weights or wrap the model"
        )


def _create(name: str) -> nn.Module:
    """timm's own loading of pre-trained weights, watched: every parameter must have been filled from the file."""
    with watched_loading() as loaded:
        module = timm.create_model(name, pretrained=True)
    if module not in loaded:
        raise ModelRefused(f"timm built {name} without loading any weights: its random values are never scored")
    return module


def _from_file(spec: WeightsFileSpec, path: Path) -> nn.Module:
    architecture, arguments = spec.architecture, spec.arguments
    if "." in architecture or not timm.is_model(architecture):
        raise ModelRefused(
            f"timm {timm.__version__} has no architecture {architecture!r} (give it without a tag)."
            + _nearest(architecture.partition(".")[0], timm.list_models())
        )
    _check_arguments(arguments)
    if path.suffix != ".safetensors":
        raise ModelRefused(f"{path.name} is not a .safetensors file: convert the weights, pickles are never read")
    header = read_header(path)
    num_classes = spec.num_classes
    if num_classes is None:
        num_classes = _classes_in(header, architecture)
    module = build(architecture, header, {"num_classes": num_classes, **arguments})
    module.load_state_dict(read_safetensors(path), strict=True)
    return module


def _classes_in(header: Mapping[str, Tensor], architecture: str) -> int:
    """Width of the classifier in the file; 0 if the file has none."""
    config = timm.get_pretrained_cfg(architecture)
    classifiers = config.classifier if config is not None else None
    if not classifiers:
        raise ModelRefused(f"the classifier of {architecture} is not known to timm: give num_classes")
    first = classifiers if isinstance(classifiers, str) else classifiers[0]
    weight = header.get(f"{first}.weight")
    return 0 if weight is None else int(weight.shape[0])


def _translated(error: Exception, spec: ModelSpec) -> Problem:
    """The loader's error as ours: out of reach, or not sound."""
    import httpx2
    from huggingface_hub import errors

    name = spec.name if isinstance(spec, TimmSpec | HubSpec) else spec.path
    if isinstance(error, errors.GatedRepoError):
        return ModelUnavailable(f"{name} is gated: accept its terms on the hub and set HF_TOKEN for the worker")
    if isinstance(error, (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError)):
        return ModelRefused(f"the hub has no {name}, or not that revision: {_first_line(error)}")
    unreachable = (
        errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.HfHubHTTPError,
        httpx2.HTTPError, urllib.error.URLError, ConnectionError, TimeoutError,
    )  # fmt: skip
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, unreachable):
            return ModelUnavailable(
                f"the weights of {name} are not in the local cache and the Hugging Face hub cannot be reached: give "
                "the worker network access, fill the cache first (hf download, then HF_HUB_OFFLINE=1), or register the "
                "model from a folder with the kind local-dir"
            )
        chain = chain.__cause__ or chain.__context__
    if isinstance(error, errors.EntryNotFoundError):
        return ModelRefused(f"{name} is not a timm model: {_first_line(error)}")
    return ModelRefused(f"{name} cannot be loaded: {type(error).__name__}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """timm logs each expected detail of loading as a warning."""
    logger = logging.getLogger("timm")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _describe(module: nn.Module, spec: ModelSpec) -> ModelCard:
    config: Any = module.pretrained_cfg
    input_config = _input_config(module, spec)
    try:
        with torch.inference_mode():
            blank = torch.zeros(1, *input_config.input_size)
            features, logits = forward(module, blank)
    except Exception as error:
        if is_out_of_memory(error):
            _, height, width = input_config.input_size
            raise ModelRefused(
                f"one image of {height} x {width} needs more memory than a model may have ({MEMORY_SETTING}): give a "
                "smaller input_size"
            ) from error
        raise ModelRefused(
            f"the model does not run on an input of {list(input_config.input_size)}: {_first_line(error)}"
        ) from error
    return ModelCard(
        weights_digest=weights_digest(module),
        architecture=config["architecture"],
        arguments=_arguments(module, spec),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        input=input_config,
        feature_dimension=features.shape[1],
        source_classes=0 if logits is None else max(2, logits.shape[1]),
        stages=tuple(_stages(module)),
        license=config.get("license"),
    )


def _input_config(module: nn.Module, spec: ModelSpec) -> InputConfiguration:
    own = spec if isinstance(spec, WeightsFileSpec) else None
    asked = own.input.plain() if own else {}
    size = own.arguments.get("img_size") if own else None
    if size is not None and "input_size" not in asked:
        asked["input_size"] = (3, size, size) if isinstance(size, int) else (3, *size)
    try:
        config = resolve_model_data_config(module, args=asked)  # type: ignore[no-untyped-call]
        channels, height, width = map(int, config["input_size"])
        found = InputConfiguration(
            input_size=(channels, height, width),
            mean=tuple(map(float, config["mean"])),
            std=tuple(map(float, config["std"])),
            crop_pct=float(config["crop_pct"]),
            crop_mode=str(config["crop_mode"]),
            interpolation=str(config["interpolation"]),
        )
    except (AssertionError, TypeError, ValueError) as error:
        raise ModelRefused(f"the input configuration {asked} is not sound: {error}") from error
    _check_input(found)
    return found


def _check_input(config: InputConfiguration) -> None:
    channels, height, width = config.input_size
    if channels != 3:
        raise ModelRefused(f"the model takes {channels} channels: only RGB images are supported")
    if not (1 <= height <= 4096 and 1 <= width <= 4096):
        raise ModelRefused(f"an input of {height} x {width} is not between 1 and 4096 pixels a side")
    if config.crop_mode not in ("center", "squash", "border"):
        raise ModelRefused(f"unknown crop mode {config.crop_mode!r}: center, squash or border")
    if config.interpolation not in ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"):
        raise ModelRefused(
            f"unknown interpolation {config.interpolation!r}: bilinear, bicubic, lanczos, nearest, box or hamming"
        )
    if not 0.05 <= config.crop_pct <= 1:
        raise ModelRefused(f"crop_pct must lie between 0.05 and 1, not {config.crop_pct}")
    if len(config.mean) != 3 or len(config.std) != 3 or min(config.std) <= 0:
        raise ModelRefused("mean and std need three values each, std above 0")


def _arguments(module: nn.Module, spec: ModelSpec) -> dict[str, Any]:
    if isinstance(spec, WeightsFileSpec):
        return {"num_classes": module.num_classes, **spec.arguments}
    # timm records what its factory was given (a saved folder's model_args); absent in older versions.
    recorded = {
        name: value for name, value in getattr(module, "_model_args", {}).items() if name not in FORBIDDEN_ARGUMENTS
    }
    return {"num_classes": module.num_classes, **json.loads(json.dumps(recorded, default=str))}


def _stages(module: nn.Module) -> list[str]:
    information: Any = getattr(module, "feature_info", None)
    entries = information.info if hasattr(information, "info") else information or []
    modules = dict(module.named_modules())
    names = [entry["module"] for entry in entries if entry.get("module") in modules]
    return list(dict.fromkeys(names)) or [name for name, _ in module.named_children()]
