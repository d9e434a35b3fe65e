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
def offline(
    new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> Iterator[Service]:
    """As after `forerank zoo install offline`, but with networks of a few thousand parameters under those names."""
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
        for seed, name in enumerate(OFFLINE):
            service.call("POST", "/v1/models", save_model(folder / "weights", name, "test_resnet", seed=seed))
        service.call("POST", "/v1/zoos", {"name": "offline", "models": list(OFFLINE)}, status=201)
        yield service
