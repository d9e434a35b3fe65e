"""Images per second of the whole service against the plain forward pass of the same networks, in one run.

    python -m benchmarks.extraction [--images 600] [--only warm|job]

The images are JPEG crops of the two photographs that scikit-learn ships; weights are random, since speed does not
depend on them. The service is a real server with one worker on SQLite; its time is that of a ranking from start to end:
queue, child process, forward pass, store, database and the score of one cheap metric.

- **warm**: one network whose pixels are decoded already, against its forward pass on tensors in memory
  (``channels_last``, inference mode, the same threads, the faster of batches of 16 and 64). Goals: 1.2 with batch
  normalisation, 0.95 without.
- **job**: one ranking of eight small networks, nothing decoded, against eight passes that decode for themselves
  (timm's transform, a loader of two processes). Goal: 1.5.

A row that misses its goal is marked, and the script then ends with 1.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from app.client import Client
from app.embedded import server
from app.settings import Settings

WARM = {
    "mobilenetv2_100": 1.2,
    "tf_efficientnet_lite0": 1.2,
    "resnet18": 1.2,
    "deit_tiny_patch16_224": 0.95,
    "convnext_atto": 0.95,
}
JOB = [
    *("mobilenetv3_small_050", "mobilenetv3_small_075", "mobilenetv3_small_100", "lcnet_050"),
    *("lcnet_075", "lcnet_100", "tinynet_e", "regnetx_002"),
]
JOB_GOAL = 1.5
ROUNDS = 3
SIZE = 224
CLASSES = 10


class Photographs(Dataset[Tensor]):
    """The files of a folder through a transform."""

    def __init__(self, folder: Path, transform: Callable[[Image.Image], Tensor]) -> None:
        self._paths = sorted(folder.rglob("*.jpg"))
        self._transform = transform

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Tensor:
        return self._transform(Image.open(self._paths[index]).convert("RGB"))


def draw(folder: Path, count: int) -> float:
    """Write photographs in class folders; their mean size in kB."""
    generator = np.random.default_rng(0)
    originals = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    sizes = []
    for index in range(count):
        original = originals[index % len(originals)]
        left, top = (int(generator.integers(0, limit)) for limit in (original.width - 320, original.height - 240))
        path = folder / f"class-{index % CLASSES}" / f"{index:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        original.crop((left, top, left + 320, top + 240)).save(path, quality=90)
        sizes.append(path.stat().st_size / 1e3)
    return statistics.mean(sizes)


def build(architecture: str, seed: int) -> nn.Module:
    """A network with weights of that seed, in evaluation mode."""
    torch.manual_seed(seed)
    return timm.create_model(architecture).eval()


def register(client: Client, folder: Path, architecture: str, seed: int) -> str:
    """The service's name of such a network."""
    name = f"{architecture}-{seed}"
    path = folder / f"{name}.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in build(architecture, seed).state_dict().items()}, path)
    client.call("POST", "/v1/models", {"weights": str(path), "architecture": architecture, "name": name})
    return name


def rank(client: Client, models: list[str], metric: str = "leep") -> float:
    """Seconds of a ranking, once its models are inspected."""
    ranking = client.call("POST", "/v1/rankings", {"target": "photographs", "models": models, "metrics": [metric]})
    while True:
        found = client.call("GET", f"/v1/rankings/{ranking['id']}")
        if found["state"] in ("succeeded", "failed", "cancelled"):
            break
        time.sleep(0.2)
    if found["state"] != "succeeded" or found["models_by_state"].get("failed"):
        rows = client.call("GET", f"/v1/rankings/{ranking['id']}/results")
        raise RuntimeError(f"the ranking did not succeed: {[row['problem'] for row in rows['models']]}")
    started, finished = (datetime.fromisoformat(found[name]) for name in ("started_at", "finished_at"))
    return (finished - started).total_seconds()


def plain(architecture: str, count: int) -> float:
    """Seconds of the forward pass over ``count`` images in memory, with the faster of two batch sizes."""
    network = build(architecture, 0).to(memory_format=torch.channels_last)
    seconds = []
    with torch.inference_mode():
        for size in (16, 64):
            images = torch.rand(size, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
            network(images)
            started = time.perf_counter()
            for _ in range(max(1, count // size)):
                network(images)
            seconds.append((time.perf_counter() - started) * count / (max(1, count // size) * size))
    return min(seconds)


def separate(folder: Path, architecture: str) -> float:
    """Seconds of one pass that decodes for itself, building the network included."""
    started = time.perf_counter()
    network = build(architecture, 0).to(memory_format=torch.channels_last)
    config = resolve_model_data_config(network, args={"input_size": (3, SIZE, SIZE)})  # type: ignore[no-untyped-call]
    images: Any = Photographs(folder, create_transform(**config))
    with torch.inference_mode():
        for batch in DataLoader(images, batch_size=16, num_workers=2):
            network(batch.contiguous(memory_format=torch.channels_last))
    return time.perf_counter() - started


def show(what: str, service: float, other: float, count: int, goal: float) -> bool:
    """Print a row; whether it meets its goal."""
    met = other / service >= goal
    mark = "" if met else " MISSED"
    print(
        f"| {what} | {count / service:.0f} | {count / other:.0f} | {other / service:.2f} | {goal}{mark} |", flush=True
    )
    return met


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--only", choices=["warm", "job"])
    arguments = parser.parse_args()
    count = arguments.images
    good = True
    with tempfile.TemporaryDirectory() as folder:
        home, images = Path(folder) / "home", Path(folder) / "images" / "photographs"
        (Path(folder) / "weights").mkdir()
        kilobytes = draw(images, count)
        print(f"{count} JPEG photographs of 320 x 240, {kilobytes:.0f} kB each; {torch.get_num_threads()} threads\n")
        print("| what | images per second | plain | ratio | goal |\n| --- | --- | --- | --- | --- |")
        more = {"FORERANK_DATA_ROOTS": str(images.parent), "FORERANK_MODEL_ROOTS": f"{folder}/weights"}
        with server(Settings(home=home), more=more) as url, Client(url) as client:
            client.call("POST", "/v1/datasets", {"location": str(images)})
            if arguments.only != "job":
                for architecture, goal in WARM.items():
                    names = [
                        register(client, Path(folder) / "weights", architecture, seed) for seed in range(ROUNDS + 1)
                    ]
                    rank(client, names[:1])
                    pairs = [(rank(client, [name]), plain(architecture, count)) for name in names[1:]]
                    service, other = sorted(pairs, key=lambda pair: pair[1] / pair[0])[ROUNDS // 2]
                    good &= show(f"{architecture}, warm", service, other, count, goal)
            if arguments.only != "warm":
                names = [register(client, Path(folder) / "weights", architecture, 0) for architecture in JOB]
                together = rank(client, names)
                apart = sum(separate(images, architecture) for architecture in JOB)
                good &= show("a job of 8 networks", together, apart, count * len(JOB), JOB_GOAL)
    if not good:
        sys.exit(1)


if __name__ == "__main__":
    main()
