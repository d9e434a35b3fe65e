"""Webhooks: signatures, where a message may go, what a receiver can do wrong, the log and the rotation of secrets."""

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.db.repositories.webhooks import Deliveries, Webhooks, secrets_in_force
from app.db.session import Database
from app.db.tables import now
from app.db.webhook_tables import Delivery
from app.settings import Settings
from app.webhooks import addresses, signature
from app.webhooks.addresses import Refused
from app.webhooks.sender import Attempt, send
from tests.app.test_frame import problem
from tests.receiver import Receiver, receiving


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receiving(tmp_path_factory.mktemp("receiver")) as running:
        yield running


def to(url: str, *, allow: bool = True, seconds: float = 5, secrets: list[str] | None = None) -> Attempt:
    """One attempt to send a small message."""
    settings = Settings(webhook_private_addresses=allow, webhook_time_limit_seconds=seconds)
    secrets = secrets or [signature.new_secret()]
    return send(settings, url=url, message_id="dlv_1", body='{"a":1}', secrets_in_force=secrets)


def test_signature_is_that_of_the_specification() -> None:
    # The example of the Standard Webhooks libraries.
    headers = signature.headers(
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
        secrets_in_force=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_changed_body_is_found_out() -> None:
    secret = signature.new_secret()
    headers = signature.headers(message_id="m", timestamp=1000, body=b"a", secrets_in_force=[secret])
    signature.verify(headers=headers, body=b"a", secret=secret, present=1000)
    with pytest.raises(signature.WrongSignature):
        signature.verify(headers=headers, body=b"b", secret=secret, present=1000)


def test_old_message_is_refused_by_its_receiver() -> None:
    secret = signature.new_secret()
    headers = signature.headers(message_id="m", timestamp=1000, body=b"a", secrets_in_force=[secret])
    with pytest.raises(signature.WrongSignature):
        signature.verify(headers=headers, body=b"a", secret=secret, present=1000 + 301)


def test_message_arrives_signed(receiver: Receiver) -> None:
    secret = signature.new_secret()
    assert to(f"{receiver.url}/ok/signed", secrets=[secret]).problem is None
    (request,) = receiver.requests("/ok/signed")
    signature.verify(headers=request["headers"], body=request["body"].encode(), secret=secret, present=time.time())


def test_failure_is_told(receiver: Receiver) -> None:
    outcome = to(f"{receiver.url}/fail")
    assert (outcome.status, outcome.is_final) == (500, False)
    assert "500" in (outcome.problem or "")


def test_receiver_that_is_gone_ends_the_attempts(receiver: Receiver) -> None:
    assert to(f"{receiver.url}/gone").is_final


def test_redirect_is_not_followed(receiver: Receiver) -> None:
    assert to(f"{receiver.url}/redirect").status == 307
    assert receiver.requests("/ok/redirected") == []


@pytest.mark.parametrize("path", ["hang", "drip"])
def test_slow_receiver_is_given_up_at_the_limit(receiver: Receiver, path: str) -> None:
    outcome = to(f"{receiver.url}/{path}", seconds=0.5)
    assert "in time" in (outcome.problem or "")
    assert outcome.seconds < 2


def test_long_answer_is_given_up(receiver: Receiver) -> None:
    assert "too long" in (to(f"{receiver.url}/flood").problem or "")


def test_nobody_listens() -> None:
    assert "could not be reached" in (to("http://127.0.0.1:9/").problem or "")


def test_name_that_does_not_resolve() -> None:
    assert "could not be reached" in (to("https://nowhere.invalid/").problem or "")


def test_name_that_resolves_to_loopback_is_refused_when_it_connects(receiver: Receiver) -> None:
    url = receiver.url.replace("127.0.0.1", "localhost") + "/ok/by-name"
    assert "not a public address" in (to(url, allow=False).problem or "")
    assert receiver.requests("/ok/by-name") == []


def test_address_is_resolved_once_and_that_one_is_connected(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that turns from a public address to loopback after the check leads to the public one."""
    port = int(receiver.url.rsplit(":", 1)[1])
    real = addresses.socket.getaddrinfo
    answers = iter(["203.0.113.7", "127.0.0.1", "127.0.0.1"])

    def rebind(host: str, *arguments: Any, **named: Any) -> Any:
        return real(next(answers) if host == "rebinding.example" else host, *arguments, **named)

    monkeypatch.setattr(addresses.socket, "getaddrinfo", rebind)
    monkeypatch.setattr(addresses, "is_public", lambda address: str(address) == "203.0.113.7")
    assert to(f"http://rebinding.example:{port}/ok/rebound", allow=False, seconds=0.5).problem is not None
    assert next(answers) == "127.0.0.1"
    assert receiver.requests("/ok/rebound") == []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104 - refused
        "224.0.0.1",
        "::1",
        "fe80::1",
        "fc00::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ],
)
def test_private_address_is_refused(address: str) -> None:
    with pytest.raises(Refused):
        addresses.check_host(address, allow_private=False)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1111", "64:ff9b::5db8:d70e"])
def test_public_address_is_allowed(address: str) -> None:
    addresses.check_host(address, allow_private=False)


def test_environment_proxy_is_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert to(f"{receiver.url}/ok/direct").problem is None


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://user@hooks.example.com/",
        "https://hooks.example.com/#part",
        "https:///nowhere",
        "https://hooks.example.com:99999/",
        "ftp://hooks.example.com/",
        "gopher",
    ],
)
def test_url_that_can_never_be_used_is_refused(app_client: TestClient, url: str) -> None:
    answer = app_client.post("/v1/webhooks", json={"name": "x", "url": url})
    assert problem(answer, 422)["errors"][0]["pointer"] == "/url"


def create(client: TestClient) -> dict[str, Any]:
    answer = client.post("/v1/webhooks", json={"name": "morning", "url": "https://hooks.example.com/x"})
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


def test_secret_is_shown_once(app_client: TestClient) -> None:
    assert create(app_client)["secret"].startswith("whsec_")
    assert "secret" not in app_client.get("/v1/webhooks/morning").json()
    assert "secret" not in app_client.get("/v1/webhooks").json()["items"][0]


def test_name_is_taken_once(app_client: TestClient) -> None:
    create(app_client)
    problem(app_client.post("/v1/webhooks", json={"name": "morning", "url": "https://hooks.example.com/y"}), 409)


def test_both_secrets_hold_during_the_overlap(app_client: TestClient, database: Database) -> None:
    old = create(app_client)["secret"]
    new = app_client.post("/v1/webhooks/morning/rotate", json={"overlap_hours": 1}).json()["secret"]
    with database.reading() as session:
        row = Webhooks(session).get(app_client.get("/v1/webhooks/morning").json()["id"])
    assert row is not None
    assert secrets_in_force(row, now()) == [new, old]
    assert secrets_in_force(row, now() + timedelta(hours=2)) == [new]


def test_rotation_during_an_overlap_is_refused_unless_it_is_to_end_it(
    app_client: TestClient, database: Database
) -> None:
    create(app_client)
    rotate = "/v1/webhooks/morning/rotate"
    app_client.post(rotate, json={"overlap_hours": 1})
    refused = problem(app_client.post(rotate, json={"overlap_hours": 1}), 409)
    assert "`overlap_hours` 0" in refused["detail"]
    newest = app_client.post(rotate, json={"overlap_hours": 0}).json()["secret"]
    with database.reading() as session:
        row = Webhooks(session).get(app_client.get("/v1/webhooks/morning").json()["id"])
    assert row is not None
    assert secrets_in_force(row, now()) == [newest]


def test_receiver_that_knows_either_secret_accepts() -> None:
    new, old = signature.new_secret(), signature.new_secret()
    headers = signature.headers(message_id="m", timestamp=1000, body=b"a", secrets_in_force=[new, old])
    for secret in (new, old):
        signature.verify(headers=headers, body=b"a", secret=secret, present=1000)


def test_test_message_is_in_the_log_before_it_is_delivered(app_client: TestClient) -> None:
    create(app_client)
    sent = app_client.post("/v1/webhooks/morning/test")
    assert sent.status_code == 202
    (entry,) = app_client.get("/v1/webhooks/morning/deliveries").json()["items"]
    assert entry == sent.json()
    assert (entry["state"], entry["body"]["type"]) == ("pending", "webhook.test")


def test_pending_message_is_not_sent_again_by_hand(app_client: TestClient) -> None:
    create(app_client)
    sent = app_client.post("/v1/webhooks/morning/test").json()
    problem(app_client.post(f"/v1/webhooks/morning/deliveries/{sent['id']}/redeliver"), 409)


def test_delivery_of_another_webhook_is_not_found(app_client: TestClient) -> None:
    create(app_client)
    other = app_client.post("/v1/webhooks", json={"name": "evening", "url": "https://hooks.example.com/y"}).json()
    sent = app_client.post(f"/v1/webhooks/{other['id']}/test").json()
    problem(app_client.get(f"/v1/webhooks/morning/deliveries/{sent['id']}"), 404)


def test_deleted_webhook_takes_its_log_with_it(app_client: TestClient, database: Database) -> None:
    create(app_client)
    sent = app_client.post("/v1/webhooks/morning/test").json()
    assert app_client.delete("/v1/webhooks/morning").status_code == 204
    with database.reading() as session:
        assert Deliveries(session).get(sent["id"]) is None


def test_log_comes_in_pages(app_client: TestClient, database: Database) -> None:
    webhook = create(app_client)["id"]
    with database.transaction() as session:
        session.add_all(Delivery(webhook_id=webhook, type="t", body='{"n": 1}', attempts_left=1) for _ in range(3))
    first = app_client.get(f"/v1/webhooks/{webhook}/deliveries?limit=2").json()
    second = app_client.get(f"/v1/webhooks/{webhook}/deliveries?limit=2&cursor={first['next_cursor']}").json()
    seen = [item["id"] for item in first["items"] + second["items"]]
    assert seen == sorted(seen, reverse=True)
    assert (len(seen), second["next_cursor"]) == (3, None)
