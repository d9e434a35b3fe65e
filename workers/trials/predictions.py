"""What a ranking's trial has predicted so far."""

from collections.abc import Sequence

import numpy as np
import structlog
from numpy.typing import NDArray

from app.db.advice_tables import RankingTrial
from workers.errors import EvidenceMissing
from workers.store.trials import Predictions, TrialStore

log = structlog.stdlib.get_logger(__name__)
Table = NDArray[np.float64]


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
