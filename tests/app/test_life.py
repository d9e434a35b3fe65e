"""The life of rankings under random calls of clients and random progress of a worker, against a simple model of it."""

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from app.contracts.problems import failure
from app.contracts.states import ModelRunState, RankingState
from app.db.repositories.rankings import Rankings
from app.db.session import Database
from app.settings import Settings
from tests.conftest import NewDatabase, local_client

MODELS = ["resnet18.a1_in1k", "resnet34.a1_in1k"]
FINAL = {"succeeded", "failed", "cancelled"}


@dataclass
class Expected:
    """What must be true of a ranking."""

    state: str = "queued"
    tag: str | None = None
    states: list[str] = field(default_factory=lambda: ["queued"])

    def move(self, state: str) -> None:
        self.state = state
        self.states.append(state)


class Life(RuleBasedStateMachine):
    """Clients and a worker act in any order."""

    new_database: NewDatabase
    rankings: Bundle[str] = Bundle("rankings")

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        chosen = Settings(home=Path(self.folder.name), database_url=self.new_database())
        self.database = Database(chosen.url)
        self.client = local_client(chosen).__enter__()
        self.expected: dict[str, Expected] = {}
        self.bodies: dict[str, tuple[dict[str, Any], str]] = {}
        assert self.client.post("/v1/datasets", json={"location": "builtin:digits"}).status_code == 202
        for model in MODELS:
            assert self.client.post("/v1/models", json={"model": model}).status_code == 202

    def teardown(self) -> None:
        self.client.__exit__(None, None, None)
        self.database.close()
        self.folder.cleanup()

    @rule(
        target=rankings,
        models=st.lists(st.sampled_from(MODELS), min_size=1, unique=True),
        metric=st.sampled_from(["logme", "leep"]),
        key=st.sampled_from(["a", "b", "c"]),
    )
    def submit(self, models: list[str], metric: str, key: str) -> Any:
        body = {"target": "digits", "models": models, "metrics": [metric]}
        response = self.client.post("/v1/rankings", json=body, headers={"Idempotency-Key": key})
        if key in self.bodies:
            first_body, first_answer = self.bodies[key]
            if body == first_body:
                assert (response.status_code, response.text) == (202, first_answer)
            else:
                assert response.status_code == 422
            return multiple()
        assert response.status_code == 202
        identifier = response.json()["id"]
        assert response.headers["location"] == f"/v1/rankings/{identifier}"
        self.bodies[key] = (body, response.text)
        self.expected[identifier] = Expected()
        return identifier

    @rule(wrong=st.sampled_from([{"target": "none"}, {"models": []}, {"metrics": ["none"]}, {"models": ["none"]}]))
    def submit_what_cannot_be(self, wrong: dict[str, Any]) -> None:
        body = {"target": "digits", "models": MODELS, "metrics": ["logme"]} | wrong
        assert self.client.post("/v1/rankings", json=body).status_code == 422

    @rule(ranking=rankings)
    def work(self, ranking: str) -> None:
        expected = self.expected[ranking]
        with self.database.transaction() as session:
            moved = Rankings(session).move(ranking, RankingState.RUNNING)
        assert moved == (expected.state not in FINAL)
        if moved:
            expected.move("running")

    @rule(ranking=rankings, done=st.integers(0, 9))
    def progress(self, ranking: str, done: int) -> None:
        with self.database.transaction() as session:
            repository = Rankings(session)
            if repository.state(ranking) is RankingState.RUNNING:
                run = repository.models(ranking)[0]
                repository.update_run(ranking, run.model_id, state=ModelRunState.EXTRACTING, done=done, total=9)

    @rule(ranking=rankings, state=st.sampled_from([RankingState.SUCCEEDED, RankingState.FAILED]))
    def finish(self, ranking: str, state: RankingState) -> None:
        expected = self.expected[ranking]
        with self.database.transaction() as session:
            repository = Rankings(session)
            may = expected.state == "running" or (state is RankingState.FAILED and expected.state not in FINAL)
            if may:
                repository.end_unfinished_runs(ranking, ModelRunState.FAILED, failure("internal-error", "x"))
            moved = repository.move(ranking, state)
        assert moved == may
        if moved:
            expected.move(state.value)

    @rule(ranking=rankings)
    def cancel(self, ranking: str) -> None:
        expected = self.expected[ranking]
        response = self.client.post(f"/v1/rankings/{ranking}/cancel")
        if expected.state in FINAL:
            assert response.status_code == 409
        else:
            assert response.status_code == 202
            expected.move("cancelled")

    @rule(ranking=rankings)
    def try_to_delete_what_is_not_finished(self, ranking: str) -> None:
        if self.expected[ranking].state not in FINAL:
            assert self.client.delete(f"/v1/rankings/{ranking}").status_code == 409

    @rule(ranking=consumes(rankings))
    def end_and_delete(self, ranking: str) -> None:
        self.client.post(f"/v1/rankings/{ranking}/cancel")
        assert self.client.delete(f"/v1/rankings/{ranking}").status_code == 204
        assert self.client.get(f"/v1/rankings/{ranking}").status_code == 404
        assert self.client.delete(f"/v1/rankings/{ranking}").status_code == 404
        del self.expected[ranking]

    @rule(ranking=rankings)
    def read(self, ranking: str) -> None:
        expected = self.expected[ranking]
        for path in ("", "/results"):
            response = self.client.get(f"/v1/rankings/{ranking}{path}")
            assert response.json()["state"] == expected.state
            assert ("etag" in response.headers) == (expected.state in FINAL)
        if (tag := response.headers.get("etag")) is not None:
            assert expected.tag in (None, tag)
            expected.tag = tag

    @rule(ranking=rankings)
    def follow(self, ranking: str) -> None:
        with self.database.reading() as session:
            events = Rankings(session).events_beyond({ranking: 0}, limit=500)
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        moves = [event for event in events if event.type in {"state", "end"}]
        assert [event.data["state"] for event in moves] == self.expected[ranking].states
        assert [event.type == "end" for event in moves] == [event.data["state"] in FINAL for event in moves]

    @rule(limit=st.integers(1, 3), state=st.sampled_from([None, "queued", "running", "cancelled"]))
    def read_all_pages(self, limit: int, state: str | None) -> None:
        found: list[str] = []
        parameters: dict[str, Any] = {"limit": limit} | ({"state": state} if state else {})
        while True:
            page = self.client.get("/v1/rankings", params=parameters).json()
            found += [item["id"] for item in page["items"]]
            if page["next_cursor"] is None:
                break
            assert len(page["items"]) == limit
            parameters["cursor"] = page["next_cursor"]
        wanted = [name for name, expected in self.expected.items() if state in (None, expected.state)]
        assert found == sorted(wanted, reverse=True)

    @rule()
    def target_in_use_stays(self) -> None:
        if self.expected:
            assert self.client.delete("/v1/datasets/digits").status_code == 409

    @invariant()
    def server_lives(self) -> None:
        assert self.client.get("/livez").status_code == 200


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_any_life_of_rankings_keeps_the_promises(kind: str, request: pytest.FixtureRequest) -> None:
    machine = type("Machine", (Life,), {"new_database": staticmethod(request.getfixturevalue(f"new_{kind}"))})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=15 if kind == "sqlite" else 8,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
