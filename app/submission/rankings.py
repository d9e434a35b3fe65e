"""Making a ranking from a question: names resolved, everything checked, row and job in one transaction."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from app import tracing
from app.contracts.caller import Caller
from app.contracts.events import StateEvent
from app.contracts.question import MetricChoice, RankingCreate
from app.contracts.rankings import RankingRequest
from app.contracts.states import ResourceState
from app.contracts.tasks import TaskName
from app.db.repositories.datasets import Datasets
from app.db.repositories.models import Models, Zoos
from app.db.repositories.rankings import Rankings
from app.db.tables import Dataset, Model, Ranking, RankingModel, Zoo
from app.errors import Conflict, Invalid
from app.jobs import Jobs, ranking_priority
from app.submission import zoos
from app.tasks.catalog import TASKS
from app.tasks.task import Task, applies
from estimators.catalog import METRICS

# Data sets hold one label an image.
TASK: TaskName = "classification"


def submit(session: Session, jobs: Jobs, caller: Caller, body: RankingCreate, *, request_id: str | None) -> Ranking:
    """Check the whole question, then store it and enqueue its job in one transaction."""
    target = usable_dataset(session, caller, body.target, "/target")
    task = TASKS[TASK]
    if target.class_counts is not None and (reason := task.why_unusable(target.name, target.class_counts)):
        raise Invalid.at("/target", reason)
    models, zoo = _pool(session, jobs, caller, body)
    metrics = chosen_metrics(body.metrics)
    _check_metrics(task, metrics)
    _check_sizes(body, len(models))
    ranking = Ranking(
        name=body.name,
        target_id=target.id,
        owner=caller.owner,
        shared=body.shared,
        request_id=request_id,
        traceparent=tracing.traceparent(),
        request=RankingRequest(
            task=TASK,
            target=target.name,
            zoo=zoo,
            metrics=metrics,
            sample=body.sample,
            priority=body.priority,
            layers=body.layers if body.layers == "stages" else tuple(body.layers),
            reference=usable_dataset(session, caller, body.reference, "/reference").id if body.reference else None,
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
    ranking.priority = ranking_priority(body.priority, rankings.next_submission())
    rankings.add(ranking)
    session.add_all(
        RankingModel(ranking_id=ranking.id, model_id=model.id, position=position)
        for position, model in enumerate(models)
    )
    session.flush()
    rankings.record_event(StateEvent(ranking_id=ranking.id, state="queued"))
    jobs.rank(session, ranking.id, priority=ranking.priority)
    return ranking


def usable_dataset(session: Session, caller: Caller, reference: str, pointer: str) -> Dataset:
    """The data set of this id or name, unless its inspection failed.

    Raises:
        Invalid: at ``pointer``.
    """
    dataset = Datasets(session).find(caller, reference)
    if dataset is None:
        raise Invalid.at(pointer, f"there is no data set {reference!r}; GET /v1/datasets lists them")
    if dataset.state is ResourceState.FAILED:
        raise Invalid.at(pointer, f"the inspection of {dataset.name!r} failed; GET /v1/datasets/{dataset.id} says why")
    return dataset


def _pool(session: Session, jobs: Jobs, caller: Caller, body: RankingCreate) -> tuple[list[Model], str | None]:
    zoo: Zoo | None = None
    if body.zoo is not None:
        zoo = Zoos(session).find_with_members(caller, body.zoo)
        if zoo is None:
            raise Invalid.at("/zoo", f"there is no zoo {body.zoo!r}; GET /v1/zoos lists them")
        models = zoos.resolve(session, jobs, caller, zoo)
        if not models:
            raise Invalid.at("/zoo", f"the zoo {zoo.name!r} holds no model that is yours or shared")
    else:
        models = listed_models(session, caller, body.models or [])
    if all(model.state is ResourceState.FAILED for model in models):
        raise Invalid.at("/zoo" if body.zoo else "/models", "none of the models can be used; GET /v1/models says why")
    return models, zoo.name if zoo else None


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


def _check_metrics(task: Task, metrics: Sequence[MetricChoice]) -> None:
    for index, choice in enumerate(metrics):
        if not applies(METRICS[choice.name], task):
            needed = ", ".join(sorted(METRICS[choice.name].required_evidence - task.evidence))
            raise Invalid.at(f"/metrics/{index}", f"{choice.name!r} needs {needed}, which this task does not give")


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


def listed_models(
    session: Session, caller: Caller, references: Sequence[str], *, pointer: str = "/models"
) -> list[Model]:
    """The models of these ids or names, in order; each must exist, none twice.

    Raises:
        Invalid: and which do not, at ``pointer``.
    """
    found = Models(session).find_many(caller, references)
    errors = []
    seen: dict[str, int] = {}
    for index, reference in enumerate(references):
        if reference not in found:
            errors.append({"pointer": f"{pointer}/{index}", "detail": f"there is no model {reference!r}"})
        elif found[reference].id in seen:
            first = seen[found[reference].id]
            errors.append(
                {"pointer": f"{pointer}/{index}", "detail": f"{reference!r} is the same model as number {first}"}
            )
        else:
            seen[found[reference].id] = index
    if errors:
        raise Invalid("some models do not exist or come twice; GET /v1/models lists them", errors=errors)
    return [found[reference] for reference in references]
