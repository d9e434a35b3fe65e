"""The dashboard asks for measurements that a running service tells."""

import json
import re
from pathlib import Path

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from tests.service import Service, save_model

DASHBOARD = Path(__file__).parents[2] / "docs/grafana/forerank.json"


def names(text: str) -> set[str]:
    """Of all samples."""
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


def test_the_dashboard_asks_for_what_is_told(offline: Service) -> None:
    offline.call("POST", "/v1/datasets", {"location": "builtin:digits", "name": "watched"})
    # Of its own, since other tests of this service delete what they find there.
    offline.call("POST", "/v1/models", save_model(offline.settings.model_roots[0], "watched", "test_resnet", seed=9))
    body = {"target": "watched", "models": ["watched"], "metrics": ["leep"], "sample": {"max_samples": 20}}
    ended = offline.until_final(offline.call("POST", "/v1/rankings", body))
    assert ended["state"] == "succeeded"
    told = names(offline.http.get("/metrics").text)
    told |= names(httpx2.get(f"http://127.0.0.1:{offline.settings.worker_metrics_port}/metrics").text)
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = {
        name for panel in panels for target in panel["targets"] for name in re.findall(r"forerank_\w+", target["expr"])
    }
    assert len(asked) >= 9
    assert asked <= told
