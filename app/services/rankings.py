"""Rules of rankings: what may be asked, and how one ends."""

import shutil
from collections.abc import Sequence
from functools import partial

from sqlalchemy.orm import Session

from app import zoos
from app.caller import Caller
from app.contracts.ensembles import EnsembleResult
from app.contracts.question import MetricChoice, RankingCreate
from app.contracts.rankings import RankingRequest
from app.db.repositories.datasets import Datasets
from app.db.repositories.models import Models
from app.db.repositories.rankings import Rankings
from app.db.repositories.trials import Trials
from app.db.tables import (
    Dataset,
    Model,
    ModelRunState,
    Ranking,
    RankingModel,
    RankingState,
    ResourceState,
)
from app.ensembles import attempt, load_pool, reading
from app.errors import Conflict, Forbidden, Invalid, NotFound
from app.jobs import PRIORITIES, Jobs
from app.schemas.rankings import GivenEnsembles
from app.services import datasets as dataset_rules
from app.services import models as model_rules
from app.settings import Settings
from estimators.catalog import METRICS
from estimators.ensembles.selection import score_ensemble

MINIMUM_CLASSES = 2


def submit(session: Session, jobs: Jobs, caller: Caller, body: RankingCreate, *, request_id: str | None) -> Ranking:
    """Check the whole question, then store it and enqueue its job in one transaction."""
    target = _usable_dataset(session, caller, body.target, "/target")
    if target.class_counts is not None and len(target.class_counts) < MINIMUM_CLASSES:
        raise Invalid.at("/target", f"{target.name!r} has one class only; a ranking needs at least {MINIMUM_CLASSES}")
    models = _pool(session, jobs, caller, body)
    metrics = chosen_metrics(body.metrics)
    _check_sizes(body, len(models))
    ranking = Ranking(
        name=body.name,
        target_id=target.id,
        owner=caller.owner,
        shared=body.shared,
        priority=PRIORITIES[body.priority],
        request_id=request_id,
        request=RankingRequest(
            target=target.name,
            zoo=body.zoo,
            metrics=metrics,
            sample=body.sample,
            priority=body.priority,
            layers=body.layers if body.layers == "stages" else tuple(body.layers),
            reference=_usable_dataset(session, caller, body.reference, "/reference").id if body.reference else None,
            sources=_sources(session, caller, models),
            intervals=body.intervals,
            trial=body.trial,
            history=body.history,
            ensembles=tuple(body.ensembles),
            given_ensembles=_given_ensembles(models, body),
        ),
    )
    rankings = Rankings(session)
    if body.name is not None and rankings.name_is_taken(caller.owner, body.name):
        raise Conflict(f"you have a ranking named {body.name!r} already; give another `name`")
    rankings.add(ranking)
    session.add_all(
        RankingModel(ranking_id=ranking.id, model_id=model.id, position=position)
        for position, model in enumerate(models)
    )
    session.flush()
    rankings.record_event(ranking.id, "state", {"state": RankingState.QUEUED.value})
    jobs.rank(session, ranking.id, priority=ranking.priority)
    return ranking


def _usable_dataset(session: Session, caller: Caller, reference: str, pointer: str) -> Dataset:
    try:
        dataset = dataset_rules.get(session, caller, reference)
    except NotFound as error:
        raise Invalid.at(pointer, error.detail) from error
    if dataset.state is ResourceState.FAILED:
        raise Invalid.at(pointer, f"the inspection of {dataset.name!r} failed; GET /v1/datasets/{dataset.id} says why")
    return dataset


def _pool(session: Session, jobs: Jobs, caller: Caller, body: RankingCreate) -> list[Model]:
    if body.zoo is not None:
        try:
            zoo = model_rules.get_zoo(session, caller, body.zoo)
        except NotFound as error:
            raise Invalid.at("/zoo", error.detail) from error
        models = zoos.resolve(session, jobs, caller, zoo)
        if not models:
            raise Invalid.at("/zoo", f"the zoo {zoo.name!r} holds no model that is yours or shared")
    else:
        models = model_rules.resolve(session, caller, body.models or [])
    if all(model.state is ResourceState.FAILED for model in models):
        raise Invalid.at("/zoo" if body.zoo else "/models", "none of the models can be used; GET /v1/models says why")
    return models


def chosen_metrics(metrics: Sequence[str | MetricChoice]) -> tuple[MetricChoice, ...]:
    """Names and parameters of metrics that exist.

    Raises:
        Invalid: one does not exist, comes twice, or has impossible parameters.
    """
    chosen: dict[str, MetricChoice] = {}
    errors = []
    for index, item in enumerate(metrics):
        choice = item if isinstance(item, MetricChoice) else MetricChoice(name=item)
        pointer = f"/metrics/{index}"
        if choice.name not in METRICS:
            known = ", ".join(METRICS)
            errors.append({"pointer": pointer, "detail": f"there is no metric {choice.name!r}; there are: {known}"})
            continue
        if choice.name in chosen:
            errors.append({"pointer": pointer, "detail": f"{choice.name!r} is chosen twice"})
        try:
            METRICS[choice.name].check_parameters(choice.parameters)
        except ValueError as error:
            errors.append({"pointer": f"{pointer}/parameters", "detail": str(error)})
        chosen[choice.name] = choice
    if errors:
        raise Invalid(
            "some metrics are unknown or have impossible parameters; GET /v1/metrics lists them", errors=errors
        )
    return tuple(chosen.values())


