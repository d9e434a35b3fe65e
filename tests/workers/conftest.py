"""Small images, small models with fixed weights, and settings over a temporary home."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from dbos import DBOSClient
from PIL import Image
from pydantic import TypeAdapter

from app.contracts.datasets import DatasetSpec, FolderSpec, ManifestSpec
from app.contracts.models import ModelSpec
from app.db.session import Database
from app.jobs import APPLICATION, JSON, Jobs, engine_url
from app.settings import SLEEPING_THREADS, Settings
from tests.conftest import NewDatabase
from tests.workers.queues import Queues
from workers.device.extractor import Extractor
from workers.images.index import DatasetIndex
from workers.images.reading import ImageFile, read_image
from workers.inspection.images import inspect_dataset
from workers.runtime import Runtime

# As in the extractor: waiting threads that spin make tests beside busy processes several times slower.
for name, value in SLEEPING_THREADS.items():
    os.environ.setdefault(name, value)

SIDE = 40
MODEL: TypeAdapter[ModelSpec] = TypeAdapter(ModelSpec)
DATASET: TypeAdapter[DatasetSpec] = TypeAdapter(DatasetSpec)


@contextmanager
def runtime_without_device(settings: Settings) -> Iterator[Runtime]:
    """What the steps of a worker use that is not asked to run models."""
    database = Database(settings.url)
    jobs = Jobs(settings, database)
    nothing = cast(Any, None)
    yield Runtime(
        settings=settings,
        database=database,
        features=nothing,
        extractor=nothing,
        trainer=nothing,
        scorers=nothing,
        readers=nothing,
        jobs=jobs,
    )
    jobs.close()
    database.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for name in ("data", "models"):
        (tmp_path / name).mkdir()
    return Settings(
        home=tmp_path / "home",
        data_roots=(tmp_path / "data",),
        model_roots=(tmp_path / "models",),
        threads=2,
        device="cpu",
    )


class ReadersHere:
    """Reads images in this process: what is tested with it does not depend on where they are read."""

    count = 2

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def read(self, spec: FolderSpec | ManifestSpec, path: str) -> ImageFile:
        return read_image(spec, path, self._settings)


def inspect(spec: dict[str, Any], settings: Settings, **more: Any) -> DatasetIndex:
    return inspect_dataset(DATASET.validate_python(spec), settings=settings, readers=ReadersHere(settings), **more)


def inspect_folder(root: Path, settings: Settings, **more: Any) -> DatasetIndex:
    return inspect({"kind": "folder", "path": str(root)}, settings, **more)


def picture(seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """Smooth colours with some noise, (width, height)."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def image_folder(settings: Settings) -> Path:
    """Three classes (5, 4 and 3 images) of PNG and JPEG files of several shapes."""
    root = settings.data_roots[0] / "animals"
    shapes = [(40, 40), (61, 33), (30, 70), (200, 90)]
    for position, (name, count) in enumerate([("cat", 5), ("dog", 4), ("owl", 3)]):
        (root / name).mkdir(parents=True)
        for number in range(count):
            suffix = "png" if number % 2 else "jpg"
            picture(10 * position + number, shapes[number % 4]).save(root / name / f"{number}.{suffix}")
    return root


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes timm's smallest networks with seeded weights as safetensors, once for each choice."""
    import timm
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("weights")

    def save(architecture: str = "test_resnet", *, num_classes: int = 7, seed: int = 0, **arguments: Any) -> Path:
        path = folder / f"{architecture}-{num_classes}-{seed}-{len(arguments)}.safetensors"
        if not path.exists():
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                model = timm.create_model(architecture, num_classes=num_classes, **arguments)
            save_file(model.state_dict(), path)
        return path

    return save


@pytest.fixture
def model_spec(settings: Settings, saved_model: Callable[..., Path]) -> Callable[..., dict[str, Any]]:
    """A specification of the kind ``file`` whose weights lie under the model root."""

    def specify(
        architecture: str = "test_resnet", *, num_classes: int = 7, seed: int = 0, **more: Any
    ) -> dict[str, Any]:
        source = saved_model(architecture, num_classes=num_classes, seed=seed, **more.get("arguments", {}))
        path = settings.model_roots[0] / source.name
        path.write_bytes(source.read_bytes())
        return {
            "kind": "file",
            "path": str(path),
            "architecture": architecture,
            "arguments": {},
            "num_classes": None,
            "input": {"input_size": [3, 64, 64]},
            **more,
        }

    return specify


@pytest.fixture
def extractor(settings: Settings) -> Iterator[Extractor]:
    with Extractor(settings) as process:
        yield process


@pytest.fixture(params=["sqlite", "postgresql"])
def queues(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Queues]:
    make: NewDatabase = request.getfixturevalue(f"new_{request.param}")
    settings = settings.model_copy(update={"database_url": make()})
    settings = Settings(**settings.model_dump(exclude_unset=True))
    database = Database(settings.url)
    client = DBOSClient(system_database_url=engine_url(settings), serializer=JSON, application_name=APPLICATION)
    yield Queues(database, client)
    client.destroy()
    database.close()
