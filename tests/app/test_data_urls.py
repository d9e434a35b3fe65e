"""URLs of data sets: one spelling, whole parts, and nothing outside what the operator allows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.settings import Settings
from app.urls import is_below, normalized
from tests.app.test_frame import problem
from tests.conftest import NewDatabase, local_client


@pytest.fixture(scope="module")
def client(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(
        home=tmp_path_factory.mktemp("deployment"),
        database_url=new_sqlite(),
        data_urls="s3://bucket/allowed/, s3://whole",
    )
    with local_client(settings) as client:
        yield client


def register(client: TestClient, location: str, **more: Any) -> Any:
    return client.post("/v1/datasets", json={"location": location, **more})


@pytest.mark.parametrize(
    ("given", "location", "name"),
    [
        ("s3://bucket/allowed/signs/", "s3://bucket/allowed/signs", "signs"),
        ("s3://bucket/allowed/animals.tar.gz", "s3://bucket/allowed/animals.tar.gz", "animals"),
        ("s3://bucket/allowed", "s3://bucket/allowed", "allowed"),
        ("s3://whole", "s3://whole", "whole"),
    ],
)
def test_a_url_under_a_root_is_taken(client: TestClient, given: str, location: str, name: str) -> None:
    answer = register(client, given)
    assert answer.status_code == 202, answer.text
    assert (answer.json()["location"], answer.json()["name"]) == (location, name)


@pytest.mark.parametrize(
    "location",
    [
        "s3://bucket/allowed-not/signs",
        "s3://bucket/other",
        "s3://bucket",
        "s3://another/allowed/signs",
        "s3://bucket/allowed/../other",
        "s3://bucket/allowed/./signs",
        "s3://bucket/allowed//signs",
        "s3://bucket/allowed/%2e%2e/other",
        "s3://bucket/allowed/signs?versionId=1",
        "s3://bucket/allowed/signs#part",
        "s3://bucket/allowed/*",
        "s3://bucket/allowed\\..\\other",
        "s3://key:secret@bucket/allowed",
        "S3://bucket/allowed/signs",
        "s3:/bucket/allowed/signs",
        "s3://",
        "http://bucket/allowed/signs",
    ],
)
def test_what_is_no_url_under_a_root_is_refused(client: TestClient, location: str) -> None:
    document = problem(register(client, location), 422)
    assert [error["pointer"] for error in document["errors"]] == ["/location"]


@pytest.mark.parametrize("manifest", ["../labels.csv", "/labels.csv", "a\\labels.csv", "."])
def test_a_manifest_that_leads_elsewhere(client: TestClient, manifest: str) -> None:
    document = problem(register(client, "s3://bucket/allowed/m", manifest=manifest), 422)
    assert [error["pointer"] for error in document["errors"]] == ["/manifest"]


def test_a_split_needs_a_manifest(client: TestClient) -> None:
    document = problem(register(client, "s3://bucket/allowed/m", split="train"), 422)
    assert [error["pointer"] for error in document["errors"]] == ["/split"]


@pytest.mark.parametrize("url", ["s3://bucket/store", "s3://bucket/store/home"])
def test_the_shared_storage_is_no_root(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="FORERANK_STORE_URL"):
        Settings(
            home=tmp_path,
            database_url="postgresql://host/base",
            store_url="s3://bucket/store",
            data_urls=url,
        )


def test_the_shared_storage_is_not_reached_through_a_root_above_it(new_sqlite: NewDatabase, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database_url=new_sqlite(), data_urls="s3://bucket")
    with local_client(settings.model_copy(update={"store_url": "s3://bucket/store"})) as client:
        problem(register(client, "s3://bucket/store/home/datasets"), 422)


def test_other_processes_read_the_same_roots(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, data_urls="s3://bucket/a,s3://bucket/b/")
    assert settings.environment()["FORERANK_DATA_URLS"] == "s3://bucket/a,s3://bucket/b"


def test_parts_are_compared_whole() -> None:
    assert is_below(normalized("s3://bucket/a/"), "s3://bucket/a")
    assert not is_below("s3://bucket/ab", "s3://bucket/a")
