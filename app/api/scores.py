"""Scores of arrays that a client sends."""

import json
import shutil
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BeforeValidator, Field, Json
from starlette.concurrency import run_in_threadpool

from app.api import strict_json
from app.api.dependencies import ScorersDep, SubmitterDep
from app.api.disconnect import unless_gone
from app.api.forms import MULTIPART, FilePart, FormRoute
from app.api.problems import problem_responses
from app.api.uploads import IncomingDep
from app.contracts.base import Body
from app.contracts.question import DEFAULT_METRICS, MetricChoice, MetricName
from app.schemas.scores import ScoresAnswer

router = APIRouter(prefix="/v1/scores", tags=["scores"], route_class=FormRoute)


def _checked(text: Any) -> Any:
    # What is not JSON at all, the type says with its place.
    with suppress(ValueError, RecursionError):
        strict_json.check(json.loads(text), "/metrics")
    return text


Metrics = Annotated[list[MetricName | MetricChoice], Field(min_length=1, max_length=50)]


class ArraysForm(Body):
    """Arrays, and what to compute of them."""

    # Every value of a form is a text.
    model_config = Body.model_config | {"strict": False}

    evidence: FilePart = Field(
        description="A safetensors or npz file with the arrays `features` (N, D), `labels` (N,) and, if there are any, "
        "`source_probabilities` (N, S), `reference_features` (M, D), `targets`."
    )
    metrics: Annotated[Json[Metrics], BeforeValidator(_checked)] = Field(
        default_factory=lambda: list[MetricName | MetricChoice](DEFAULT_METRICS),
        description="A JSON list of names, or of objects with `name` and `parameters`. "
        f"Default: `{json.dumps(DEFAULT_METRICS)}`.",
        examples=['["logme", {"name": "tmi", "parameters": {"neighbors": 5}}]'],
    )


@router.post("", responses=problem_responses(503, 507))
async def compute_scores(
    request: Request,
    body: Annotated[ArraysForm, MULTIPART],
    upload: IncomingDep,
    scorers: ScorersDep,
    caller: SubmitterDep,
) -> ScoresAnswer:
    """Compute metrics of arrays of your own at once; nothing is stored.

    A metric that cannot be computed on these arrays has a `problem` instead of a value.
    """
    # The form's file has no name by which another process could open it.
    evidence = upload.folder / "evidence"
    with evidence.open("xb") as file:
        await run_in_threadpool(shutil.copyfileobj, body.evidence.file, file)
    return await unless_gone(request, scorers.compute(caller.owner, evidence, body.metrics))
