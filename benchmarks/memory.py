"""A worker's own memory by the number of images: anonymous pages of its processes while it ranks one network.

    python -m benchmarks.memory [--images 5000 50000]

The images are PNG files of 32 x 32; the network is timm's smallest ResNet with 1,000 source classes and random weights.
The service is a real server with one worker on SQLite. Mapped files (pixels, features, probabilities) do not count: the
system takes their pages back when it needs them. The scorer's peak is given for each metric, with intervals. Goal: the
extractor's peak grows by less than a tenth.
"""

import argparse
import sys
import tempfile
import threading
from pathlib import Path
from typing import Self

import numpy as np
import psutil
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from app.client import Client
from app.embedded import server
from app.settings import Settings
from benchmarks.extraction import rank

ARCHITECTURE, SIDE, CLASSES = "test_resnet", 32, 10
GOAL = 1.1
SECONDS = 0.02
METRICS = ["nce", "leep", "logme", "tmi", "h_score"]
EXTRACTOR, SCORER = "extractor", "scorer"


def draw(folder: Path, count: int) -> None:
    """Write noise with a tint for each class, in class folders."""
    generator = np.random.default_rng(0)
    for index in range(count):
        path = folder / f"class-{index % CLASSES}" / f"{index:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 128, size=(SIDE, SIDE, 3), dtype=np.uint8)
        pixels[..., index % 3] += np.uint8(10 * (index % CLASSES))
        Image.fromarray(pixels).save(path, compress_level=1)


def anonymous_megabytes(process: psutil.Process) -> float:
    """What no file backs."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return float(line.split()[1]) / 1024
    return 0.0


class Peaks:
    """The most that the extractor, which holds torch, and the scorer, any other child of the worker, took in MB."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._roles: dict[int, str] = {}
        self._found: dict[str, float] = {}
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def taken(self, role: str) -> float:
        """The peak of a role since it was last asked for."""
        return self._found.pop(role, 0.0)

    def _watch(self) -> None:
        while not self._stop.wait(SECONDS):
            for process in psutil.Process().children(recursive=True):
                try:
                    role = self._role(process)
                    megabytes = anonymous_megabytes(process)
                except (psutil.Error, OSError):
                    continue
                if role is not None:
                    self._found[role] = max(self._found.get(role, 0.0), megabytes)

    def _role(self, process: psutil.Process) -> str | None:
        if "app.processes.child" not in process.cmdline():
            return None
        # A process that is still loading is not known yet.
        if self._roles.get(process.pid) != EXTRACTOR:
            holds_torch = "libtorch" in Path(f"/proc/{process.pid}/maps").read_text()
            self._roles[process.pid] = EXTRACTOR if holds_torch else SCORER
        return self._roles[process.pid]


def measure(count: int) -> dict[str, float]:
    """Peaks of a service of its own that ranks one network on this many images, one metric at a time."""
    with tempfile.TemporaryDirectory() as folder:
        images, weights = Path(folder) / "images" / "photographs", Path(folder) / "weights"
        weights.mkdir()
        draw(images, count)
        torch.manual_seed(0)
        model = timm.create_model(ARCHITECTURE)
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, weights / "m.safetensors")
        more = {"FORERANK_DATA_ROOTS": str(images.parent), "FORERANK_MODEL_ROOTS": str(weights)}
        with server(Settings(home=Path(folder) / "home"), more=more) as url, Client(url) as client:
            client.call("POST", "/v1/datasets", {"location": str(images)})
            client.call(
                "POST",
                "/v1/models",
                {
                    "name": "m",
                    "weights": str(weights / "m.safetensors"),
                    "architecture": ARCHITECTURE,
                    "input": {"input_size": [3, SIDE, SIDE], "crop_pct": 1.0, "crop_mode": "squash"},
                },
            )
            with Peaks() as peaks:
                found = {}
                for metric in METRICS:
                    seconds = rank(client, ["m"], metric)
                    found[metric] = peaks.taken(SCORER)
                    found.setdefault("seconds", seconds)
                return found | {EXTRACTOR: peaks.taken(EXTRACTOR)}


def main() -> None:
    """Print a row for each number of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[5000, 50_000])
    counts = parser.parse_args().images
    columns = [EXTRACTOR, *METRICS]
    print(f"| images | {', '.join(columns)}".replace(", ", " | ") + " | seconds |")
    print("| --- " * (len(columns) + 2) + "|", flush=True)
    found = []
    for count in counts:
        found.append(measure(count))
        cells = " | ".join(f"{found[-1][name]:.0f}" for name in columns)
        print(f"| {count} | {cells} | {found[-1]['seconds']:.1f} |", flush=True)
    growth = found[-1][EXTRACTOR] / found[0][EXTRACTOR]
    print(f"\nextractor: {growth:.2f} times as much (goal: at most {GOAL})")
    if growth > GOAL:
        sys.exit(1)


if __name__ == "__main__":
    main()
