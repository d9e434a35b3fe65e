"""Measurements of one worker: for Prometheus, on a port of its own if the settings name one, and for traces."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from app import tracing
from app.contracts.extraction import ExtractionResult
from app.contracts.rankings import Counters
from app.settings import Settings

REGISTRY = CollectorRegistry()
STAGES = ("load", "decode", "forward", "write", "score", "conclude")
# Where each kind of thing came from: it was made for this ranking, or it was there.
MADE, FOUND = "made", "found"

_seconds = Histogram(
    "forerank_stage_seconds",
    "Seconds of each stage of one model, and of the conclusion of one ranking.",
    ("stage",),
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800),
    registry=REGISTRY,
)
_images = Counter("forerank_images", "Images that went through a model.", registry=REGISTRY)
_speed = Gauge("forerank_images_per_second", "Of the last forward pass.", ("device",), registry=REGISTRY)
_memory = Gauge(
    "forerank_device_memory_bytes",
    "The most that the last forward pass held: of the device's memory, or on a CPU of the process's.",
    ("device",),
    registry=REGISTRY,
)
_reuse = Counter(
    "forerank_reuse",
    "Decoded images, pieces of evidence and scores that rankings asked for, made or found.",
    ("kind", "how"),
    registry=REGISTRY,
)
for _stage in STAGES:
    _seconds.labels(_stage)
for _kind in ("images", "evidence", "scores"):
    for _how in (MADE, FOUND):
        _reuse.labels(_kind, _how)


def serve(settings: Settings) -> None:
    """Answer Prometheus, if the settings name a port."""
    if settings.worker_metrics_port:
        start_http_server(settings.worker_metrics_port, settings.worker_metrics_host, registry=REGISTRY)


def planned(counters: Counters) -> None:
    """A ranking was planned: this much of what it asks for is there."""
    _reuse.labels("evidence", FOUND).inc(counters.evidence_reused)
    _reuse.labels("scores", FOUND).inc(counters.scores_reused)


def extracted(result: ExtractionResult) -> None:
    """A model ran over a sample, or was found to have done so."""
    if not result.models_loaded:
        return
    tracing.stages(result.seconds)
    tracing.describe({"forerank.images": result.n, "forerank.device": result.device})
    for stage, seconds in result.seconds.items():
        _seconds.labels(stage).observe(seconds)
    _images.inc(result.n)
    _reuse.labels("evidence", MADE).inc(len(result.keys))
    _reuse.labels("images", MADE).inc(result.images_decoded)
    _reuse.labels("images", FOUND).inc(max(0, result.n - result.images_decoded))
    if result.images_per_second is not None:
        _speed.labels(result.device).set(result.images_per_second)
    if result.memory_bytes is not None:
        _memory.labels(result.device).set(result.memory_bytes)


def scored(scores: int, seconds: float) -> None:
    """Scores of one model were computed."""
    tracing.describe({"forerank.scores": scores})
    _reuse.labels("scores", MADE).inc(scores)
    _seconds.labels("score").observe(seconds)


def concluded(seconds: float) -> None:
    """A ranking was concluded."""
    _seconds.labels("conclude").observe(seconds)
