"""A small ranking beside a large one, on a real worker; and workers that serve some queues only."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.db.session import Database
from app.db.tables import RankingEvent
from app.settings import Settings
from tests.conftest import NewDatabase
from tests.faults.conftest import worker_process
from tests.service import FAST, PATIENCE, Service, draw_images, running, save_model, wait_for

pytestmark = pytest.mark.timeout(300 * PATIENCE)

LARGE, SMALL = 10, 3


@pytest.fixture
def service(new_postgresql: NewDatabase, tmp_path: Path) -> Iterator[Service]:
    """An API, a worker for the device, and another for all else."""
    (tmp_path / "weights").mkdir()
    draw_images(tmp_path / "images" / "shapes", each=6)
    settings = Settings(
        home=tmp_path / "home",
        database_url=new_postgresql(),
        data_roots=(tmp_path / "images",),
        model_roots=(tmp_path / "weights",),
        **FAST,
    )
    given = settings.model_dump(exclude_unset=True)
    rest = ("rankings", "inspections", "scoring", "trials", "deliveries", "schedules", "retention")
    with ExitStack() as stack:
        service = stack.enter_context(running(settings, "--no-worker"))
        for queues in (("device",), rest):
            stack.enter_context(worker_process(Settings(**given | {"queues": queues})))
        yield service


def ends(service: Service) -> list[tuple[str, str]]:
    """(ranking, model) of every forward pass that has ended, in that order."""
    database = Database(service.settings.url)
    try:
        with database.reading() as session:
            events = session.scalars(
                select(RankingEvent).where(RankingEvent.type == "model").order_by(RankingEvent.created_at)
            )
            return [(event.ranking_id, event.data["model_id"]) for event in events if event.data["state"] == "scoring"]
    finally:
        database.close()


def test_a_small_ranking_does_not_wait_for_a_large_one(service: Service) -> None:
    service.call("POST", "/v1/datasets", {"location": str(service.settings.data_roots[0] / "shapes")})
    names = [f"model-{number}" for number in range(LARGE + SMALL)]
    for seed, name in enumerate(names):
        body = save_model(service.settings.model_roots[0], name, "test_resnet", num_classes=10, seed=seed)
        service.call("POST", "/v1/models", body)
    for name in names:
        service.until_ready(f"/v1/models/{name}", seconds=120)

    def submit(models: list[str]) -> dict[str, Any]:
        ranking: dict[str, Any] = service.call(
            "POST", "/v1/rankings", {"target": "shapes", "models": models, "metrics": ["leep"]}
        )
        return ranking

    large = submit(names[:LARGE])
    wait_for(lambda: len(set(ends(service))) >= 2, seconds=120, what="the first models of the large ranking")
    small = submit(names[LARGE:])
    wait_for(
        lambda: service.call("GET", f"/v1/rankings/{small['id']}")["models_by_state"].get("extracting"),
        what="the small ranking on the device",
    )
    for ranking, number in ((small, SMALL), (large, LARGE)):
        assert service.until_final(ranking)["models_by_state"] == {"succeeded": number}
    order = list(dict.fromkeys(ends(service)))
    of_small = [place for place, (ranking, _) in enumerate(order) if ranking == small["id"]]
    # Beside each of its models after the first, at most one of the large ranking, and the one that ran when it came.
    assert of_small[-1] - of_small[0] <= 2 * (SMALL - 1) + 1
    assert of_small[-1] < len(order) - 1, "the large ranking ended before the small one, which shows nothing"
