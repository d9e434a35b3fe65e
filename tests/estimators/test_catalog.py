"""The catalog is complete, checks what it is given, and is what the page says."""

import inspect
import subprocess
import sys

import pytest

from docs import metrics_tables
from estimators import METRICS
from tests.estimators.examples import evidence

NAMES = sorted(METRICS)


def test_the_page_says_what_the_catalog_says() -> None:
    page = metrics_tables.PAGE.read_text()
    assert metrics_tables.written(page) == page, "run: python -m docs.metrics_tables"


@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_defaults_are_those_of_the_function(name: str) -> None:
    signature = inspect.signature(METRICS[name].function).parameters
    taken = METRICS[name].arguments or METRICS[name].required_evidence | METRICS[name].optional_evidence
    defaults = {key: parameter.default for key, parameter in signature.items() if key not in taken}
    assert {key: parameter.default for key, parameter in METRICS[name].parameters.items()} == defaults


@pytest.mark.parametrize("name", NAMES)
def test_values_lie_in_the_range(name: str) -> None:
    low, high = METRICS[name].range
    value = float(METRICS[name].compute(evidence(separation=2.0)))
    assert low is None or value >= low
    assert high is None or value <= high


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("tmi", {"neighbors": 0}, "neighbors must be at least 1"),
        ("tmi", {"neighbors": 2.5}, "neighbors must be an integer"),
        ("transrate", {"epsilon": 0}, "epsilon must be above 0"),
        ("energy", {"percent": 101}, "percent must be at most 100"),
        ("gbc", {"covariance": "full"}, "'spherical', 'diagonal'"),
        ("ped", {"base": "tmi"}, "base must be one of"),
        ("leep", {"floor": 1}, "leep has no parameter 'floor'"),
    ],
)
def test_impossible_parameters_are_refused(name: str, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        METRICS[name].compute(evidence(), **parameters)


def test_a_parameter_may_be_none_where_none_means_something() -> None:
    score = METRICS["gbc"].compute(evidence(dimensions=80), components=None)
    assert score.details["components"] == 80


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_is_named_as_its_module(name: str) -> None:
    assert METRICS[name].function.__module__ == f"estimators.metrics.{name}"


def test_listing_the_metrics_loads_no_library_that_computes_them() -> None:
    heavy = {"torch", "ot", "sklearn", "scipy", "timm"}
    code = "import sys, estimators.catalog as c; print(len(c.METRICS), *sorted(m.split('.')[0] for m in sys.modules))"
    count, *modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert int(count) == len(METRICS)
    assert heavy.isdisjoint(modules)
