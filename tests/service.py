"""A whole Forerank as a user starts it: the API, a worker and its children, in processes of their own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from app.settings import Settings

FAST = {
    "heartbeat_seconds": 0.5,
    "heartbeat_limit_seconds": 3,
    "database_retry_seconds": 0.5,
    "threads": 1,
    "device": "cpu",
}
# A machine that is busy with much else needs more of it: `FORERANK_TEST_PATIENCE=4` waits four times as long.
PATIENCE = float(os.environ.get("FORERANK_TEST_PATIENCE", "1"))
FINAL = {"succeeded", "failed", "cancelled"}


def environment(settings: Settings) -> dict[str, str]:
    """The settings as a process reads them."""
    return os.environ | settings.environment()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_running(pid: int) -> bool:
    """Whether the process exists and is more than an entry that waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def descendants(pid: int) -> list[int]:
    """All processes below this one."""
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()
    ]
    return children + [grandchild for child in children for grandchild in descendants(child)]


def command_line(pid: int) -> bytes:
    """How the process was started; empty once it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def processor_seconds(pid: int) -> float:
    """What the process has taken of the processor; 0 once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(condition: Callable[[], Any], *, seconds: float = 60, what: str = "") -> Any:
    """The first true value of the condition; fails the test when the time, which grows by `PATIENCE`, is over."""
    seconds *= PATIENCE
    deadline = time.monotonic() + seconds
    pause = 0.05
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition}"
        time.sleep(pause)
        # Looks that follow one another closely would take the processor from what is waited for.
        pause = min(1.2 * pause, 0.3)
    return value


@dataclass
class Service:
    """A running server with what tests ask of it."""

    settings: Settings
    process: subprocess.Popen[bytes]
    http: httpx2.Client
    log: Path

    def call(self, method: str, path: str, body: Any = None, status: int | None = None) -> Any:
        answer = self.http.request(method, path, json=body)
        expected = status if status is not None else (202 if method == "POST" else 200)
        assert answer.status_code == expected, answer.text
        return answer.json() if answer.content else None

    def until_final(self, ranking: dict[str, Any], *, seconds: float = 120) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            present = self.call("GET", f"/v1/rankings/{ranking['id']}")
            return present if present["state"] in FINAL else None

        found: dict[str, Any] = wait_for(ended, seconds=seconds, what="the end of the ranking")
        return found

    def until_ready(self, path: str, *, seconds: float = 60) -> dict[str, Any]:
        def inspected() -> dict[str, Any] | None:
            present = self.call("GET", path)
            return present if present["state"] != "pending" else None

        found: dict[str, Any] = wait_for(inspected, seconds=seconds, what="the inspection")
        return found

    def rows(self, ranking: dict[str, Any]) -> dict[str, dict[str, Any]]:
        results = self.call("GET", f"/v1/rankings/{ranking['id']}/results")
        return {row["model"]: row for row in results["models"]}

    def processes(self) -> list[int]:
        return [self.process.pid, *descendants(self.process.pid)]

    def busy_children(self) -> list[int]:
        """Child processes that compute: they take more than a fifth of a core for half a second."""
        children = [pid for pid in self.processes() if b"app.processes.child" in command_line(pid)]
        before = {pid: processor_seconds(pid) for pid in children}
        time.sleep(0.5)
        return [pid for pid in children if processor_seconds(pid) - before[pid] > 0.1]


@contextmanager
def running(settings: Settings, *arguments: str) -> Iterator[Service]:
    """`forerank serve`; whatever is left of it is ended, by process id, at the end."""
    port = free_port()
    log = settings.home.parent / f"serve-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "serve", *arguments],
            env=environment(settings) | {"FORERANK_PORT": str(port)},
            stdin=subprocess.DEVNULL,
            stderr=output,
            stdout=output,
        )
    seen: set[int] = set()
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30 * PATIENCE) as http:
            service = Service(settings, process, http, log)

            def is_up() -> bool:
                assert process.poll() is None, log.read_text()
                try:
                    return http.get("/livez" if "--no-worker" in arguments else "/readyz").status_code == 200
                except httpx2.HTTPError:
                    return False

            wait_for(is_up, seconds=60, what="the server")
            yield service
            seen |= set(service.processes())
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30 * PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in seen:
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)


def save_model(folder: Path, name: str, architecture: str, *, seed: int = 0, **arguments: Any) -> dict[str, Any]:
    """A network with seeded weights under a model root; the body of its registration."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = timm.create_model(architecture, **arguments)
    path = folder / f"{name}.safetensors"
    save_file(model.state_dict(), path)
    return {"name": name, "weights": str(path), "architecture": architecture}


def draw_images(folder: Path, *, classes: int = 4, each: int = 12, side: int = 64) -> None:
    """A folder of images whose classes differ in colour and texture."""
    generator = np.random.default_rng(0)
    for label in range(classes):
        (folder / f"class-{label}").mkdir(parents=True)
        base = generator.integers(0, 256, (4, 4, 3))
        for number in range(each):
            noisy = np.clip(base + generator.integers(-60, 60, base.shape), 0, 255).astype(np.uint8)
            image = Image.fromarray(noisy).resize((side + 8 * (number % 3), side), Image.Resampling.BICUBIC)
            image.save(folder / f"class-{label}" / f"{number}.png")
