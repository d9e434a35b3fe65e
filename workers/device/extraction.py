"""Run one model over one sample once, and store the evidence of every layer that was asked for."""

import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import PIL
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.contracts.extraction import ExtractionCommand, ExtractionResult
from app.contracts.models import InputConfiguration
from app.processes.threads import thread_count
from app.settings import Settings
from workers.device.forward import forward, watch_layers
from workers.device.loading import LoadedModel, load_model
from workers.device.memory import is_out_of_memory
from workers.errors import ExtractionFailed, ModelRefused
from workers.images.cache import ImageCache
from workers.images.index import DatasetIndex, IndexStore
from workers.store.features import HEAD, FeatureStore

# Images of 224 x 224 in the first attempt; halved until it fits. Larger inputs start lower. On CPUs larger batches
# leave the cache and are slower.
FIRST_BATCH_SIZE = {"cuda": 256, "mps": 64, "cpu": 16}

Progress = Callable[[dict[str, Any]], None]


def extract(command: ExtractionCommand, settings: Settings, progress: Progress) -> ExtractionResult:
    """Fill the feature store with what is missing of one model on one sample of a data set.

    The right to compute each key is taken here: callers must not hold ``FeatureStore.lock`` of the same keys.

    Args:
        command: the model, the sample and the keys.
        progress: called with ``{"stage": "load" | "decode" | "forward" | "write", "done": n, "total": n}``; in the
            forward pass with its ``batch_size`` too.
    """
    keys = command.keys
    store = FeatureStore.of(settings)
    sample = np.array(command.sample_indices, dtype=np.int64)
    device = select_device(settings)
    seconds = {"load": 0.0, "decode": 0.0, "forward": 0.0, "write": 0.0}
    report = ExtractionResult(
        n=int(sample.size), keys=keys, seconds=seconds, device=str(device), threads=torch.get_num_threads()
    )
    with store.lock(*keys.values()):
        present = store.has_many(keys.values())
        wanted = {layer: key for layer, key in keys.items() if key not in present}
        if not wanted:
            return report
        index = IndexStore(settings).open(command.dataset_id)

        progress({"stage": "load", "done": 0, "total": 1})
        with _timed(seconds, "load"):
            loaded = load_model(command.spec, settings)
        if loaded.card.weights_digest != command.card.weights_digest:
            raise ModelRefused("the weights are not those that were inspected: register the model again")
        progress({"stage": "load", "done": 1, "total": 1})

        with _timed(seconds, "decode"):
            images = ImageCache(settings).open(
                index, sample, command.card.input, also=command.transforms_of_job, progress=progress
            )
        with images, _timed(seconds, "forward"):
            batch_size = command.batch_size or settings.batch_size
            run = _run(loaded, images.pixels, list(wanted), batch_size, device, progress)
        report = report.model_copy(
            update={
                "models_loaded": 1,
                "images_decoded": images.decoded,
                "batch_size": run.batch_size,
                "images_per_second": sample.size / seconds["forward"],
            }
        )

        progress({"stage": "write", "done": 0, "total": len(wanted)})
        with _timed(seconds, "write"):
            labels = index.labels[sample]
            manifest = _manifest(command, index, loaded, report)
            for done, (layer, key) in enumerate(wanted.items(), start=1):
                features = run.outputs[layer]
                if bad := int((~np.isfinite(features).all(axis=1)).sum()):
                    raise ExtractionFailed(f"the features of {layer} are not finite for {bad} of {sample.size} images")
                store.write(
                    key,
                    features=features,
                    labels=labels,
                    source_probabilities=run.probabilities if layer == HEAD else None,
                    manifest=manifest | {"layer": layer, "dimension": int(features.shape[1])},
                )
                progress({"stage": "write", "done": done, "total": len(wanted)})
    return report.model_copy(update={"seconds": seconds})


