"""A receiver of webhooks in a process of its own: it fails, hangs, drips or redirects, as the path says.

``python tests/receiver.py LOG`` prints its port, and appends each request to LOG as one line of JSON.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Handler(BaseHTTPRequestHandler):
    log = Path()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        entry = {"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}, "body": body}
        with self.log.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        before = self.log.read_text().count(f'"path": "{self.path}"')
        kind = self.path.strip("/").split("/")[0]
        if kind == "hang":
            time.sleep(60)
        elif kind == "drip":
            self.send_response_only(200)
            for number in range(1000):
                self.wfile.write(f"x-{number}: 1\r\n".encode())
                self.wfile.flush()
                time.sleep(0.1)
        elif kind == "flood":
            self.send_response(200)
            self.end_headers()
            for _ in range(1000):
                self.wfile.write(b"x" * 10_000)
        elif kind == "redirect":
            self.send_response(307)
            self.send_header("location", "/ok/redirected")
            self.end_headers()
        else:
            statuses = {"ok": 200, "fail": 500, "gone": 410, "flaky": 503 if before < 3 else 204}
            self.send_response(statuses[kind])
            self.send_header("content-length", "0")
            self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@dataclass
class Receiver:
    url: str
    log: Path

    def requests(self, path: str) -> list[dict[str, Any]]:
        """What arrived at a path, in order."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [entry for line in lines if (entry := json.loads(line))["path"] == path]


@contextmanager
def receiving(folder: Path) -> Iterator[Receiver]:
    """A running receiver on loopback."""
    log = folder / "received.jsonl"
    process = subprocess.Popen([sys.executable, __file__, str(log)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Receiver(f"http://127.0.0.1:{process.stdout.readline().strip()}", log)
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    Handler.log = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()
