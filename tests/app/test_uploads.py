"""Uploads: what is taken, what is refused and why, and that nothing is left behind."""

import gzip
import io
import random
import socket
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.archives import LARGEST_PIECE, SUSPECT_FROM, Limits, unpack
from app.contracts.datasets import ManifestSpec
from app.db.session import Database
from app.db.tables import Dataset
from app.main import create_app
from app.services.uploads import incoming
from app.settings import Settings
from tests.app.test_frame import problem
from tests.app.test_keys import make_key
from tests.conftest import NewDatabase, local_client, running_api_process


@pytest.fixture
def database_url(new_sqlite: NewDatabase) -> str:
    """One kind of database: what is tested here does not depend on it."""
    return new_sqlite()


def png(width: int = 8, height: int = 8) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (width, height), (20, 30, 40)).save(sink, "PNG")
    return sink.getvalue()


IMAGE = png()
ROUTE = "/v1/datasets/upload"
GOOD = {"cats/1.png": IMAGE, "cats/2.png": IMAGE, "dogs/1.png": IMAGE}


def zipped(files: dict[str, bytes], *, change: Callable[[zipfile.ZipInfo], None] | None = None) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if change is not None:
                change(info)
            archive.writestr(info, content)
    return sink.getvalue()


def tarred(files: dict[str, bytes], *, mode: str = "w", extra: tarfile.TarInfo | None = None) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if extra is not None:
            archive.addfile(extra)
    return sink.getvalue()


def flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :]


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def send(client: TestClient, archive: bytes, *, file_name: str = "pets.zip", **parts: Any) -> Any:
    headers = parts.pop("headers", {})
    manifest = parts.pop("manifest_file", None)
    files = {"file": (file_name, archive)} | ({"manifest": ("labels.csv", manifest)} if manifest is not None else {})
    return client.post(ROUTE, files=files, data=parts, headers=headers)


def left_on_disk(settings: Settings) -> list[str]:
    """Files and folders below the data sets' folder, but for the empty place of arrivals."""
    return [path.name for path in settings.datasets_folder.rglob("*") if path.name != ".incoming"]


