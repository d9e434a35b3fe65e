"""The workflow of a full fine-tuning, and that of one of its runs."""

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID, WorkflowHandle

from app.contracts.work import FineTuningWork
from app.jobs import APPLICATION_VERSION, Queue, Workflow
from workers.durable import ATTEMPTS, contract_step, growing_pauses, step
from workers.engine import seconds_between_looks
from workers.finetunes import steps

CHILD_FAILED = "the run's job failed, or the worker died again and again while it ran; the worker's log says why"

is_waiting = step("fine_tuning_is_waiting", steps.is_waiting)
plan_runs = contract_step("plan_runs", steps.plan_runs, FineTuningWork)
run_once = step("run_once", steps.run_once)
fail_run = step("fail_fine_tuning_run", steps.fail_run)
conclude = step("conclude_fine_tuning", steps.conclude)


# It computes nothing that could end its worker, so it is never given up, however often its worker dies.
@DBOS.workflow(name=Workflow.FINE_TUNE.value, max_recovery_attempts=None)
def fine_tune(fine_tuning_id: str) -> str:
    """Try learning rates, then train and test with the best; a crash costs at most the run that was under way."""
    pauses = growing_pauses()
    while is_waiting(fine_tuning_id):
        DBOS.sleep(next(pauses))
    while (work := plan_runs(fine_tuning_id)).runs:
        handles = [(number, _start(fine_tuning_id, number, work.priority)) for number in work.runs]
        for number, handle in handles:
            try:
                handle.get_result(polling_interval_sec=seconds_between_looks())
            except Exception:
                fail_run(fine_tuning_id, number, CHILD_FAILED)
    return conclude(fine_tuning_id)


@DBOS.workflow(name=Workflow.FINE_TUNE_ONCE.value, max_recovery_attempts=ATTEMPTS)
def fine_tune_once(fine_tuning_id: str, number: int) -> bool:
    """One run; whether it was done."""
    return run_once(fine_tuning_id, number)


def _start(fine_tuning_id: str, number: int, priority: int) -> WorkflowHandle[bool]:
    with (
        SetWorkflowID(f"{fine_tuning_id}-run-{number}"),
        SetEnqueueOptions(priority=priority, app_version=APPLICATION_VERSION),
    ):
        handle: WorkflowHandle[bool] = DBOS.enqueue_workflow(Queue.TRIALS.value, fine_tune_once, fine_tuning_id, number)
    return handle
