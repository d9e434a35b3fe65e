"""Scores from the feature store. Runs in a scorer's process; numbers and names in, JSON out."""

from contextlib import ExitStack

from app.contracts.progress import Progress, TellProgress
from app.contracts.scores import Cell, ScoreCommand, ScoreResult
from app.scoring.metric import compute_metric
from app.settings import Settings
from app.tasks.catalog import TASKS
from app.tasks.task import Task
from estimators.catalog import Evidence
from workers.scoring.pool import SCORER
from workers.store.features import FeatureStore


def compute_scores(command: ScoreCommand, settings: Settings, progress: TellProgress) -> list[ScoreResult]:
    """One result for each cell, in order; a metric that fails is a result with a problem.

    Raises:
        EvidenceMissing: evidence is not in the store any more.
    """
    store = FeatureStore.of(settings)
    cells = command.cells
    results = []
    for done, cell in enumerate(cells):
        progress(Progress(stage="scoring", done=done, total=len(cells)))
        results.append(_compute(store, TASKS[command.task], cell))
    return results


def _compute(store: FeatureStore, task: Task, cell: Cell) -> ScoreResult:
    with ExitStack() as opened:
        evidence = opened.enter_context(store.open(cell.evidence_key))
        reference = opened.enter_context(store.open(cell.reference_key)) if cell.reference_key else None
        arrays = Evidence(
            features=evidence.features,
            **task.rows(evidence.labels),
            source_probabilities=evidence.source_probabilities,
            reference_features=reference.features if reference else None,
        )
        return compute_metric(cell.metric, arrays, cell.parameters, SCORER, cell.intervals)
