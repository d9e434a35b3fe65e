"""What a ranking's trial has predicted so far."""

from collections.abc import Mapping, Sequence

import numpy as np
import structlog
from numpy.typing import NDArray

from app.contracts.advice import AdvisedEnsemble
from app.contracts.states import TrialState
from app.db.advice_tables import RankingTrial
from estimators.ensembles.held_out import select_held_out
from workers.errors import EvidenceMissing
from workers.store.trials import Predictions, TrialStore

log = structlog.stdlib.get_logger(__name__)
Table = NDArray[np.float64]
LARGEST_ENSEMBLE = 3
POINTS = 100.0


def held_out(store: TrialStore, rows: Sequence[RankingTrial]) -> tuple[Table, Table] | tuple[None, None]:
    """(M, N) losses and (M, N) hits of the images that were predicted; NaN elsewhere, None without any."""
    found: list[tuple[int, Predictions]] = []
    for place, row in enumerate(rows):
        for key in row.keys:
            try:
                found.append((place, store.read(key)))
            except EvidenceMissing:
                log.warning("predictions are gone", model=row.model_id, key=key)
    if not found:
        return None, None
    count = 1 + max(int(predictions.rows.max()) for _, predictions in found)
    losses, hits = np.full((len(rows), count), np.nan), np.full((len(rows), count), np.nan)
    for place, predictions in found:
        chosen = predictions.probabilities[np.arange(predictions.labels.size), predictions.labels]
        losses[place, predictions.rows] = -np.log(np.maximum(chosen, np.finfo(np.float32).tiny).astype(np.float64))
        hits[place, predictions.rows] = predictions.probabilities.argmax(axis=1) == predictions.labels
    return losses, hits


def best_ensemble(store: TrialStore, rows: Sequence[RankingTrial], names: Mapping[str, str]) -> AdvisedEnsemble | None:
    """The best of up to ``LARGEST_ENSEMBLE`` models whose trials were completed; None if fewer than two were."""
    complete = [row for row in rows if row.state is TrialState.SUCCEEDED and row.model_id in names]
    if len(complete) < 2:
        return None
    try:
        runs = [[store.read(key) for key in row.keys] for row in complete]
    except EvidenceMissing:
        return None
    order = np.argsort(np.concatenate([fold.rows for fold in runs[0]]))
    found = select_held_out(
        names=[names[row.model_id] for row in complete],
        probabilities=[np.concatenate([fold.probabilities for fold in folds])[order] for folds in runs],
        labels=np.concatenate([fold.labels for fold in runs[0]])[order],
        size=min(LARGEST_ENSEMBLE, len(complete)),
    )
    return AdvisedEnsemble(
        members=found.members,
        accuracy=found.accuracy,
        log_loss=found.log_loss,
        best_single=found.best_single.name,
        accuracy_gain_points=POINTS * found.accuracy_gain.value,
        low=POINTS * found.accuracy_gain.low,
        high=POINTS * found.accuracy_gain.high,
    )
