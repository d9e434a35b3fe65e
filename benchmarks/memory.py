"""A worker's own memory by the number of images: anonymous pages of its processes while it ranks one network.

    python -m benchmarks.memory [--images 5000 50000]

The images are PNG files of 32 x 32; the network is timm's smallest ResNet with 1,000 source classes and random weights.
The service is a real server with one worker on SQLite. Mapped files (pixels, features, probabilities) do not count: the
system takes their pages back when it needs them. Goal: the extractor's peak grows by less than a tenth.
"""

import argparse
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
SECONDS = 0.1
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


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Peaks in MB while the block runs: ``extractor``, the process that holds torch, and ``scorer``, the largest other
    child of the worker.
    """
    peaks = {EXTRACTOR: 0.0, SCORER: 0.0}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(SECONDS):
            for process in psutil.Process().children(recursive=True):
                try:
                    if "app.processes.child" not in process.cmdline():
                        continue
                    holds_torch = any("libtorch" in mapped.path for mapped in process.memory_maps())
                    role = EXTRACTOR if holds_torch else SCORER
                    peaks[role] = max(peaks[role], anonymous_megabytes(process))
                except (psutil.Error, OSError):
                    continue

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        stop.set()
        thread.join()


def measure(count: int) -> dict[str, float]:
    """Peaks of a service of its own that ranks one network on this many images."""
    with tempfile.TemporaryDirectory() as folder:
        images, weights = Path(folder) / "images" / "photographs", Path(folder) / "weights"
        weights.mkdir()
        draw(images, count)
        torch.manual_seed(0)
        model = timm.create_model(ARCHITECTURE, num_classes=1000)
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
                    "arguments": {"num_classes": 1000},
                    "input": {"input_size": [3, SIDE, SIDE], "crop_pct": 1.0, "crop_mode": "squash"},
                },
            )
            with watched() as peaks:
                seconds = rank(client, ["m"])
    return peaks | {"seconds": seconds}


def main() -> None:
    """Print a row for each number of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[5000, 50_000])
    counts = parser.parse_args().images
    print("| images | extractor, MB | scorer (LEEP), MB | seconds |\n| --- | --- | --- | --- |", flush=True)
    found = []
    for count in counts:
        found.append(measure(count))
        row = found[-1]
        print(f"| {count} | {row[EXTRACTOR]:.0f} | {row[SCORER]:.0f} | {row['seconds']:.1f} |", flush=True)
    growth = found[-1][EXTRACTOR] / found[0][EXTRACTOR]
    print(f"\nextractor: {growth:.2f} times as much (goal: at most {GOAL})")
    if growth > GOAL:
        sys.exit(1)


if __name__ == "__main__":
    main()
