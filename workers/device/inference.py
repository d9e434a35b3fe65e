"""A model over all images of a sample: batches that fit the device, rows on disk as they come."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.contracts.models import InputConfiguration
from app.contracts.progress import Progress, TellProgress
from app.settings import Precision
from workers.device.folding import fold_batch_norms
from workers.device.forward import forward, probabilities, watch_layers
from workers.device.loading import LoadedModel
from workers.device.memory import is_out_of_memory
from workers.errors import ExtractionFailed, StorageFull
from workers.store.disk import DISK_IS_FULL, reserve
from workers.store.features import HEAD

# Images of 224 x 224 in the first attempt; halved until it fits. Larger inputs start lower. On CPUs larger batches
# leave the cache and are slower.
FIRST_BATCH_SIZE = {"cuda": 256, "mps": 64, "cpu": 16}


class Images(Protocol):
    """Pixels (N, H, W, 3) uint8, of which a row may be read once `wait` has returned for it."""

    pixels: NDArray[np.uint8]

    def wait(self, stop: int) -> float:
        """Return once the first ``stop`` rows hold pixels, with the seconds that this took."""


class Rows:
    """What a model gave for each image, in order, in files without a name that vanish with this object or its process.

    Mapped files keep a worker's own memory the same however many images there are.

    Attributes:
        batch_size: of every batch but the last.
        waited_seconds: for images that were not decoded yet.
        outputs: layer -> (N, D) float32.
        probabilities: (N, S) float32, or None for a model without a classifier.
    """

    def __init__(self, batch_size: int, count: int, scratch: Path) -> None:
        self.batch_size = batch_size
        self.waited_seconds = 0.0
        self.outputs: dict[str, NDArray[np.float32]] = {}
        self.probabilities: NDArray[np.float32] | None = None
        self._count = count
        self._scratch = scratch
        self._not_finite: dict[str, int] = {}

    def keep(self, start: int, outputs: Mapping[str, Tensor], logits: Tensor | None) -> None:
        """Store the rows of the batch that begins at image ``start``; everything is on the CPU."""
        for layer, tensor in outputs.items():
            rows = tensor.float().numpy()
            if layer not in self.outputs:
                self.outputs[layer] = self._map(rows.shape[1])
            self.outputs[layer][start : start + len(rows)] = rows
            bad = int((~np.isfinite(rows).all(axis=1)).sum())
            self._not_finite[layer] = self._not_finite.get(layer, 0) + bad
        if logits is not None:
            rows = probabilities(logits).numpy()
            if self.probabilities is None:
                self.probabilities = self._map(rows.shape[1])
            self.probabilities[start : start + len(rows)] = rows

    def check_finite(self) -> None:
        """Raises `ExtractionFailed` if a feature is infinite or not a number."""
        for layer, bad in self._not_finite.items():
            if bad:
                raise ExtractionFailed(f"the features of {layer} are not finite for {bad} of {self._count} images")

    def _map(self, width: int) -> NDArray[np.float32]:
        shape = (self._count, width)
        with tempfile.TemporaryFile(dir=self._scratch) as file:
            try:
                reserve(file.fileno(), 4 * self._count * width)
            except OSError as error:
                if error.errno not in DISK_IS_FULL:
                    raise
                raise StorageFull(
                    f"the disk of {self._scratch} has no room for the features: free some of it"
                ) from error
            return np.memmap(file, dtype=np.float32, mode="r+", shape=shape)


def run(
    loaded: LoadedModel,
    images: Images,
    layers: Sequence[str],
    *,
    batch_size: int,
    device: torch.device,
    precision: Precision = "float32",
    compiled: bool = False,
    scratch: Path,
    progress: TellProgress,
) -> Rows:
    """Run the model over all images. Its batch normalisations are folded: `loaded` is of no use for anything else.

    Args:
        images: their pixels, perhaps still being decoded.
        layers: module names, or ``HEAD``.
        batch_size: the first to try, halved until a batch fits; 0 is the device's own choice. Every attempt starts
            anew, since rows of two batch sizes would differ in the last bits.
        precision: of products; half precision by autocast, which keeps what needs 32 bits.
        compiled: use ``torch.compile``, with CUDA graphs on CUDA. Only where no inner layer is asked for, since
            watching one would break the graph.
        scratch: an existing folder on the disk of the feature store.
        progress: told of the images that are done, with the batch size.

    Raises:
        ExtractionFailed: one image does not fit, a layer is missing or gives nothing that can be pooled.
        StorageFull: the disk has no room for the rows.
    """
    model = loaded.module.to(device)
    height, width = images.pixels.shape[1:3]
    fold_batch_norms(model, torch.zeros(1, 3, height, width, device=device), kept=layers)
    model = model.to(memory_format=torch.channels_last)
    batch_size = batch_size or max(1, int(FIRST_BATCH_SIZE[device.type] / max(1.0, height * width / 224**2)))
    while True:
        try:
            rows = Rows(batch_size, len(images.pixels), scratch)
            return _attempt(model, loaded.card.input, images, layers, rows, device, precision, compiled, progress)
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
    images: Images,
    layers: Sequence[str],
    rows: Rows,
    device: torch.device,
    precision: Precision,
    compiled: bool,
    progress: TellProgress,
) -> Rows:
    inner = [layer for layer in layers if layer != HEAD]
    compiled = compiled and not inner
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    run_batch = torch.compile(forward, dynamic=False, mode=mode) if compiled else forward
    half = torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32")
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (config.mean, config.std))

    def tell(done: int) -> None:
        progress(Progress(stage="forward", done=done, total=len(images.pixels), batch_size=rows.batch_size))

    tell(0)
    pending: _Pending | None = None
    try:
        with torch.inference_mode(), half, watch_layers(model, inner) as seen:
            for start, batch in _batches(images, rows, device):
                inputs = batch.permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)
                if compiled:
                    inputs = _filled_up(inputs, rows.batch_size)
                features, logits = run_batch(model, inputs.contiguous(memory_format=torch.channels_last))
                if absent := [layer for layer in inner if layer not in seen]:
                    raise ValueError(f"the forward pass does not go through {', '.join(absent)}")
                outputs = {layer: seen[layer] for layer in inner} | ({HEAD: features} if HEAD in layers else {})
                seen.clear()
                # The last batch is taken from the device while this one runs there.
                following = _Pending(start, batch.shape[0], outputs, logits, device)
                if pending is not None:
                    pending.store(rows)
                pending = following
                tell(start + batch.shape[0])
            if pending is not None:
                pending.store(rows)
    except ValueError as error:
        raise ExtractionFailed(str(error)) from error
    return rows


class _Pending:
    """Outputs of a batch on their way to the CPU; on CUDA the copies run beside the next batch."""

    def __init__(
        self, start: int, count: int, outputs: Mapping[str, Tensor], logits: Tensor | None, device: torch.device
    ) -> None:
        self._start = start
        self._outputs = {layer: _fetched(tensor[:count]) for layer, tensor in outputs.items()}
        self._logits = None if logits is None else _fetched(logits[:count])
        self._done = torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        if self._done is not None:
            self._done.record()

    def store(self, rows: Rows) -> None:
        """Wait for the copies, and keep the rows."""
        if self._done is not None:
            self._done.synchronize()
        rows.keep(self._start, self._outputs, self._logits)


def _filled_up(images: Tensor, count: int) -> Tensor:
    """(count, 3, H, W): a compiled model takes batches of one size."""
    return torch.nn.functional.pad(images, (0, 0, 0, 0, 0, 0, 0, count - images.shape[0]))


def _fetched(tensor: Tensor) -> Tensor:
    if tensor.device.type != "cuda":
        return tensor.cpu()
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return pinned.copy_(tensor, non_blocking=True)


def _batches(images: Images, rows: Rows, device: torch.device) -> Iterator[tuple[int, Tensor]]:
    """(start, (B, H, W, 3) uint8 on the device); on CUDA through pinned memory, so that the copy overlaps the model."""
    count = len(images.pixels)
    for start in range(0, count, rows.batch_size):
        stop = min(start + rows.batch_size, count)
        rows.waited_seconds += images.wait(stop)
        batch = torch.from_numpy(np.array(images.pixels[start:stop]))
        if device.type == "cuda":
            batch = batch.pin_memory()
        yield start, batch.to(device, non_blocking=device.type == "cuda")
