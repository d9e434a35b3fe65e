"""The dashboard asks for measurements that a running service tells, and a trace shows where a request's time went."""

import json
import re
from pathlib import Path
from typing import Any

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from tests.collector import Collector
from tests.service import Service, save_model

DASHBOARD = Path(__file__).parents[3] / "docs/grafana/forerank.json"


def names(text: str) -> set[str]:
    """Of all samples."""
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


def register(service: Service, name: str, *, seed: int) -> None:
    """A target and a model of that name, since other tests of this service delete what they find there."""
    service.call("POST", "/v1/datasets", {"location": "builtin:digits", "name": name})
    service.call("POST", "/v1/models", save_model(service.settings.model_roots[0], name, "test_resnet", seed=seed))


def question(name: str) -> dict[str, Any]:
    return {"target": name, "models": [name], "metrics": ["leep"], "sample": {"max_samples": 20}}


def test_the_dashboard_asks_for_what_is_told(offline: Service) -> None:
    register(offline, "watched", seed=9)
    ended = offline.until_final(offline.call("POST", "/v1/rankings", question("watched")))
    assert ended["state"] == "succeeded"
    told = names(offline.http.get("/metrics").text)
    told |= names(httpx2.get(f"http://127.0.0.1:{offline.settings.worker_metrics_port}/metrics").text)
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = {
        name for panel in panels for target in panel["targets"] for name in re.findall(r"forerank_\w+", target["expr"])
    }
    assert len(asked) >= 9
    assert asked <= told


def test_one_trace_leads_from_the_request_to_the_forward_pass(offline: Service, collector: Collector) -> None:
    register(offline, "traced", seed=10)
    trace, caller = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    answer = offline.http.post(
        "/v1/rankings", json=question("traced"), headers={"traceparent": f"00-{trace}-{caller}-01"}
    )
    assert offline.until_final(answer.json())["state"] == "succeeded"
    stages = {"load", "decode", "forward", "write"}
    steps = {"plan", "extract", "score", "conclude"}
    spans = collector.until(trace, {"POST /v1/rankings", *steps, *stages})
    by_name = {span.name: span for span in spans}
    assert len(by_name) == len(spans) == 1 + len(steps) + len(stages)
    request, extract = by_name["POST /v1/rankings"], by_name["extract"]
    assert (request.service, request.parent) == ("forerank-api", caller)
    assert {(by_name[name].service, by_name[name].parent) for name in steps} == {("forerank-worker", request.id)}
    assert {by_name[name].parent for name in stages} == {extract.id}
    assert 0 < sum(by_name[name].seconds for name in stages) <= extract.seconds
    assert extract.attributes["forerank.model"] == "traced"
