"""Traces: off by default, continued from the caller, kept with the ranking, and never in the way."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.testclient import TestClient

from app import tracing
from app.api.tracing import TracedRequests
from app.contracts.datasets import BuiltinSpec
from app.contracts.models import TimmSpec
from app.contracts.states import ResourceState
from app.db.session import Database
from app.db.tables import Dataset, Model, Ranking
from app.main import create_app
from app.settings import Settings
from tests.collector import collecting
from tests.conftest import local_client
from tests.service import free_port

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
HEADER = {"traceparent": f"00-{TRACE}-{CALLER}-01"}


@pytest.fixture
def traced_client(spans: InMemorySpanExporter, settings: Settings) -> Iterator[TestClient]:
    with local_client(settings) as client:
        yield client


@pytest.fixture
def pool(database: Database) -> dict[str, object]:
    """A target and a model that are ready, and the question about them."""
    with database.transaction() as session:
        session.add(
            Dataset(
                name="target",
                spec=BuiltinSpec(name="digits"),
                state=ResourceState.READY,
                class_counts={"a": 3, "b": 3},
                image_count=6,
            )
        )
        session.add(Model(name="first", spec=TimmSpec(name="resnet18.a1_in1k"), state=ResourceState.READY))
    return {"target": "target", "models": ["first"], "metrics": ["leep"]}


def stored_traceparent(database: Database, ranking_id: str) -> str | None:
    with database.reading() as session:
        return session.get_one(Ranking, ranking_id).traceparent


def test_without_an_endpoint_the_sdk_is_not_imported() -> None:
    code = (
        "import sys; from app.main import create_app; from app.settings import Settings; from app import tracing;"
        "create_app(Settings()); tracing.start('x'); assert not tracing.is_on();"
        "assert not [name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={})


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_standard_variables_switch_it(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], wanted: bool) -> None:
    for name in tracing.ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert tracing.is_wanted() is wanted
    middleware = [each.cls for each in create_app(Settings()).user_middleware]
    assert (TracedRequests in middleware) is wanted


def test_without_the_extra_a_server_runs_and_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with local_client(settings) as client:
        assert client.get("/v1/rankings", headers=HEADER).status_code == 200
        assert not tracing.is_on()
    captured = capfd.readouterr()
    assert "forerank[otel]" in captured.out + captured.err


def test_a_ranking_keeps_the_span_that_continues_the_callers_trace(
    traced_client: TestClient, spans: InMemorySpanExporter, database: Database, pool: dict[str, object]
) -> None:
    answer = traced_client.post("/v1/rankings", json=pool, headers=HEADER)
    assert answer.status_code == 202, answer.text
    (span,) = spans.get_finished_spans()
    assert (span.name, span.kind) == ("POST /v1/rankings", SpanKind.SERVER)
    assert span.context is not None
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, CALLER)
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 202
    assert span.attributes["forerank.request_id"] == answer.headers["x-request-id"]
    stored = stored_traceparent(database, answer.json()["id"])
    assert stored == f"00-{TRACE}-{span.context.span_id:016x}-01"


def test_a_trace_that_the_caller_does_not_sample_is_not_recorded(
    traced_client: TestClient, spans: InMemorySpanExporter, database: Database, pool: dict[str, object]
) -> None:
    answer = traced_client.post("/v1/rankings", json=pool, headers={"traceparent": f"00-{TRACE}-{CALLER}-00"})
    assert spans.get_finished_spans() == ()
    stored = stored_traceparent(database, answer.json()["id"])
    assert stored is not None
    assert stored.endswith("-00")


@pytest.mark.parametrize("header", ["", "nonsense", f"00-{'0' * 32}-{CALLER}-01", f"00-{TRACE}-{CALLER}-01" * 1000])
def test_a_malformed_header_begins_a_trace(traced_client: TestClient, spans: InMemorySpanExporter, header: str) -> None:
    assert traced_client.get("/v1/rankings", headers={"traceparent": header}).status_code == 200
    (span,) = spans.get_finished_spans()
    assert span.parent is None


def test_spans_hold_no_secret(traced_client: TestClient, spans: InMemorySpanExporter) -> None:
    secret = "frk_0123456789abcdef"
    traced_client.get(f"/v1/rankings/{secret}?cursor={secret}", headers={"Authorization": f"Bearer {secret}"})
    with pytest.raises(ValueError, match=secret), tracing.span("step"):
        raise ValueError(secret)
    request, step = spans.get_finished_spans()
    assert request.name == "GET /v1/rankings/{ranking}"
    assert step.status.status_code is StatusCode.ERROR
    assert dict(step.attributes or {}) == {"error.type": "ValueError"}
    assert secret not in request.to_json() + step.to_json()


def test_probes_are_not_traced(traced_client: TestClient, spans: InMemorySpanExporter) -> None:
    assert traced_client.get("/livez").status_code == 200
    assert spans.get_finished_spans() == ()


def test_stages_follow_one_another_and_end_now(spans: InMemorySpanExporter) -> None:
    with tracing.span("extract"):
        tracing.stages({"load": 0.5, "forward": 2.0})
    load, forward, extract = spans.get_finished_spans()
    assert forward.parent == load.parent == extract.context
    assert load.start_time is not None
    assert forward.end_time is not None
    assert load.end_time == forward.start_time == load.start_time + 500_000_000
    assert forward.end_time == forward.start_time + 2_000_000_000
    assert abs(time.time_ns() - forward.end_time) < 60_000_000_000


def test_a_collector_is_sent_the_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        tracing.start("forerank-test")
        with tracing.span("step", parent=HEADER["traceparent"], attributes={"forerank.model_id": "mdl_1"}):
            pass
        tracing.stop()
        (span,) = collector.spans
    assert (span.service, span.name, span.trace, span.parent) == ("forerank-test", "step", TRACE, CALLER)
    assert span.attributes == {"forerank.model_id": "mdl_1"}


def test_a_service_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "ranker")
        tracing.start("forerank-test")
        with tracing.span("step"):
            pass
        tracing.stop()
        assert [span.service for span in collector.spans] == ["ranker"]


def test_a_collector_that_refuses_disturbs_nothing(
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    database: Database,
    pool: dict[str, object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setattr(tracing, "FLUSH_SECONDS", 0.5)
    with local_client(settings) as client:
        assert tracing.is_on()
        answer = client.post("/v1/rankings", json=pool)
        assert answer.status_code == 202
        assert client.get(answer.json()["links"]["self"]).status_code == 200
    assert "Connection refused" in caplog.text
    assert stored_traceparent(database, answer.json()["id"]) is not None


def test_a_collector_that_hangs_holds_up_an_end_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(tracing, "FLUSH_SECONDS", 0.2)
        tracing.start("test")
        with tracing.span("step"):
            pass
        began = time.monotonic()
        tracing.stop()
        took = time.monotonic() - began
        silent.accept()[0].close()
    # The exporter itself gives up after ten.
    assert 0.2 <= took < 5


def test_variables_that_cannot_be_used_are_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    tracing.start("test")
    assert not tracing.is_on()
