"""What the examples of the documents need: a server with a worker, and a zoo named `offline`."""

from collections.abc import Iterator

import pytest

from app.settings import Settings
from tests.collector import Collector, collecting
from tests.conftest import NewDatabase
from tests.service import FAST, Service, free_port, running, save_model

OFFLINE = (
    "mobilenetv2_100.tv_in1k",
    "tf_efficientnet_lite0.in1k",
    "tf_efficientnet_lite1.in1k",
    "tf_efficientnet_lite2.in1k",
)


@pytest.fixture(scope="package")
def collector() -> Iterator[Collector]:
    """Where processes that are started from here on send their spans."""
    with collecting() as receiver, pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        yield receiver


@pytest.fixture(scope="package")
def server(
    new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> Iterator[Service]:
    """A server with a worker, whose roots hold networks of a few thousand parameters under the names of the zoo."""
    folder = tmp_path_factory.mktemp("offline")
    (folder / "weights").mkdir()
    settings = Settings(
        home=folder / "home",
        database_url=new_sqlite(),
        model_roots=(folder / "weights",),
        worker_metrics_port=free_port(),
        **FAST,
    )
    with running(settings) as service:
        yield service


@pytest.fixture
def offline(server: Service) -> Service:
    """As after `forerank zoo install offline`, also where an earlier test deleted some of it."""
    roots = server.settings.model_roots
    there = {model["name"] for model in server.call("GET", "/v1/models?limit=100")["items"]}
    for seed, name in enumerate(OFFLINE):
        if name not in there:
            server.call("POST", "/v1/models", save_model(roots[0], name, "test_resnet", seed=seed))
    if server.http.get("/v1/zoos/offline").status_code == 404:
        server.call("POST", "/v1/zoos", {"name": "offline", "models": list(OFFLINE)}, status=201)
    return server
