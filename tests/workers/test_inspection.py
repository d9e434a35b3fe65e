import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.contracts.datasets import FolderSpec
from app.contracts.progress import Progress
from app.settings import Settings
from tests.workers.conftest import ReadersHere, inspect, inspect_folder, picture
from workers.errors import DatasetChanged, DatasetRejected, Stopped, TimeLimitExceeded
from workers.images.candidates import NOT_THERE
from workers.images.index import DatasetIndex
from workers.inspection.images import inspect_dataset


def tolerant(settings: Settings) -> Settings:
    return settings.model_copy(update={"unreadable_share_limit": 0.9})


def test_counts_classes_and_sizes(image_folder: Path, settings: Settings) -> None:
    index = inspect_folder(image_folder, settings)
    assert index.counts == {"cat": 5, "dog": 4, "owl": 3}
    assert index.paths[0] == "cat/0.jpg"
    assert index.labels.tolist() == [0] * 5 + [1] * 4 + [2] * 3
    assert index.sizes[0] == (image_folder / "cat/0.jpg").stat().st_size


def test_saved_and_loaded_whole(image_folder: Path, settings: Settings, tmp_path: Path) -> None:
    index = inspect_folder(image_folder, settings)
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
    assert len(inspect_folder(image_folder, settings)) == 12


def test_deeper_folders_belong_to_the_class(image_folder: Path, settings: Settings) -> None:
    (image_folder / "owl" / "night" / "far").mkdir(parents=True)
    picture(99).save(image_folder / "owl" / "night" / "far" / "x.png")
    assert inspect_folder(image_folder, settings).counts["owl"] == 4


def test_fingerprint_is_of_the_content(image_folder: Path, settings: Settings) -> None:
    before = inspect_folder(image_folder, settings).fingerprint
    copy = image_folder.with_name("copy")
    shutil.copytree(image_folder, copy)
    os.utime(copy / "cat" / "0.jpg", (1, 1))
    assert inspect_folder(copy, settings).fingerprint == before


@pytest.mark.parametrize("change", ["content", "class", "name"])
def test_fingerprint_sees_every_change(change: str, image_folder: Path, settings: Settings) -> None:
    before = inspect_folder(image_folder, settings).fingerprint
    if change == "content":
        picture(1234).save(image_folder / "cat" / "1.png")
    elif change == "class":
        (image_folder / "cat").rename(image_folder / "lynx")
    else:
        (image_folder / "cat" / "1.png").rename(image_folder / "cat" / "1b.png")
    assert inspect_folder(image_folder, settings).fingerprint != before


