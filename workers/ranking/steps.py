"""The steps of a ranking: ids in, small JSON out, everything else through the database and the feature store."""

import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import tracing
from app.contracts.extraction import ExtractionCommand, ExtractionResult
from app.contracts.models import InputConfiguration
from app.contracts.problems import ProblemDocument, failure
from app.contracts.progress import Progress
from app.contracts.rankings import RankingRequest
from app.contracts.scores import Cell, ScoreCommand, ScoreKey, ScoreResult
from app.contracts.states import ModelRunState, RankingState, ResourceState
from app.contracts.work import RankingWork
from app.db.outages import is_outage
from app.db.repositories.datasets import Datasets
from app.db.repositories.models import Models
from app.db.repositories.placements import Placements
from app.db.repositories.rankings import UNFINISHED_RUNS, Rankings, Scores
from app.db.repositories.trials import Trials
from app.db.tables import Dataset, Model, Ranking, RankingModel
from app.tasks.catalog import TASKS
from app.tasks.task import Task
from workers import telemetry
from workers.errors import EvidenceMissing, Problem
from workers.ranking import planning
from workers.ranking.advice import advise, evaluations_of, records_of
from workers.ranking.conclusion import conclude as draw_conclusion
from workers.ranking.placements import placements, question
from workers.ranking.planning import Planner
from workers.runtime import Runtime, current
from workers.store.features import HEAD
from workers.store.trials import TrialStore
from workers.tracing import traced
from workers.trials.predictions import best_ensemble, held_out

log = structlog.stdlib.get_logger(__name__)
PROGRESS_SECONDS = 0.5
LOOK_FOR_CANCEL_SECONDS = 1.0
NO_END = "the job of this model ended without a result; the worker's log says why"


def is_waiting(ranking_id: str) -> bool:
    """Whether the inspection of something that the ranking needs has not ended."""
    with current().database.reading() as session:
        ranking = Rankings(session).get(ranking_id)
        if ranking is None or ranking.state.is_final:
            return False
        datasets, models = _resources(session, ranking)
        states = [row.state for row in datasets.values()] + [row.state for row in models.values()]
        return ResourceState.PENDING in states


def _resources(session: Session, ranking: Ranking) -> tuple[dict[str, Dataset], dict[str, Model]]:
    request = ranking.request
    wanted = {ranking.target_id, *request.sources.values(), *([request.reference] if request.reference else [])}
    datasets = {key: row for key in sorted(wanted) if (row := Datasets(session).get(key)) is not None}
    models = Models(session).get_many(run.model_id for run in Rankings(session).models(ranking.id))
    return datasets, models


