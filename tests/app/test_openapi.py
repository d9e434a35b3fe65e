"""The OpenAPI document: committed, current, and true about errors."""

from pathlib import Path
from typing import Any

import pytest

from app.api.document import OPEN_PATHS, rendered
from app.main import create_app
from app.settings import Settings

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"
DOCUMENT: dict[str, Any] = create_app(Settings()).openapi()
OPERATIONS = {
    operation["operationId"]: (path, method, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}


def test_committed_document_is_current() -> None:
    current = rendered(create_app(Settings()))
    assert COMMITTED.read_text(encoding="utf-8") == current, "python -m app.openapi docs/openapi.json"


def test_operation_ids_are_unique() -> None:
    assert len(OPERATIONS) == sum(len(operations) for operations in DOCUMENT["paths"].values())


def test_frameworks_own_error_is_nowhere() -> None:
    assert "HTTPValidationError" not in rendered(create_app(Settings()))


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_error_is_a_problem(name: str) -> None:
    for status, response in OPERATIONS[name][2]["responses"].items():
        if status >= "400":
            assert list(response["content"]) == ["application/problem+json"]


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_says_what_it_is_for(name: str) -> None:
    path, _, operation = OPERATIONS[name]
    assert operation["description"]
    assert len(operation["tags"]) == 1
    assert ("security" in operation) == (path not in OPEN_PATHS)


def test_every_tag_is_described() -> None:
    described = {tag["name"] for tag in DOCUMENT["tags"]}
    assert {tag for _, _, operation in OPERATIONS.values() for tag in operation["tags"]} == described
