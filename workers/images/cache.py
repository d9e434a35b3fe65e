"""The decode-once cache: for a sample of a data set and a transform, its pixels as one memory-mapped array.

All transforms that a job still needs are filled by the same decode, so a hundred models cost one.
"""

import hashlib
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack

import numpy as np
from numpy.typing import NDArray

from app.contracts.models import InputConfiguration
from app.contracts.progress import Progress, TellProgress
from app.processes.threads import thread_count
from app.settings import Settings
from workers.errors import StorageFull
from workers.images import transforms
from workers.images.index import DatasetIndex
from workers.store import disk
from workers.store.entries import Entry, EntryStore
from workers.store.folder import FolderStore
from workers.store.objects import shared

FORMAT_VERSION = 1
CHUNK = 64


class CachedImages:
    """The pixels of one sample under one transform. Not evicted while open. A context manager.

    Attributes:
        pixels: (N, H, W, 3) uint8, memory-mapped.
        decoded: images that had to be decoded for it; 0 if the array was there.
    """

    def __init__(self, entry: Entry, decoded: int) -> None:
        self._entry = entry
        self.pixels: NDArray[np.uint8] = np.load(entry.folder / "pixels.npy", mmap_mode="r", allow_pickle=False)
        self.decoded = decoded

    def wait(self, stop: int) -> float:
        """Return once the first ``stop`` rows hold pixels, with the seconds that this took."""
        return 0.0

    def close(self) -> None:
        """Let the array be evicted again."""
        self._entry.close()

    def __enter__(self) -> "CachedImages":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class ImagesAhead:
    """The pixels of one sample while a thread decodes them, for a model that begins with the first ones.

    Attributes:
        pixels, decoded: as of `CachedImages`; a row holds pixels once `wait` has said so.
    """

    def __init__(self, steps: Iterator[tuple[NDArray[np.uint8], int]], progress: TellProgress) -> None:
        """``steps``: gives the array, and how many rows hold pixels; at its end the array is in the cache."""
        self._steps, self._progress = steps, progress
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._ended = self._told = False
        self.pixels, self._ready = next(steps)
        self.decoded = len(self.pixels)

    def start(self, lock: ExitStack) -> None:
        """Decode in a thread, and release ``lock`` at the end."""
        self._thread = threading.Thread(target=self._run, args=(lock,), name="decoding", daemon=True)
        self._thread.start()

    def wait(self, stop: int) -> float:
        """As of `CachedImages`.

        Raises:
            DatasetChanged: a file is not what was inspected.
        """
        started = time.perf_counter()
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._ready >= stop)
        self._tell()
        if self._error is not None:
            raise self._error
        return time.perf_counter() - started

    def close(self) -> None:
        """Return once all images are decoded, since other models need them too."""
        self._thread.join()
        self._tell()

    def __enter__(self) -> "ImagesAhead":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run(self, lock: ExitStack) -> None:
        with lock:
            try:
                for _, ready in self._steps:
                    self._advance(ready)
            except BaseException as error:
                self._error = error
        self._ended = True
        self._advance(self._ready)

    def _advance(self, ready: int) -> None:
        with self._changed:
            self._ready = ready
            self._changed.notify_all()

    def _tell(self) -> None:
        # By the thread that waits, since messages of two threads would mix. All count as decoded once they are kept.
        if not self._told and self._error is None:
            self._told = self._ended
            done = self.decoded if self._ended else min(self._ready, self.decoded - 1)
            self._progress(Progress(stage="decode", done=done, total=self.decoded))


def decoded_entries_of(settings: Settings) -> EntryStore:
    """Where decoded images lie, under their quota."""
    quota, reserve = (
        int(gigabytes * 1e9) for gigabytes in (settings.image_cache_quota_gigabytes, settings.disk_reserve_gigabytes)
    )
    return shared(settings, "images", FolderStore(settings.images_folder, quota, reserve))


