"""The contact sheet of a data set."""

from pathlib import Path

import pytest
from PIL import Image

from app.contracts.datasets import BuiltinSpec, FolderSpec
from app.paths import sheet_folder
from app.settings import Settings
from tests.service import draw_images
from workers.images.reading import THUMBNAIL, ImageReaders
from workers.inspection.images import inspect_dataset
from workers.inspection.sheet import CLASSES, IMAGES, write_sheet


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    draw_images(tmp_path / "images", classes=CLASSES + 1, each=3)
    return Settings(home=tmp_path / "home", data_roots=(tmp_path / "images",))


def sizes(folder: Path) -> dict[str, list[tuple[int, int]]]:
    return {child.name: [Image.open(image).size for image in sorted(child.iterdir())] for child in folder.iterdir()}


def test_it_shows_a_few_small_images_of_the_first_classes(settings: Settings) -> None:
    spec = FolderSpec(kind="folder", path=str(settings.data_roots[0]))
    with ImageReaders(settings) as readers:
        index = inspect_dataset(spec, settings=settings, readers=readers)
        (settings.data_roots[0] / index.paths[0]).unlink()
        write_sheet("ds_1", index, settings=settings, readers=readers)
    found = sizes(sheet_folder(settings, "ds_1"))
    assert len(found) == CLASSES
    # The first image of the first class is gone: the sheet does without it.
    assert found["0"] == [THUMBNAIL] * 2
    assert found["1"] == [THUMBNAIL] * 3


def test_a_built_in_data_set_has_one(settings: Settings) -> None:
    with ImageReaders(settings) as readers:
        index = inspect_dataset(BuiltinSpec(kind="builtin", name="digits"), settings=settings, readers=readers)
        write_sheet("ds_1", index, settings=settings, readers=readers)
    assert [len(images) for images in sizes(sheet_folder(settings, "ds_1")).values()] == [IMAGES] * 10
