"""How long a scheduled run takes in which nothing is new: N models x 5 targets, through the real store and database.

``python -m benchmarks.nightly [--models 100 500 2000] [--database URL]`` makes synthetic evidence and scores for every
pair, then carries out one run as a worker does: looks at the images, resolves the zoo, plans, concludes, reports. It
fails if a model was run, if 500 models take over 60 s, or if the time grows faster than the number of models.
"""

import argparse
import itertools
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from app import jobs as engine
from app.contracts.datasets import BuiltinSpec
from app.contracts.states import RankingState, ResourceState, RunState
from app.db.migrate import upgrade
from app.db.repositories.datasets import Datasets
from app.db.repositories.models import Models, Zoos
from app.db.repositories.rankings import Rankings, Scores
from app.db.repositories.schedules import ScheduleRuns, Schedules
from app.db.schedule_tables import Schedule, ScheduleRun
from app.db.session import Database
from app.db.tables import Dataset, Model, Zoo, now
from app.settings import Settings
from workers import runtime
from workers.images.digits import labels
from workers.images.index import IndexStore
from workers.inspection.images import inspect_dataset
from workers.ranking import steps as ranking
from workers.ranking.planning import Planner, cells
from workers.runtime import Runtime
from workers.schedules import steps
from workers.store.features import FeatureStore, entries_of

TARGETS = 5
METRICS = ["logme", "tmi", "h_score", "leep", "nce"]
LIMIT_SECONDS = 60.0
RESAMPLES = 200


def worker(settings: Settings) -> Runtime:
    """A worker's runtime on a fresh database; what runs models is not there, so running one would fail."""
    database = Database(settings.url)
    upgrade(database)
    engine.upgrade(settings)
    nothing = cast(Any, None)
    parts = Runtime(
        settings=settings,
        database=database,
        features=FeatureStore.of(settings),
        extractor=nothing,
        trainer=nothing,
        scorers=nothing,
        readers=nothing,
        jobs=engine.Jobs(settings, database),
    )
    runtime.start(parts)
    return parts


def card(number: int) -> dict[str, Any]:
    """What an inspection would have found."""
    return {
        "weights_digest": f"{number:064x}",
        "architecture": "synthetic",
        "arguments": {},
        "parameters": 1000 + number,
        "input": {
            "input_size": [3, 8, 8],
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
            "crop_pct": 1.0,
            "crop_mode": "center",
            "interpolation": "bilinear",
        },
        "feature_dimension": 8,
        "source_classes": 10,
    }


def populate(parts: Runtime, models: int) -> str:
    """Register targets, models, a zoo and a schedule; the schedule's id."""
    index = inspect_dataset(BuiltinSpec(name="digits"), settings=parts.settings, readers=cast(Any, None))
    targets = []
    with parts.database.transaction() as session:
        for number in range(TARGETS):
            row = Datasets(session).add(
                Dataset(
                    name=f"target-{number}",
                    spec={"kind": "builtin", "name": "digits"},
                    state=ResourceState.READY,
                    fingerprint=index.fingerprint,
                    class_counts=index.counts,
                )
            )
            targets.append({"id": row.id, "name": row.name})
        for number in range(models):
            session.add(
                Model(
                    name=f"model-{number:05d}",
                    spec={"kind": "timm", "name": f"model-{number}"},
                    state=ResourceState.READY,
                    parameters=1000 + number,
                    card=card(number),
                )
            )
        zoo = Zoos(session).add(Zoo(name="all", query={"limit": models}))
        request = {
            "zoo": {"id": zoo.id, "name": "all"},
            "targets": targets,
            "metrics": METRICS,
            "intervals": {"resamples": RESAMPLES},
        }
        schedule = Schedule(name="nightly", cron="0 2 * * *", time_zone="UTC", request=request)
        identifier = Schedules(session).add(schedule).id
    for number, target in enumerate(targets):
        # Each target has images of its own: the same digits under another fingerprint.
        changed = f"{number:064x}"
        IndexStore(parts.settings).write(target["id"], replace(index, fingerprint=changed))
    return identifier