@traced("plan")
def plan(ranking_id: str) -> RankingWork:
    """Say what each model needs, ask in bulk what already exists, and list the models that have work left."""
    runtime = current()
    work = RankingWork(in_flight=runtime.settings.models_in_flight_per_ranking)
    with runtime.database.reading() as session:
        ranking = Rankings(session).get(ranking_id)
        if ranking is None or ranking.state.is_final:
            return work
        work = work.model_copy(update={"priority": ranking.priority, "trial": ranking.request.trial is not None})
        datasets, models = _resources(session, ranking)
        withdrawn = Models(session).withdrawn(ranking)
        runs = [run.model_id for run in Rankings(session).models(ranking_id) if run.state in UNFINISHED_RUNS]
    target = datasets.get(ranking.target_id)
    problem = _unusable(TASKS[ranking.request.task], target)
    if target is None or problem is not None:
        with runtime.transaction() as session:
            rankings = Rankings(session)
            if rankings.move(ranking_id, RankingState.FAILED, problem=problem):
                rankings.end_unfinished_runs(ranking_id, ModelRunState.FAILED, problem)
        return work
    request = _without_failed_sources(ranking.request, datasets)
    planner = Planner(runtime.settings, request, target)
    models = {model_id: model for model_id, model in models.items() if model_id not in withdrawn}
    evidence = {
        model_id: planner.evidence(models[model_id])
        for model_id in runs
        if model_id in models and models[model_id].state is ResourceState.READY
    }
    present = runtime.features.has_many(key for keys in evidence.values() for key in keys.all)
    with runtime.database.reading() as session:
        known = Scores(session).find_many(
            cell.key for keys in evidence.values() for cell in planning.cells(request, keys)
        )
    made = planning.plan(request, evidence, present, known)
    with runtime.transaction() as session:
        rankings = Rankings(session)
        if not rankings.move(ranking_id, RankingState.RUNNING):
            return work
        row = session.get_one(Ranking, ranking_id)
        row.request, row.counters, row.sample = request, made.counters, planner.target.describe(request.sample)
        for run in rankings.models(ranking_id):
            if run.model_id in evidence:
                run.evidence = evidence[run.model_id]
                run.reused = run.model_id not in made.extract
            elif run.model_id in runs:
                problem = _why_unusable(models.get(run.model_id))
                rankings.update_run(ranking_id, run.model_id, state=ModelRunState.FAILED, problem=problem, tell=False)
        # In bulk: of a night on which little is new, this is nearly all of the work.
        Scores(session).link(
            [link for model_id in evidence for link in _links(ranking_id, model_id, made.found[model_id], known)]
        )
        rankings.finish_runs(ranking_id, made.finished)
    telemetry.planned(made.counters)
    return work.model_copy(update={"extract": made.extract, "score": made.score})


def _why_unusable(model: Model | None) -> ProblemDocument:
    problem = model.problem if model is not None and model.state is ResourceState.FAILED else None
    return problem or failure("model-problem", "the model was deleted, or is not shared anymore")


def _unusable(task: Task, target: Dataset | None) -> ProblemDocument | None:
    if target is None:
        return failure("image-problem", "the target was deleted")
    if target.state is ResourceState.FAILED:
        return target.problem or failure("image-problem", f"the inspection of {target.name!r} failed")
    reason = task.why_unusable(target.name, target.class_counts or {})
    return failure("image-problem", reason) if reason else None


def _without_failed_sources(request: RankingRequest, datasets: Mapping[str, Dataset]) -> RankingRequest:
    """A source or reference sample that cannot be read is as good as none: the result says which were used."""

    def usable(key: str | None) -> bool:
        return key is not None and key in datasets and datasets[key].state is ResourceState.READY

    return request.model_copy(
        update={
            "sources": {name: key for name, key in request.sources.items() if usable(key)},
            "reference": request.reference if usable(request.reference) else None,
        }
    )


def link(
    session: Session,
    ranking_id: str,
    model_id: str,
    cells: Iterable[Cell],
    known: Mapping[ScoreKey, str],
) -> None:
    """Write which scores answer these cells of the ranking's table."""
    Scores(session).link(_links(ranking_id, model_id, cells, known))


def _links(
    ranking_id: str, model_id: str, cells: Iterable[Cell], known: Mapping[ScoreKey, str]
) -> list[dict[str, str]]:
    return [
        {
            "ranking_id": ranking_id,
            "model_id": model_id,
            "layer": cell.layer,
            "metric": cell.metric,
            "score_id": known[cell.key],
        }
        for cell in cells
    ]


