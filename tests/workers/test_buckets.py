"""Data sets in a bucket of a real service: what is copied, when it is refused, and that a change is noticed."""

import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import s3fs

from app.contracts.datasets import DatasetSpec, FolderSpec, ManifestSpec
from app.settings import Settings
from app.storage import StorageUnavailable
from tests.workers.conftest import ReadersHere, inspect_folder
from workers.errors import DatasetChanged, DatasetRejected, StorageFull
from workers.images.buckets import copied, copies_of
from workers.images.index import DatasetIndex, IndexStore
from workers.images.places import at_hand
from workers.inspection.changes import has_changed
from workers.inspection.images import inspect_dataset

Put = Callable[[str, Path | bytes], str]


@pytest.fixture
def settings(settings: Settings, store_url: str) -> Settings:
    return settings.model_copy(update={"data_urls": (store_url,)})


@pytest.fixture
def put(store_url: str) -> Put:
    """Stores a file or a folder under a name; gives its URL."""
    service = s3fs.S3FileSystem(use_listings_cache=False)

    def store(name: str, content: Path | bytes) -> str:
        url = f"{store_url}/{name}"
        if isinstance(content, bytes):
            service.pipe_file(url, content)
        elif content.is_file():
            service.put_file(str(content), url)
        else:
            for path in content.rglob("*.*"):
                service.put_file(str(path), f"{url}/{path.relative_to(content)}")
        return url

    return store


def zipped(folder: Path) -> Path:
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.rglob("*.*"):
            file.write(path, Path("around") / path.relative_to(folder))
    return archive


def inspected(spec: DatasetSpec, settings: Settings) -> DatasetIndex:
    """As the inspection does it, the stored index included."""
    with at_hand(spec, "shapes", settings) as here:
        index = inspect_dataset(here, settings=settings, readers=ReadersHere(settings))  # type: ignore[arg-type]
    IndexStore(settings).write("shapes", index)
    return IndexStore(settings).open("shapes")


def test_a_tree_is_the_same_data_set_as_its_folder(settings: Settings, put: Put, image_folder: Path) -> None:
    url = put("animals", image_folder)
    put("animals/cat/", b"")
    put("animals/cat/notes.txt", b"no image")
    index = inspected(FolderSpec(path="", url=url), settings)
    assert index.fingerprint == inspect_folder(image_folder, settings).fingerprint
    assert index.read(0, settings).size == (40, 40)
    assert not has_changed(index, settings)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_is_the_same_data_set_as_its_folder(
    settings: Settings, put: Put, image_folder: Path, kind: str
) -> None:
    archive = zipped(image_folder)
    if kind == "tar.gz":
        archive = image_folder.with_suffix(".tar.gz")
        with tarfile.open(archive, "w:gz") as file:
            file.add(image_folder, "animals")
    index = inspected(FolderSpec(path="", url=put(f"animals.{kind}", archive)), settings)
    assert index.fingerprint == inspect_folder(image_folder, settings).fingerprint
    assert not has_changed(index, settings)


def test_a_manifest_in_a_bucket_names_the_images(settings: Settings, put: Put, image_folder: Path) -> None:
    (image_folder / "labels.csv").write_text("path,label\ncat/0.jpg,tame\nowl/1.png,wild\n")
    spec = ManifestSpec(path="", url=put("animals", image_folder), manifest="labels.csv")
    assert inspected(spec, settings).counts == {"tame": 1, "wild": 1}


def test_a_copy_that_was_evicted_is_made_again_as_it_was(settings: Settings, put: Put, image_folder: Path) -> None:
    index = inspected(FolderSpec(path="", url=put("animals.zip", zipped(image_folder))), settings)
    store = copies_of(settings)
    (entry,) = store.entries()
    assert store.delete(entry.key)
    with pytest.raises(DatasetChanged):
        index.read(0, settings)
    with at_hand(index.spec, "shapes", settings):
        assert not store.delete(entry.key)
        index.read(0, settings)


