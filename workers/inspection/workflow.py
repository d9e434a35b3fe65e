"""Look at a data set or a model once, when it is registered."""

import time
from functools import partial

import structlog
from dbos import DBOS
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.contracts.base import Contract
from app.contracts.datasets import DatasetSpec, InspectedDataset, InspectionProgress, Unreadable
from app.contracts.models import ModelCard
from app.contracts.problems import ProblemDocument, failure
from app.contracts.progress import Progress
from app.contracts.states import ResourceState
from app.db.outages import is_outage
from app.db.repositories.datasets import Datasets
from app.db.repositories.models import Models
from app.db.tables import now
from app.jobs import Workflow
from app.settings import Settings
from workers.durable import ATTEMPTS, step
from workers.errors import Problem, Stopped
from workers.images.index import IndexStore
from workers.images.places import at_hand
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
    found = _read(runtime.settings, dataset_id, row.spec)
    runtime.write(partial(_record_dataset, dataset_id, found))
    return _told("data set", dataset_id, found)


def _told(what: str, identifier: str, found: Contract) -> str:
    """Log that an inspection has ended; its outcome."""
    state = ResourceState.FAILED if isinstance(found, ProblemDocument) else ResourceState.READY
    log.info("inspected", what=what, id=identifier, state=state.value)
    return state.value


def _record_dataset(dataset_id: str, found: InspectedDataset | ProblemDocument, session: Session) -> None:
    row = Datasets(session).get(dataset_id)
    if row is None or row.state is not ResourceState.PENDING:
        return
    if isinstance(found, ProblemDocument):
        row.state, row.problem = ResourceState.FAILED, found
    else:
        row.state, row.problem = ResourceState.READY, None
        row.fingerprint, row.image_count = found.fingerprint, found.image_count
        row.class_counts, row.unreadable = found.class_counts, found.unreadable
    row.inspected_at, row.progress = now(), None


def _read(settings: Settings, dataset_id: str, spec: DatasetSpec) -> InspectedDataset | ProblemDocument:
    told = 0.0

    def tell(progress: Progress) -> None:
        nonlocal told
        if time.monotonic() - told < PROGRESS_SECONDS:
            return
        told = time.monotonic()
        try:
            with current().transaction() as session:
                row = Datasets(session).get(dataset_id)
                if row is None:
                    raise Stopped("the data set was deleted")
                row.progress = InspectionProgress(done=progress.done, total=progress.total)
        except SQLAlchemyError as error:
            # Progress may be lost while the database is away; what was read must not be.
            if not is_outage(error):
                raise
            log.warning("progress was not written", dataset=dataset_id)

    try:
        with at_hand(spec, dataset_id, settings) as spec_here:
            index = read_dataset(spec_here, settings=settings, readers=current().readers, progress=tell)
            IndexStore(settings).write(dataset_id, index)
            write_sheet(dataset_id, index, settings=settings, readers=current().readers)
    except Problem as problem:
        return failure(problem.code, problem.detail)
    return InspectedDataset(
        fingerprint=index.fingerprint,
        image_count=len(index),
        class_counts=index.counts,
        unreadable=tuple(Unreadable.read(file) for file in index.unreadable),
    )


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
    found: ModelCard | ProblemDocument
    try:
        found = runtime.extractor.inspect_model(row.spec)
    except Problem as problem:
        found = failure(problem.code, problem.detail)
    runtime.write(partial(_record_model, model_id, found))
    return _told("model", model_id, found)


def _record_model(model_id: str, found: ModelCard | ProblemDocument, session: Session) -> None:
    row = Models(session).get(model_id)
    if row is None or row.state is not ResourceState.PENDING:
        return
    if isinstance(found, ProblemDocument):
        row.state, row.problem = ResourceState.FAILED, found
    else:
        row.state, row.problem = ResourceState.READY, None
        row.card, row.digest, row.parameters = found, found.weights_digest, found.parameters
        row.license = row.license if row.license is not None else found.license
        describe(session, row)
    row.inspected_at = now()


inspect_dataset_step = step("inspect_dataset_step", look_at_dataset)
inspect_model_step = step("inspect_model_step", look_at_model)
