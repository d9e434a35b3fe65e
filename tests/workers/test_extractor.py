"""The process that owns a device: it runs models, survives bad ones, and takes less at once after it was killed."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.contracts.extraction import ExtractionCommand
from app.contracts.progress import Progress
from app.settings import Settings
from tests.workers.conftest import MODEL, inspect_folder
from workers.device.extractor import Extractor
from workers.errors import Problem, ProcessDied, Stopped
from workers.images.index import IndexStore
from workers.store.features import FeatureStore, evidence_keys


@pytest.fixture
def payload(
    extractor: Extractor,
    settings: Settings,
    image_folder: Path,
    model_spec: Callable[..., dict[str, Any]],
) -> ExtractionCommand:
    index = inspect_folder(image_folder, settings)
    IndexStore(settings).write("animals", index)
    spec = MODEL.validate_python(model_spec())
    card = extractor.inspect_model(spec)
    sample = tuple(range(len(index)))
    return ExtractionCommand(
        spec=spec,
        card=card,
        dataset_id="animals",
        sample_indices=sample,
        keys=evidence_keys(card, dataset_fingerprint=index.fingerprint, sample_indices=sample),
        transforms_of_job=(card.input,),
    )


class Killer:
    """Progress that kills the extractor in the forward pass, a number of times."""

    def __init__(self, extractor: Extractor, times: int) -> None:
        self.extractor = extractor
        self.times = times
        self.batch_sizes: list[int] = []

    def __call__(self, event: Progress) -> None:
        if event.stage != "forward" or event.done:
            return
        assert event.batch_size is not None
        self.batch_sizes.append(event.batch_size)
        if len(self.batch_sizes) <= self.times:
            assert self.extractor.process_id is not None
            os.kill(self.extractor.process_id, signal.SIGKILL)


def test_it_stays_warm_and_reports(extractor: Extractor, payload: ExtractionCommand, settings: Settings) -> None:
    events: list[Progress] = []
    warm = extractor.process_id
    report = extractor.extract(payload, progress=events.append)
    assert report.n == 12
    assert FeatureStore.of(settings).has_many(payload.keys.values())
    assert events[0].stage == "load"
    assert events[-1] == Progress(stage="write", done=1, total=1)
    with pytest.raises(Problem) as refused:
        extractor.inspect_model(payload.spec.model_copy(update={"architecture": "nothing"}))
    assert refused.value.code == "model-refused"
    assert extractor.process_id == warm


def test_killed_once_it_goes_on_with_half_the_batch_size(
    extractor: Extractor, payload: ExtractionCommand, settings: Settings
) -> None:
    killer = Killer(extractor, times=1)
    report = extractor.extract(payload, progress=killer)
    first, half = killer.batch_sizes
    assert half == first // 2 == report.batch_size
    (warning,) = report.warnings
    assert warning.startswith("batch halved: the extractor was ended by signal SIGKILL: probably out of memory")
    assert f"a batch size of {half} instead of {first}" in warning
    with FeatureStore.of(settings).open(payload.keys["head"]) as evidence:
        assert evidence.manifest["batch_size"] == half


def test_killed_twice_it_fails_with_the_reason(extractor: Extractor, payload: ExtractionCommand) -> None:
    killer = Killer(extractor, times=2)
    with pytest.raises(
        ProcessDied, match=r"SIGKILL: probably out of memory.*twice; so it went with a batch size of 16 and of 8"
    ):
        extractor.extract(payload, progress=killer)
    assert killer.batch_sizes == [16, 8]


def test_killed_before_the_forward_pass_it_starts_again(extractor: Extractor, payload: ExtractionCommand) -> None:
    killed: list[int] = []

    def kill(event: dict[str, Any]) -> None:
        if not killed and extractor.process_id is not None:
            killed.append(extractor.process_id)
            os.kill(extractor.process_id, signal.SIGKILL)

    report = extractor.extract(payload, progress=kill)
    assert report.batch_size == 16
    assert report.warnings == ()


def test_stopped_in_the_middle_it_can_be_asked_again(extractor: Extractor, payload: ExtractionCommand) -> None:
    started: list[dict[str, Any]] = []
    with pytest.raises(Stopped):
        extractor.extract(payload, progress=started.append, should_stop=lambda: bool(started))
    assert extractor.extract(payload).n == 12
