"""The ranking workflows. Each is a list of steps; a step is a plain function that tests call too.

Workflows are replayed after a crash: they hold no clock, no randomness and no query; all of these are in steps, whose
results are stored. Failures travel as data, never as exceptions, since those change their type on replay.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID, WorkflowHandle

from app.jobs import APPLICATION_VERSION, Queue, Workflow
from workers.ranking import steps as ranking_steps

RESULT_POLLING_SECONDS = 0.2
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
CHILD_FAILED = "the job engine gave up on this model after repeated crashes; the worker's log says why"


def _step(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    return DBOS.step(
        name=function.__name__, retries_allowed=True, max_attempts=3, interval_seconds=5.0, backoff_rate=2.0
    )(function)


is_waiting = _step(ranking_steps.is_waiting)
plan = _step(ranking_steps.plan)
extract_evidence = _step(ranking_steps.extract_evidence)
compute_scores = _step(ranking_steps.compute_scores)
fail_model = _step(ranking_steps.fail_model)
conclude = _step(ranking_steps.conclude)


@DBOS.workflow(name=Workflow.RANK.value, max_recovery_attempts=50)
def rank(ranking_id: str) -> str:
    """One ranking: plan, extract what is missing, score it, conclude. A crash costs at most one model's extraction."""
    while is_waiting(ranking_id):
        DBOS.sleep(1)
    work = plan(ranking_id)
    extracting: deque[tuple[str, WorkflowHandle[bool]]] = deque()
    scoring: deque[tuple[str, WorkflowHandle[bool]]] = deque()

    def score_the_oldest() -> None:
        model_id, handle = extracting.popleft()
        if _result(ranking_id, model_id, handle):
            scoring.append((model_id, _start(score, Queue.SCORING, ranking_id, model_id, work["priority"])))

    for model_id in work["score"]:
        scoring.append((model_id, _start(score, Queue.SCORING, ranking_id, model_id, work["priority"])))
    for model_id in work["extract"]:
        if len(extracting) >= work["in_flight"]:
            score_the_oldest()
        extracting.append((model_id, _start(extract, Queue.DEVICE, ranking_id, model_id, work["priority"])))
    while extracting:
        score_the_oldest()
    for model_id, handle in scoring:
        _result(ranking_id, model_id, handle)
    return conclude(ranking_id)


@DBOS.workflow(name=Workflow.EXTRACT.value, max_recovery_attempts=5)
def extract(ranking_id: str, model_id: str) -> bool:
    """One forward pass of one model; whether its evidence is there."""
    return extract_evidence(ranking_id, model_id)


@DBOS.workflow(name=Workflow.SCORE.value, max_recovery_attempts=5)
def score(ranking_id: str, model_id: str) -> bool:
    """All scores of one model, from the feature store."""
    return compute_scores(ranking_id, model_id)


def _start(workflow: Any, queue: Queue, ranking_id: str, model_id: str, priority: int) -> WorkflowHandle[bool]:
    # A parent cut off while starting a child starts it again on replay: the same id makes that harmless.
    with (
        SetWorkflowID(f"{ranking_id}-{model_id}-{workflow.__name__}"),
        SetEnqueueOptions(priority=priority, app_version=APPLICATION_VERSION),
    ):
        handle: WorkflowHandle[bool] = DBOS.enqueue_workflow(queue.value, workflow, ranking_id, model_id)
    return handle


def _result(ranking_id: str, model_id: str, handle: WorkflowHandle[bool]) -> bool:
    try:
        return handle.get_result(polling_interval_sec=RESULT_POLLING_SECONDS)
    except Exception:
        fail_model(ranking_id, model_id, CHILD_FAILED)
        return False
