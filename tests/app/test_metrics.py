"""The catalog of metrics, as the API shows it."""

import pytest
from starlette.testclient import TestClient

from app.services import metrics
from estimators.catalog import METRICS
from tests.app.test_frame import problem


def test_list_has_every_metric(app_client: TestClient) -> None:
    shown = app_client.get("/v1/metrics").json()
    assert [metric["name"] for metric in shown] == list(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_parameters_are_those_of_the_catalog(name: str) -> None:
    shown = metrics.show(name).model_dump(mode="json")["parameters"]
    parameters = METRICS[name].parameters
    assert {key: (value["default"], value["choices"] or []) for key, value in shown.items()} == {
        key: (value.default, list(value.choices)) for key, value in parameters.items()
    }


def test_unknown_metric_is_not_found(app_client: TestClient) -> None:
    problem(app_client.get("/v1/metrics/none"), 404)
