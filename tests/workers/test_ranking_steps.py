"""The steps of a ranking with a real database and a real store; evidence is drawn instead of extracted."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
from dbos import DBOS
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from sqlalchemy import select, text, update

from app.contracts.datasets import BuiltinSpec
from app.contracts.extraction import ExtractionCommand, ExtractionResult
from app.contracts.models import InputConfiguration, ModelCard, TimmSpec
from app.contracts.progress import Progress
from app.contracts.question import EnsembleChoice, MetricChoice, SampleChoice
from app.contracts.rankings import RankingRequest
from app.contracts.states import ModelRunState, RankingState, ResourceState
from app.db.repositories.rankings import Rankings
from app.db.session import Database
from app.db.tables import Dataset, Model, Ranking, RankingModel
from app.jobs import Queue
from app.settings import Settings
from estimators.ensembles.result import HeldOutSingle
from tests.conftest import NewDatabase
from workers import engine, runtime
from workers.errors import ExtractionFailed
from workers.images.index import IndexStore
from workers.images.reading import ImageReaders
from workers.inspection.images import inspect_dataset
from workers.main import configuration, register_queues
from workers.ranking import steps, workflow
from workers.scoring.commands import commands
from workers.store.features import FeatureStore
from workers.waiting import WaitingWork

CARD = ModelCard(
    weights_digest="",
    architecture="resnet18",
    arguments={},
    parameters=1,
    input=InputConfiguration(
        input_size=(3, 8, 8), mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0, crop_mode="center", interpolation="bicubic"
    ),
    feature_dimension=4,
    source_classes=3,
)


class Drawing:
    """Leaves drawn evidence in the store where the device would leave what a model computes.

    Attributes:
        evictions: how often what was drawn is evicted at once.
    """

    def __init__(self, store: FeatureStore) -> None:
        self.store = store
        self.evictions = 0
        self.commands: list[ExtractionCommand] = []

    def extract(self, command: ExtractionCommand, **_: Any) -> ExtractionResult:
        self.commands.append(command)
        count = len(command.sample_indices)
        generator = np.random.default_rng(int(command.card.weights_digest))
        for key in command.keys.values():
            self.store.write(
                key,
                features=generator.normal(size=(count, 4)).astype(np.float32),
                labels=np.arange(count) % 3,
                source_probabilities=generator.dirichlet(np.ones(3), size=count).astype(np.float32),
                manifest={},
            )
            if self.evictions > 0:
                self.evictions -= 1
                assert self.store.delete(key)
        return ExtractionResult(n=count, keys=command.keys, seconds={"forward": 0.5}, device="cpu", threads=1)


class InThisProcess:
    """The scorers' commands without their process; what crosses is JSON all the same."""

    def __init__(self, settings: Settings) -> None:
        self.commands = commands(settings)

    def call(self, command: str, payload: Mapping[str, Any], **_: Any) -> Any:
        return json.loads(json.dumps(self.commands[command](json.loads(json.dumps(payload)), lambda _: None)))


@pytest.fixture(params=["sqlite", "postgresql"])
def work(request: pytest.FixtureRequest, settings: Settings) -> Iterator[runtime.Runtime]:
    make: NewDatabase = request.getfixturevalue(f"new_{request.param}")
    store = FeatureStore.of(settings)
    parts: Any = runtime.Runtime(
        settings=settings,
        database=Database(make()),
        features=store,
        extractor=Drawing(store),  # type: ignore[arg-type]
        scorers=InThisProcess(settings),  # type: ignore[arg-type]
        # Neither trials nor schedules are run here.
        trainer=None,  # type: ignore[arg-type]
        jobs=None,  # type: ignore[arg-type]
        readers=ImageReaders(settings),
    )
    runtime.start(parts)
    yield parts
    parts.readers.close()
    parts.database.close()


