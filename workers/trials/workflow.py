"""The workflow of one fold; a ranking starts it for every model that is still in the race."""

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID, WorkflowHandle

from app.contracts.work import FoldWork
from app.jobs import APPLICATION_VERSION, Queue, Workflow
from workers.durable import ATTEMPTS, contract_step, step
from workers.engine import seconds_between_looks
from workers.trials import steps

CHILD_FAILED = "the trial's job failed, or the worker died again and again while it ran; the worker's log says why"


plan_fold = contract_step("plan_fold", steps.plan_fold, FoldWork)
try_fold = step("try_fold", steps.try_fold)
fail_trial = step("fail_trial", steps.fail_trial)


@DBOS.workflow(name=Workflow.TRY.value, max_recovery_attempts=ATTEMPTS)
def try_model(ranking_id: str, model_id: str, fold: int) -> bool:
    """One fold of one model; whether it was predicted."""
    return try_fold(ranking_id, model_id, fold)


def run_trial(ranking_id: str) -> None:
    """Fold by fold, all models that are still in the race. Called by a ranking's workflow."""
    while (work := plan_fold(ranking_id)).models:
        handles = [(model_id, _start(ranking_id, model_id, work)) for model_id in work.models]
        for model_id, handle in handles:
            try:
                handle.get_result(polling_interval_sec=seconds_between_looks())
            except Exception:
                fail_trial(ranking_id, model_id, CHILD_FAILED)


def _start(ranking_id: str, model_id: str, work: FoldWork) -> WorkflowHandle[bool]:
    with (
        SetWorkflowID(f"{ranking_id}-{model_id}-fold-{work.fold}"),
        SetEnqueueOptions(priority=work.priority, app_version=APPLICATION_VERSION),
    ):
        handle: WorkflowHandle[bool] = DBOS.enqueue_workflow(
            Queue.TRIALS.value, try_model, ranking_id, model_id, work.fold
        )
    return handle
