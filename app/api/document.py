"""The OpenAPI document: what FastAPI finds, and every problem that a route may answer with."""

import json
from importlib.metadata import version as package_version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel

from app.api.problems import ProblemDocument, problem_response
from app.contracts.events import EVENTS

TITLE = "Forerank"
DESCRIPTION = """
Of these pre-trained models, which one, or which small ensemble of them, should be fine-tuned on your images?
Forerank ranks them from their features alone, without fine-tuning anything.

Register models and a data set, then post a ranking. The answer is `202` with a `Location`: read it until its `state`
is final, or follow its events. Every error is a problem document (RFC 9457). Every POST may carry an
`Idempotency-Key`: a retry with the same key and body gets the first answer.
""".strip()
TAGS = [
    {"name": "datasets", "description": "Labelled images: what models are ranked for, or samples of what they know."},
    {"name": "models", "description": "Pre-trained networks that can be loaded."},
    {"name": "zoos", "description": "Named sets of models."},
    {"name": "rankings", "description": "Jobs: a data set, models and metrics; scores, ranks and ensembles."},
    {"name": "finetunes", "description": "Jobs: models fine-tuned in full, and tested on images held out."},
    {"name": "metrics", "description": "What can be computed, and how to read it."},
    {"name": "scores", "description": "Metrics of arrays that you send, at once."},
    {"name": "schedules", "description": "Rankings that a cron expression repeats, their reports, and leaderboards."},
    {"name": "webhooks", "description": "Receivers of signed messages, and the log of what was sent."},
    {"name": "usage", "description": "What a key stores, and how much it may."},
    {"name": "retention", "description": "What is removed when it is past its time, and what would be."},
    {"name": "workers", "description": "The processes that compute, and when each was last heard of."},
    {"name": "probes", "description": "Liveness, readiness, measurements."},
]
OPEN_PATHS = ("/livez", "/readyz")
KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A value that you choose, new for each thing that you mean to make. A retry with the same value and "
    "body gets the first answer again; with another body, 422; while the first is still being answered, 409.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[\x21-\x7e]+$"},
}


def version() -> str:
    """Of the installed package."""
    return package_version("forerank")


def operation_id(route: APIRoute) -> str:
    """The function's name: generated clients then read like the server."""
    return route.name


def install(app: FastAPI) -> None:
    """Have the application show this document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = build(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def build(app: FastAPI) -> dict[str, Any]:
    """The whole document."""
    content = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version=app.openapi_version,
        description=app.description,
        tags=app.openapi_tags,
        routes=app.routes,
        license_info=app.license_info,
    )
    schemas: dict[str, Any] = content.setdefault("components", {}).setdefault("schemas", {})
    for replaced in ("HTTPValidationError", "ValidationError"):
        schemas.pop(replaced, None)
    models: list[type[BaseModel]] = [ProblemDocument, *EVENTS.values()]
    for model in models:
        schema = model.model_json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    for path, operations in content["paths"].items():
        for method, operation in operations.items():
            _declare_problems(path, method, operation)
    return content


def _declare_problems(path: str, method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    statuses = {500}
    if path not in OPEN_PATHS:
        statuses |= {400, 401, 403, 429, 503}
    if operation.get("parameters"):
        statuses.add(422)
    if "{" in path:
        statuses.add(404)
    if method in {"post", "put", "patch"}:
        statuses |= {408, 413, 415, 422}
    if method == "post":
        operation.setdefault("parameters", []).append(KEY_PARAMETER)
        statuses |= {409}
    for status in statuses:
        declared = responses.get(str(status))
        if declared is None or "application/json" in declared.get("content", {}):
            responses[str(status)] = problem_response(status)
    operation["responses"] = {status: responses[status] for status in sorted(responses)}


def rendered(app: FastAPI) -> str:
    """The document as it is committed."""
    return json.dumps(app.openapi(), indent=2, ensure_ascii=False, sort_keys=False) + "\n"