class _Follower:
    """Writes a model's progress to its row, and sees when the ranking is cancelled."""

    def __init__(self, runtime: Runtime, ranking_id: str, model_id: str) -> None:
        self._runtime = runtime
        self._ranking_id = ranking_id
        self._model_id = model_id
        self._told = 0.0
        self._decoded = 0
        self._looked = time.monotonic()
        self._stage = ""
        self._stopped = False

    def progress(self, event: Progress) -> None:
        """Write stage and counts, twice a second at most, and at once that all images have been decoded.

        Those stay decoded even if the forward pass is cut off, so they are counted here.
        """
        decoded = event.total if event.stage == "decode" and event.done == event.total else 0
        if not decoded and event.stage == self._stage and time.monotonic() - self._told < PROGRESS_SECONDS:
            return
        self._told, self._stage = time.monotonic(), event.stage
        try:
            with self._runtime.transaction() as session:
                Rankings(session).update_run(
                    self._ranking_id,
                    self._model_id,
                    stage=event.stage,
                    done=event.done,
                    total=event.total,
                    images_decoded=RankingModel.images_decoded + decoded,
                )
            self._decoded += decoded
        except SQLAlchemyError as error:
            # Progress may be lost while the database is away; the forward pass must not be.
            if not is_outage(error):
                raise
            log.warning("progress was not written", ranking=self._ranking_id, model=self._model_id)

    def take_decoded(self) -> int:
        """How many decoded images were counted in the row since the last call."""
        decoded, self._decoded = self._decoded, 0
        return decoded

    def should_stop(self) -> bool:
        """Whether the ranking has ended otherwise, asked of the database once a second at most."""
        if not self._stopped and time.monotonic() - self._looked > LOOK_FOR_CANCEL_SECONDS:
            self._looked = time.monotonic()
            try:
                self._stopped = is_over(self._runtime, self._ranking_id)
            except SQLAlchemyError as error:
                if not is_outage(error):
                    raise
                log.warning("the database does not answer", ranking=self._ranking_id, model=self._model_id)
        return self._stopped


def is_over(runtime: Runtime, ranking_id: str) -> bool:
    """Whether the ranking was cancelled, failed or deleted."""
    with runtime.database.reading() as session:
        state = Rankings(session).state(ranking_id)
    return state is None or state.is_final


def _name_in_log(runtime: Runtime, ranking_id: str, **more: str) -> None:
    """Have the lines of this step name the ranking, and the request that submitted it."""
    with runtime.database.reading() as session:
        ranking = Rankings(session).get(ranking_id)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(
        ranking=ranking_id, request_id=None if ranking is None else ranking.request_id, **more
    )


@traced("extract")
def extract_evidence(ranking_id: str, model_id: str) -> bool:
    """Run the model once over each sample that it needs and keep what the chosen metrics use.

    Returns:
        Whether the evidence is there. If not, the model's row says why.
    """
    runtime = current()
    _name_in_log(runtime, ranking_id, model=model_id)
    if is_over(runtime, ranking_id):
        return False
    with runtime.transaction() as session:
        rankings = Rankings(session)
        if not rankings.update_run(
            ranking_id, model_id, state=ModelRunState.EXTRACTING, stage="waiting", done=0, total=0
        ):
            # An execution before this one came further than its record in the engine.
            run = rankings.run(ranking_id, model_id)
            return run is not None and run.state in (ModelRunState.SCORING, ModelRunState.SUCCEEDED)
        ranking, model, target = _load(session, ranking_id, model_id)
        transforms = _transforms(session, ranking)
    if model.card is None:
        raise ValueError(f"{model_id} was not inspected")
    tracing.describe({"forerank.model": model.name})
    needs = Planner(runtime.settings, ranking.request, target).needs(model)
    present = runtime.features.has_many(key for need in needs for key in need.keys.values())
    follower = _Follower(runtime, ranking_id, model_id)
    for need in needs:
        missing = {layer: key for layer, key in need.keys.items() if key not in present}
        if not missing:
            continue
        command = ExtractionCommand(
            spec=model.spec,
            card=model.card,
            dataset_id=need.sample.dataset_id,
            sample_indices=need.sample.indices.tolist(),
            keys=missing,
            transforms_of_job=tuple(transforms),
        )
        log.info("the device begins a model", images=len(command.sample_indices))
        try:
            result = runtime.extractor.extract(command, progress=follower.progress, should_stop=follower.should_stop)
        except Problem as problem:
            log.warning("extraction failed", code=problem.code, detail=problem.detail)
            fail_model(ranking_id, model_id, problem.detail, problem.code)
            return False
        telemetry.extracted(result)
        runtime.write(partial(_record_extraction, ranking_id, model_id, result, follower.take_decoded()))
    runtime.write(partial(_end_extraction, ranking_id, model_id))
    return True


