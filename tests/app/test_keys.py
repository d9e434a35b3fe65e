"""API keys: who gets in, with which scope, how often."""

import re
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from app.cli import app as commands
from app.db.repositories.keys import Keys
from app.db.session import Database
from app.db.tables import ApiKey, now
from app.errors import Conflict, Invalid, NotFound, TooManyRequests, Unauthenticated
from app.main import create_app
from app.services import keys
from app.services.quotas import Quotas
from app.settings import Settings
from tests.app.test_frame import problem
from tests.conftest import local_client


def make_key(database: Database, *scopes: str, name: str = "tester") -> str:
    """The secret of a new key."""
    with database.transaction() as session:
        return keys.create(session, name=name, scopes=scopes)[1]


def stored(database: Database) -> ApiKey:
    with database.reading() as session:
        (key,) = Keys(session).all()
    return key


def test_secret_is_long_and_only_its_hash_is_stored(database: Database) -> None:
    secret = make_key(database, "read")
    key = stored(database)
    assert re.fullmatch(r"frk_[A-Za-z0-9_-]{43}", secret)
    assert key.digest == sha256(secret.encode()).hexdigest()
    assert secret.startswith(key.prefix)
    assert len(key.prefix) == 12


def test_each_secret_is_new(database: Database) -> None:
    assert make_key(database, "read", name="a") != make_key(database, "read", name="b")


@pytest.mark.parametrize(
    ("asked", "given"),
    [(["read"], ["read"]), (["submit"], ["read", "submit"]), (["admin", "read"], ["read", "submit", "admin"])],
)
def test_wider_scope_includes_the_narrower(database: Database, asked: list[str], given: list[str]) -> None:
    make_key(database, *asked)
    assert stored(database).scopes == given


@pytest.mark.parametrize(("name", "scopes"), [("x", ["root"]), ("x", []), (" ", ["read"]), ("a\nb", ["read"])])
def test_key_that_makes_no_sense_is_refused(database: Database, name: str, scopes: list[str]) -> None:
    with database.transaction() as session, pytest.raises(Invalid):
        keys.create(session, name=name, scopes=scopes)


def test_name_is_free_again_after_revocation(database: Database) -> None:
    make_key(database, "read", name="ci")
    with database.transaction() as session:
        with pytest.raises(Conflict):
            keys.create(session, name="ci", scopes=["read"])
        keys.revoke(session, "ci")
        assert keys.create(session, name="ci", scopes=["read"])


def test_revoked_key_is_refused(database: Database) -> None:
    secret = make_key(database, "read")
    with database.transaction() as session:
        keys.revoke(session, stored(database).prefix)
    with pytest.raises(Unauthenticated, match="revoked"):
        keys.authenticate(database, secret)


def test_unknown_key_cannot_be_revoked(database: Database) -> None:
    with database.transaction() as session, pytest.raises(NotFound):
        keys.revoke(session, "nobody")


@pytest.mark.parametrize("secret", ["", "frk_", "frk_" + "A" * 43, "x" * 100_000, "ключ"])
def test_wrong_secret_is_refused(database: Database, secret: str) -> None:
    make_key(database, "read")
    with pytest.raises(Unauthenticated):
        keys.authenticate(database, secret)


def test_use_is_noted_at_most_once_a_minute(database: Database) -> None:
    secret = make_key(database, "read")
    keys.authenticate(database, secret)
    first = stored(database).last_used_at
    assert first is not None
    keys.authenticate(database, secret)
    assert stored(database).last_used_at == first
    with database.transaction() as session:
        Keys(session).touch(stored(database).id, moment=now() - timedelta(hours=1), unless_after=now())
    keys.authenticate(database, secret)
    noted = stored(database).last_used_at
    assert noted is not None
    assert noted > first


@pytest.fixture
def guarded(settings: Settings) -> Iterator[TestClient]:
    """A client of a server that asks for keys."""
    with local_client(settings.model_copy(update={"require_keys": True})) as client:
        yield client


def test_without_a_key_there_is_a_challenge(guarded: TestClient) -> None:
    response = guarded.get("/v1/datasets")
    problem(response, 401)
    assert "X-API-Key" in response.headers["www-authenticate"]


def test_probes_need_no_key(guarded: TestClient) -> None:
    assert guarded.get("/livez").status_code == 200
    assert guarded.get("/readyz").status_code == 503


def test_measurements_need_a_key(guarded: TestClient) -> None:
    problem(guarded.get("/metrics"), 401)


def test_unauthenticated_body_is_not_even_read(guarded: TestClient) -> None:
    problem(guarded.post("/v1/datasets", content=b"not json", headers={"Content-Type": "application/json"}), 401)


def test_scope_decides(guarded: TestClient, database: Database) -> None:
    reader = {"X-API-Key": make_key(database, "read", name="reader")}
    submitter = {"X-API-Key": make_key(database, "submit", name="submitter")}
    assert guarded.get("/v1/datasets", headers=reader).status_code == 200
    problem(guarded.post("/v1/datasets", json={"location": "builtin:digits"}, headers=reader), 403)
    assert guarded.post("/v1/datasets", json={"location": "builtin:digits"}, headers=submitter).status_code == 202


