import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.contracts.models import InputConfiguration
from app.contracts.progress import Progress
from app.settings import Settings
from tests.workers.conftest import inspect_folder
from workers.errors import DatasetChanged, StorageFull
from workers.images import cache, transforms
from workers.images.cache import ImageCache
from workers.images.index import DatasetIndex

SAMPLE = [0, 3, 5, 11]


def configuration(side: int) -> InputConfiguration:
    return InputConfiguration(
        input_size=(3, side, side),
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        crop_pct=0.9,
        crop_mode="center",
        interpolation="bilinear",
    )


@pytest.fixture
def index(image_folder: Path, settings: Settings) -> DatasetIndex:
    return inspect_folder(image_folder, settings)


def test_rows_are_the_sample_in_order(index: DatasetIndex, settings: Settings) -> None:
    transform = transforms.build(configuration(32))
    with ImageCache(settings).open(index, SAMPLE, configuration(32)) as images:
        assert images.pixels.shape == (4, 32, 32, 3)
        for row, position in enumerate(SAMPLE):
            np.testing.assert_array_equal(images.pixels[row], transform(index.read(position, settings)))


def test_one_decode_serves_all_transforms_of_the_job(index: DatasetIndex, settings: Settings) -> None:
    cache = ImageCache(settings)
    configs = [configuration(side) for side in (32, 40, 48)]
    decoded = []
    for config in configs:
        with cache.open(index, SAMPLE, config, also=configs) as images:
            decoded.append(images.decoded)
    assert decoded == [4, 0, 0]


def test_another_sample_is_another_array(index: DatasetIndex, settings: Settings) -> None:
    cache = ImageCache(settings)
    cache.open(index, SAMPLE, configuration(32)).close()
    with cache.open(index, [0, 3], configuration(32)) as images:
        assert images.decoded == 2


def test_two_at_once_decode_once(index: DatasetIndex, settings: Settings) -> None:
    decoded: list[int] = []

    def run() -> None:
        with ImageCache(settings).open(index, SAMPLE, configuration(32)) as images:
            decoded.append(images.decoded)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(decoded) == [0, 0, 0, 4]


def test_a_changed_file_leaves_nothing_behind(index: DatasetIndex, settings: Settings, image_folder: Path) -> None:
    (image_folder / index.paths[3]).write_bytes(b"changed")
    with pytest.raises(DatasetChanged, match=index.paths[3]):
        ImageCache(settings).open(index, SAMPLE, configuration(32))
    assert not list(settings.images_folder.rglob("pixels.npy"))