def _load(session: Session, ranking_id: str, model_id: str) -> tuple[Ranking, Model, Dataset]:
    ranking = Rankings(session).get(ranking_id)
    model = Models(session).get(model_id)
    target = Datasets(session).get(ranking.target_id) if ranking else None
    if ranking is None or model is None or target is None:
        raise RuntimeError(f"{ranking_id} or something that it needs was deleted while it ran")
    return ranking, model, target


def _transforms(session: Session, ranking: Ranking) -> list[InputConfiguration]:
    """Distinct input configurations of all models of the ranking that are not done, so that one decode serves all."""
    runs = [
        run.model_id for run in Rankings(session).models(ranking.id) if run.state in UNFINISHED_RUNS and not run.reused
    ]
    cards = [model.card for model in Models(session).get_many(runs).values() if model.card]
    return list(dict.fromkeys(card.input for card in cards))


def _record_extraction(
    ranking_id: str, model_id: str, result: ExtractionResult, counted: int, session: Session
) -> None:
    """Add what one forward pass took; ``counted`` of its decoded images are in the row already."""
    rankings = Rankings(session)
    run = rankings.run(ranking_id, model_id)
    if run is None:
        return
    seconds = dict(run.seconds or {})
    for stage, value in result.seconds.items():
        seconds[stage] = round(seconds.get(stage, 0.0) + value, 4)
    speed = round(result.images_per_second, 2) if result.images_per_second else None
    if speed is not None:
        Models(session).note_speed(model_id, speed)
    rankings.update_run(
        ranking_id,
        model_id,
        tell=False,
        seconds=seconds,
        images_per_second=speed,
        images_decoded=RankingModel.images_decoded + max(0, result.images_decoded - counted),
        models_loaded=RankingModel.models_loaded + result.models_loaded,
        evidence_computed=RankingModel.evidence_computed + (len(result.keys) if result.models_loaded else 0),
        warnings=(*(run.warnings or ()), *result.warnings),
    )


def _end_extraction(ranking_id: str, model_id: str, session: Session) -> None:
    Rankings(session).update_run(
        ranking_id,
        model_id,
        state=ModelRunState.SCORING,
        stage=None,
        reused=RankingModel.models_loaded == 0,
    )


@traced("score")
def compute_scores(ranking_id: str, model_id: str) -> bool | None:
    """Compute the scores of one model that do not exist yet. Metrics without a value say why, in their row.

    Returns:
        Whether the scores are there; None if evidence has to be extracted again first.
    """
    runtime = current()
    _name_in_log(runtime, ranking_id, model=model_id)
    if is_over(runtime, ranking_id):
        return False
    with runtime.transaction() as session:
        rankings = Rankings(session)
        is_open = rankings.update_run(ranking_id, model_id, state=ModelRunState.SCORING, stage="scoring")
        ranking, run = rankings.get(ranking_id), rankings.run(ranking_id, model_id)
        if not is_open:
            return run is not None and run.state is ModelRunState.SUCCEEDED
    if ranking is None or run is None or run.evidence is None:
        raise RuntimeError(f"{model_id} of {ranking_id} was not planned, or was deleted while it ran")
    cells = planning.cells(ranking.request, run.evidence)
    with runtime.database.reading() as session:
        known = Scores(session).find_many(cell.key for cell in cells)
    follower = _Follower(runtime, ranking_id, model_id)
    missing = [cell for cell in cells if cell.key not in known]
    command = ScoreCommand(task=ranking.request.task, cells=tuple(missing))
    try:
        with runtime.features.lend(command.evidence_keys):
            answers = runtime.scorers.call("score", command.plain(), should_stop=follower.should_stop)
        results = [ScoreResult.read(answer) for answer in answers]
    except Problem as problem:
        if problem.code == EvidenceMissing.code:
            log.warning("evidence was evicted before it was scored", detail=problem.detail)
            runtime.write(lambda session: Rankings(session).extract_again(ranking_id, model_id))
            return None
        fail_model(ranking_id, model_id, problem.detail, problem.code)
        return False
    telemetry.scored(len(missing), sum(result.seconds for result in results))
    runtime.write(partial(_record_scores, ranking_id, model_id, cells, missing, results))
    return True