@pytest.mark.parametrize(
    "archive",
    [
        zipped(GOOD),
        tarred(GOOD),
        tarred(GOOD, mode="w:gz"),
        zipped({f"pets/{name}": data for name, data in GOOD.items()}),
    ],
    ids=["zip", "tar", "tar.gz", "zip with a folder around"],
)
def test_class_folders_are_unpacked(app_client: TestClient, settings: Settings, archive: bytes) -> None:
    response = send(app_client, archive)
    assert response.status_code == 202, response.text
    body = response.json()
    assert response.headers["location"] == f"/v1/datasets/{body['id']}"
    assert (body["name"], body["location"], body["state"]) == ("pets", "uploaded", "pending")
    folder = settings.datasets_folder / body["id"]
    assert {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")} == GOOD
    assert list((settings.datasets_folder / ".incoming").iterdir()) == []


def test_litter_of_operating_systems_is_left_out(app_client: TestClient, settings: Settings) -> None:
    litter = {"__MACOSX/cats/._1.png": b"x", "cats/.DS_Store": b"x", "cats/Thumbs.db": b"x"}
    identifier = send(app_client, zipped(GOOD | litter)).json()["id"]
    assert len([path for path in (settings.datasets_folder / identifier).rglob("*") if path.is_file()]) == len(GOOD)


def test_manifest_beside_the_archive(app_client: TestClient, settings: Settings, database: Database) -> None:
    manifest = b"path,label,split\na.png,cat,train\nb.png,dog,test\n"
    response = send(app_client, zipped({"a.png": IMAGE, "b.png": IMAGE}), manifest_file=manifest, split="train")
    folder = settings.datasets_folder / response.json()["id"]
    assert (folder / "labels.csv").read_bytes() == manifest
    with database.reading() as session:
        row = session.get(Dataset, response.json()["id"])
    assert row is not None
    assert row.spec == ManifestSpec(path=str(folder), manifest="labels.csv", split="train", uploaded=True)


def test_manifest_in_the_archive(app_client: TestClient) -> None:
    files = {"a.png": IMAGE, "meta/list.csv": b"path,label\na.png,cat\n"}
    assert send(app_client, zipped(files), manifest="meta/list.csv").status_code == 202


@pytest.mark.parametrize(
    ("parts", "pointer"),
    [
        ({"manifest_file": b"file,class\n"}, "/manifest"),
        ({"manifest_file": b"path,label\n", "split": "test"}, "/manifest"),
        ({"manifest_file": b"\xff\xfe"}, "/manifest"),
        ({"manifest": "none.csv"}, "/manifest"),
        ({"manifest": "../../etc/passwd"}, "/manifest"),
        ({"manifest": "a" * 2000}, "/manifest"),
        ({"split": "test"}, "/split"),
        ({"name": "a\nb"}, "/name"),
        ({"name": "x" * 201}, "/name"),
        ({"shared": "perhaps"}, "/shared"),
        ({"colour": "red"}, "/colour"),
    ],
)
def test_wrong_part_is_named(app_client: TestClient, settings: Settings, parts: dict[str, Any], pointer: str) -> None:
    document = problem(send(app_client, zipped(GOOD), **parts), 422)
    assert [error["pointer"] for error in document["errors"]] == [pointer]
    assert left_on_disk(settings) == []


def test_form_without_a_file_is_refused(app_client: TestClient) -> None:
    for file in ({}, {"file": (None, "text")}):
        response = app_client.post(ROUTE, files={"name": (None, "x")} | file)
        assert [error["pointer"] for error in problem(response, 422)["errors"]] == ["/file"]


def test_part_that_comes_twice_is_refused(app_client: TestClient, settings: Settings) -> None:
    files = [("file", ("a.zip", zipped(GOOD))), ("file", ("b.zip", zipped(GOOD)))]
    assert problem(app_client.post(ROUTE, files=files), 422)["errors"][0]["pointer"] == "/file"
    assert left_on_disk(settings) == []


def test_archive_on_the_route_for_locations_is_sent_to_its_own(app_client: TestClient) -> None:
    response = app_client.post("/v1/datasets", files={"file": ("pets.zip", zipped(GOOD))})
    assert ROUTE in problem(response, 415)["detail"]


def test_json_on_the_route_for_archives_is_refused(app_client: TestClient) -> None:
    problem(app_client.post(ROUTE, json={"location": "builtin:digits"}), 415)


def _link_in_zip(info: zipfile.ZipInfo) -> None:
    if info.filename == "cats/2.png":
        info.external_attr = 0o120777 << 16


HOSTILE: dict[str, tuple[bytes, int, str]] = {
    "no archive": (b"hello", 422, "not a zip"),
    "empty file": (b"", 422, "not a zip"),
    "empty zip": (zipped({}), 422, "no class folders"),
    "no class folders": (zipped({"a.png": IMAGE}), 422, "no class folders"),
    "truncated zip": (zipped(GOOD)[:-30], 422, "damaged"),
    "truncated tar.gz": (tarred(GOOD, mode="w:gz")[:-30], 422, "damaged"),
    "gzip of something else": (gzip.compress(b"hello" * 500), 422, "damaged"),
    "corrupted zip": (flipped(zipped(GOOD), 60), 422, "damaged"),
    "traversal in zip": (zipped(GOOD | {"../../evil.png": IMAGE}), 422, "leads out"),
    "traversal in tar": (tarred(GOOD | {"cats/../../evil.png": IMAGE}), 422, "leads out"),
    "absolute name": (tarred(GOOD | {"/evil.png": IMAGE}), 422, "absolute"),
    "Windows drive": (zipped(GOOD | {"C:/evil.png": IMAGE}), 422, "absolute"),
    "backslashes": (tarred(GOOD | {"..\\evil.png": IMAGE}), 422, "backslashes"),
    "control characters": (zipped(GOOD | {"cats/\x1b[2J.png": IMAGE}), 422, "printable"),
    "endless name": (zipped(GOOD | {"cats/" + "n" * 300 + ".png": IMAGE}), 422, "too long"),
    "bottomless folder": (zipped(GOOD | {"a/" * 200 + "1.png": IMAGE}), 422, "too long"),
    "link in zip": (zipped(GOOD, change=_link_in_zip), 422, "link"),
    "symbolic link": (tarred(GOOD, extra=special("cats/x.png", tarfile.SYMTYPE, "/etc/passwd")), 422, "link"),
    "hard link": (tarred(GOOD, extra=special("cats/x.png", tarfile.LNKTYPE, "cats/1.png")), 422, "link"),
    "device": (tarred(GOOD, extra=special("cats/x.png", tarfile.CHRTYPE)), 422, "device"),
    "pipe": (tarred(GOOD, extra=special("cats/x.png", tarfile.FIFOTYPE)), 422, "device"),
    "file that is also a folder": (tarred(GOOD | {"cats/1.png/x.png": IMAGE}), 422, "twice"),
    "folder that is also a file": (tarred(GOOD | {"cats": IMAGE}), 422, "twice"),
    "same name after normalising": (tarred(GOOD | {"caf\u00e9/1.png": IMAGE, "cafe\u0301/1.png": IMAGE}), 422, "twice"),
    "nested archive by name": (zipped(GOOD | {"cats/more.zip": b"x"}), 422, "archive in the archive"),
    "nested zip by content": (zipped(GOOD | {"cats/3.png": zipped(GOOD)}), 422, "archive in the archive"),
    "nested tar by content": (zipped(GOOD | {"cats/3.png": tarred(GOOD)}), 422, "archive in the archive"),
    "nested gzip by content": (zipped(GOOD | {"cats/3.png": gzip.compress(b"x")}), 422, "archive in the archive"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archive_is_refused_and_leaves_nothing(app_client: TestClient, settings: Settings, case: str) -> None:
    archive, status, reason = HOSTILE[case]
    document = problem(send(app_client, archive), status)
    assert reason in document["detail"]
    assert left_on_disk(settings) == []
    assert not (settings.home.parent / "evil.png").exists()
    assert app_client.get("/v1/datasets").json()["items"] == []


def test_name_twice_in_a_zip_is_refused(tmp_path: Path) -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("cats/1.png", IMAGE)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("cats/1.png", IMAGE)
    with pytest.raises(Exception, match="twice"):
        _unpack(sink.getvalue(), tmp_path)


def _unpack(archive: bytes, folder: Path, *, entries: int = 100, expanded: int = 10**9) -> None:
    destination = folder / "files"
    destination.mkdir()
    limits = Limits(entries=entries, expanded_bytes=expanded)
    unpack(io.BytesIO(archive), destination, limits=limits)


@pytest.mark.parametrize(
    "pack", [zipped, tarred, lambda files: tarred(files, mode="w:gz")], ids=["zip", "tar", "tar.gz"]
)
def test_too_many_entries_are_refused(tmp_path: Path, pack: Callable[[dict[str, bytes]], bytes]) -> None:
    with pytest.raises(Exception, match="more than 2 entries"):
        _unpack(pack(GOOD), tmp_path, entries=2)


@pytest.mark.parametrize(
    "pack", [zipped, tarred, lambda files: tarred(files, mode="w:gz")], ids=["zip", "tar", "tar.gz"]
)
def test_too_many_bytes_are_refused(tmp_path: Path, pack: Callable[[dict[str, bytes]], bytes]) -> None:
    with pytest.raises(Exception, match="expands to"):
        _unpack(pack({"cats/1.bin": b"x" * 50_000}), tmp_path, expanded=40_000)
    assert sum(path.stat().st_size for path in (tmp_path / "files").rglob("*")) <= 45_000


@pytest.mark.parametrize("mode", ["zip", "tar.gz"])
def test_bomb_is_refused_before_it_fills_the_disk(tmp_path: Path, mode: str) -> None:
    zeros = {f"cats/{number}.bin": bytes(60_000_000) for number in range(2)}
    archive = zipped(zeros) if mode == "zip" else tarred(zeros, mode="w:gz")
    # The ratio allows this archive 100 MB and a hundred times its size; a smaller claim would still be counted.
    assert len(archive) * 100 + SUSPECT_FROM < 120_000_000
    with pytest.raises(Exception, match="expands to"):
        _unpack(archive, tmp_path)


def test_zip_that_lies_about_its_sizes_is_counted(tmp_path: Path) -> None:
    honest = zipped({"cats/1.bin": bytes(1_000_000)})
    lying = honest.replace(struct.pack("<I", 1_000_000), struct.pack("<I", 1_000))
    with pytest.raises(Exception, match="damaged"):
        _unpack(lying, tmp_path)
    assert sum(path.stat().st_size for path in (tmp_path / "files").rglob("*.bin")) <= 1_000


def test_tar_with_an_endless_header_is_refused(tmp_path: Path) -> None:
    header = special("cats/1.png", tarfile.XHDTYPE)
    header.size = (1 << 33) - 1
    with pytest.raises(Exception, match="no honest archive"):
        _unpack(header.tobuf() + bytes(10_240), tmp_path)


def test_zip_with_an_endless_directory_is_refused(tmp_path: Path) -> None:
    directory = LARGEST_PIECE + 1
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, directory, 4, 0)
    with pytest.raises(Exception, match="no honest archive"):
        _unpack(b"PK\x03\x04" + bytes(directory) + end, tmp_path)


def test_upload_over_the_limit_is_refused(settings: Settings) -> None:
    with local_client(settings.model_copy(update={"upload_limit_megabytes": 0.01})) as client:
        problem(send(client, b"x" * 20_000), 413)
    assert left_on_disk(settings) == []


def test_uploads_count_against_the_key(settings: Settings, database: Database) -> None:
    guarded = settings.model_copy(update={"require_keys": True, "upload_megabytes_per_day": 1})
    headers = {"X-API-Key": make_key(database, "submit")}
    with local_client(guarded) as client:
        assert send(client, zipped(GOOD), headers=headers).status_code == 202
        refused = send(client, zipped(GOOD), headers=headers, file_name="again.zip")
        problem(refused, 429)
        assert int(refused.headers["retry-after"]) > 0


def test_reader_may_not_upload(settings: Settings, database: Database) -> None:
    with local_client(settings.model_copy(update={"require_keys": True})) as client:
        problem(send(client, zipped(GOOD), headers={"X-API-Key": make_key(database, "read")}), 403)


def test_name_that_is_taken_leaves_nothing(app_client: TestClient, settings: Settings) -> None:
    first = send(app_client, zipped(GOOD)).json()["id"]
    problem(send(app_client, zipped(GOOD)), 409)
    assert {path.name for path in settings.datasets_folder.iterdir()} == {first, ".incoming"}


def test_retried_upload_gets_the_first_answer(app_client: TestClient, settings: Settings) -> None:
    headers = {"Idempotency-Key": "up-1"}
    first, again = (send(app_client, zipped(GOOD), headers=headers) for _ in range(2))
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    problem(send(app_client, zipped(GOOD), headers=headers, file_name="other.zip", sample_of="x"), 422)
    assert {path.name for path in settings.datasets_folder.iterdir()} == {first.json()["id"], ".incoming"}


def test_deleted_upload_leaves_no_files(app_client: TestClient, settings: Settings) -> None:
    location = send(app_client, zipped(GOOD)).headers["location"]
    assert app_client.delete(location).status_code == 204
    assert left_on_disk(settings) == []


def test_start_removes_what_a_crash_left(settings: Settings) -> None:
    dead = settings.datasets_folder / ".incoming" / "ds_dead"
    dead.mkdir(parents=True)
    (dead / "part-0").write_bytes(b"half an archive")
    (settings.datasets_folder / "ds_dead").mkdir()
    with TestClient(create_app(settings)):
        assert left_on_disk(settings) == []


def test_start_leaves_what_another_process_receives(settings: Settings) -> None:
    with incoming(settings) as upload, TestClient(create_app(settings)):
        assert upload.folder.is_dir()


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("multipart/form-data", b"", 400),
        ("multipart/form-data; boundary=x", b"", 422),
        ("multipart/form-data; boundary=x", b"--x\r\nnonsense", 422),
        ("multipart/form-data; boundary=x", b"--y\r\n", 400),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nab',
            422,
        ),
        ("multipart/form-data; boundary=" + "x" * 300, b"", 400),
        ("multipart/form-data; boundary=x", b"--x\r\n" + b"A" * 20_000 + b": b\r\n", 400),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n\r\n--x--\r\n", 400),
    ],
)
def test_malformed_form_is_refused(
    app_client: TestClient, settings: Settings, content_type: str, body: bytes, status: int
) -> None:
    problem(app_client.post(ROUTE, content=body, headers={"Content-Type": content_type}), status)
    assert left_on_disk(settings) == []


