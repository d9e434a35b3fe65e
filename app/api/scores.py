"""Scores of arrays that a client sends."""

import json
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from app.api import strict_json
from app.api.dependencies import ScorersDep, SubmitterDep
from app.api.disconnect import unless_gone
from app.api.forms import receive_form, replay_form, upload_counter
from app.api.problems import problem_responses
from app.api.route import Route
from app.api.uploads import IncomingDep
from app.contracts.question import DEFAULT_METRICS, MetricChoice
from app.errors import Invalid
from app.schemas.scores import MetricList, ScoresAnswer

router = APIRouter(prefix="/v1/scores", tags=["scores"], route_class=Route)

FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["evidence"],
                "additionalProperties": False,
                "properties": {
                    "evidence": {
                        "type": "string",
                        "format": "binary",
                        "description": "A safetensors or npz file with the arrays `features` (N, D), `labels` (N,) "
                        "and, if there are any, `source_probabilities` (N, S), `reference_features` (M, D), `targets`.",
                    },
                    "metrics": {
                        "type": "string",
                        "contentMediaType": "application/json",
                        "description": "A JSON list of names, or of objects with `name` and `parameters`.",
                        "default": json.dumps(DEFAULT_METRICS),
                        "examples": ['["logme", {"name": "tmi", "parameters": {"neighbors": 5}}]'],
                    },
                },
            }
        }
    },
}


@router.post("", response_model=ScoresAnswer, responses=problem_responses(503), openapi_extra={"requestBody": FORM})
async def compute_scores(
    request: Request, upload: IncomingDep, scorers: ScorersDep, caller: SubmitterDep
) -> ScoresAnswer | Response:
    """Compute metrics of arrays of your own at once; nothing is stored.

    A metric that cannot be computed on these arrays has a `problem` in place of its value.
    """
    form = await receive_form(
        request,
        upload.folder,
        texts=("metrics",),
        files=("evidence",),
        count=upload_counter(request, caller),
    )
    if (first := await replay_form(request, form)) is not None:
        return first
    file = form.files.get("evidence")
    if file is None:
        detail = "send a safetensors or npz file as the part `evidence`, with a file name"
        raise Invalid(detail, errors=[{"pointer": "/evidence", "detail": detail}])
    metrics = _metrics(form.texts.get("metrics"))
    return await unless_gone(request, scorers.compute(caller.owner, file.path, metrics))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        # Said below, with its place.
        return None


def _metrics(text: str | None) -> list[str | MetricChoice]:
    if text is None:
        return list(DEFAULT_METRICS)
    strict_json.check(_parsed(text), "/metrics")
    try:
        metrics = MetricList.validate_json(text)
    except ValidationError as error:
        errors: list[Any] = [entry | {"loc": ("metrics", *entry["loc"])} for entry in error.errors()]
        raise RequestValidationError(errors) from error
    if not 1 <= len(metrics) <= 50:
        detail = "ask for 1 to 50 metrics"
        raise Invalid(detail, errors=[{"pointer": "/metrics", "detail": detail}])
    return metrics
