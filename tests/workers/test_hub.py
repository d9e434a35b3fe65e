"""A hub that answers over HTTP as the real one does: what passes is waited out, what does not is told at once.

huggingface_hub does the waiting; what we rely on is held here.
"""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from app.contracts.models import HubSpec
from app.settings import Settings
from tests.workers.test_models import write_local_folder
from workers.device.loading import inspect_model
from workers.errors import ModelRefused

REVISION = "0123456789" * 4
MODEL = HubSpec(name="owner/name")


class Hub(ThreadingHTTPServer):
    """Serves one repository; the first requests fail with a status."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failures: list[int] = []
        self.requests = 0
        super().__init__(("127.0.0.1", 0), Answer)


class Answer(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.requests += 1
        file = self.server.folder / self.path.rpartition("/")[2]
        content = b""
        if self.server.failures:
            self.send_response(self.server.failures.pop(0))
        elif not self.path.startswith("/owner/name/resolve/main/") or not file.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if "/owner/name/" in self.path else "RepoNotFound")
        else:
            content = file.read_bytes()
            self.send_response(200)
            self.send_header("ETag", f'"{file.name}"')
            self.send_header(constants.HUGGINGFACE_HEADER_X_REPO_COMMIT, REVISION)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub(write_local_folder(tmp_path / "repository")) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [503, 429])
def test_a_failure_that_passes_is_waited_out(server: Hub, settings: Settings, status: int) -> None:
    server.failures = [status, status]
    assert inspect_model(MODEL, settings).source_classes == 5
    assert server.failures == []


def test_a_repository_that_does_not_exist_is_not_asked_for_again(server: Hub, settings: Settings) -> None:
    with pytest.raises(ModelRefused, match="the hub has no owner/other"):
        inspect_model(HubSpec(name="owner/other"), settings)
    assert server.requests == 1