class ImageCache:
    """Decoded images, under a quota."""

    def __init__(self, settings: Settings, entries: EntryStore | None = None) -> None:
        self._settings = settings
        self._entries = entries or decoded_entries_of(settings)

    def open(
        self,
        index: DatasetIndex,
        sample_indices: Sequence[int] | NDArray[np.integer],
        config: InputConfiguration,
        *,
        also: Iterable[InputConfiguration] = (),
        progress: TellProgress = lambda event: None,
        ahead: bool = False,
    ) -> CachedImages | ImagesAhead:
        """Give the pixels for the input configuration ``config``, decoding if needed.

        Args:
            index: the data set.
            sample_indices: (N,) positions in it, the order of the rows.
            config: input configuration of the model (``ModelCard.input``).
            also: configurations that the job will ask for later. If images are decoded now, these are filled in the
                same pass, as far as the quota allows.
            progress: told of the images that are decoded.
            ahead: return while images are still being decoded; ask ``wait`` before reading a row.

        Raises:
            DatasetChanged: a file is not what was inspected.
            StorageFull: the array alone is larger than the quota or the free disk.
        """
        sample = np.ascontiguousarray(sample_indices, dtype=np.int64)
        source = _source(index, sample)
        key = _digest(source, transforms.transform_key(config))
        if found := self._find(key):
            return found
        # One decoder a sample, whatever the transform: a second process waits, and then mostly finds its array.
        with ExitStack() as lock:
            lock.enter_context(self._entries.lock(source))
            if found := self._find(key):
                return found
            needed = self._missing(source, key, config, also, sample.size)
            images = ImagesAhead(self._decode(index, sample, needed), progress)
            images.start(lock.pop_all())
        if ahead:
            return images
        with images:
            for start in range(0, sample.size, CHUNK):
                images.wait(min(start + CHUNK, sample.size))
        return CachedImages(self._entries.open(key), sample.size)

    def lend(
        self,
        index: DatasetIndex,
        sample_indices: Sequence[int] | NDArray[np.integer],
        configs: Sequence[InputConfiguration],
    ) -> AbstractContextManager[None]:
        """Have a child process find the array of the first configuration here, and keep those that it decodes."""
        source = _source(index, np.ascontiguousarray(sample_indices, dtype=np.int64))
        keys = [_digest(source, transforms.transform_key(config)) for config in configs]
        return self._entries.lend(keys[:1], keys)

    def _find(self, key: str) -> CachedImages | None:
        try:
            return CachedImages(self._entries.open(key), 0)
        except KeyError:
            return None

    def _missing(
        self, source: str, key: str, config: InputConfiguration, also: Iterable[InputConfiguration], count: int
    ) -> dict[str, InputConfiguration]:
        """The configurations to fill by key, the asked one first, as far as the quota and the disk have room."""
        total = _bytes(config, count)
        if total > self._entries.quota_bytes or not self._entries.make_room(total):
            raise StorageFull(
                f"{count} images of this size need {total / 1e9:.2f} GB decoded, but the quota "
                f"(FORERANK_IMAGE_CACHE_QUOTA_GIGABYTES) is {self._entries.quota_bytes / 1e9:.2f} GB and the disk may "
                f"have less: take a smaller sample or free some disk"
            )
        needed = {key: config}
        for other in also:
            other_key = _digest(source, transforms.transform_key(other))
            more = total + _bytes(other, count)
            if other_key in needed or more > self._entries.quota_bytes or self._entries.has_many([other_key]):
                continue
            if not self._entries.make_room(more):
                break
            needed[other_key] = other
            total = more
        return needed

    def _decode(
        self, index: DatasetIndex, sample: NDArray[np.int64], needed: Mapping[str, InputConfiguration]
    ) -> Iterator[tuple[NDArray[np.uint8], int]]:
        """The array of the first configuration, and how many of its rows hold pixels."""
        # Left in reverse: the asked array, entered first, is committed last and cannot be evicted for the others.
        with ExitStack() as stack:
            outputs = []
            for key, config in needed.items():
                part = transforms.pixel_transform(config)
                folder = stack.enter_context(self._entries.write(key, {"transform": part, "n": int(sample.size)}))
                pixels = np.lib.format.open_memmap(
                    folder / "pixels.npy", mode="w+", dtype=np.uint8, shape=(sample.size, *part["size"], 3)
                )
                with (folder / "pixels.npy").open("r+b") as file:
                    disk.reserve(file.fileno(), (folder / "pixels.npy").stat().st_size)
                stack.callback(pixels.flush)
                outputs.append((transforms.build(config), pixels))
            pool = stack.enter_context(ThreadPoolExecutor(thread_count(self._settings)))
            asked = outputs[0][1]
            yield asked, 0

            def decode_row(row: int) -> None:
                image = index.read(int(sample[row]), self._settings)
                for transform, pixels in outputs:
                    pixels[row] = transform(image)

            for start in range(0, sample.size, CHUNK):
                stop = min(start + CHUNK, sample.size)
                list(pool.map(decode_row, range(start, stop)))
                yield asked, stop


def _source(index: DatasetIndex, sample: NDArray[np.int64]) -> str:
    return _digest(index.fingerprint, hashlib.sha256(sample.astype("<i8").tobytes()).hexdigest())


def _bytes(config: InputConfiguration, count: int) -> int:
    height, width = config.input_size[-2:]
    return count * height * width * 3


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps([FORMAT_VERSION, *parts]).encode()).hexdigest()