def _record_scores(
    ranking_id: str,
    model_id: str,
    cells: list[Cell],
    missing: list[Cell],
    results: list[ScoreResult],
    session: Session,
) -> None:
    scores = Scores(session)
    scores.store(
        [
            {
                "evidence_key": cell.evidence_key,
                "metric": cell.metric,
                "parameters_key": cell.parameters_key,
                **{name: getattr(result, name) for name in ScoreResult.model_fields},
            }
            for cell, result in zip(missing, results, strict=True)
        ]
    )
    link(session, ranking_id, model_id, cells, scores.find_many(cell.key for cell in cells))
    rankings = Rankings(session)
    run = rankings.run(ranking_id, model_id)
    rankings.update_run(
        ranking_id,
        model_id,
        state=ModelRunState.SUCCEEDED,
        stage=None,
        seconds={**((run and run.seconds) or {}), "score": round(sum(result.seconds for result in results), 4)},
        scores_computed=len(missing),
    )


def fail_model(ranking_id: str, model_id: str, detail: str, code: str = "internal-error") -> None:
    """Close a model's row with the reason; the others go on."""
    tracing.fail(code)
    current().write(
        lambda session: Rankings(session).update_run(
            ranking_id, model_id, state=ModelRunState.FAILED, stage=None, problem=failure(code, detail)
        )
    )


@traced("conclude")
def conclude(ranking_id: str) -> str:
    """Ranks, consensus and ensembles of all models that have scores; then the ranking is over."""
    runtime = current()
    began = time.monotonic()
    _name_in_log(runtime, ranking_id)
    with runtime.transaction() as session:
        rankings = Rankings(session)
        ranking = rankings.get(ranking_id)
        if ranking is None or ranking.state.is_final:
            return "over"
        # All jobs of its models have ended: a row without an end would be left out and never be closed.
        rankings.end_unfinished_runs(ranking_id, ModelRunState.FAILED, failure("internal-error", NO_END))
        runs = rankings.models(ranking_id)
        models = Models(session).get_many(run.model_id for run in runs)
        cells = rankings.scores(ranking_id, resamples=True)
        trials = list(Trials(session).of(ranking_id))
        records, evaluations = records_of(session, ranking), evaluations_of(session, ranking)
    succeeded = [run for run in runs if run.state is ModelRunState.SUCCEEDED]
    values: dict[str, Any] = {}
    places: list[dict[str, Any]] = []
    state = RankingState.SUCCEEDED
    if succeeded:
        summary, ensembles = draw_conclusion(runtime, ranking, succeeded, models, cells)
        store = TrialStore.of(runtime.settings)
        losses, hits = held_out(store, trials)
        advice = advise(
            [models[run.model_id] for run in succeeded],
            cells,
            records,
            evaluations,
            trials,
            losses,
            hits,
            summary.abstentions,
        )
        names = {model.model_id: model.name for model in advice.order}
        advice = advice.model_copy(update={"ensemble": best_ensemble(store, trials, names)})
        values = {
            "summary": summary.model_copy(update={"recommendation": advice}),
            "ensembles": ensembles,
            "question": question(ranking),
        }
        places = placements(ranking_id, summary, cells)
    else:
        state = RankingState.FAILED
        tracing.fail("extraction-problem")
        values = {"problem": failure("extraction-problem", "no model gave a result; each model's row says why")}
    with runtime.transaction() as session:
        if not Rankings(session).move(ranking_id, state, **values):
            return "over"
        Placements(session).store(places)
    telemetry.concluded(time.monotonic() - began)
    log.info("ranking ended", state=state.value)
    return state.value


__all__ = ["HEAD", "compute_scores", "conclude", "extract_evidence", "fail_model", "is_waiting", "plan"]