def test_keys_do_not_see_one_another_but_an_admin_sees_all(guarded: TestClient, database: Database) -> None:
    one, two, admin = (
        {"X-API-Key": make_key(database, scope, name=name)}
        for scope, name in (("submit", "one"), ("submit", "two"), ("admin", "admin"))
    )
    location = guarded.post("/v1/datasets", json={"location": "builtin:digits"}, headers=one).headers["location"]
    assert guarded.get(location, headers=one).status_code == 200
    problem(guarded.get(location, headers=two), 404)
    problem(guarded.delete(location, headers=two), 404)
    assert guarded.get("/v1/datasets", headers=two).json()["items"] == []
    assert guarded.get(location, headers=admin).status_code == 200


def test_shared_things_are_seen_but_not_deleted_by_others(guarded: TestClient, database: Database) -> None:
    one, two = ({"X-API-Key": make_key(database, "submit", name=name)} for name in ("one", "two"))
    body = {"location": "builtin:digits", "shared": True}
    location = guarded.post("/v1/datasets", json=body, headers=one).headers["location"]
    assert guarded.get(location, headers=two).status_code == 200
    assert guarded.delete(location, headers=two).status_code in {403, 409}


def test_wrong_key_is_refused_even_where_none_is_needed(app_client: TestClient) -> None:
    problem(app_client.get("/v1/datasets", headers={"X-API-Key": "frk_wrong"}), 401)


@pytest.mark.parametrize(
    ("client", "headers"),
    [
        ("192.0.2.7", {}),
        ("127.0.0.1", {"Host": "evil.example"}),
        ("127.0.0.1", {"Origin": "https://evil.example"}),
        ("127.0.0.1", {"Origin": "null"}),
    ],
)
def test_strangers_need_a_key_on_loopback_too(settings: Settings, client: str, headers: dict[str, str]) -> None:
    app = create_app(settings)
    with TestClient(app, base_url="http://127.0.0.1:8000", client=(client, 1)) as other:
        problem(other.get("/v1/datasets", headers=headers), 401)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000"])
def test_this_machine_needs_none(app_client: TestClient, host: str) -> None:
    headers = {"Host": host, "Origin": f"http://{host}"}
    assert app_client.get("/v1/datasets", headers=headers).status_code == 200


def test_bind_beyond_loopback_is_refused_until_there_is_a_key(settings: Settings, database: Database) -> None:
    open_to_all = settings.model_copy(update={"host": "0.0.0.0"})  # noqa: S104
    with pytest.raises(keys.UnsafeBind, match="forerank key create"):
        keys.check_bind(open_to_all, database)
    with pytest.raises(keys.UnsafeBind), TestClient(create_app(open_to_all)):
        pass
    make_key(database, "read")
    keys.check_bind(open_to_all, database)
    with TestClient(create_app(open_to_all), base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        problem(client.get("/v1/datasets"), 401)


def test_key_over_its_rate_has_to_wait(settings: Settings, database: Database) -> None:
    strict = settings.model_copy(update={"require_keys": True, "rate_limit": "3/minute"})
    one, two = ({"X-API-Key": make_key(database, "read", name=name)} for name in ("one", "two"))
    with local_client(strict) as client:
        assert [client.get("/v1/zoos", headers=one).status_code for _ in range(3)] == [200] * 3
        refused = client.get("/v1/zoos", headers=one)
        problem(refused, 429)
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert client.get("/v1/zoos", headers=two).status_code == 200


def test_submissions_have_a_limit_of_their_own() -> None:
    quotas = Quotas(Settings(submission_limit="1/minute"))
    quotas.count_request("key_1", submits=True)
    quotas.count_request("key_1", submits=False)
    with pytest.raises(TooManyRequests, match="submissions"):
        quotas.count_request("key_1", submits=True)


def test_uploads_have_a_limit_in_bytes() -> None:
    quotas = Quotas(Settings(upload_megabytes_per_day=10))
    quotas.count_upload("key_1", bytes_received=9_000_000)
    with pytest.raises(TooManyRequests, match="megabytes"):
        quotas.count_upload("key_1", bytes_received=1_000_001)
    quotas.count_upload("key_2", bytes_received=10_000_000)


def test_commands_make_list_and_revoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORERANK_HOME", str(tmp_path))
    run = CliRunner()
    created = run.invoke(commands, ["key", "create", "ci", "--scope", "submit"])
    secret = created.stdout.strip()
    listed = run.invoke(commands, ["key", "list"]).stdout
    assert re.fullmatch(r"frk_\S{43}", secret)
    assert secret[:12] in listed
    assert secret not in listed
    assert run.invoke(commands, ["key", "create", "ci"]).exit_code == 2
    assert run.invoke(commands, ["key", "revoke", "ci"]).exit_code == 0
    assert run.invoke(commands, ["key", "revoke", "ci"]).exit_code == 2
