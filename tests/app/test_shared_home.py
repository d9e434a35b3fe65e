"""Files of one host's home that another host needs."""

from pathlib import Path

import pytest

from app import shared_home
from app.settings import Settings
from app.storage import objects_of

POSTGRESQL = "postgresql://nobody@localhost/none"


@pytest.fixture
def hosts(store_url: str, tmp_path: Path) -> tuple[Settings, Settings]:
    """Two hosts. Their database is not asked for anything."""
    here, there = (
        Settings(home=tmp_path / name, database_url=POSTGRESQL, store_url=store_url) for name in ("here", "there")
    )
    return here, there


def test_a_folder_is_the_same_elsewhere(hosts: tuple[Settings, Settings]) -> None:
    here, there = hosts
    folder = here.datasets_folder / "ds_1"
    (folder / "cat").mkdir(parents=True)
    (folder / "cat" / "ä b.png").write_bytes(b"pixels")
    shared_home.share_folder(here, folder)
    copy = there.datasets_folder / "ds_1"
    shared_home.fetch_folder(there, copy)
    assert [path.relative_to(copy).as_posix() for path in copy.rglob("*.png")] == ["cat/ä b.png"]
    assert (copy / "cat" / "ä b.png").read_bytes() == b"pixels"
    # An index compares the time to the nanosecond, whichever host inspected.
    first, second = ((place / "cat" / "ä b.png").stat().st_mtime_ns for place in (folder, copy))
    assert first == second
    assert sorted(path.name for path in there.datasets_folder.iterdir()) == ["ds_1"]


def test_what_nobody_shared_is_not_there(hosts: tuple[Settings, Settings]) -> None:
    here, _ = hosts
    shared_home.fetch_file(here, here.datasets_folder / "ds_1.json")
    shared_home.fetch_folder(here, here.datasets_folder / "ds_1")
    assert not (here.datasets_folder / "ds_1").exists()
    assert not (here.datasets_folder / "ds_1.json").exists()


def test_what_is_removed_is_gone_everywhere(hosts: tuple[Settings, Settings]) -> None:
    here, there = hosts
    file = here.fine_tunings_folder / "ft_1" / "0.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    shared_home.share_file(here, file)
    assert shared_home.shared_bytes(there, there.fine_tunings_folder / "ft_1") == 7
    shared_home.remove(there, there.fine_tunings_folder / "ft_1")
    objects = objects_of(here)
    assert objects is not None
    assert list(objects.list("home")) == []


def test_a_shared_folder_needs_no_copies(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    file = tmp_path / "finetunes" / "ft_1" / "0.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    shared_home.share_file(settings, file)
    shared_home.fetch_file(settings, tmp_path / "nothing")
    assert shared_home.shared_bytes(settings, file.parent) == 7
    shared_home.remove(settings, file.parent)
    assert list((tmp_path / "finetunes").iterdir()) == []


def test_a_bucket_needs_a_database_that_hosts_share(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="FORERANK_STORE_URL needs FORERANK_DATABASE_URL"):
        Settings(home=tmp_path, store_url="s3://bucket/prefix")


@pytest.mark.parametrize("url", ["http://bucket", "s3://", "s3:///prefix", "bucket"])
def test_the_form_of_the_url(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="store_url"):
        Settings(home=tmp_path, database_url=POSTGRESQL, store_url=url)
