"""Arrays that clients send: scored as the estimators score them, and refused when they are not what they claim."""

import asyncio
import io
import json
import os
import pickle
import signal
import struct
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.random import default_rng
from safetensors.numpy import save
from starlette.testclient import TestClient

import estimators
from app.errors import TooLarge
from app.scoring.commands import ARRAY_SCORER
from app.scoring.metric import compute_metric
from app.services.scoring import Scorers
from app.settings import Settings
from estimators.catalog import Evidence
from tests.app.test_frame import problem
from tests.conftest import NewDatabase, local_client

random = default_rng(0)
LABELS = np.arange(60) % 3
FEATURES = random.normal(size=(60, 5)) + LABELS[:, None]
PROBABILITIES = random.dirichlet(np.ones(4), size=60)
ARRAYS = {"features": FEATURES, "labels": LABELS, "source_probabilities": PROBABILITIES}


@pytest.fixture(scope="module")
def client(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One application for all tests here, so that its scoring process starts once."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), database_url=new_sqlite())
    with local_client(settings) as client:
        yield client


def npz(compress: bool = False, **arrays: Any) -> bytes:
    sink = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(sink, **arrays)
    return sink.getvalue()


def send(client: TestClient, evidence: bytes, metrics: Any = None, **headers: str) -> Any:
    data = {} if metrics is None else {"metrics": json.dumps(metrics)}
    return client.post("/v1/scores", files={"evidence": ("evidence", evidence)}, data=data, headers=headers)


@pytest.mark.parametrize(
    "evidence",
    [npz(**ARRAYS), npz(compress=True, **ARRAYS), save(ARRAYS)],
    ids=["npz", "compressed npz", "safetensors"],
)
def test_scores_are_those_of_the_estimators(client: TestClient, evidence: bytes) -> None:
    metrics = ["logme", "leep", {"name": "tmi", "parameters": {"neighbors": 5}}]
    body = send(client, evidence, metrics).json()
    assert body["samples"] == 60
    assert body["arrays"]["features"] == [60, 5]
    assert [score["metric"] for score in body["scores"]] == ["logme", "leep", "tmi"]
    assert [score["value"] for score in body["scores"]] == pytest.approx(
        [
            float(estimators.logme(features=FEATURES, labels=LABELS)),
            float(estimators.leep(source_probabilities=PROBABILITIES, labels=LABELS)),
            float(estimators.tmi(features=FEATURES, labels=LABELS, neighbors=5)),
        ],
        rel=1e-9,
    )


@pytest.mark.parametrize(
    "labels",
    [np.array(["cat", "dog", "ant"])[LABELS], LABELS - 7, LABELS.astype(np.uint8), LABELS * 1000],
    ids=["strings", "negative", "bytes", "gaps"],
)
def test_labels_of_any_kind(client: TestClient, labels: Any) -> None:
    plain, other = (
        send(client, npz(features=FEATURES, labels=given), ["logme"]).json()["scores"][0]["value"]
        for given in (LABELS, labels)
    )
    assert other == pytest.approx(plain, rel=1e-9)


def test_float32_and_transposed_arrays_are_read(client: TestClient) -> None:
    features = np.asfortranarray(FEATURES.astype(">f4"))
    value = send(client, npz(features=features, labels=LABELS), ["h_score"]).json()["scores"][0]["value"]
    assert value == pytest.approx(float(estimators.h_score(features=FEATURES, labels=LABELS)), rel=1e-4)


def test_metric_without_its_evidence_says_so_and_the_others_go_on(client: TestClient) -> None:
    leep, logme = send(client, npz(features=FEATURES, labels=LABELS), ["leep", "logme"]).json()["scores"]
    assert leep["value"] is None
    assert "classifier" in leep["problem"]["detail"]
    assert logme["value"] is not None


@pytest.mark.parametrize(
    ("arrays", "status"),
    [
        ({"features": FEATURES, "labels": np.zeros(60, int)}, 200),
        ({"features": FEATURES[:1], "labels": LABELS[:1]}, 200),
        ({"features": FEATURES, "labels": np.arange(60)}, 200),
        ({"features": np.zeros((60, 5)), "labels": LABELS}, 200),
    ],
    ids=["one class", "one sample", "a class for each sample", "constant features"],
)
def test_poor_evidence_gives_values_or_reasons(client: TestClient, arrays: dict[str, Any], status: int) -> None:
    response = send(client, npz(**arrays), list(estimators.METRICS))
    assert response.status_code == status
    for score in response.json()["scores"]:
        assert (score["value"] is None) != (score["problem"] is None)


def _with_nan(value: float) -> Any:
    features = FEATURES.copy()
    features[7, 2] = value
    return features


def damaged(archive: bytes) -> bytes:
    """The same archive with other bytes in the middle of its first member."""
    return archive[:200] + bytes(50) + archive[250:]


REFUSED: dict[str, tuple[bytes, str]] = {
    "NaN": (npz(features=_with_nan(np.nan), labels=LABELS), "row 7"),
    "Inf": (npz(features=_with_nan(np.inf), labels=LABELS), "row 7"),
    "no labels": (npz(features=FEATURES), "no labels"),
    "lengths": (npz(features=FEATURES, labels=LABELS[:-1]), "differ in length"),
    "one dimension": (npz(features=FEATURES[0], labels=LABELS[:5]), "matrix"),
    "three dimensions": (npz(features=FEATURES[None], labels=LABELS), "shape"),
    "complex": (npz(features=FEATURES + 1j, labels=LABELS), "real numbers"),
    "no rows": (npz(features=FEATURES[:0], labels=LABELS[:0]), "empty"),
    "probabilities": (npz(labels=LABELS, source_probabilities=PROBABILITIES * 2), "source_probabilities"),
    "negative probabilities": (npz(labels=LABELS, source_probabilities=-PROBABILITIES), "source_probabilities"),
    "unknown array": (npz(features=FEATURES, labels=LABELS, weights=LABELS), "weights"),
    "a single target": (npz(features=FEATURES, targets=np.float64(1)), "targets is a single value"),
    "a single label": (npz(features=FEATURES, labels=np.int64(1)), "labels is a single value"),
    "damaged compression": (damaged(npz(compress=True, **ARRAYS)), "sound"),
    "nothing": (b"", "sound"),
    "text": (b"hello, this is not an array", "sound"),
    "pickle": (pickle.dumps({"features": [1]}), "sound"),
    "pickled array": (npz(features=np.array([{}], dtype=object), labels=LABELS), "type object"),
    "empty zip": (b"PK\x05\x06" + bytes(18), "sound"),
    "truncated npz": (npz(**ARRAYS)[:-60], "sound"),
    "truncated safetensors": (save(ARRAYS)[:-60], "sound"),
    "safetensors with a lying header": (
        struct.pack("<Q", 80)
        + b'{"features":{"dtype":"F64","shape":[100000,100000],"data_offsets":[0,8]}}'.ljust(80)
        + bytes(8),
        "sound",
    ),
    "safetensors with an endless header": (struct.pack("<Q", 1 << 60) + b"{}", "sound"),
    "safetensors with overlapping arrays": (
        struct.pack("<Q", 136)
        + (
            b'{"features":{"dtype":"F64","shape":[1,1],"data_offsets":[0,8]},'
            b'"labels":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}'
        ).ljust(136)
        + bytes(8),
        "sound",
    ),
}


def npy_that_claims(
    shape: tuple[int, ...], *, content: bytes, name: str = "features", kind: str = "<f8", **others: Any
) -> bytes:
    """An npz with an array whose header is ours to write, beside others."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    sink = io.BytesIO(npz(**others))
    with zipfile.ZipFile(sink, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content)
    return sink.getvalue()


REFUSED |= {
    "strings without a character": (
        npy_that_claims((60,), content=b"", name="labels", kind="<U0", features=FEATURES),
        "labels holds strings without a character",
    ),
    "npy with a lying header": (npy_that_claims((10**6, 10**5), content=bytes(80)), "speaks of"),
    "npy of a negative shape": (npy_that_claims((-5, -2), content=bytes(80)), "shape"),
    "npy with more than it says": (npy_that_claims((2, 2), content=bytes(80)), "speaks of"),
    "npy with code in its header": (
        npy_that_claims(("__import__('os').abort()",), content=b""),  # type: ignore[arg-type]
        "sound",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unsound_evidence_is_refused(client: TestClient, case: str) -> None:
    evidence, reason = REFUSED[case]
    document = problem(send(client, evidence, ["logme"]), 422)
    assert reason in document["detail"]
    assert document["errors"][0]["pointer"] == "/evidence"


def test_bomb_in_an_npz_is_refused(client: TestClient) -> None:
    bomb = npz(compress=True, features=np.zeros((40_000, 1000)), labels=np.zeros(40_000, int))
    assert len(bomb) < 1_000_000
    assert "expand" in problem(send(client, bomb), 422)["detail"]


@pytest.mark.parametrize(
    ("metrics", "pointer"),
    [
        (["nothing"], "/metrics/0"),
        ([{"name": "tmi", "parameters": {"neighbors": 0}}], "/metrics/0/parameters"),
        (["tmi", "tmi"], "/metrics/1"),
        ([5], None),
        ("tmi", "/metrics"),
        ([], "/metrics"),
    ],
)
def test_wrong_metrics_are_named(client: TestClient, metrics: Any, pointer: str | None) -> None:
    document = problem(send(client, npz(**ARRAYS), metrics), 422)
    assert pointer is None or document["errors"][0]["pointer"] == pointer


def test_form_without_evidence_is_refused(client: TestClient) -> None:
    problem(client.post("/v1/scores", files={"metrics": (None, "[]")}), 422)


def test_json_is_not_read(client: TestClient) -> None:
    problem(client.post("/v1/scores", json={"features": [[1]]}), 415)


def test_retry_gets_the_first_answer(client: TestClient) -> None:
    first, again = (send(client, npz(**ARRAYS), ["tmi"], **{"Idempotency-Key": "s"}) for _ in range(2))
    assert first.content == again.content
    assert again.headers["idempotency-replayed"] == "true"


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    """A file of sound arrays that take seconds to score."""
    labels = np.arange(6000) % 2
    np.savez(tmp_path / "large.npz", features=random.normal(size=(6000, 500)), labels=labels)
    return tmp_path / "large.npz"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A file of sound arrays that take no time."""
    (tmp_path / "small.npz").write_bytes(npz(**ARRAYS))
    return tmp_path / "small.npz"


@contextmanager
def scoring(**settings: Any) -> Iterator[Scorers]:
    scorers = Scorers(Settings(**settings))
    try:
        yield scorers
    finally:
        scorers.close()


def test_computation_over_the_time_limit_ends_and_the_next_one_works(evidence: Path, small: Path) -> None:
    with scoring(scores_limit_seconds=1.5, threads=1) as scorers:
        with pytest.raises(TooLarge, match=r"over 1\.5 s, the limit"):
            asyncio.run(scorers.compute("a", evidence, list(estimators.METRICS)))
        assert asyncio.run(scorers.compute("a", small, ["logme"])).samples == 60


def test_computation_over_the_memory_limit_is_refused(evidence: Path) -> None:
    with scoring(scores_memory_megabytes=100, threads=1) as scorers:
        # NumPy raises an error, which is the metric's problem; OpenBLAS ends the process.
        try:
            (score,) = asyncio.run(scorers.compute("a", evidence, ["parc"])).scores
            assert score.problem is not None
            detail = score.problem.detail
        except TooLarge as error:
            detail = error.detail
        assert "memory" in detail


def test_a_process_that_dies_is_no_fault_of_the_next_request(evidence: Path, small: Path) -> None:
    async def kill() -> None:
        work = asyncio.ensure_future(scorers.compute("a", evidence, list(estimators.METRICS)))
        while (process := scorers._processes[0].process_id) is None:
            await asyncio.sleep(0.01)
        os.kill(process, signal.SIGKILL)
        with pytest.raises(TooLarge, match="most likely because they took more memory"):
            await work

    with scoring() as scorers:
        asyncio.run(kill())
        assert asyncio.run(scorers.compute("a", small, ["logme"])).samples == 60


def test_requests_wait_for_one_another(small: Path) -> None:
    async def four() -> list[Any]:
        return await asyncio.gather(*(scorers.compute("a", small, ["tmi"]) for _ in range(4)))

    with scoring(scores_processes=1) as scorers:
        assert len({answer.scores[0].value for answer in asyncio.run(four())}) == 1


def test_cancelled_scorings_make_room_at_once(evidence: Path, small: Path) -> None:
    async def cancel_five() -> float:
        slow = [asyncio.ensure_future(scorers.compute("a", evidence, list(estimators.METRICS))) for _ in range(5)]
        await asyncio.sleep(0.5)
        for task in slow:
            task.cancel()
        began = time.monotonic()
        await scorers.compute("a", small, ["logme"])
        return time.monotonic() - began

    with scoring(threads=1) as scorers:
        asyncio.run(scorers.compute("a", small, ["logme"]))
        # The process that computed was killed; this is the start of another.
        assert asyncio.run(cancel_five()) < 10


def test_unexpected_exception_of_a_metric_is_a_problem_of_that_metric_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> Any:
        raise IndexError("a fault of ours")

    broken = replace(estimators.METRICS["tmi"], function=fail)
    monkeypatch.setattr("app.scoring.metric.METRICS", {**estimators.METRICS, "tmi": broken})
    result = compute_metric("tmi", Evidence(features=FEATURES, labels=LABELS), {}, ARRAY_SCORER)
    assert result.value is None
    assert result.problem is not None
    assert result.problem.type == "urn:forerank:problem:internal-error"


def test_metric_that_needs_too_much_memory_names_the_limit_and_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def allocate(**_: Any) -> Any:
        return np.empty((1 << 28, 1 << 28))

    broken = replace(estimators.METRICS["tmi"], function=allocate)
    monkeypatch.setattr("app.scoring.metric.METRICS", {**estimators.METRICS, "tmi": broken})
    result = compute_metric("tmi", Evidence(features=FEATURES, labels=LABELS), {}, ARRAY_SCORER)
    assert result.problem is not None
    assert result.problem.detail == (
        "cannot be computed: it needs more memory than FORERANK_SCORES_MEMORY_MEGABYTES allows; send fewer samples"
    )
