"""The spawned process: it answers, survives bad models, is replaced when it dies, and never outlives its parent."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from workers.errors import ExtractorDied, Stopped, TimeLimitExceeded
from workers.inspection.images import inspect_dataset
from workers.processes.parent import ExtractorProcess
from workers.store.features import FeatureStore, evidence_keys

GONE_SECONDS = 10
# A command that needs no torch, for what both roles share.
NOTHING: dict[str, Any] = {"cells": []}


def is_running(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until_gone(process_id: int) -> bool:
    deadline = time.monotonic() + GONE_SECONDS
    while time.monotonic() < deadline:
        if not is_running(process_id):
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def payload(
    extractor: ExtractorProcess,
    settings: Settings,
    image_folder: Path,
    model_spec: Callable[..., dict[str, Any]],
) -> dict[str, Any]:
    index = inspect_dataset({"kind": "folder", "path": str(image_folder)}, settings=settings)
    path = settings.datasets_folder / "animals.json"
    index.save(path)
    spec = model_spec()
    card = extractor.call("inspect_model", {"model": spec})
    sample = list(range(len(index)))
    return {
        "spec": spec,
        "card": card,
        "index_path": str(path),
        "sample_indices": sample,
        "keys": evidence_keys(card, dataset_fingerprint=index.fingerprint, sample_indices=sample),
        "transforms_of_job": [card["input"]],
    }


def test_it_stays_warm_and_reports(extractor: ExtractorProcess, payload: dict[str, Any], settings: Settings) -> None:
    events: list[dict[str, Any]] = []
    warm = extractor.process_id
    report = extractor.call("extract", payload, progress=events.append)
    assert report["n"] == 12
    assert FeatureStore.of(settings).has_many(payload["keys"].values())
    assert events[0]["stage"] == "load"
    assert events[-1] == {"stage": "write", "done": 1, "total": 1}
    bad = extractor.call("inspect_model", {"model": payload["spec"] | {"architecture": "nothing"}})
    assert bad["problem"]["code"] == "model-refused"
    broken = extractor.call("extract", {"keys": {}})
    assert broken["problem"]["code"] == "internal-error"
    assert extractor.process_id == warm


def test_it_is_replaced_after_every_kind_of_end(extractor: ExtractorProcess, payload: dict[str, Any]) -> None:
    def kill(event: dict[str, Any]) -> None:
        assert extractor.process_id is not None
        os.kill(extractor.process_id, signal.SIGKILL)

    with pytest.raises(ExtractorDied, match="signal SIGKILL: probably out of memory"):
        extractor.call("extract", payload, progress=kill)
    with pytest.raises(TimeLimitExceeded, match=r"not done after 0\.2 s"):
        extractor.call("extract", payload, time_limit_seconds=0.2)

    started: list[dict[str, Any]] = []
    with pytest.raises(Stopped):
        extractor.call("extract", payload, progress=started.append, should_stop=lambda: bool(started))
    assert extractor.process_id is None
    assert extractor.call("extract", payload)["n"] == 12


def test_callers_take_turns(extractor: ExtractorProcess, payload: dict[str, Any]) -> None:
    answers: list[str] = []

    def ask() -> None:
        answers.append(extractor.call("inspect_model", {"model": payload["spec"]})["weights_digest"])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [payload["card"]["weights_digest"]] * 4
    # Those threads are gone; the process that the first of them used is not.
    assert extractor.call("inspect_model", {"model": payload["spec"]})["parameters"] > 0


def test_a_child_started_from_a_thread_that_ended_lives_on(settings: Settings) -> None:
    with ExtractorProcess(settings, role="scorer") as extractor:
        thread = threading.Thread(target=lambda: extractor.call("score", NOTHING))
        thread.start()
        thread.join()
        first = extractor.process_id
        time.sleep(0.3)
        assert first is not None
        assert is_running(first)
        assert extractor.call("score", NOTHING) == {"value": []}
        assert extractor.process_id == first


def test_close_ends_the_process(settings: Settings) -> None:
    extractor = ExtractorProcess(settings)
    with pytest.raises(TimeLimitExceeded):
        extractor.call("publish_catalog", {}, time_limit_seconds=0.05)
    threading.Timer(0.5, extractor.close).start()
    with pytest.raises(ExtractorDied):
        extractor.call("publish_catalog", {})
    assert extractor.process_id is None


PARENT = """
import sys, threading, time
from app.settings import Settings
from workers.processes.parent import ExtractorProcess

role = "extractor" if sys.argv[2] == "stuck" else "scorer"
extractor = ExtractorProcess(Settings(home=sys.argv[1]), role=role)
def show():
    while extractor.process_id is None:
        time.sleep(0.01)
    if sys.argv[2] == "starting":
        print(extractor.process_id, flush=True)
threading.Thread(target=show, daemon=True).start()
extractor.call(*{"extractor": ("publish_catalog", {}), "scorer": ("score", {"cells": []})}[role])
print(extractor.process_id, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("moment", ["starting", "idle", "stuck"])
def test_it_dies_with_a_parent_that_is_killed(moment: str, tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), moment],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_running(child)
        if moment == "stuck":
            # It cannot look at its socket; the kernel has to end it.
            os.kill(child, signal.SIGSTOP)
        parent.kill()
        parent.wait()
        assert wait_until_gone(child)
    finally:
        parent.kill()
        parent.wait()
