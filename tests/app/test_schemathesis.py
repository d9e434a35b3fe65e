"""The server against its own OpenAPI document: every check of schemathesis, and values that no schema names.

Schemathesis keeps to the types and formats of the document. What broke servers lay beyond: moments outside the
calendar, integers of more than 64 bits, names longer than file systems take, malformed headers. The last test puts
these into every operation, one place at a time.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import hypothesis
import pytest
from hypothesis import strategies as st

from app.contracts.states import RankingState
from app.db.repositories.rankings import Rankings
from app.db.repositories.workers import Workers
from app.db.session import Database
from app.settings import Settings
from tests.app.test_keys import make_key
from tests.conftest import local_client, running_api

EXAMPLES = 5
CONFIGURATION = """
# A request may be right by its schema and wrong by the facts: a model that does not exist, an archive that is none.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "304", "400", "401", "403", "404", "409", "413", "422", "429"]
"""


def _check(
    address: str,
    key: str,
    folder: Path,
    *options: str,
    phases: str = "examples,coverage,fuzzing",
    configuration: str = CONFIGURATION,
) -> None:
    (folder / "schemathesis.toml").write_text(configuration)
    answer = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            *("--config-file", str(folder / "schemathesis.toml")),
            *("run", f"{address}/openapi.json", "--checks", "all", "--phases", phases),
            *("--max-examples", str(EXAMPLES), "--seed", "1", "--request-timeout", "20", "--warnings", "off"),
            *("--continue-on-failure", "--header", f"X-API-Key: {key}", *options),
        ],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert answer.returncode == 0, answer.stdout


@pytest.fixture
def key(database: Database) -> str:
    """An admin's key, on a deployment whose worker seems to live."""
    with database.transaction() as session:
        workers = Workers(session)
        workers.register(identifier="w", host="h", boot="b", pid=1, device="cpu")
    return make_key(database, "admin")


def test_server_does_what_its_document_says(settings: Settings, key: str, tmp_path: Path) -> None:
    patient = settings.model_copy(
        update={
            "require_keys": True,
            "rate_limit": "100000/minute",
            "submission_limit": "100000/minute",
            "heartbeat_limit_seconds": 3600,
        }
    )
    with running_api(patient) as address:
        _check(address, key, tmp_path)


def test_finished_ranking_is_as_the_document_says(
    settings: Settings, database: Database, key: str, tmp_path: Path
) -> None:
    guarded = settings.model_copy(
        update={"require_keys": True, "rate_limit": "100000/minute", "heartbeat_limit_seconds": 3600}
    )
    with running_api(guarded) as address:
        with httpx2.Client(base_url=address, headers={"X-API-Key": key}) as client:
            client.post("/v1/datasets", json={"location": "builtin:digits"})
            client.post("/v1/models", json={"model": "resnet18.a1_in1k"})
            body = {"target": "digits", "models": ["resnet18.a1_in1k"], "name": "done"}
            ranking = client.post("/v1/rankings", json=body).json()["id"]
        with database.transaction() as session:
            assert Rankings(session).move(ranking, RankingState.CANCELLED)
        _check(
            address,
            key,
            tmp_path,
            # Several filters that include would add up: every GET, and every route of rankings.
            *("--include-path-regex", "^/v1/rankings/", "--exclude-method", "POST", "--exclude-method", "DELETE"),
            phases="examples,coverage",
            configuration=f'[parameters]\nranking = "{ranking}"\n{CONFIGURATION}',
        )


BOUNDARY_EXAMPLES = 300
INTEGERS = [2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**40, -1, 0]
TEXTS = ["", " ", "n" * 201, "n" * 256, "n" * 5000, "n/" * 150, "..", "\u202e", "e\u0301" * 150, "%", "'", "0" * 64]
MOMENTS = [
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999Z",
    "2026-02-30T00:00:00Z",
    "0000-00-00T00:00:00Z",
]
OTHERS = [None, True, 1e308, -1e-308, [], {}, [[1] * 6000], {"a": {"b": [2**64]}}, ["x"] * 60]
HOSTS = ["[", "]", "[::1", "127.0.0.1:x", "a" * 300, "127.0.0.1"]
ORIGINS = ["http://[", "null", "http://[::1", "http://127.0.0.1", "//", "\xe9"]


@dataclass(frozen=True)
class Place:
    """Where a value goes: a parameter, or a member of the body."""

    operation: tuple[str, str]
    kind: str
    path: tuple[str | int, ...]


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    members: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        yield from leaves(member, (*path, name))


def replaced(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], new)
    return copy


