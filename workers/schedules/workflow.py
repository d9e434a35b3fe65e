"""The workflows of schedules: fired by the engine's scheduler, or asked for by hand."""

from dbos import DBOS

from app.jobs import Workflow
from workers import durable
from workers.schedules import steps

open_run = durable.step("open_run", steps.open_run)
begin = durable.step("begin_run", steps.begin)
submit_rankings = durable.step("submit_rankings", steps.submit_rankings)
await_rankings = durable.step("await_rankings", steps.await_rankings)
finish = durable.step("finish_run", steps.finish)
fail_run = durable.step("fail_run", steps.fail_run)
BROKEN = "the run broke off; the worker's log says why"


# A run computes nothing that could end its worker, so it is never given up, however often its worker dies.
@DBOS.workflow(name=Workflow.FIRE_SCHEDULE.value, max_recovery_attempts=None)
def fire_schedule(scheduled_at: str, context: dict[str, str]) -> str:
    """A moment at which a schedule is due; the engine starts this once for each."""
    run_id = open_run(context["schedule"], scheduled_at, DBOS.workflow_id or "")
    return "skipped" if run_id is None else carry_out(run_id)


@DBOS.workflow(name=Workflow.RUN_SCHEDULE.value, max_recovery_attempts=None)
def run_schedule(run_id: str) -> str:
    """A run that was asked for by hand."""
    return carry_out(run_id)


def carry_out(run_id: str) -> str:
    """Inspect what changed, rank for every target, report. A crash repeats one step at most."""
    try:
        return _carry_out(run_id)
    except Exception:
        # Its row must not say forever that it is under way, for no other run would begin.
        fail_run(run_id, BROKEN)
        raise


def _carry_out(run_id: str) -> str:
    if not begin(run_id):
        return "over"
    submit_rankings(run_id)
    await_rankings(run_id)
    return finish(run_id)