@pytest.fixture
def submit(work: runtime.Runtime, settings: Settings) -> Callable[..., str]:
    """Stores a ranking of three classes of digits and two models, as the API would."""
    index = inspect_dataset(BuiltinSpec(name="digits"), settings=settings, readers=work.readers)

    def store(metrics: tuple[str, ...] = ("leep", "logme"), **changes: Any) -> str:
        with work.database.transaction() as session:
            target = session.scalars(Dataset.__table__.select()).first()
            if target is None:
                row = Dataset(
                    name="digits", spec=BuiltinSpec(name="digits"), state=ResourceState.READY, class_counts=index.counts
                )
                session.add(row)
                session.add_all(
                    Model(
                        id=f"mdl_{seed}",
                        name=f"m{seed}",
                        spec=TimmSpec(name=f"m{seed}"),
                        state=ResourceState.READY,
                        card=CARD.model_copy(update={"weights_digest": str(seed)}),
                    )
                    for seed in (1, 2)
                )
                session.flush()
                target = row.id
                IndexStore(settings).write(row.id, index)
            request: dict[str, Any] = {
                "target": "digits",
                "zoo": None,
                "metrics": tuple(MetricChoice(name=name) for name in metrics),
                "sample": SampleChoice(max_samples=30),
                "priority": "normal",
                "layers": (),
                "reference": None,
                "sources": {},
                "intervals": None,
                "ensembles": (),
                "given_ensembles": (),
            }
            ranking = Ranking(target_id=target, priority=100, request=RankingRequest(**request | changes))
            session.add(ranking)
            session.flush()
            session.add_all(
                RankingModel(ranking_id=ranking.id, model_id=f"mdl_{seed}", position=seed) for seed in (1, 2)
            )
            return ranking.id

    return store


def ranking_of(work: runtime.Runtime, ranking_id: str) -> tuple[Ranking, dict[str, RankingModel]]:
    with work.database.reading() as session:
        row = session.get_one(Ranking, ranking_id)
        return row, {run.model_id: run for run in Rankings(session).models(ranking_id)}


def run(ranking_id: str) -> str:
    work = steps.plan(ranking_id)
    for model_id in work.extract:
        assert steps.extract_evidence(ranking_id, model_id)
    for model_id in (*work.extract, *work.score):
        assert steps.compute_scores(ranking_id, model_id)
    return steps.conclude(ranking_id)


def test_from_the_question_to_the_conclusion(work: runtime.Runtime, submit: Callable[..., str]) -> None:
    ranking_id = submit()
    assert run(ranking_id) == "succeeded"
    row, runs = ranking_of(work, ranking_id)
    assert row.state is RankingState.SUCCEEDED
    assert row.summary is not None
    assert set(row.summary.order) == set(runs) == {"mdl_1", "mdl_2"}
    assert row.sample is not None
    assert (row.sample.images, row.sample.classes) == (30, 10)
    assert {model.state for model in runs.values()} == {ModelRunState.SUCCEEDED}


def test_a_second_ranking_extracts_nothing(work: runtime.Runtime, submit: Callable[..., str]) -> None:
    run(submit())
    again = submit(metrics=("leep", "nce"))
    planned = steps.plan(again)
    assert (planned.extract, planned.score) == ((), ("mdl_1", "mdl_2"))
    row, runs = ranking_of(work, again)
    assert row.counters is not None
    assert (row.counters.evidence_reused, row.counters.scores_reused) == (2, 2)
    assert all(model.reused for model in runs.values())


def test_evidence_that_is_evicted_before_it_is_scored_is_extracted_again(
    work: runtime.Runtime, submit: Callable[..., str]
) -> None:
    ranking_id = submit()
    steps.plan(ranking_id)
    assert steps.extract_evidence(ranking_id, "mdl_1")
    _, runs = ranking_of(work, ranking_id)
    evidence = runs["mdl_1"].evidence
    assert evidence is not None
    assert work.features.delete(evidence.target["head"])
    assert steps.compute_scores(ranking_id, "mdl_1") is None
    assert steps.extract_evidence(ranking_id, "mdl_1")
    assert steps.compute_scores(ranking_id, "mdl_1") is True


def test_a_model_that_is_not_shared_anymore_says_so(work: runtime.Runtime, submit: Callable[..., str]) -> None:
    ranking_id = submit()
    with work.database.transaction() as session:
        for seed, owner in ((1, "key_a"), (2, "key_b")):
            session.get_one(Model, f"mdl_{seed}").owner = owner
        session.get_one(Ranking, ranking_id).owner = "key_a"
    assert steps.plan(ranking_id).extract == ("mdl_1",)
    _, runs = ranking_of(work, ranking_id)
    assert runs["mdl_2"].problem is not None
    assert "not shared" in runs["mdl_2"].problem.detail


def test_a_cancelled_ranking_is_not_planned(work: runtime.Runtime, submit: Callable[..., str]) -> None:
    ranking_id = submit()
    with work.database.transaction() as session:
        Rankings(session).move(ranking_id, RankingState.CANCELLED)
    assert steps.plan(ranking_id).extract == ()
    assert ranking_of(work, ranking_id)[0].state is RankingState.CANCELLED


