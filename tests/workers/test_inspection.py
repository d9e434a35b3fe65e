import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.contracts.datasets import BuiltinSpec, FolderSpec
from app.settings import Settings
from tests.workers.conftest import DATASET, picture
from workers.errors import DatasetChanged, DatasetRejected, Stopped
from workers.images.index import DatasetIndex
from workers.inspection.images import inspect_dataset


def inspect(root: Path, settings: Settings) -> DatasetIndex:
    return inspect_dataset(FolderSpec(path=str(root)), settings=settings)


def tolerant(settings: Settings) -> Settings:
    return settings.model_copy(update={"unreadable_share_limit": 0.9})


def test_counts_classes_and_sizes(image_folder: Path, settings: Settings) -> None:
    index = inspect(image_folder, settings)
    assert index.counts == {"cat": 5, "dog": 4, "owl": 3}
    assert index.paths[0] == "cat/0.jpg"
    assert index.labels.tolist() == [0] * 5 + [1] * 4 + [2] * 3
    assert index.sizes[0] == (image_folder / "cat/0.jpg").stat().st_size


def test_saved_and_loaded_whole(image_folder: Path, settings: Settings, tmp_path: Path) -> None:
    index = inspect(image_folder, settings)
    index.save(tmp_path / "indexes" / "one.json")
    loaded = DatasetIndex.load(tmp_path / "indexes" / "one.json")
    assert (loaded.spec, loaded.paths, loaded.fingerprint) == (index.spec, index.paths, index.fingerprint)
    np.testing.assert_array_equal(loaded.mtimes_ns, index.mtimes_ns)
    assert [path.name for path in (tmp_path / "indexes").iterdir()] == ["one.json"]


def test_hidden_files_and_other_kinds_are_skipped(image_folder: Path, settings: Settings) -> None:
    (image_folder / "README.md").write_text("about")
    (image_folder / "cat" / "notes.txt").write_text("about cats")
    (image_folder / "cat" / ".hidden.png").write_bytes(b"")
    (image_folder / ".git").mkdir()
    assert len(inspect(image_folder, settings)) == 12


def test_deeper_folders_belong_to_the_class(image_folder: Path, settings: Settings) -> None:
    (image_folder / "owl" / "night" / "far").mkdir(parents=True)
    picture(99).save(image_folder / "owl" / "night" / "far" / "x.png")
    assert inspect(image_folder, settings).counts["owl"] == 4


def test_fingerprint_is_of_the_content(image_folder: Path, settings: Settings) -> None:
    before = inspect(image_folder, settings).fingerprint
    copy = image_folder.with_name("copy")
    shutil.copytree(image_folder, copy)
    os.utime(copy / "cat" / "0.jpg", (1, 1))
    assert inspect(copy, settings).fingerprint == before


@pytest.mark.parametrize("change", ["content", "class", "name"])
def test_fingerprint_sees_every_change(change: str, image_folder: Path, settings: Settings) -> None:
    before = inspect(image_folder, settings).fingerprint
    if change == "content":
        picture(1234).save(image_folder / "cat" / "1.png")
    elif change == "class":
        (image_folder / "cat").rename(image_folder / "lynx")
    else:
        (image_folder / "cat" / "1.png").rename(image_folder / "cat" / "1b.png")
    assert inspect(image_folder, settings).fingerprint != before