class TestAhead:
    """A model begins while later images are still being decoded."""

    @pytest.fixture
    def held(self, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
        """Images are decoded two at a time, all but the first two only once the event is set."""
        monkeypatch.setattr(cache, "CHUNK", 2)
        go_on = threading.Event()
        read = DatasetIndex.read

        def slow(index: DatasetIndex, position: int, settings: Settings) -> Image.Image:
            if position not in SAMPLE[:2]:
                go_on.wait(20)
            return read(index, position, settings)

        monkeypatch.setattr(DatasetIndex, "read", slow)
        return go_on

    def test_first_rows_are_there_before_the_last(
        self, index: DatasetIndex, settings: Settings, held: threading.Event
    ) -> None:
        events: list[Progress] = []
        with ImageCache(settings).open(index, SAMPLE, configuration(32), ahead=True, progress=events.append) as images:
            images.wait(2)
            transform = transforms.build(configuration(32))
            np.testing.assert_array_equal(images.pixels[0], transform(index.read(SAMPLE[0], settings)))
            assert not images.pixels[3].any()
            held.set()
            assert images.wait(4) > 0
        assert [(event.stage, event.done, event.total) for event in events][-1] == ("decode", 4, 4)
        with ImageCache(settings).open(index, SAMPLE, configuration(32)) as again:
            assert again.decoded == 0
            np.testing.assert_array_equal(again.pixels, images.pixels)

    def test_a_changed_file_is_told_to_the_one_that_waits_and_leaves_nothing_behind(
        self, index: DatasetIndex, settings: Settings, image_folder: Path, held: threading.Event
    ) -> None:
        (image_folder / index.paths[SAMPLE[3]]).write_bytes(b"changed")
        with ImageCache(settings).open(index, SAMPLE, configuration(32), ahead=True) as images:
            images.wait(2)
            held.set()
            with pytest.raises(DatasetChanged, match=index.paths[SAMPLE[3]]):
                images.wait(4)
        assert not list(settings.images_folder.rglob("pixels.npy"))


class TestQuota:
    """Room for one array of 4 x 32 x 32 x 3 bytes and its files, not for two."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"image_cache_quota_gigabytes": 17e-6})

    def test_the_oldest_array_goes(self, index: DatasetIndex, settings: Settings) -> None:
        cache = ImageCache(settings)
        cache.open(index, SAMPLE, configuration(32)).close()
        cache.open(index, SAMPLE, configuration(33)).close()
        with cache.open(index, SAMPLE, configuration(33)) as images:
            assert images.decoded == 0
        with cache.open(index, SAMPLE, configuration(32)) as images:
            assert images.decoded == 4

    def test_only_what_fits_is_filled_for_later(self, index: DatasetIndex, settings: Settings) -> None:
        cache = ImageCache(settings)
        cache.open(index, SAMPLE, configuration(32), also=[configuration(33)]).close()
        with cache.open(index, SAMPLE, configuration(33)) as images:
            assert images.decoded == 4

    def test_an_array_in_use_stays(self, index: DatasetIndex, settings: Settings) -> None:
        cache = ImageCache(settings)
        with cache.open(index, SAMPLE, configuration(32)):
            cache.open(index, SAMPLE, configuration(33)).close()
            with cache.open(index, SAMPLE, configuration(32)) as again:
                assert again.decoded == 0

    def test_an_array_larger_than_the_quota_is_refused(self, index: DatasetIndex, settings: Settings) -> None:
        with pytest.raises(StorageFull, match="FORERANK_IMAGE_CACHE_QUOTA_GIGABYTES"):
            ImageCache(settings).open(index, SAMPLE, configuration(64))


def test_a_damaged_array_is_decoded_again(index: DatasetIndex, settings: Settings) -> None:
    cache = ImageCache(settings)
    cache.open(index, SAMPLE, configuration(32)).close()
    path = next(settings.images_folder.rglob("pixels.npy"))
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with cache.open(index, SAMPLE, configuration(32)) as images:
        assert images.decoded == 4
        assert images.pixels.tobytes() == content[-images.pixels.nbytes :]


class TestFullDisk:
    """A file system of four megabytes; an array of 300 pixels a side takes one."""

    @pytest.fixture
    def settings(self, settings: Settings, small_disk: Path) -> Settings:
        return settings.model_copy(update={"home": small_disk, "disk_reserve_gigabytes": 0})

    def test_old_arrays_go(self, index: DatasetIndex, settings: Settings) -> None:
        cache = ImageCache(settings)
        for side in range(300, 306):
            cache.open(index, SAMPLE, configuration(side)).close()
        with cache.open(index, SAMPLE, configuration(305)) as images:
            assert images.decoded == 0

    def test_a_disk_that_others_filled(self, index: DatasetIndex, settings: Settings) -> None:
        (settings.home / "other").write_bytes(bytes(3_500_000))
        with pytest.raises(StorageFull, match="free some disk"):
            ImageCache(settings).open(index, SAMPLE, configuration(300))

    def test_a_disk_that_fills_up_meanwhile(self, index: DatasetIndex, settings: Settings) -> None:
        """The array is laid out before a pixel is written, where a full disk would end the process."""
        cache = ImageCache(settings)
        (settings.home / "other").write_bytes(bytes(3_500_000))
        cache._entries.make_room = lambda needed_bytes: True  # type: ignore[method-assign]
        with pytest.raises(StorageFull, match="is full"):
            cache.open(index, SAMPLE, configuration(300))
        assert not list(settings.images_folder.rglob("pixels.npy"))
