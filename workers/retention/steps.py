"""The steps of retention: each looks at one kind, and may be repeated."""

import structlog
from sqlalchemy.orm import Session

from app.contracts.problems import failure
from app.contracts.retention import Kind, Removal, Rule
from app.contracts.states import RunState
from app.db.repositories.retention import RetentionRuns
from app.db.retention_tables import RetentionRun
from app.db.tables import now
from workers.errors import Stopping
from workers.retention.sources import SOURCES, Found, rules
from workers.runtime import Runtime, current

SHOWN = 20
# Of the log itself.
LOGGED_RUNS = 200

log = structlog.stdlib.get_logger(__name__)


def expire(run_id: str, kind: Kind) -> None:
    """Remove what is past its time of one kind, or count it in a dry run.

    Raises:
        Stopping: this worker ends; another one goes on.
    """
    runtime = current()
    rule = rules(runtime.settings)[kind]
    source = SOURCES[kind](runtime)
    found = source.find(rule) if rule.limits_anything else Found([])
    dry_run = _begin(runtime, run_id, kind, rule, found)
    if dry_run is None:
        return

    def tell(session: Session, number: int, size: int) -> None:
        _add(session, run_id, kind, number, size)

    for start in range(0, len(found.identifiers), source.at_once):
        few = found.identifiers[start : start + source.at_once]
        if runtime.stopping.is_set():
            raise Stopping("the worker stops")
        if dry_run:
            number, size = source.measure(few)
            with runtime.transaction() as session:
                tell(session, number, size)
        else:
            source.remove(few, tell)
    if not dry_run and found.identifiers:
        log.info("what was past its time is gone", kind=kind.value, number=len(found.identifiers), kept=found.kept)


def _begin(runtime: Runtime, run_id: str, kind: Kind, rule: Rule, found: Found) -> bool | None:
    """Note the kind in the run's row; whether the run is dry, None if it has ended."""
    with runtime.transaction() as session:
        run = _locked(session, run_id)
        if run is None or run.state.is_final:
            return None
        run.state = RunState.RUNNING
        known = {removal.kind: removal for removal in run.removals}
        removal = Removal(kind=kind, rule=rule, kept=found.kept, examples=tuple(found.identifiers[:SHOWN]))
        if kind in known and not run.dry_run:
            # What went before an interruption counts on.
            removal = known[kind].model_copy(update={"kept": found.kept})
        run.removals = tuple((known | {kind: removal}).values())
        return run.dry_run


def _add(session: Session, run_id: str, kind: Kind, number: int, size: int) -> None:
    run = _locked(session, run_id)
    if run is not None:
        run.removals = tuple(
            removal.model_copy(update={"removed": removal.removed + number, "bytes": removal.bytes + size})
            if removal.kind is kind
            else removal
            for removal in run.removals
        )


def _locked(session: Session, run_id: str) -> RetentionRun | None:
    return session.get(RetentionRun, run_id, with_for_update=True, populate_existing=True)


def finish(run_id: str) -> None:
    """Close the run, and keep its log from growing."""
    with current().transaction() as session:
        run = _locked(session, run_id)
        if run is not None and not run.state.is_final:
            run.state, run.finished_at = RunState.SUCCEEDED, now()
        session.flush()
        RetentionRuns(session).keep_newest(LOGGED_RUNS)


def fail(run_id: str) -> None:
    """Close a run that cannot go on."""
    with current().transaction() as session:
        run = _locked(session, run_id)
        if run is not None and not run.state.is_final:
            run.state, run.finished_at = RunState.FAILED, now()
            run.problem = failure("internal-error", "retention broke off; the worker's log says why")