def spooled_bytes(process: int, settings: Settings) -> int:
    """What a process holds in files without a name below the home folder."""
    below = f"{settings.home}/"
    count = 0
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):
            target = str(descriptor.readlink())
            if target.startswith(below) and target.endswith("(deleted)"):
                count += descriptor.stat().st_size
    return count


def test_body_is_spooled_under_the_home_folder_and_goes_with_its_client(settings: Settings) -> None:
    begun = 3_000_000
    with running_api_process(settings) as (address, process):
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                b"POST /v1/datasets/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000000\r\n"
                b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
                b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\nPK\x03\x04' + bytes(begun)
            )
            assert _within_seconds(lambda: spooled_bytes(process, settings) > begun * 0.9)
        assert _within_seconds(lambda: spooled_bytes(process, settings) == 0)
        assert left_on_disk(settings) == []


def _within_seconds(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("size", [5_000_000, 3_000_000], ids=["as it arrives", "as it is unpacked"])
def test_a_full_disk_is_said_and_leaves_nothing(
    database_url: str, settings: Settings, small_disk: Path, size: int
) -> None:
    settings = settings.model_copy(update={"home": small_disk})
    noise = random.Random(0).randbytes(size)
    with local_client(settings) as client:
        document = problem(send(client, zipped(GOOD | {"cats/3.png": noise})), 507)
        assert "disk is full" in document["detail"]
        assert left_on_disk(settings) == []
        assert send(client, zipped(GOOD)).status_code == 202
