"""Run one model over one sample once, and store the evidence of every layer that was asked for."""

import platform
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import PIL
import timm
import torch

from app.contracts.extraction import ExtractionCommand, ExtractionResult
from app.contracts.progress import Progress, TellProgress
from app.processes.threads import thread_count
from app.settings import Settings
from workers.device.inference import run
from workers.device.loading import LoadedModel, load_model
from workers.errors import ModelRefused
from workers.images.cache import ImageCache
from workers.images.index import DatasetIndex, IndexStore
from workers.store.features import HEAD, FeatureStore


def extract(command: ExtractionCommand, settings: Settings, progress: TellProgress) -> ExtractionResult:
    """Fill the feature store with what is missing of one model on one sample of a data set.

    The right to compute each key is taken here: callers must not hold ``FeatureStore.lock`` of the same keys.

    Args:
        command: the model, the sample and the keys.
        progress: told of the stages ``load``, ``decode``, ``forward`` (with its batch size) and ``write``.
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

        progress(Progress(stage="load", done=0, total=1))
        with _timed(seconds, "load"):
            loaded = load_model(command.spec, settings)
        if loaded.card.weights_digest != command.card.weights_digest:
            raise ModelRefused("the weights are not those that were inspected: register the model again")
        progress(Progress(stage="load", done=1, total=1))

        with _timed(seconds, "decode"):
            images = ImageCache(settings).open(
                index,
                sample,
                command.card.input,
                also=command.transforms_of_job,
                progress=progress,
                # A CPU is as busy decoding as it is with the model.
                ahead=device.type != "cpu",
            )
        with images, _timed(seconds, "forward"):
            rows = run(
                loaded,
                images,
                list(wanted),
                batch_size=command.batch_size or settings.batch_size,
                device=device,
                precision=settings.precision,
                compiled=settings.compile_models,
                scratch=settings.features_folder,
                progress=progress,
            )
            rows.check_finite()
        seconds["forward"] -= rows.waited_seconds
        seconds["decode"] += rows.waited_seconds
        report = report.model_copy(
            update={
                "models_loaded": 1,
                "images_decoded": images.decoded,
                "batch_size": rows.batch_size,
                "images_per_second": sample.size / seconds["forward"],
                "memory_bytes": _memory_bytes(device),
            }
        )

        progress(Progress(stage="write", done=0, total=len(wanted)))
        with _timed(seconds, "write"):
            labels = index.labels[sample]
            manifest = _manifest(command, index, loaded, report, settings.precision)
            for done, (layer, key) in enumerate(wanted.items(), start=1):
                features = rows.outputs[layer]
                store.write(
                    key,
                    features=features,
                    labels=labels,
                    source_probabilities=rows.probabilities if layer == HEAD else None,
                    manifest=manifest | {"layer": layer, "dimension": int(features.shape[1])},
                )
                progress(Progress(stage="write", done=done, total=len(wanted)))
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


def _memory_bytes(device: torch.device) -> int | None:
    """The most that was held since the device's count began: at a CPU, since the process did."""
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return peak
    if device.type == "cpu" and sys.platform == "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return None


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[stage] += time.perf_counter() - started


def _manifest(
    command: ExtractionCommand, index: DatasetIndex, loaded: LoadedModel, report: ExtractionResult, precision: str
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
        "precision": precision,
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
