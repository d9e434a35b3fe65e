"""Messages through the API, the engine and a worker to a real receiver."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from tests.receiver import Receiver, receiving
from tests.service import FAST, Service, running, wait_for


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path / "home",
        database_url=database_url,
        webhook_private_addresses=True,
        webhook_first_pause_seconds=0.05,
        webhook_attempts=3,
        **FAST,
    )


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with receiving(tmp_path) as process:
        yield process


def until_ended(service: Service, webhook: str, delivery: str) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        present = service.call("GET", f"/v1/webhooks/{webhook}/deliveries/{delivery}")
        return present if present["state"] != "pending" else None

    found: dict[str, Any] = wait_for(ended, what="the end of the delivery")
    return found


def test_message_is_tried_again_until_it_arrives_and_by_hand_after_that(settings: Settings, receiver: Receiver) -> None:
    with running(settings) as service:
        for name, path in (("flaky", "/flaky"), ("broken", "/fail")):
            service.call("POST", "/v1/webhooks", {"name": name, "url": receiver.url + path}, status=201)
        flaky, broken = (service.call("POST", f"/v1/webhooks/{name}/test")["id"] for name in ("flaky", "broken"))
        ended = until_ended(service, "flaky", flaky)
        assert (ended["state"], [entry["status"] for entry in ended["attempts"]]) == ("delivered", [503, 503, 204])
        assert {entry["headers"]["webhook-id"] for entry in receiver.requests("/flaky")} == {flaky}
        ended = until_ended(service, "broken", broken)
        assert (ended["state"], len(ended["attempts"])) == ("failed", 3)
        service.call("POST", f"/v1/webhooks/broken/deliveries/{broken}/redeliver")
        ended = until_ended(service, "broken", broken)
        assert [entry["number"] for entry in ended["attempts"]] == [1, 2, 3, 4, 5, 6]
        assert {entry["body"] for entry in receiver.requests("/fail")} == {receiver.requests("/fail")[0]["body"]}
