"""The question of a ranking: what a form means, what a ranking asked, and how to ask the same again."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from fastapi import Request

from app.contracts.question import RankingCreate
from app.contracts.rankings import RankingRequest
from app.schemas.rankings import ModelRow
from app.services.sessions import COOKIE
from app.web.forms import filled

CHOICES = 200
"""Models that a form holds."""


def of_form(
    target: str,
    zoo: str,
    models: Sequence[str] | None,
    metrics: Sequence[str] | None,
    max_samples: str,
    ensemble: str,
    trial: str,
    name: str,
) -> RankingCreate:
    """The request that the fields of the form mean.

    Raises:
        Invalid: they mean none.
    """
    question: dict[str, Any] = {
        "target": target,
        "zoo": zoo,
        "models": [] if zoo else list(models or []),
        "metrics": list(metrics or []),
        "sample": {"max_samples": int(max_samples)} if max_samples.isdecimal() else None,
        "ensembles": [{"size": int(ensemble)}] if ensemble.isdecimal() else [],
        "trial": {"models": int(trial)} if trial.isdecimal() else None,
        "name": name,
    }
    return filled(RankingCreate, **question)


def of_ranking(request: RankingRequest, rows: Sequence[ModelRow]) -> RankingCreate:
    """The question of a ranking, by names."""
    kept = ("sample", "priority", "reference", "intervals", "trial", "history")
    return RankingCreate(
        target=request.target,
        zoo=request.zoo,
        models=None if request.zoo else [row.model_id for row in rows],
        metrics=[metric if metric.parameters else metric.name for metric in request.metrics],
        layers=request.layers if request.layers == "stages" else list(request.layers),
        ensembles=list(request.ensembles),
        given_ensembles=[list(members) for members in request.given_ensembles],
        **{name: getattr(request, name) for name in kept},
    )


def form_address(question: RankingCreate) -> str | None:
    """The address of the form filled in with what it can hold of a question; None if these are too many models."""
    if question.models and len(question.models) > CHOICES:
        return None
    fields = {
        "target": question.target,
        "zoo": question.zoo,
        "model": question.models,
        "metric": [metric if isinstance(metric, str) else metric.name for metric in question.metrics],
        "max_samples": question.sample.max_samples or "",
        "ensemble": question.ensembles[0].size if question.ensembles else None,
        "trial": question.trial.models if question.trial else None,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    return "/rankings/new?" + urlencode(given, doseq=True)


def command(request: Request, body: Mapping[str, Any]) -> str:
    """The curl command that asks for the same."""
    question = json.dumps(body, indent=2)
    key = " -H 'X-API-Key: ...'" if COOKIE in request.cookies else ""
    address = f"{request.base_url}v1/rankings"
    return f"curl -s {address} -H 'Content-Type: application/json'{key} \\\n  -d {shlex.quote(question)}"
