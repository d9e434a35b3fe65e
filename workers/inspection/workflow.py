"""Look at a data set or a model once, when it is registered."""

import time
from functools import partial
from typing import Any

import structlog
from dbos import DBOS
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.contracts.datasets import DatasetSpec, InspectionProgress, Unreadable
from app.contracts.problems import failure
from app.db.outages import is_outage
from app.db.repositories.datasets import Datasets
from app.db.repositories.models import Models
from app.db.tables import ResourceState, now
from app.jobs import Workflow
from app.settings import Settings
from workers.durable import ATTEMPTS, step
from workers.errors import Problem, Stopped
from workers.images.index import IndexStore
from workers.inspection.description import describe
from workers.inspection.images import inspect_dataset as read_dataset
from workers.inspection.sheet import write_sheet
from workers.runtime import current

log = structlog.stdlib.get_logger(__name__)
PROGRESS_SECONDS = 1.0


@DBOS.workflow(name=Workflow.INSPECT_DATASET.value, max_recovery_attempts=ATTEMPTS)
def inspect_dataset(dataset_id: str) -> str:
    """Count and fingerprint the images of a data set."""
    return inspect_dataset_step(dataset_id)


def look_at_dataset(dataset_id: str) -> str:
    """Read every image, write the index, then the row. Does nothing if the row is gone or done."""
    runtime = current()
    with runtime.database.reading() as session:
        row = Datasets(session).get(dataset_id)
    if row is None or row.state is not ResourceState.PENDING:
        return "nothing to do"
    values = _dataset_values(runtime.settings, dataset_id, row.spec)
    runtime.write(partial(_record_dataset, dataset_id, values))
    log.info("data set inspected", dataset=dataset_id, state=values["state"].value)
    return str(values["state"].value)


def _record_dataset(dataset_id: str, values: dict[str, Any], session: Session) -> None:
    row = Datasets(session).get(dataset_id)
    if row is not None and row.state is ResourceState.PENDING:
        for name, value in values.items():
            setattr(row, name, value)
        row.inspected_at = now()
        row.progress = None


def _dataset_values(settings: Settings, dataset_id: str, spec: DatasetSpec) -> dict[str, Any]:
    told = 0.0

    def tell(progress: dict[str, Any]) -> None:
        nonlocal told
        if time.monotonic() - told < PROGRESS_SECONDS:
            return
        told = time.monotonic()
        try:
            with current().transaction() as session:
                row = Datasets(session).get(dataset_id)
                if row is None:
                    raise Stopped("the data set was deleted")
                row.progress = InspectionProgress(done=progress["done"], total=progress["total"])
        except SQLAlchemyError as error:
            # Progress may be lost while the database is away; what was read must not be.
            if not is_outage(error):
                raise
            log.warning("progress was not written", dataset=dataset_id)

    try:
        index = read_dataset(spec, settings=settings, readers=current().readers, progress=tell)
    except Problem as problem:
        return {"state": ResourceState.FAILED, "problem": failure(problem.code, problem.detail)}
    IndexStore(settings).write(dataset_id, index)
    write_sheet(dataset_id, index, settings=settings, readers=current().readers)
    return {
        "state": ResourceState.READY,
        "problem": None,
        "fingerprint": index.fingerprint,
        "image_count": len(index),
        "class_counts": index.counts,
        "unreadable": tuple(Unreadable(**file) for file in index.unreadable),
    }


@DBOS.workflow(name=Workflow.INSPECT_MODEL.value, max_recovery_attempts=ATTEMPTS)
def inspect_model(model_id: str) -> str:
    """Load and digest a model."""
    return inspect_model_step(model_id)


def look_at_model(model_id: str) -> str:
    """Load the weights in the extractor, then write the row. Does nothing if the row is gone or done."""
    runtime = current()
    with runtime.database.reading() as session:
        row = Models(session).get(model_id)
    if row is None or row.state is not ResourceState.PENDING:
        return "nothing to do"
    values: dict[str, Any]
    try:
        card = runtime.extractor.inspect_model(row.spec)
        values = {
            "state": ResourceState.READY,
            "problem": None,
            "card": card,
            "digest": card.weights_digest,
            "parameters": card.parameters,
        }
    except Problem as problem:
        values = {"state": ResourceState.FAILED, "problem": failure(problem.code, problem.detail)}
    runtime.write(partial(_record_model, model_id, values))
    log.info("model inspected", model=model_id, state=values["state"].value)
    return str(values["state"].value)


def _record_model(model_id: str, values: dict[str, Any], session: Session) -> None:
    row = Models(session).get(model_id)
    if row is not None and row.state is ResourceState.PENDING:
        for name, value in values.items():
            setattr(row, name, value)
        if row.license is None and values.get("card"):
            row.license = values["card"].license
        if row.card is not None:
            describe(session, row)
        row.inspected_at = now()


inspect_dataset_step = step("inspect_dataset_step", look_at_dataset)
inspect_model_step = step("inspect_model_step", look_at_model)
