"""The tables. State names are those that users see."""

import secrets
import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Enum,
    Float,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from app.contracts.base import JsonObject
from app.contracts.catalog import CatalogDetails
from app.contracts.datasets import DatasetSpec, InspectionProgress, Unreadable
from app.contracts.ensembles import EnsembleResult
from app.contracts.models import ModelCard, ModelSpec
from app.contracts.problems import ProblemDocument
from app.contracts.rankings import Counters, DrawnSample, EvidenceKeys, RankingRequest
from app.contracts.schedules import RunReport, ScheduleRequest
from app.contracts.scores import DrawnScores
from app.contracts.states import ModelRunState, RankingState, ResourceState
from app.contracts.summary import Summary
from app.contracts.zoos import RefusedModel, ZooQuery
from app.db.columns import JsonOf, UtcDateTime

LOCAL_OWNER = "local"


def new_id(prefix: str) -> str:
    """An identifier that sorts by the time of its making."""
    return f"{prefix}_{time.time_ns() // 1000:014x}{secrets.token_hex(5)}"


def now() -> datetime:
    """The present, with its zone."""
    return datetime.now(UTC)


STORED_AS_JSON: tuple[Any, ...] = (
    CatalogDetails,
    Counters,
    DatasetSpec,
    DrawnSample,
    DrawnScores,
    EvidenceKeys,
    InspectionProgress,
    ModelCard,
    ModelSpec,
    ProblemDocument,
    RankingRequest,
    RunReport,
    ScheduleRequest,
    Summary,
    ZooQuery,
    dict[str, float],
    dict[str, int],
    dict[str, str],
    list[str],
    tuple[EnsembleResult, ...],
    tuple[RefusedModel, ...],
    tuple[Unreadable, ...],
    tuple[str, ...],
)


class Base(DeclarativeBase):
    """Names every constraint, so that migrations can name them too."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads a plain dictionary
        datetime: UtcDateTime(),
        JsonObject: JSON(none_as_null=True),
        **{kind: JsonOf(kind) for kind in STORED_AS_JSON},
        int: BigInteger(),
        float: Float(precision=53),
    }


def _state(kind: type[StrEnum]) -> Enum:
    return Enum(kind, native_enum=False, length=16, values_callable=lambda members: [m.value for m in members])


class Owned:
    """Belongs to the key that made it (``local``: made without a key), or is shared on purpose."""

    owner: Mapped[str] = mapped_column(String(64), default=LOCAL_OWNER, index=True)
    shared: Mapped[bool] = mapped_column(default=False)


class ApiKey(Base):
    """A caller. Only the hash of the secret is kept."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=lambda: new_id("key"))
    name: Mapped[str] = mapped_column(String(200))
    prefix: Mapped[str] = mapped_column(String(16))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(default=now)
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Dataset(Owned, Base):
    """Labelled images, immutable; `spec` says where they are, the index file says which they are.

    `stored_bytes` are those of an upload; what is registered by path is not ours to count.
    """

    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("owner", "name"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=lambda: new_id("ds"))
    name: Mapped[str] = mapped_column(String(200))
    spec: Mapped[DatasetSpec]
    sample_of: Mapped[str | None] = mapped_column(String(300), index=True)
    state: Mapped[ResourceState] = mapped_column(_state(ResourceState), default=ResourceState.PENDING)
    problem: Mapped[ProblemDocument | None]
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    image_count: Mapped[int | None]
    class_counts: Mapped[dict[str, int] | None]
    unreadable: Mapped[tuple[Unreadable, ...] | None]
    progress: Mapped[InspectionProgress | None]
    stored_bytes: Mapped[int] = mapped_column(default=0, server_default="0")
    created_at: Mapped[datetime] = mapped_column(default=now)
    inspected_at: Mapped[datetime | None]


