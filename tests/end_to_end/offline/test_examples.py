"""Every example of the OpenAPI document runs as it stands on a server with the zoo `offline` and a ranking `demo`."""

import json
import re
from pathlib import Path
from typing import Any

from tests.service import Service, wait_for

DOCUMENT = json.loads((Path(__file__).parents[3] / "docs" / "openapi.json").read_text(encoding="utf-8"))
OPERATIONS = [
    (method, path, operation) for path, methods in DOCUMENT["paths"].items() for method, operation in methods.items()
]
DEMO = {
    "name": "demo",
    "target": "digits",
    "zoo": "offline",
    "metrics": ["leep", "tmi"],
    "sample": {"max_samples": 60},
    "ensembles": [{"size": 2}],
}
# What the example names is used by other examples, or has ended by then.
MAY_CONFLICT = {
    "cancel_finetune",
    "cancel_ranking",
    "delete_dataset",
    "delete_model",
    "delete_schedule",
    "delete_zoo",
    "redeliver",
    "resume_ranking",
}


def bodies(operation: dict[str, Any]) -> list[Any]:
    """The examples of a request's body; None where there is no body."""
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" not in content:
        return [None]
    name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
    examples: list[Any] = DOCUMENT["components"]["schemas"][name]["examples"]
    return examples


def place(operation: dict[str, Any], path: str, delivery: str) -> str:
    """The path with the examples of its parameters; a delivery's id is the one thing that nobody can know before."""
    examples = {
        parameter["name"]: parameter["schema"]["examples"][0]
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "path" and parameter["name"] != "delivery"
    }
    return re.sub(r"{(\w+)}", lambda match: str((examples | {"delivery": delivery})[match[1]]), path)


def query(operation: dict[str, Any]) -> dict[str, Any]:
    """The examples of the parameters that a query must have."""
    return {
        parameter["name"]: (parameter.get("examples") or parameter["schema"]["examples"])[0]
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "query" and parameter["required"]
    }


def order(operation: dict[str, Any], method: str, path: str) -> int:
    """First what makes things, then what reads and changes them, at last what deletes them."""
    if method == "post" and "{" not in path:
        return 0
    return {"post": 1, "get": 2, "put": 3, "patch": 3, "delete": 4}[method]


def test_every_example_runs_as_it_stands(offline: Service) -> None:
    offline.call("POST", "/v1/datasets", {"location": "builtin:digits"})
    assert offline.until_final(offline.call("POST", "/v1/rankings", DEMO))["state"] == "succeeded"
    wrong, tried, delivery = [], set(), ""
    # Archives and arrays are files, for which a document has no example.
    wanted = [entry for entry in OPERATIONS if "multipart/form-data" not in str(entry[2].get("requestBody"))]
    for method, path, operation in sorted(wanted, key=lambda entry: order(entry[2], *entry[:2])):
        name = operation["operationId"]
        if name == "get_report":
            wait_for(lambda: offline.call("GET", "/v1/schedules/nightly/runs/latest")["state"] == "succeeded")
        if name == "cancel_finetune":
            wait_for(lambda: offline.call("GET", "/v1/finetunes/tuned")["state"] == "succeeded", seconds=120)
        for body in bodies(operation):
            answer = offline.http.request(method, place(operation, path, delivery), params=query(operation), json=body)
            allowed = {int(status) for status in operation["responses"] if status.startswith("2")}
            allowed |= {409} if name in MAY_CONFLICT else set()
            if answer.status_code not in allowed:
                wrong.append((name, body, answer.status_code, answer.text))
            if name == "test_webhook":
                delivery = answer.json()["id"]
        tried.add(name)
    assert wrong == []
    assert len(tried) == len(OPERATIONS) - 2
