"""The ranking workflows. Each is a list of steps; a step is a plain function that tests call too.

Workflows are replayed after a crash: they hold no clock, no randomness and no query; all of these are in steps, whose
results are stored. Failures travel as data, never as exceptions, since those change their type on replay.
"""

from collections import deque
from typing import Any

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID, WorkflowHandle

from app.contracts.work import RankingWork
from app.jobs import APPLICATION_VERSION, SOONEST, Queue, Workflow
from workers.durable import ATTEMPTS, contract_step, growing_pauses, step
from workers.engine import seconds_between_looks
from workers.ranking import steps as ranking_steps
from workers.ranking.turns import Turns
from workers.trials.workflow import run_trial

EXTRACTIONS_AGAIN = 2
EVICTED = (
    "the evidence was evicted again and again before it was scored; raise FORERANK_FEATURE_QUOTA_GIGABYTES, or rank "
    "fewer models at once"
)
CHILD_FAILED = "this model's job failed, or the worker died again and again while it ran; the worker's log says why"

is_waiting = step("is_waiting", ranking_steps.is_waiting)
plan = contract_step("plan", ranking_steps.plan, RankingWork)
extract_evidence = step("extract_evidence", ranking_steps.extract_evidence)
compute_scores = step("compute_scores", ranking_steps.compute_scores)
fail_model = step("fail_model", ranking_steps.fail_model)
conclude = step("conclude", ranking_steps.conclude)


# A ranking computes nothing that could end its worker, so it is never given up, however often its worker dies.
@DBOS.workflow(name=Workflow.RANK.value, max_recovery_attempts=None)
def rank(ranking_id: str) -> str:
    """One ranking: plan, extract what is missing, score it, conclude. A crash costs at most one model's extraction."""
    pauses = growing_pauses()
    while is_waiting(ranking_id):
        DBOS.sleep(next(pauses))
    work = plan(ranking_id)
    extracting: deque[tuple[str, WorkflowHandle[bool]]] = deque()
    scoring: deque[tuple[str, WorkflowHandle[bool]]] = deque()
    on_device = Turns(Queue.DEVICE, ranking_id, work.priority)
    among_scorers = Turns(Queue.SCORING, ranking_id, work.priority)

    def start_scoring(model_id: str) -> None:
        scoring.append((model_id, _start(score, Queue.SCORING, ranking_id, model_id, among_scorers.next())))

    def score_the_oldest() -> None:
        model_id, handle = extracting.popleft()
        if _result(ranking_id, model_id, handle):
            start_scoring(model_id)

    for model_id in work.score:
        start_scoring(model_id)
    for model_id in work.extract:
        if len(extracting) >= work.in_flight:
            score_the_oldest()
        extracting.append((model_id, _start(extract, Queue.DEVICE, ranking_id, model_id, on_device.next())))
    while extracting:
        score_the_oldest()
    for model_id, handle in scoring:
        _result(ranking_id, model_id, handle)
    if work.trial:
        run_trial(ranking_id)
    return conclude(ranking_id)


@DBOS.workflow(name=Workflow.EXTRACT.value, max_recovery_attempts=ATTEMPTS)
def extract(ranking_id: str, model_id: str) -> bool:
    """One forward pass of one model; whether its evidence is there."""
    return extract_evidence(ranking_id, model_id)


@DBOS.workflow(name=Workflow.SCORE.value, max_recovery_attempts=ATTEMPTS)
def score(ranking_id: str, model_id: str) -> bool:
    """All scores of one model, from the feature store. Evidence that was evicted meanwhile is extracted again."""
    for attempt in range(1, EXTRACTIONS_AGAIN + 1):
        scored = compute_scores(ranking_id, model_id)
        if scored is not None:
            return scored
        # The queue of the device never waits for this one, so waiting here cannot lock up.
        handle = _start(extract, Queue.DEVICE, ranking_id, model_id, SOONEST, again=attempt)
        if not _result(ranking_id, model_id, handle):
            return False
    scored = compute_scores(ranking_id, model_id)
    if scored is None:
        fail_model(ranking_id, model_id, EVICTED, "evidence-missing")
    return bool(scored)


def _start(
    workflow: Any, queue: Queue, ranking_id: str, model_id: str, priority: int, *, again: int = 0
) -> WorkflowHandle[bool]:
    # A parent cut off while starting a child starts it again on replay: the same id makes that harmless.
    with (
        SetWorkflowID(f"{ranking_id}-{model_id}-{workflow.__name__}" + (f"-again-{again}" if again else "")),
        SetEnqueueOptions(priority=priority, app_version=APPLICATION_VERSION),
    ):
        handle: WorkflowHandle[bool] = DBOS.enqueue_workflow(queue.value, workflow, ranking_id, model_id)
    return handle


def _result(ranking_id: str, model_id: str, handle: WorkflowHandle[bool]) -> bool:
    try:
        return handle.get_result(polling_interval_sec=seconds_between_looks())
    except Exception:
        fail_model(ranking_id, model_id, CHILD_FAILED)
        return False