# With more members than the document's examples have, which stand for all other operations.
FULL_BODIES: dict[str, Any] = {
    "/v1/rankings": {
        "target": "digits",
        "models": ["resnet18.a1_in1k"],
        "metrics": ["leep", {"name": "tmi", "parameters": {"neighbors": 3}}],
        "sample": {"max_samples": 100, "seed": 1},
        "layers": ["layer1"],
        "intervals": {"resamples": 10, "level": 0.9, "seed": 1},
        "ensembles": [{"size": 2, "max_parameters": 10**6, "top": 3, "weights": {"domain": 1.0}}],
        "name": "x",
    },
    "/v1/datasets": {
        "location": "builtin:digits",
        "manifest": "labels.csv",
        "split": "train",
        "sample_of": "x",
        "name": "x",
    },
    "/v1/models": {
        "name": "x",
        "weights": "/none.safetensors",
        "architecture": "resnet18",
        "arguments": {"depth": 1},
        "num_classes": 10,
        "input": {"input_size": [3, 224, 224], "mean": [0.5], "crop_pct": 0.9},
        "source_dataset": "x",
        "license": "mit",
    },
    "/v1/zoos": {"name": "x", "models": ["resnet18.a1_in1k"]},
}


def example_bodies(document: dict[str, Any]) -> dict[tuple[str, str], Any]:
    """Operation -> a body in JSON that it takes."""
    found: dict[tuple[str, str], Any] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
                found[method, path] = document["components"]["schemas"][name]["examples"][0]
    return found | {("post", path): body for path, body in FULL_BODIES.items()}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_no_value_anywhere_breaks_the_server(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    root = tmp_path / "images"
    folders = [root / ("n" * 250), root / "plain"]
    for folder in folders:
        (folder / "class").mkdir(parents=True)
    (root / "circle").symlink_to(root / "circle")
    paths = [
        *map(str, folders),
        f"{root}/circle",
        f"{root}/{'n' * 256}",
        f"{root}/{'n/' * 1900}",
        "builtin:",
        "local-dir:/",
    ]
    url = request.getfixturevalue(f"new_{kind}")()
    chosen = Settings(home=tmp_path / "home", database_url=url, data_roots=(root,), model_roots=(root,))
    with local_client(chosen) as client:
        client.post("/v1/datasets", json={"location": "builtin:digits"})
        client.post("/v1/models", json={"model": "resnet18.a1_in1k"})
        document = client.get("/openapi.json").json()
        bodies = example_bodies(document)
        operations = {
            (method, path): operation
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if not path.endswith("/events")
        }
        places = [Place(key, "header", (name,)) for key in operations for name in ("Host", "Origin")]
        for key, operation in operations.items():
            parameters = operation.get("parameters", ())
            places += [Place(key, parameter["in"], (parameter["name"],)) for parameter in parameters]
            places += [Place(key, "body", path) for path in leaves(bodies[key])] if key in bodies else []

        def values(place: Place) -> st.SearchStrategy[Any]:
            if place.path == ("Host",):
                return st.sampled_from(HOSTS)
            if place.path == ("Origin",):
                return st.sampled_from(ORIGINS)
            if place.kind == "body":
                return st.sampled_from([*INTEGERS, *TEXTS, *MOMENTS, *OTHERS, *paths])
            return st.sampled_from([*map(str, INTEGERS), *TEXTS, *MOMENTS])

        @hypothesis.settings(max_examples=BOUNDARY_EXAMPLES, deadline=None, derandomize=True, database=None)
        @hypothesis.given(st.sampled_from(places).flatmap(lambda place: st.tuples(st.just(place), values(place))))
        def check(chosen: tuple[Place, Any]) -> None:
            place, value = chosen
            method, path = place.operation
            known = {"header": {}, "query": {}, "path": dict.fromkeys(re.findall(r"{(\w+)}", path), "digits")}
            body = bodies.get(place.operation)
            if place.kind == "body":
                body = replaced(body, place.path, value)
                if isinstance(body, dict) and {"weights", "location"} & set(place.path):
                    body.pop("manifest", None), body.pop("split", None), body.pop("name", None)
            else:
                known.setdefault(place.kind, {})[place.path[0]] = value
            url = re.sub(r"{(\w+)}", lambda match: quote(str(known["path"][match[1]]), safe=""), path)
            headers = {name: str(text).encode("utf-8", "replace") for name, text in known["header"].items()}
            sent = {"json": body} if body is not None else {}
            try:
                answer = client.request(method, url, params=known["query"], headers=headers, **sent)
            except httpx2.InvalidURL:
                return
            assert answer.status_code < 500 or answer.status_code == 503, (method, url, place, answer.text)

        check()