def write_evidence(parts: Runtime, ranking_id: str) -> None:
    """What forward passes and metrics would have left of every model of a ranking."""
    generator = np.random.default_rng(0)
    classes = labels()
    with parts.database.reading() as session:
        row = Rankings(session).get(ranking_id)
        assert row is not None
        target = Datasets(session).get(row.target_id)
        models = Models(session).get_many(run.model_id for run in Rankings(session).models(ranking_id))
    assert target is not None
    planner = Planner(parts.settings, row.request, target)
    scores = []
    store = entries_of(parts.settings)
    template: Path | None = None
    for model in models.values():
        evidence = planner.evidence(model)
        for key in evidence.all:
            if template is None:
                count = len(planner.target.indices)
                parts.features.write(
                    key,
                    features=generator.standard_normal((count, 8), dtype=np.float32),
                    source_probabilities=None,
                    labels=classes[:count],
                    manifest={},
                )
                template = store.folder(key)
            else:
                # Entries like the first, copied: the store weighs all that it holds at each write.
                shutil.copytree(template, store.folder(key))
        for cell in cells(row.request, evidence):
            value = float(generator.standard_normal())
            drawn = {"method": "bootstrap", "values": (value + generator.standard_normal(RESAMPLES) / 10).tolist()}
            scores.append(
                {
                    "evidence_key": cell.evidence_key,
                    "metric": cell.metric,
                    "parameters_key": cell.parameters_key,
                    "value": value,
                    "warnings": (),
                    "details": {},
                    "resamples": drawn,
                    "seconds": 0.01,
                }
            )
    with parts.database.transaction() as session:
        Scores(session).store(scores)


class Seconds(NamedTuple):
    """What a run took: by the clock, and of the processor, which others on the machine do not lengthen."""

    wall: float
    processor: float


def run(parts: Runtime, schedule_id: str, *, prepare: bool = False) -> tuple[Seconds, dict[str, Any]]:
    """Carry out one run as the workflows do; its seconds and its report."""
    began = Seconds(time.perf_counter(), time.process_time())
    with parts.database.transaction() as session:
        run_id = ScheduleRuns(session).add(ScheduleRun(schedule_id=schedule_id, scheduled_at=now(), by_hand=True)).id
    assert steps.begin(run_id)
    steps.submit_rankings(run_id)
    with parts.database.reading() as session:
        targets = ScheduleRuns(session).targets([run_id])[run_id]
    for target in targets:
        assert target.ranking_id is not None, target.problem
        if prepare:
            write_evidence(parts, target.ranking_id)
        work = ranking.plan(target.ranking_id)
        assert work.extract + work.score == (), "something was to be computed"
        assert ranking.conclude(target.ranking_id) == RankingState.SUCCEEDED.value
    assert steps.finish(run_id) == RunState.SUCCEEDED.value
    seconds = Seconds(time.perf_counter() - began.wall, time.process_time() - began.processor)
    with parts.database.reading() as session:
        stored = ScheduleRuns(session).get(run_id)
    assert stored is not None
    assert stored.report is not None
    return seconds, stored.report


def measure(models: int, database_url: str) -> Seconds:
    """Seconds of a run in which nothing is new."""
    with tempfile.TemporaryDirectory() as folder:
        parts = worker(Settings(home=Path(folder), database_url=database_url))
        schedule_id = populate(parts, models)
        run(parts, schedule_id, prepare=True)
        seconds, report = run(parts, schedule_id)
        assert (report.computed, report.reused) == (0, models * TARGETS)
        parts.jobs.close()
        parts.database.close()
    print(
        f"{models:5d} models x {TARGETS} targets: {seconds.wall:7.2f} s, of the processor {seconds.processor:7.2f} s, "
        f"{1000 * seconds.processor / models / TARGETS:.2f} ms a pair"
    )
    return seconds


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, nargs="+", default=[100, 500, 2000])
    parser.add_argument("--database", default="", help="of an empty PostgreSQL database; default: SQLite")
    options = parser.parse_args()
    found = {models: measure(models, options.database) for models in options.models}
    assert 500 not in found or found[500].wall <= LIMIT_SECONDS, "500 models took too long"
    for (few, short), (many, long) in itertools.pairwise(sorted(found.items())):
        growth = (long.processor / short.processor) / (many / few)
        print(f"{few} -> {many} models: the time grew {growth:.2f} times as fast as the number of models")


if __name__ == "__main__":
    main()