class Model(Owned, Base):
    """A pre-trained network; `card` is what its inspection found.

    `weight_bytes` is of the weights in 32 bits, `input_size` the width in pixels, `top1` percent on ImageNet as timm
    publishes it, `images_per_second` the speed of the last forward pass on this deployment.
    """

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("owner", "name"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=lambda: new_id("mdl"))
    name: Mapped[str] = mapped_column(String(300))
    spec: Mapped[ModelSpec]
    source_dataset: Mapped[str | None] = mapped_column(String(300))
    license: Mapped[str | None] = mapped_column(String(300))
    architecture: Mapped[str | None] = mapped_column(String(200), index=True)
    family: Mapped[str | None] = mapped_column(String(200))
    tag: Mapped[str | None] = mapped_column(String(200))
    gmacs: Mapped[float | None]
    weight_bytes: Mapped[int | None]
    input_size: Mapped[int | None]
    top1: Mapped[float | None]
    images_per_second: Mapped[float | None]
    state: Mapped[ResourceState] = mapped_column(_state(ResourceState), default=ResourceState.PENDING)
    problem: Mapped[ProblemDocument | None]
    digest: Mapped[str | None] = mapped_column(String(64))
    parameters: Mapped[int | None]
    card: Mapped[ModelCard | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    inspected_at: Mapped[datetime | None]


class Zoo(Owned, Base):
    """A named set of models: those listed, or those that `query` finds when a ranking starts.

    `unavailable` are names that could not be registered, each with its problem.
    """

    __tablename__ = "zoos"
    __table_args__ = (UniqueConstraint("owner", "name"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=lambda: new_id("zoo"))
    name: Mapped[str] = mapped_column(String(200))
    query: Mapped[ZooQuery | None]
    unavailable: Mapped[tuple[RefusedModel, ...] | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    members: Mapped[list["ZooModel"]] = relationship(
        lazy="raise", order_by="ZooModel.position", cascade="all, delete-orphan"
    )


class ZooModel(Base):
    """A model's place in a zoo."""

    __tablename__ = "zoo_models"

    zoo_id: Mapped[str] = mapped_column(ForeignKey("zoos.id", ondelete="CASCADE"), primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), primary_key=True, index=True)
    position: Mapped[int]


class Ranking(Owned, Base):
    """One job: a target, models and metrics; `request` is the whole question, normalised.

    `question` is the same for rankings whose scores may be compared: once they have succeeded.
    `priority` is that of its jobs in the engine: `app.jobs.ranking_priority`.
    `traceparent` is the span that submitted it, of W3C Trace Context; its steps continue that trace.
    """

    __tablename__ = "rankings"

    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=lambda: new_id("rnk"))
    name: Mapped[str | None] = mapped_column(String(200))
    target_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), index=True)
    request: Mapped[RankingRequest]
    priority: Mapped[int]
    state: Mapped[RankingState] = mapped_column(_state(RankingState), default=RankingState.QUEUED, index=True)
    problem: Mapped[ProblemDocument | None]
    sample: Mapped[DrawnSample | None]
    counters: Mapped[Counters | None]
    summary: Mapped[Summary | None]
    ensembles: Mapped[tuple[EnsembleResult, ...] | None]
    question: Mapped[str | None] = mapped_column(String(64), index=True)
    event_sequence: Mapped[int] = mapped_column(default=0)
    request_id: Mapped[str | None] = mapped_column(String(64))
    traceparent: Mapped[str | None] = mapped_column(String(55))
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class SubmissionCounter(Base):
    """One row: how many rankings have been submitted, on SQLite; PostgreSQL has a sequence for it."""

    __tablename__ = "submission_counter"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    last: Mapped[int]


class RankingModel(Base):
    """One model's part in a ranking: where it stands, what it took, why it failed."""

    __tablename__ = "ranking_models"

    ranking_id: Mapped[str] = mapped_column(ForeignKey("rankings.id", ondelete="CASCADE"), primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), primary_key=True, index=True)
    position: Mapped[int]
    state: Mapped[ModelRunState] = mapped_column(_state(ModelRunState), default=ModelRunState.QUEUED)
    stage: Mapped[str | None] = mapped_column(String(32))
    done: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(default=0)
    evidence: Mapped[EvidenceKeys | None]
    reused: Mapped[bool] = mapped_column(default=False)
    seconds: Mapped[dict[str, float] | None]
    images_per_second: Mapped[float | None]
    images_decoded: Mapped[int] = mapped_column(default=0)
    models_loaded: Mapped[int] = mapped_column(default=0)
    evidence_computed: Mapped[int] = mapped_column(default=0)
    scores_computed: Mapped[int] = mapped_column(default=0)
    warnings: Mapped[tuple[str, ...] | None]
    problem: Mapped[ProblemDocument | None]


