"""A finished ranking's table as rows, so that boards and histories are queries."""

import hashlib
import json
from typing import Any

from app.contracts.summary import Summary
from app.db.repositories.placements import CONSENSUS
from app.db.tables import Ranking
from estimators.catalog import METRICS
from workers.ranking.conclusion import Cells
from workers.store.features import HEAD


def placements(ranking_id: str, summary: Summary, cells: Cells) -> list[dict[str, Any]]:
    """One row per model and metric, and one per model for the consensus; the value of that is minus the mean rank."""
    values = {(cell.metric, cell.model_id): score.value for cell, score in cells if cell.layer == HEAD}
    rows = []
    for metric, ranks in summary.ranks.items():
        pool = summary.pool_values.get(metric, {})
        rows += [
            _row(ranking_id, metric, model, rank, pool.get(model, values.get((metric, model))))
            for model, rank in ranks.items()
        ]
    if summary.consensus is not None:
        means = summary.consensus.mean_ranks
        ranks = summary.consensus.ranks
        rows += [
            _row(ranking_id, CONSENSUS, model, rank, -means[model]) for model, rank in ranks.items() if model in means
        ]
    return rows


def _row(ranking_id: str, metric: str, model_id: str, rank: int, value: float | None) -> dict[str, Any]:
    return {"ranking_id": ranking_id, "metric": metric, "model_id": model_id, "rank": rank, "value": value or 0.0}


def question(ranking: Ranking) -> str:
    """SHA-256 of all that scores of two rankings have to share to be comparable, but for the models."""
    asked, sample = ranking.request, ranking.sample
    text = json.dumps(
        {
            "metrics": sorted(
                (metric.name, METRICS[metric.name].version, json.dumps(metric.parameters, sort_keys=True))
                for metric in asked.metrics
            ),
            "sample": asked.sample.plain(),
            "images": None if sample is None else sample.fingerprint,
            "reference": asked.reference,
        },
        sort_keys=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()
