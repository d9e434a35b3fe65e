"""What strangers send to the running server: each ends in a clear 4xx, memory bounded, server alive, nothing left.

Archives are in `test_uploads`, arrays in `test_scores`, images and weights in `tests/workers`.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from app.settings import Settings
from tests.app.test_frame import problem
from tests.conftest import NewDatabase, running_api_process

GIGABYTE = 10**9
MEMORY_MEGABYTES = 120
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Server:
    """A running API and what it may touch."""

    address: str
    pid: int
    home: Path
    images: Path

    @property
    def memory_megabytes(self) -> float:
        """The most memory that its process ever had."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1000

    def post(self, path: str, **arguments: Any) -> Any:
        return httpx2.post(self.address + path, timeout=60, **arguments)

    def send_raw(self, head: bytes, body: Iterator[bytes]) -> bytes:
        """Send a request piece by piece until the server answers, and give the answer."""
        host, port = self.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(head)
            connection.setblocking(False)
            answer = b""
            for piece in body:
                with suppress(BlockingIOError):
                    answer = connection.recv(65_536)
                if answer:
                    return answer
                connection.settimeout(30)
                try:
                    connection.sendall(piece)
                except (BrokenPipeError, ConnectionResetError):
                    break
                connection.setblocking(False)
            connection.settimeout(30)
            return connection.recv(65_536)


def head(path: str, *lines: str) -> bytes:
    """The first lines of a POST of JSON."""
    return "\r\n".join(
        [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *lines, "", ""]
    ).encode()


@pytest.fixture(scope="module")
def server(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests here: it has to outlive them."""
    home, images = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("images")
    settings = Settings(
        home=home, database_url=new_sqlite(), data_roots=(images,), model_roots=(images,), body_grace_seconds=1.5
    )
    with running_api_process(settings) as (address, pid):
        yield Server(address, pid, home, images)


@pytest.fixture(autouse=True)
def unharmed(server: Server) -> Iterator[None]:
    """After each of these the server lives, has not grown, and keeps no file."""
    before = server.memory_megabytes
    yield
    assert httpx2.get(f"{server.address}/livez").status_code == 200
    assert server.memory_megabytes < before + MEMORY_MEGABYTES
    assert [path for path in (server.home / "datasets").rglob("*") if path.name != ".incoming"] == []


def test_json_a_hundred_levels_deep(server: Server) -> None:
    problem(server.post("/v1/rankings", content=b"[" * 100 + b"]" * 100, headers=JSON), 400)


def test_json_a_million_levels_deep(server: Server) -> None:
    problem(server.post("/v1/rankings", content=b"[" * 1_000_000, headers=JSON), 400)


def test_body_that_says_it_has_a_gigabyte(server: Server) -> None:
    head = (
        f"POST /v1/rankings HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {GIGABYTE}"
    )
    answer = server.send_raw(f"{head}\r\n\r\n".encode(), iter([b" " * 1000] * 50))
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("path", ["/v1/rankings", "/v1/scores", "/v1/datasets", "/v1/datasets/upload"])
def test_body_of_a_gigabyte_that_says_nothing(server: Server, path: str) -> None:
    piece = b"%x\r\n" % 100_000 + b" " * 100_000 + b"\r\n"
    answer = server.send_raw(head(path, "Transfer-Encoding: chunked"), (piece for _ in range(GIGABYTE // 100_000)))
    assert answer.split(b" ")[1] in {b"413", b"415"}


def test_client_that_sends_a_byte_a_second(server: Server) -> None:
    def slowly() -> Iterator[bytes]:
        for _ in range(20):
            time.sleep(0.3)
            yield b" "

    answer = server.send_raw(head("/v1/rankings", "Content-Length: 1000"), slowly())
    assert answer.startswith(b"HTTP/1.1 408 ")


NAMES = [
    "'; DROP TABLE datasets; --",
    '" OR 1=1 --',
    "{{7*7}} ${7*7} <%= 7*7 %> #{7*7}",
    "<script>alert(1)</script>",
    "%s%n%x",
    "../../etc/passwd",
    "e\u0301 \u202e \U0001f600",
]


@pytest.mark.parametrize("name", NAMES)
def test_name_is_only_a_name(server: Server, name: str) -> None:
    """It is stored and given back as it is, or refused; and it is found and filtered by as a name."""
    answer = server.post("/v1/zoos", json={"name": name, "models": []})
    if answer.status_code == 422:
        problem(answer, 422)
    else:
        assert answer.json()["name"] == name
    assert httpx2.get(f"{server.address}/v1/datasets/{quote(name, safe='')}").status_code == 404
    assert httpx2.get(f"{server.address}/v1/rankings", params={"target": name}).json()["items"] == []


@pytest.mark.parametrize("cursor", ["JyBPUiAxPTEgLS0", "Li4vLi4", "AAAA", "' OR 1=1", "=" * 400])
def test_cursor_cannot_reach_into_a_query(server: Server, cursor: str) -> None:
    answer = httpx2.get(f"{server.address}/v1/models", params={"cursor": cursor})
    assert answer.status_code == 422 or answer.json()["items"] == []


@pytest.mark.parametrize("kind", ["link", "proc", "dots", "null", "relative", "file", "home", "own process"])
def test_path_that_leads_out_of_the_roots(server: Server, kind: str) -> None:
    link = server.images / "link"
    link.unlink(missing_ok=True)
    link.symlink_to("/etc")
    (server.images / "file.txt").write_text("x")
    location = {
        "link": str(link),
        "proc": "/proc/self/root/etc",
        "dots": f"{server.images}/../../../../../etc",
        "null": f"{server.images}\0",
        "relative": "images",
        "file": str(server.images / "file.txt"),
        "home": str(server.home),
        "own process": f"/proc/{server.pid}/cwd",
    }[kind]
    answer = server.post("/v1/datasets", json={"location": location})
    problem(answer, 400 if kind == "null" else 422)


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "/proc/self/environ", "{images}/link/passwd", "{images}/none.safetensors"]
)
def test_weights_outside_the_roots(server: Server, location: str) -> None:
    link = server.images / "link"
    link.unlink(missing_ok=True)
    link.symlink_to("/etc")
    weights = location.format(images=server.images)
    answer = server.post("/v1/models", json={"name": "x", "weights": weights, "architecture": "resnet18"})
    problem(answer, 422)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /v1/datasets HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n",
        head("/v1/zoos", "Content-Length: -1"),
        head("/v1/zoos", "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    ],
    ids=["version", "TLS", "endless header", "negative length", "two lengths"],
)
def test_what_is_no_request(server: Server, sent: bytes) -> None:
    answer = server.send_raw(sent + b"\r\n\r\n", iter([]))
    assert answer == b"" or answer.split(b" ")[1].startswith(b"4")