def test_unreadable_files_are_left_out_and_named(image_folder: Path, settings: Settings) -> None:
    (image_folder / "cat" / "text.png").write_text("not an image")
    content = (image_folder / "dog" / "0.jpg").read_bytes()
    (image_folder / "dog" / "half.jpg").write_bytes(content[: len(content) * 3 // 4])
    index = inspect_folder(image_folder, tolerant(settings))
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
        inspect_folder(image_folder, settings)
    assert caught.value.detail.count("bad") == 10


def test_a_huge_image_is_named_not_decoded(image_folder: Path, settings: Settings) -> None:
    small = tolerant(settings).model_copy(update={"image_pixel_limit": 10_000})
    reasons = [item["reason"] for item in inspect_folder(image_folder, small).unreadable]
    assert reasons
    assert all("more than the limit of 10000" in reason for reason in reasons)


def test_links_out_of_the_roots_are_unreadable(image_folder: Path, settings: Settings, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    picture(7).save(outside / "secret.png")
    (image_folder / "cat" / "link.png").symlink_to(outside / "secret.png")
    (image_folder / "dog" / "folder").symlink_to(outside, target_is_directory=True)
    (image_folder / "owl" / "process.png").symlink_to("/proc/self/environ")
    index = inspect_folder(image_folder, tolerant(settings))
    assert {item["path"] for item in index.unreadable} == {"cat/link.png", "dog/folder", "owl/process.png"}
    assert {item["reason"] for item in index.unreadable} == {NOT_THERE}
    assert len(index) == 12


def test_a_link_does_not_tell_what_is_outside(image_folder: Path, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for name in ("folder", "file", "nothing"):
        (image_folder / "cat" / name).symlink_to(tmp_path / name)
        (image_folder / f"class-{name}").symlink_to(tmp_path / name)
    index = inspect_folder(image_folder, tolerant(settings))
    assert {item["path"] for item in index.unreadable} == {
        path for name in ("folder", "file", "nothing") for path in (f"cat/{name}", f"class-{name}")
    }
    assert {item["reason"] for item in index.unreadable} == {NOT_THERE}


def test_links_between_roots_are_followed(image_folder: Path, settings: Settings) -> None:
    other = settings.data_roots[0] / "elsewhere"
    other.mkdir()
    picture(8).save(other / "fox.png")
    (image_folder / "fox").symlink_to(other, target_is_directory=True)
    assert inspect_folder(image_folder, settings).counts["fox"] == 1


def test_a_loop_of_links_ends(image_folder: Path, settings: Settings) -> None:
    (image_folder / "cat" / "again").symlink_to(image_folder / "cat", target_is_directory=True)
    index = inspect_folder(image_folder, tolerant(settings))
    assert [item["reason"] for item in index.unreadable] == ["a link to a folder that was read already"]


def test_a_pipe_named_as_an_image_does_not_block(image_folder: Path, settings: Settings) -> None:
    os.mkfifo(image_folder / "cat" / "pipe.png")
    index = inspect_folder(image_folder, tolerant(settings))
    assert [item["reason"] for item in index.unreadable] == ["not a regular file"]


def test_names_that_are_not_utf8(image_folder: Path, settings: Settings, tmp_path: Path) -> None:
    path = os.fsencode(image_folder / "cat") + b"/\xff.png"
    with open(path, "wb") as file:  # noqa: PTH123 - a name of bytes
        picture(9).save(file, format="PNG")
    index = inspect_folder(image_folder, settings)
    index.save(tmp_path / "index.json")
    assert DatasetIndex.load(tmp_path / "index.json").paths == index.paths
    assert len(index) == 13


@pytest.mark.parametrize("where", ["/etc", "/proc/self/root", "relative", "missing"])
def test_paths_outside_the_roots_are_refused(where: str, settings: Settings) -> None:
    path = str(settings.data_roots[0] / "missing") if where == "missing" else where
    with pytest.raises(DatasetRejected, match="FORERANK_DATA_ROOTS"):
        inspect({"kind": "folder", "path": path}, settings)


def test_a_linked_data_set_outside_the_roots_is_refused(settings: Settings) -> None:
    link = settings.data_roots[0] / "link"
    link.symlink_to("/etc", target_is_directory=True)
    with pytest.raises(DatasetRejected, match="FORERANK_DATA_ROOTS"):
        inspect_folder(link, settings)


def test_an_upload_lies_under_the_data_sets_folder(image_folder: Path, settings: Settings) -> None:
    uploaded = settings.datasets_folder / "upload"
    shutil.copytree(image_folder, uploaded)
    assert len(inspect({"kind": "folder", "path": str(uploaded), "uploaded": True}, settings)) == 12
    with pytest.raises(DatasetRejected, match="FORERANK_DATA_ROOTS"):
        inspect_folder(uploaded, settings)


@pytest.mark.parametrize("root", ["data", ""], ids=["beside the uploads", "around the uploads"])
def test_a_registered_folder_becomes_a_link_to_the_uploads(
    root: str, image_folder: Path, settings: Settings, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"data_roots": (tmp_path / root,)})
    upload = settings.datasets_folder / "ds_of_another_key"
    upload.parent.mkdir(parents=True)
    image_folder.rename(upload)
    image_folder.symlink_to(upload, target_is_directory=True)
    with pytest.raises(DatasetRejected, match="FORERANK_DATA_ROOTS"):
        inspect_folder(image_folder, settings)
    image_folder.unlink()
    image_folder.symlink_to(settings.datasets_folder, target_is_directory=True)
    with pytest.raises(DatasetRejected, match="FORERANK_DATA_ROOTS"):
        inspect_folder(image_folder, settings)


@pytest.mark.parametrize("moment", ["while it is walked", "while it is read", "when it is used"])
def test_a_folder_that_becomes_a_link_later(moment: str, image_folder: Path, settings: Settings) -> None:
    upload = settings.datasets_folder / "ds_of_another_key"
    shutil.copytree(image_folder, upload)

    once = threading.Lock()

    def swap(*_: object) -> bool:
        if once.acquire(blocking=False):
            image_folder.rename(image_folder.with_name("aside"))
            image_folder.symlink_to(upload, target_is_directory=True)
        return False

    if moment == "when it is used":
        index = inspect_folder(image_folder, settings)
        swap()
        with pytest.raises(DatasetChanged, match="not now"):
            index.read(0, settings)
        return
    if moment == "while it is walked":
        for number in range(200):
            (image_folder / f"a{number:03d}.txt").touch()
        with pytest.raises(DatasetRejected, match=NOT_THERE):
            inspect_folder(image_folder, settings, should_stop=swap)
        return
    readers = ReadersHere(settings)
    readers.count = 1
    read = readers.read
    readers.read = lambda spec, path: (swap(), read(spec, path))[1]
    with pytest.raises(DatasetRejected, match=f"12 of 12 images cannot be read.*{NOT_THERE}"):
        inspect_dataset(FolderSpec(path=str(image_folder)), settings=settings, readers=readers)


class TestLimits:
    def test_a_farm_of_links_is_read_once(self, image_folder: Path, settings: Settings) -> None:
        """Ten folders that each link to all the others have millions of paths and ten contents."""
        farm = image_folder / "farm"
        for number in range(10):
            (farm / f"{number}").mkdir(parents=True)
            picture(number).save(farm / f"{number}" / "a.png")
        for number in range(10):
            for other in range(10):
                (farm / f"{number}" / f"to-{other}").symlink_to(farm / f"{other}", target_is_directory=True)
        index = inspect_folder(image_folder, tolerant(settings))
        assert index.counts["farm"] == 10
        assert len(index.unreadable) == 100

    def test_folders_are_not_followed_for_ever(self, image_folder: Path, settings: Settings) -> None:
        deep = image_folder / "deep"
        deep.mkdir()
        here = os.open(deep, os.O_RDONLY)
        for _ in range(300):
            os.mkdir("d", dir_fd=here)
            here, outer = os.open("d", os.O_RDONLY, dir_fd=here), here
            os.close(outer)
        os.close(here)
        index = inspect_folder(image_folder, tolerant(settings))
        assert [item["reason"] for item in index.unreadable] == [
            "deeper than 32 folders (FORERANK_DATASET_DEPTH_LIMIT)"
        ]

    @pytest.mark.parametrize("kind", ["folder", "manifest"])
    def test_entries_are_counted(self, kind: str, image_folder: Path, settings: Settings) -> None:
        settings = settings.model_copy(update={"dataset_entry_limit": 14})
        spec = {"kind": "folder", "path": str(image_folder)}
        if kind == "manifest":
            rows = "".join(f"{number}.png,a\n" for number in range(15))
            spec = TestManifest.write(image_folder, f"path,label\n{rows}")
        with pytest.raises(DatasetRejected, match=r"more than 14 .*FORERANK_DATASET_ENTRY_LIMIT"):
            inspect(spec, settings)

    def test_time_is_limited(self, image_folder: Path, settings: Settings) -> None:
        settings = settings.model_copy(update={"inspection_time_limit_seconds": 1e-6})
        with pytest.raises(TimeLimitExceeded, match="FORERANK_INSPECTION_TIME_LIMIT_SECONDS"):
            inspect_folder(image_folder, settings)


def test_no_image_at_all(settings: Settings) -> None:
    empty = settings.data_roots[0] / "empty"
    (empty / "class").mkdir(parents=True)
    with pytest.raises(DatasetRejected, match="no image was found in class folders"):
        inspect_folder(empty, settings)


def test_one_image_of_one_class_is_a_data_set(settings: Settings) -> None:
    root = settings.data_roots[0] / "one"
    (root / "only").mkdir(parents=True)
    picture(0).save(root / "only" / "a.png")
    assert inspect_folder(root, settings).counts == {"only": 1}


def test_more_images_than_allowed(image_folder: Path, settings: Settings) -> None:
    with pytest.raises(DatasetRejected, match="more than 5 images"):
        inspect_folder(image_folder, settings.model_copy(update={"image_count_limit": 5}))


def test_it_can_be_stopped(image_folder: Path, settings: Settings) -> None:
    with pytest.raises(Stopped):
        inspect_folder(image_folder, settings, should_stop=lambda: True)


def test_it_reports_progress(image_folder: Path, settings: Settings) -> None:
    events: list[Progress] = []
    inspect_folder(image_folder, settings, progress=events.append)
    assert events[-1] == Progress(stage="inspect", done=12, total=12)


@pytest.mark.parametrize("change", ["content", "time", "gone"])
def test_a_file_that_changed_is_named(change: str, image_folder: Path, settings: Settings) -> None:
    index = inspect_folder(image_folder, settings)
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
        index = inspect(spec, settings)
        assert index.counts == {"-1": 1, "été; DROP TABLE": 1}

    def test_a_split_is_chosen(self, image_folder: Path, settings: Settings) -> None:
        spec = self.write(image_folder, "path,label,split\ncat/0.jpg,a,train\ndog/0.jpg,b,test\n", split="test")
        assert inspect(spec, settings).paths == ("dog/0.jpg",)

    @pytest.mark.parametrize(
        ("text", "split", "reason"),
        [
            ("file,label\na,b\n", None, "no column path"),
            ("path,label\ncat/0.jpg,a\n", "train", "no column split"),
            ("path,label\ncat/0.jpg,\n", None, "line 2: path and label must not be empty"),
            ("path,label\ncat/0.jpg,a\ncat/0.jpg,b\n", None, "line 3: cat/0.jpg is listed twice"),
            ("path,label\n", None, "no image was found in the manifest"),
            ('path,label\n"' + ("x" * 1000 + "\n") * 200, None, "not a CSV file"),
        ],
    )
    def test_faults_are_named(
        self, text: str, split: str | None, reason: str, image_folder: Path, settings: Settings
    ) -> None:
        with pytest.raises(DatasetRejected, match=reason):
            inspect(self.write(image_folder, text, split), settings)

    def test_rows_that_lead_outside_are_unreadable(
        self, image_folder: Path, settings: Settings, tmp_path: Path
    ) -> None:
        picture(1).save(tmp_path / "secret.png")
        spec = self.write(
            image_folder, f"path,label\ncat/0.jpg,a\n../../secret.png,b\n{tmp_path}/secret.png,c\nno.png,d\n"
        )
        index = inspect(spec, tolerant(settings))
        assert [item["reason"] for item in index.unreadable] == [
            NOT_THERE,
            NOT_THERE,
            NOT_THERE,
        ]

    def test_rows_do_not_tell_what_is_outside(self, image_folder: Path, settings: Settings) -> None:
        paths = ["/etc/shadow", "/etc/no-such-file", "/root", "/etc/passwd/below", "x" * 300, "../" * 40 + "etc"]
        rows = "".join(f"{path},a\n" for path in paths)
        index = inspect(self.write(image_folder, f"path,label\ncat/0.jpg,a\n{rows}"), tolerant(settings))
        assert {item["path"] for item in index.unreadable} == set(paths)
        assert {item["reason"] for item in index.unreadable} == {NOT_THERE}

    def test_a_line_without_an_end_is_not_kept_in_memory(self, image_folder: Path, settings: Settings) -> None:
        spec = self.write(image_folder, "path,label\n" + "x" * 70_000)
        with pytest.raises(DatasetRejected, match="a line of more than 65536 characters"):
            inspect(spec, settings)

    def test_the_manifest_itself_lies_inside(self, image_folder: Path, settings: Settings) -> None:
        spec = self.write(image_folder, "path,label\n") | {"manifest": "../../../etc/passwd"}
        with pytest.raises(DatasetRejected, match="not a file in the data set's folder"):
            inspect(spec, settings)


class TestDigits:
    def test_drawn_from_scikit_learn(self, settings: Settings) -> None:
        index = inspect({"kind": "builtin", "name": "digits"}, settings)
        assert len(index) == 1797
        assert sum(index.counts.values()) == 1797
        image = index.read(0, settings)
        assert (image.mode, image.size) == ("RGB", (64, 64))

    def test_the_fingerprint_never_moves(self, settings: Settings) -> None:
        index = inspect({"kind": "builtin", "name": "digits"}, settings)
        assert index.fingerprint == "a7460f15641e96fb2e0a8084b5d13f5df10fc814dd8cd62eb0564fd725c352a9"

    def test_there_is_no_other(self, settings: Settings) -> None:
        with pytest.raises(DatasetRejected, match="only digits"):
            inspect({"kind": "builtin", "name": "letters"}, settings)


def test_many_classes(settings: Settings) -> None:
    root = settings.data_roots[0] / "many"
    image = Image.new("RGB", (2, 2))
    for number in range(300):
        (root / f"{number:06d}").mkdir(parents=True)
        image.save(root / f"{number:06d}" / "a.png")
    assert len(inspect_folder(root, settings).class_names) == 300