TRACE = "0af7651916cd43dd8448eb211c80319c"
REQUEST = "b7ad6b7169203331"


@pytest.fixture
def traced(work: runtime.Runtime, submit: Callable[..., str], spans: InMemorySpanExporter) -> str:
    """A ranking that a request of that trace submitted."""
    ranking_id = submit()
    with work.database.transaction() as session:
        session.get_one(Ranking, ranking_id).traceparent = f"00-{TRACE}-{REQUEST}-01"
    return ranking_id


def test_steps_and_stages_are_spans_of_the_trace_of_the_request(
    work: runtime.Runtime, traced: str, spans: InMemorySpanExporter
) -> None:
    device: Any = work.extractor
    draw = device.extract
    took = {"load": 0.25, "decode": 0.1, "forward": 0.5, "write": 0.05}
    device.extract = lambda command, **_: draw(command).model_copy(update={"models_loaded": 1, "seconds": took})
    run(traced)
    finished = spans.get_finished_spans()
    assert {f"{span.context.trace_id:032x}" for span in finished if span.context} == {TRACE}
    names = [span.name for span in finished]
    assert names == ["plan", *2 * [*took, "extract"], "score", "score", "conclude"]
    extractions = [span for span in finished if span.name == "extract"]
    for span in finished:
        if span.name in took:
            assert span.parent in [extraction.context for extraction in extractions]
        else:
            assert span.parent is not None
            assert f"{span.parent.span_id:016x}" == REQUEST
            assert (span.attributes or {})["forerank.ranking_id"] == traced
    assert [dict(span.attributes or {}) for span in extractions] == [
        {
            "forerank.ranking_id": traced,
            "forerank.model_id": f"mdl_{seed}",
            "forerank.model": f"m{seed}",
            "forerank.images": 30,
            "forerank.device": "cpu",
        }
        for seed in (1, 2)
    ]


def test_a_model_that_fails_marks_its_span_with_the_code(
    work: runtime.Runtime, traced: str, spans: InMemorySpanExporter
) -> None:
    device: Any = work.extractor

    def fail(*_: Any, **__: Any) -> ExtractionResult:
        raise ExtractionFailed("not enough memory at /secret/path")

    device.extract = fail
    steps.plan(traced)
    assert steps.extract_evidence(traced, "mdl_1") is False
    *_, span = spans.get_finished_spans()
    assert (span.name, span.status.status_code) == ("extract", StatusCode.ERROR)
    assert (span.attributes or {})["error.type"] == ExtractionFailed.code
    assert "secret" not in span.to_json()


ENSEMBLES: dict[str, Any] = {
    "ensembles": tuple(EnsembleChoice(size=2, method=method) for method in ("osborn", "e_leep", "held_out")),
    "given_ensembles": (("mdl_1", "mdl_2"),),
}


def test_ensembles_are_chosen_from_the_evidence(work: runtime.Runtime, submit: Callable[..., str]) -> None:
    ranking_id = submit(**ENSEMBLES)
    run(ranking_id)
    osborn, e_leep, held_out, given = ranking_of(work, ranking_id)[0].ensembles or ()
    assert osborn.selection is not None
    assert e_leep.selection is not None
    # Without a sample of the models' source there is no difference of domains.
    assert set(osborn.selection.terms_used) == {"task", "cohesion"}
    assert e_leep.selection.members == ("m1", "m2")
    assert held_out.selection is not None
    assert held_out.selection.best_single is not None
    assert isinstance(held_out.selection.best_single, HeldOutSingle)
    assert given.request == {"given_ensemble": ["m1", "m2"]}


def test_ensembles_whose_evidence_was_evicted_say_so_and_the_ranking_succeeds(
    work: runtime.Runtime, submit: Callable[..., str]
) -> None:
    ranking_id = submit(**ENSEMBLES)
    planned = steps.plan(ranking_id)
    for model_id in planned.extract:
        steps.extract_evidence(ranking_id, model_id)
        steps.compute_scores(ranking_id, model_id)
    evidence = ranking_of(work, ranking_id)[1]["mdl_2"].evidence
    assert evidence is not None
    assert work.features.delete(evidence.target["head"])
    assert steps.conclude(ranking_id) == "succeeded"
    row, _ = ranking_of(work, ranking_id)
    assert row.summary is not None
    assert row.summary.order
    assert [result.problem and result.problem.type for result in row.ensembles or ()] == [
        "urn:forerank:problem:evidence-missing"
    ] * 4
    assert [result.request for result in row.ensembles or ()] == [
        *(choice.plain() for choice in ENSEMBLES["ensembles"]),
        {"given_ensemble": ["m1", "m2"]},
    ]