def _check_sizes(body: RankingCreate, models: int) -> None:
    for index, choice in enumerate(body.ensembles):
        if choice.size > models:
            raise Invalid.at(
                f"/ensembles/{index}/size", f"an ensemble of {choice.size} needs as many models; there are {models}"
            )


def _given_ensembles(models: list[Model], body: RankingCreate) -> tuple[tuple[str, ...], ...]:
    by_name = {model.name: model.id for model in models} | {model.id: model.id for model in models}
    ensembles = []
    for index, ensemble in enumerate(body.given_ensembles):
        members = [by_name.get(reference) for reference in ensemble]
        unknown = [reference for reference, member in zip(ensemble, members, strict=True) if member is None]
        if unknown:
            raise Invalid.at(f"/given_ensembles/{index}", f"not among the models of this ranking: {', '.join(unknown)}")
        if len(set(members)) < len(members):
            raise Invalid.at(f"/given_ensembles/{index}", "the same model is named twice")
        ensembles.append(tuple(member for member in members if member is not None))
    return tuple(ensembles)


def _sources(session: Session, caller: Caller, models: list[Model]) -> dict[str, str]:
    """What models were trained on -> the data set that is a sample of it."""
    datasets = Datasets(session)
    samples = {name: datasets.source_sample(caller, name) for name in {m.source_dataset for m in models} if name}
    return {name: sample.id for name, sample in samples.items() if sample is not None}


def get(session: Session, caller: Caller, reference: str) -> Ranking:
    """The ranking of this id or name."""
    row = Rankings(session).find(caller, reference)
    if row is None:
        raise NotFound(f"there is no ranking {reference!r}; GET /v1/rankings lists them")
    return row


def _own(session: Session, caller: Caller, reference: str) -> Ranking:
    row = get(session, caller, reference)
    if row.owner != caller.owner and not caller.is_admin:
        raise Forbidden(f"{row.id} belongs to another key; only that key or an admin may change it")
    return row


def cancel(session: Session, jobs: Jobs, caller: Caller, reference: str) -> Ranking:
    """End a ranking early. What its models have left in the stores stays; a running forward pass is stopped."""
    row = _own(session, caller, reference)
    rankings = Rankings(session)
    if not rankings.move(row.id, RankingState.CANCELLED):
        raise Conflict(f"{row.id} has ended already: {row.state.value}")
    rankings.end_unfinished_runs(row.id, ModelRunState.CANCELLED, None)
    Trials(session).cut_off(row.id, "the ranking was cancelled")
    session.refresh(row)
    jobs.cancel(session, row.id)
    return row


def score_ensembles(
    session: Session, settings: Settings, caller: Caller, reference: str, body: GivenEnsembles
) -> list[EnsembleResult]:
    """Score ensembles in the pool of a ranking that has ended, from the terms that it stored."""
    row = get(session, caller, reference)
    if not row.state.is_final:
        raise Conflict(f"{row.id} is {row.state.value}; its pool is known when it has ended")
    pool = load_pool(settings.rankings_folder / row.id, body.preset)
    if pool is None:
        raise Conflict(
            f"{row.id} stored no terms for the preset {body.preset!r}; submit it again with `ensembles` of that preset "
            "(its evidence is used again)"
        )
    ids = {run.model_id for run in Rankings(session).models(row.id)}
    names = {model.id: model.name for model in Models(session).get_many(ids).values()}
    answers = []
    for index, ensemble in enumerate(body.given_ensembles):
        members = [name if name in pool.names else names.get(name, name) for name in ensemble]
        unknown = [name for name in members if name not in pool.names]
        if unknown or len(set(members)) < len(members):
            wrong = ", ".join(unknown) or "the same model is named twice"
            raise Invalid.at(f"/given_ensembles/{index}", f"not different models of this pool: {wrong}")
        answers.append(attempt({"given_ensemble": members}, partial(score_ensemble, pool, members, **reading(body))))
    return answers


def delete(session: Session, settings: Settings, caller: Caller, reference: str) -> None:
    """Forget a ranking that has ended; evidence and scores stay for other rankings."""
    row = _own(session, caller, reference)
    if not row.state.is_final:
        raise Conflict(f"{row.id} is {row.state.value}; cancel it first")
    Rankings(session).delete(row)
    shutil.rmtree(settings.rankings_folder / row.id, ignore_errors=True)
