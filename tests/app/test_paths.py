"""Paths from outside: resolved below the roots, and opened there even if they change meanwhile."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.paths import OutsideRoots, Roots, data_roots
from app.settings import Settings


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "folder").mkdir(parents=True)
    (tmp_path / "root" / "folder" / "file").write_text("inside")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("outside")
    return tmp_path / "root"


def read(roots: Roots, path: Path) -> str:
    with os.fdopen(roots.open(path)) as file:
        return file.read()


def test_files_and_folders_below_a_root_are_opened(root: Path) -> None:
    assert read(Roots((root,)), root / "folder" / "file") == "inside"
    for folder in (root, root / "folder"):
        descriptor = Roots((root,)).open(folder)
        assert os.path.samestat(os.fstat(descriptor), folder.stat())
        os.close(descriptor)


def test_links_inside_and_between_roots_are_followed(root: Path) -> None:
    (root / "inner").symlink_to("folder", target_is_directory=True)
    (root / "outer").symlink_to(root.parent / "outside", target_is_directory=True)
    roots = Roots((root, root.parent / "outside"))
    assert read(roots, root / "inner" / "file") == "inside"
    assert read(roots, root / "outer" / "file") == "outside"


@pytest.mark.parametrize(
    "make",
    [
        lambda root: root.parent / "outside" / "file",
        lambda root: root / ".." / "outside" / "file",
        lambda root: Path(f"{root}-beside"),
        lambda root: Path("folder/file"),
        lambda root: root / "a\0b",
    ],
    ids=["elsewhere", "dots", "a name that starts the same", "relative", "null"],
)
def test_paths_that_lead_elsewhere(make: Callable[[Path], Path], root: Path) -> None:
    with pytest.raises(OutsideRoots):
        Roots((root,)).open(make(root))


def test_a_link_that_leads_elsewhere(root: Path) -> None:
    (root / "link").symlink_to(root.parent / "outside", target_is_directory=True)
    with pytest.raises(OutsideRoots):
        Roots((root,)).open(root / "link" / "file")


@pytest.mark.parametrize("name", ["circle", "x" * 300, "file/below", "none"])
def test_what_cannot_be_opened_is_an_ordinary_error(name: str, root: Path) -> None:
    (root / "circle").symlink_to(root / "circle")
    with pytest.raises(OSError, match="Errno"):
        Roots((root,)).open(root / "folder" / name if name != "circle" else root / name)


@pytest.mark.parametrize("swapped", ["folder", "folder/file"])
def test_what_becomes_a_link_after_it_was_resolved(swapped: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = os.path.realpath

    def then_swap(path: Path) -> str:
        resolved = resolve(path)
        (root / swapped).rename(root / "moved")
        (root / swapped).symlink_to(root.parent / "outside" / Path(swapped).relative_to("folder"))
        return resolved

    monkeypatch.setattr(os.path, "realpath", then_swap)
    with pytest.raises(OSError, match=r"Too many levels of symbolic links|Not a directory"):
        Roots((root,)).open(root / "folder" / "file")


def test_a_folder_that_is_swapped_all_the_time(root: Path) -> None:
    """Whenever it is opened, the content is that of the root or nothing."""
    stop = threading.Event()
    (root / "link").symlink_to(root.parent / "outside", target_is_directory=True)

    def swap() -> None:
        while not stop.is_set():
            (root / "folder").rename(root / "aside")
            (root / "link").rename(root / "folder")
            (root / "folder").rename(root / "link")
            (root / "aside").rename(root / "folder")

    thread = threading.Thread(target=swap)
    thread.start()
    seen = set()
    try:
        for _ in range(2000):
            try:
                seen.add(read(Roots((root,)), root / "folder" / "file"))
            except (OutsideRoots, OSError):
                continue
    finally:
        stop.set()
        thread.join()
    assert seen <= {"inside"}


class TestHome:
    def test_is_never_inside_a_root(self, tmp_path: Path) -> None:
        settings = Settings(home=tmp_path / "home", data_roots=(tmp_path,))
        with pytest.raises(OutsideRoots):
            data_roots(settings).resolve(settings.datasets_folder / "upload")
        assert data_roots(settings).resolve(tmp_path / "images") == tmp_path / "images"

    @pytest.mark.parametrize("inner", ["", "datasets"])
    def test_is_never_a_root(self, inner: str, tmp_path: Path) -> None:
        with pytest.raises(ValidationError, match="FORERANK_DATA_ROOTS lies in FORERANK_HOME"):
            Settings(home=tmp_path, data_roots=(tmp_path / inner,))