@pytest.fixture
def job_engine(work: runtime.Runtime, settings: Settings) -> Iterator[None]:
    """The engine of a worker, in this process."""
    url = work.database.engine.url.render_as_string(hide_password=False)
    settings = Settings(**settings.model_dump(exclude_unset=True) | {"database_url": url, "polling_seconds": 0.05})
    DBOS(config=configuration(settings, "here"))
    DBOS.listen_queues([queue.value for queue in Queue])
    DBOS.launch()
    register_queues(settings)
    waiting = WaitingWork(work.database, settings.polling_seconds)
    engine.poll_cheaply(waiting.on, waiting.interval)
    yield
    DBOS.destroy(workflow_completion_timeout_sec=0)


@pytest.mark.parametrize(("evictions", "scored"), [(1, True), (workflow.EXTRACTIONS_AGAIN, True), (100, False)])
@pytest.mark.usefixtures("job_engine")
def test_evidence_is_extracted_again_so_often_and_not_more(
    work: runtime.Runtime, submit: Callable[..., str], evictions: int, scored: bool
) -> None:
    device: Any = work.extractor
    device.evictions = evictions
    ranking_id = submit()
    steps.plan(ranking_id)
    steps.extract_evidence(ranking_id, "mdl_1")
    assert DBOS.start_workflow(workflow.score, ranking_id, "mdl_1").get_result() is scored
    assert len(device.commands) == 1 + min(evictions, workflow.EXTRACTIONS_AGAIN)
    problem = ranking_of(work, ranking_id)[1]["mdl_1"].problem
    assert (problem and problem.detail) == (None if scored else workflow.EVICTED)


@pytest.mark.usefixtures("job_engine")
def test_a_job_that_comes_to_an_idle_worker_is_taken_soon() -> None:
    time.sleep(0.5)
    began = time.monotonic()
    handle = DBOS.enqueue_workflow(Queue.DEVICE.value, workflow.extract, "rnk_unknown", "mdl_unknown")
    assert handle.get_result(polling_interval_sec=0.05) is False
    assert time.monotonic() - began < 5


def extracted(images: int) -> ExtractionResult:
    return ExtractionResult(n=30, keys={}, seconds={}, images_decoded=images, device="cpu", threads=1)


DECODED = Progress(stage="decode", done=30, total=30)


def test_decoded_images_count_once_whoever_tells_of_them(work: runtime.Runtime, submit: Callable[..., str]) -> None:
    ranking_id = submit()
    follower = steps._Follower(work, ranking_id, "mdl_1")
    follower.progress(DECODED)
    assert ranking_of(work, ranking_id)[1]["mdl_1"].images_decoded == 30
    work.write(partial(steps._record_extraction, ranking_id, "mdl_1", extracted(30), follower.take_decoded()))
    assert ranking_of(work, ranking_id)[1]["mdl_1"].images_decoded == 30


def test_progress_that_a_deadlock_swallowed_is_counted_at_the_end(
    work: runtime.Runtime, submit: Callable[..., str]
) -> None:
    if work.database.is_sqlite:
        pytest.skip("SQLite has one writer at a time, and so no deadlocks")
    ranking_id = submit()
    follower = steps._Follower(work, ranking_id, "mdl_1")
    with work.database.transaction() as other:
        # The server ends whoever finds the deadlock first, which is not to be this one.
        other.execute(text("SET LOCAL deadlock_timeout = '60s'"))
        other.execute(select(Ranking.id).where(Ranking.id == ranking_id).with_for_update())
        writing = threading.Thread(target=follower.progress, args=(DECODED,))
        writing.start()
        while not other.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
            time.sleep(0.01)
        other.execute(update(RankingModel).where(RankingModel.model_id == "mdl_1").values(total=30))
    writing.join()
    assert ranking_of(work, ranking_id)[1]["mdl_1"].images_decoded == 0
    work.write(partial(steps._record_extraction, ranking_id, "mdl_1", extracted(30), follower.take_decoded()))
    assert ranking_of(work, ranking_id)[1]["mdl_1"].images_decoded == 30