@pytest.mark.parametrize("change", ["replaced", "added", "removed"])
def test_a_changed_object_is_noticed(
    settings: Settings, put: Put, image_folder: Path, store_url: str, change: str
) -> None:
    spec = FolderSpec(path="", url=put("animals", image_folder))
    index = inspected(spec, settings)
    if change == "removed":
        s3fs.S3FileSystem().rm_file(f"{store_url}/animals/cat/0.jpg")
    else:
        put(f"animals/cat/{'0' if change == 'replaced' else '9'}.jpg", image_folder / "dog/0.jpg")
    assert has_changed(index, settings)
    with pytest.raises(DatasetChanged, match="register the data set again"), at_hand(index.spec, "shapes", settings):
        pass
    assert inspected(spec, settings).fingerprint != index.fingerprint


def test_a_changed_archive_is_noticed(settings: Settings, put: Put, image_folder: Path) -> None:
    index = inspected(FolderSpec(path="", url=put("animals.zip", zipped(image_folder))), settings)
    (image_folder / "cat/0.jpg").unlink()
    put("animals.zip", zipped(image_folder))
    assert has_changed(index, settings)


@pytest.mark.parametrize("name", ["nothing", "nothing.zip"])
def test_nothing_is_there(settings: Settings, store_url: str, name: str) -> None:
    with pytest.raises(DatasetRejected, match=f"nothing to read is at .*/{name}:"):
        inspected(FolderSpec(path="", url=f"{store_url}/{name}"), settings)


def test_a_prefix_that_is_allowed_no_more_is_not_looked_at(settings: Settings, put: Put, image_folder: Path) -> None:
    spec = FolderSpec(path="", url=put("animals", image_folder))
    index = inspected(spec, settings)
    narrowed = settings.model_copy(update={"data_urls": ("s3://another/prefix",)})
    with pytest.raises(DatasetRejected, match="FORERANK_DATA_URLS"):
        inspected(spec, narrowed)
    with pytest.raises(DatasetChanged, match="FORERANK_DATA_URLS"), at_hand(index.spec, "shapes", narrowed):
        pass


@pytest.mark.parametrize("name", ["cat/a\\x.png", "cat/a//b.png"])
def test_names_that_no_file_can_have(settings: Settings, put: Put, image_folder: Path, name: str) -> None:
    url = put("animals", image_folder)
    put(f"animals/{name}", b"x")
    with pytest.raises(DatasetRejected, match="name"):
        inspected(FolderSpec(path="", url=url), settings)


def test_an_archive_that_is_none(settings: Settings, put: Put) -> None:
    with pytest.raises(DatasetRejected, match=r"animals\.zip: the file is not a zip"):
        inspected(FolderSpec(path="", url=put("animals.zip", b"x" * 600)), settings)
    assert list(copies_of(settings).entries()) == []


@pytest.mark.parametrize(
    ("limit", "error", "message"),
    [
        ({"dataset_entry_limit": 5}, DatasetRejected, "FORERANK_DATASET_ENTRY_LIMIT"),
        ({"copy_quota_gigabytes": 1e-6}, StorageFull, "FORERANK_COPY_QUOTA_GIGABYTES"),
    ],
)
def test_limits_of_a_tree(
    settings: Settings,
    put: Put,
    image_folder: Path,
    limit: dict[str, float],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        inspected(FolderSpec(path="", url=put("animals", image_folder)), settings.model_copy(update=limit))


def test_size_of_an_archive_is_limited(settings: Settings, put: Put, image_folder: Path) -> None:
    url = put("animals.zip", zipped(image_folder))
    with pytest.raises(DatasetRejected, match="FORERANK_UPLOAD_LIMIT_MEGABYTES"):
        inspected(FolderSpec(path="", url=url), settings.model_copy(update={"upload_limit_megabytes": 0.001}))


def test_the_extra_is_named(settings: Settings, store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with (
        pytest.raises(StorageUnavailable, match=r"FORERANK_DATA_URLS needs .* pip install 'forerank\[s3\]'"),
        copied(FolderSpec(path="", url=f"{store_url}/animals"), settings),
    ):
        pass