def test_unreadable_files_are_left_out_and_named(image_folder: Path, settings: Settings) -> None:
    (image_folder / "cat" / "text.png").write_text("not an image")
    content = (image_folder / "dog" / "0.jpg").read_bytes()
    (image_folder / "dog" / "half.jpg").write_bytes(content[: len(content) * 3 // 4])
    index = inspect(image_folder, tolerant(settings))
    reasons = {item["path"]: item["reason"] for item in index.unreadable}
    assert set(reasons) == {"cat/text.png", "dog/half.jpg"}
    assert "known format" in reasons["cat/text.png"]
    assert "truncated" in reasons["dog/half.jpg"]
    assert len(index) == 12


def test_too_many_unreadable_files_fail_the_data_set(image_folder: Path, settings: Settings) -> None:
    for number in range(15):
        (image_folder / "owl" / f"bad{number:02d}.png").write_text("not an image")
    with pytest.raises(
        DatasetRejected, match=r"15 of 27 images cannot be read.*FORERANK_UNREADABLE_SHARE_LIMIT"
    ) as caught:
        inspect(image_folder, settings)
    assert caught.value.detail.count("bad") == 10


def test_a_huge_image_is_named_not_decoded(image_folder: Path, settings: Settings) -> None:
    small = tolerant(settings).model_copy(update={"image_pixel_limit": 10_000})
    reasons = [item["reason"] for item in inspect(image_folder, small).unreadable]
    assert reasons
    assert all("more than the limit of 10000" in reason for reason in reasons)


def test_links_out_of_the_roots_are_unreadable(image_folder: Path, settings: Settings, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    picture(7).save(outside / "secret.png")
    (image_folder / "cat" / "link.png").symlink_to(outside / "secret.png")
    (image_folder / "dog" / "folder").symlink_to(outside, target_is_directory=True)
    (image_folder / "owl" / "process.png").symlink_to("/proc/self/environ")
    index = inspect(image_folder, tolerant(settings))
    assert {item["path"] for item in index.unreadable} == {"cat/link.png", "dog/folder", "owl/process.png"}
    assert all("a link that leads outside" in item["reason"] for item in index.unreadable)
    assert len(index) == 12


def test_links_between_roots_are_followed(image_folder: Path, settings: Settings) -> None:
    other = settings.data_roots[0] / "elsewhere"
    other.mkdir()
    picture(8).save(other / "fox.png")
    (image_folder / "fox").symlink_to(other, target_is_directory=True)
    assert inspect(image_folder, settings).counts["fox"] == 1


def test_a_loop_of_links_ends(image_folder: Path, settings: Settings) -> None:
    (image_folder / "cat" / "again").symlink_to(image_folder / "cat", target_is_directory=True)
    index = inspect(image_folder, tolerant(settings))
    assert [item["reason"] for item in index.unreadable] == ["a link to a folder above it"]


def test_a_pipe_named_as_an_image_does_not_block(image_folder: Path, settings: Settings) -> None:
    os.mkfifo(image_folder / "cat" / "pipe.png")
    index = inspect(image_folder, tolerant(settings))
    assert [item["reason"] for item in index.unreadable] == ["not a regular file"]


def test_names_that_are_not_utf8(image_folder: Path, settings: Settings, tmp_path: Path) -> None:
    path = os.fsencode(image_folder / "cat") + b"/\xff.png"
    with open(path, "wb") as file:  # noqa: PTH123 - a name of bytes
        picture(9).save(file, format="PNG")
    index = inspect(image_folder, settings)
    index.save(tmp_path / "index.json")
    assert DatasetIndex.load(tmp_path / "index.json").paths == index.paths
    assert len(index) == 13


@pytest.mark.parametrize("where", ["/etc", "/proc/self/root", "relative", "missing"])
def test_paths_outside_the_roots_are_refused(where: str, settings: Settings) -> None:
    path = str(settings.data_roots[0] / "missing") if where == "missing" else where
    with pytest.raises(DatasetRejected, match="FORERANK_DATA_ROOTS"):
        inspect_dataset(FolderSpec(path=path), settings=settings)


def test_a_linked_data_set_outside_the_roots_is_refused(settings: Settings) -> None:
    link = settings.data_roots[0] / "link"
    link.symlink_to("/etc", target_is_directory=True)
    with pytest.raises(DatasetRejected, match="FORERANK_DATA_ROOTS"):
        inspect(link, settings)


def test_an_upload_lies_under_the_data_sets_folder(image_folder: Path, settings: Settings) -> None:
    uploaded = settings.datasets_folder / "upload"
    shutil.copytree(image_folder, uploaded)
    assert len(inspect(uploaded, settings)) == 12


def test_no_image_at_all(settings: Settings) -> None:
    empty = settings.data_roots[0] / "empty"
    (empty / "class").mkdir(parents=True)
    with pytest.raises(DatasetRejected, match="no image was found in class folders"):
        inspect(empty, settings)


def test_one_image_of_one_class_is_a_data_set(settings: Settings) -> None:
    root = settings.data_roots[0] / "one"
    (root / "only").mkdir(parents=True)
    picture(0).save(root / "only" / "a.png")
    assert inspect(root, settings).counts == {"only": 1}


def test_more_images_than_allowed(image_folder: Path, settings: Settings) -> None:
    with pytest.raises(DatasetRejected, match="more than 5 images"):
        inspect(image_folder, settings.model_copy(update={"image_count_limit": 5}))


def test_it_can_be_stopped(image_folder: Path, settings: Settings) -> None:
    with pytest.raises(Stopped):
        inspect_dataset(FolderSpec(path=str(image_folder)), settings=settings, should_stop=lambda: True)


def test_it_reports_progress(image_folder: Path, settings: Settings) -> None:
    events: list[dict[str, Any]] = []
    inspect_dataset(FolderSpec(path=str(image_folder)), settings=settings, progress=events.append)
    assert events[-1] == {"stage": "inspect", "done": 12, "total": 12}


@pytest.mark.parametrize("change", ["content", "time", "gone"])
def test_a_file_that_changed_is_named(change: str, image_folder: Path, settings: Settings) -> None:
    index = inspect(image_folder, settings)
    path = image_folder / "cat" / "0.jpg"
    if change == "content":
        path.write_bytes(path.read_bytes() + b"\0")
    elif change == "time":
        os.utime(path, ns=(0, int(index.mtimes_ns[0]) + 1))
    else:
        path.unlink()
    with pytest.raises(DatasetChanged, match=r"cat/0\.jpg.*register the data set again"):
        index.read(0, settings)


class TestManifest:
    @staticmethod
    def write(root: Path, text: str, split: str | None = None) -> dict[str, Any]:
        (root / "labels.csv").write_text(text, encoding="utf-8")
        return {"kind": "manifest", "path": str(root), "manifest": "labels.csv", "split": split}

    def test_labels_come_from_the_rows(self, image_folder: Path, settings: Settings) -> None:
        spec = self.write(image_folder, "\ufeffpath,label,note\ncat/0.jpg,-1,x\ndog/0.jpg,été; DROP TABLE,y\n")
        index = inspect_dataset(DATASET.validate_python(spec), settings=settings)
        assert index.counts == {"-1": 1, "été; DROP TABLE": 1}

    def test_a_split_is_chosen(self, image_folder: Path, settings: Settings) -> None:
        spec = self.write(image_folder, "path,label,split\ncat/0.jpg,a,train\ndog/0.jpg,b,test\n", split="test")
        assert inspect_dataset(DATASET.validate_python(spec), settings=settings).paths == ("dog/0.jpg",)

    @pytest.mark.parametrize(
        ("text", "split", "reason"),
        [
            ("file,label\na,b\n", None, "no column path"),
            ("path,label\ncat/0.jpg,a\n", "train", "no column split"),
            ("path,label\ncat/0.jpg,\n", None, "line 2: path and label must not be empty"),
            ("path,label\ncat/0.jpg,a\ncat/0.jpg,b\n", None, "line 3: cat/0.jpg is listed twice"),
            ("path,label\n", None, "no image was found in the manifest"),
            ('path,label\n"' + "x" * 200_000, None, "not a CSV file"),
        ],
    )
    def test_faults_are_named(
        self, text: str, split: str | None, reason: str, image_folder: Path, settings: Settings
    ) -> None:
        with pytest.raises(DatasetRejected, match=reason):
            inspect_dataset(DATASET.validate_python(self.write(image_folder, text, split)), settings=settings)

    def test_rows_that_lead_outside_are_unreadable(
        self, image_folder: Path, settings: Settings, tmp_path: Path
    ) -> None:
        picture(1).save(tmp_path / "secret.png")
        spec = self.write(
            image_folder, f"path,label\ncat/0.jpg,a\n../../secret.png,b\n{tmp_path}/secret.png,c\nno.png,d\n"
        )
        index = inspect_dataset(DATASET.validate_python(spec), settings=tolerant(settings))
        assert [item["reason"] for item in index.unreadable] == [
            "a link that leads outside the data set and FORERANK_DATA_ROOTS",
            "a link that leads outside the data set and FORERANK_DATA_ROOTS",
            "no such file",
        ]

    def test_the_manifest_itself_lies_inside(self, image_folder: Path, settings: Settings) -> None:
        spec = self.write(image_folder, "path,label\n") | {"manifest": "../../../etc/passwd"}
        with pytest.raises(DatasetRejected, match="not a file in the data set's folder"):
            inspect_dataset(DATASET.validate_python(spec), settings=settings)


class TestDigits:
    def test_drawn_from_scikit_learn(self, settings: Settings) -> None:
        index = inspect_dataset(BuiltinSpec(name="digits"), settings=settings)
        assert len(index) == 1797
        assert sum(index.counts.values()) == 1797
        image = index.read(0, settings)
        assert (image.mode, image.size) == ("RGB", (64, 64))

    def test_the_fingerprint_never_moves(self, settings: Settings) -> None:
        index = inspect_dataset(BuiltinSpec(name="digits"), settings=settings)
        assert index.fingerprint == "a7460f15641e96fb2e0a8084b5d13f5df10fc814dd8cd62eb0564fd725c352a9"

    def test_there_is_no_other(self, settings: Settings) -> None:
        with pytest.raises(DatasetRejected, match="only digits"):
            inspect_dataset(BuiltinSpec(name="letters"), settings=settings)


def test_many_classes(settings: Settings) -> None:
    root = settings.data_roots[0] / "many"
    image = Image.new("RGB", (2, 2))
    for number in range(300):
        (root / f"{number:06d}").mkdir(parents=True)
        image.save(root / f"{number:06d}" / "a.png")
    assert len(inspect(root, settings).class_names) == 300