def select_device(settings: Settings) -> torch.device:
    """The device of the settings; ``auto`` is CUDA, else MPS, else the CPU."""
    if settings.device != "auto":
        return torch.device(settings.device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def configure_torch(settings: Settings) -> None:
    """Threads, and the switches that make two runs on the same device agree bit for bit."""
    torch.set_num_threads(thread_count(settings))
    # Start the pool of threads before any memory limit: OpenMP ends the process when it cannot start a thread.
    torch.zeros(1 << 20).add_(1)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


class _Run:
    """Rows collected from batches, in order."""

    def __init__(self, batch_size: int, count: int) -> None:
        self.batch_size = batch_size
        self.outputs: dict[str, NDArray[np.float32]] = {}
        self.probabilities: NDArray[np.float32] | None = None
        self._count = count

    def keep(self, start: int, outputs: Mapping[str, Tensor], probabilities: Tensor | None) -> None:
        """Store the rows of one batch."""
        for layer, tensor in outputs.items():
            rows = tensor.float().cpu().numpy()
            if layer not in self.outputs:
                self.outputs[layer] = np.empty((self._count, rows.shape[1]), dtype=np.float32)
            self.outputs[layer][start : start + len(rows)] = rows
        if probabilities is not None:
            rows = probabilities.numpy()
            if self.probabilities is None:
                self.probabilities = np.empty((self._count, rows.shape[1]), dtype=np.float32)
            self.probabilities[start : start + len(rows)] = rows


def _run(
    loaded: LoadedModel,
    pixels: NDArray[np.uint8],
    layers: list[str],
    batch_size: int,
    device: torch.device,
    progress: Progress,
) -> _Run:
    """Find a batch size that fits, from ``batch_size`` on, or from the device's own if it is 0.

    Every attempt starts anew: rows of two batch sizes would differ in the last bits.
    """
    model = loaded.module.to(device).to(memory_format=torch.channels_last)
    batch_size = batch_size or _first_batch_size(device, pixels.shape[1], pixels.shape[2])
    while True:
        try:
            return _attempt(model, loaded.card.input, pixels, layers, batch_size, device, progress)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if batch_size == 1:
                raise ExtractionFailed(
                    f"one image does not fit the memory of {device}: take a smaller model"
                ) from error
        if device.type == "cuda":
            torch.cuda.empty_cache()
        batch_size //= 2


def _attempt(
    model: nn.Module,
    config: InputConfiguration,
    pixels: NDArray[np.uint8],
    layers: list[str],
    batch_size: int,
    device: torch.device,
    progress: Progress,
) -> _Run:
    count = pixels.shape[0]
    inner = [layer for layer in layers if layer != HEAD]
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (config.mean, config.std))
    run = _Run(batch_size, count)

    def tell(done: int) -> None:
        progress({"stage": "forward", "done": done, "total": count, "batch_size": batch_size})

    tell(0)
    try:
        watching = watch_layers(model, inner)
        with torch.inference_mode(), watching as seen:
            for start, batch in _batches(pixels, batch_size, device):
                images = batch.permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)
                features, probabilities = forward(model, images.contiguous(memory_format=torch.channels_last))
                if absent := [layer for layer in inner if layer not in seen]:
                    raise ValueError(f"the forward pass does not go through {', '.join(absent)}")
                kept = {layer: seen[layer] for layer in inner} | ({HEAD: features} if HEAD in layers else {})
                run.keep(start, kept, probabilities)
                seen.clear()
                tell(start + batch.shape[0])
    except ValueError as error:
        raise ExtractionFailed(str(error)) from error
    return run


def _batches(pixels: NDArray[np.uint8], batch_size: int, device: torch.device) -> Iterator[tuple[int, Tensor]]:
    """(start, (B, H, W, 3) uint8 on the device); on CUDA through pinned memory, so that the copy overlaps the model."""
    for start in range(0, pixels.shape[0], batch_size):
        batch = torch.from_numpy(np.array(pixels[start : start + batch_size]))
        if device.type == "cuda":
            batch = batch.pin_memory()
        yield start, batch.to(device, non_blocking=device.type == "cuda")


def _first_batch_size(device: torch.device, height: int, width: int) -> int:
    scale = max(1.0, height * width / 224**2)
    return max(1, int(FIRST_BATCH_SIZE[device.type] / scale))


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[stage] += time.perf_counter() - started


def _manifest(
    command: ExtractionCommand, index: DatasetIndex, loaded: LoadedModel, report: ExtractionResult
) -> dict[str, Any]:
    device = torch.device(report.device)
    return {
        "n": report.n,
        "class_names": list(index.class_names),
        "dataset_fingerprint": index.fingerprint,
        "model": command.spec.plain(),
        "weights_digest": loaded.card.weights_digest,
        "architecture": loaded.card.architecture,
        "arguments": loaded.card.arguments,
        "input": command.card.input.plain(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine(),
        "batch_size": report.batch_size,
        "threads": report.threads,
        "seconds": report.seconds,
        "versions": {
            "torch": torch.__version__,
            "timm": timm.__version__,
            "numpy": np.__version__,
            "pillow": PIL.__version__,
            "python": platform.python_version(),
        },
    }