class Score(Base):
    """A metric on one piece of evidence. Content-addressed: the same question always has the same row."""

    __tablename__ = "scores"
    __table_args__ = (UniqueConstraint("evidence_key", "metric", "parameters_key"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=lambda: new_id("scr"))
    evidence_key: Mapped[str] = mapped_column(String(64))
    metric: Mapped[str] = mapped_column(String(64))
    parameters_key: Mapped[str] = mapped_column(String(64))
    value: Mapped[float | None]
    warnings: Mapped[tuple[str, ...]]
    details: Mapped[JsonObject]
    problem: Mapped[ProblemDocument | None]
    resamples: Mapped[DrawnScores | None]
    seconds: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(default=now)


class RankingScore(Base):
    """Which score answers which cell of a ranking's table."""

    __tablename__ = "ranking_scores"

    ranking_id: Mapped[str] = mapped_column(ForeignKey("rankings.id", ondelete="CASCADE"), primary_key=True)
    model_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    layer: Mapped[str] = mapped_column(String(200), primary_key=True)
    metric: Mapped[str] = mapped_column(String(64), primary_key=True)
    score_id: Mapped[str] = mapped_column(ForeignKey("scores.id"), index=True)


class RankingEvent(Base):
    """What happened in a ranking, numbered without gaps, for clients that follow it."""

    __tablename__ = "ranking_events"

    ranking_id: Mapped[str] = mapped_column(ForeignKey("rankings.id", ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str] = mapped_column(String(32))
    data: Mapped[JsonObject]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Worker(Base):
    """A worker process; `heartbeat` is seconds of the database's own clock."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    host: Mapped[str] = mapped_column(String(200))
    boot: Mapped[str] = mapped_column(String(64))
    pid: Mapped[int]
    device: Mapped[str] = mapped_column(String(32))
    heartbeat: Mapped[float]
    started_at: Mapped[datetime] = mapped_column(default=now)


class CatalogModel(Base):
    """A model that the workers' timm can build, so that the API can search without timm; columns as in `Model`.

    `training_data` are the data sets that the tag names, `details` says where each fact comes from.
    """

    __tablename__ = "catalog_models"

    name: Mapped[str] = mapped_column(String(300), primary_key=True)
    architecture: Mapped[str] = mapped_column(String(200), index=True)
    family: Mapped[str] = mapped_column(String(200), index=True)
    tag: Mapped[str] = mapped_column(String(200))
    parameters: Mapped[int | None]
    gmacs: Mapped[float | None]
    weight_bytes: Mapped[int | None]
    input_size: Mapped[int | None]
    source_classes: Mapped[int | None]
    license: Mapped[str | None] = mapped_column(String(300))
    source_dataset: Mapped[str | None] = mapped_column(String(300))
    training_data: Mapped[list[str]]
    top1: Mapped[float | None]
    details: Mapped[CatalogDetails]
    published_at: Mapped[datetime] = mapped_column(default=now)


class IdempotentRequest(Base):
    """The first answer to a request that may be sent again; no status: it is still being answered.

    `claimed_at` is seconds of the database's own clock, `token` names the attempt that answers.
    """

    __tablename__ = "idempotent_requests"
    __table_args__ = (Index(None, "claimed_at"),)

    owner: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    token: Mapped[str] = mapped_column(String(32))
    claimed_at: Mapped[float]
    status: Mapped[int | None]
    headers: Mapped[dict[str, str] | None]
    body: Mapped[str | None] = mapped_column(Text)
