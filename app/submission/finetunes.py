"""Making a full fine-tuning from a question: names resolved, everything checked, row and job in one transaction."""

from sqlalchemy.orm import Session

from app.contracts.caller import Caller
from app.contracts.finetunes import FineTuneCreate, FineTuningChoice, FineTuningRequest
from app.contracts.states import ResourceState
from app.db.fine_tuning_tables import FineTuning
from app.db.repositories.finetunes import FineTunings
from app.db.repositories.models import Models
from app.db.repositories.rankings import Rankings
from app.db.tables import Dataset, Model, Ranking
from app.errors import Conflict, Invalid
from app.jobs import Jobs, ranking_priority
from app.submission.rankings import TASK, listed_models, usable_dataset
from app.submission.training_time import seconds_of
from app.tasks.catalog import TASKS


def submit(session: Session, jobs: Jobs, caller: Caller, body: FineTuneCreate, *, request_id: str | None) -> FineTuning:
    """Check the whole question, then store it and enqueue its job in one transaction."""
    target, models = resolve(session, caller, body)
    finetunes, rankings = FineTunings(session), Rankings(session)
    if body.name is not None and finetunes.name_is_taken(caller.owner, body.name):
        raise Conflict(f"you have a fine-tuning named {body.name!r} already; give another `name`")
    row = FineTuning(
        name=body.name,
        target_id=target.id,
        owner=caller.owner,
        shared=body.shared,
        request_id=request_id,
        request=FineTuningRequest(
            **{name: getattr(body, name) for name in FineTuningChoice.model_fields},
            task=TASK,
            target=target.name,
            models=tuple(model.id for model in models),
            names=tuple(model.name for model in models),
            sample=body.sample,
            remember=body.remember,
        ),
        seconds_expected=seconds_of(body, body.sample, target, models).seconds,
        priority=ranking_priority(body.priority, rankings.next_submission()),
    )
    finetunes.add(row)
    jobs.fine_tune(session, row.id, priority=row.priority)
    return row


def resolve(session: Session, caller: Caller, body: FineTuneCreate) -> tuple[Dataset, list[Model]]:
    """The target and the models, named or taken from a ranking's advice.

    Raises:
        Invalid: something does not exist or cannot be used; with its place.
    """
    ranking = _ranking(session, caller, body.ranking) if body.ranking is not None else None
    named = body.target or (ranking.target_id if ranking is not None else "")
    target = usable_dataset(session, caller, named, "/target" if body.target else "/ranking")
    if target.class_counts is not None and (reason := TASKS[TASK].why_unusable(target.name, target.class_counts)):
        raise Invalid.at("/target" if body.target else "/ranking", reason)
    if body.models is not None:
        models, pointer = listed_models(session, caller, body.models), "/models"
    else:
        advice = ranking.summary.recommendation if ranking is not None and ranking.summary is not None else None
        found = Models(session).get_many(advice.fine_tune if advice is not None else ())
        # Those that were deleted since, or are no longer shared, cannot be fine-tuned.
        seen = Models(session).find_many(caller, list(found))
        models, pointer = [found[key] for key in (advice.fine_tune if advice else ()) if key in seen], "/ranking"
        if not models:
            raise Invalid.at(pointer, "the ranking advises no model that can be fine-tuned; name `models`")
    if all(model.state is ResourceState.FAILED for model in models):
        raise Invalid.at(pointer, "none of the models can be used; GET /v1/models says why")
    return target, models


def _ranking(session: Session, caller: Caller, reference: str) -> Ranking:
    row = Rankings(session).find(caller, reference)
    if row is None:
        raise Invalid.at("/ranking", f"there is no ranking {reference!r}; GET /v1/rankings lists them")
    return row
