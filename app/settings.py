"""Every setting, read from the environment (prefix ``FORERANK_``). Units stand in the names."""

import os
from enum import StrEnum
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from app.urls import is_below, normalized

# Of a process that computes: threads that wait by spinning take the cores from other processes and libraries.
SLEEPING_THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "OPENBLAS_THREAD_TIMEOUT": "4"}


class Queue(StrEnum):
    """Where work waits."""

    RANKINGS = "rankings"
    INSPECTIONS = "inspections"
    DEVICE = "device"
    SCORING = "scoring"
    TRIALS = "trials"
    DELIVERIES = "deliveries"
    SCHEDULES = "schedules"
    RETENTION = "retention"


Roots = Annotated[tuple[Path, ...], NoDecode]
Precision = Literal["float32", "bfloat16", "float16"]


class Settings(BaseSettings):
    """What a deployment may change. Lists of paths are separated like ``PATH`` (``:`` on Linux)."""

    model_config = SettingsConfigDict(env_prefix="FORERANK_", extra="ignore", frozen=True, hide_input_in_errors=True)

    home: Path = Field(Path("forerank-data"), description="Folder of all that Forerank writes; shared by all workers.")
    database_url: SecretStr = Field(SecretStr(""), description="SQLAlchemy URL. Empty: SQLite in ``home``.")
    database_limit_seconds: float = Field(
        5, gt=0, description="A statement of the API on PostgreSQL, or its wait for a connection; then 503."
    )
    database_retry_seconds: float = Field(
        5, gt=0, description="A worker that lost the database tries again at least this often, for as long as it takes."
    )
    host: str = Field("127.0.0.1", description="Beyond loopback the server starts only when a key exists.")
    port: int = Field(8000, ge=0, le=65535, description="Of the API.")
    data_roots: Roots = Field((), description="Folders under which data sets may be registered by path.")
    data_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="As `s3://bucket/prefix`, below which data sets may be registered by URL, separated by commas."
    )
    model_roots: Roots = Field((), description="Folders under which local models may be registered.")
    require_keys: bool = Field(False, description="Ask for an API key on loopback too; elsewhere one is always asked.")
    session_hours: float = Field(12, gt=0, description="How long signing in on the pages lasts.")
    rate_limit: str = Field("600/minute", description="Requests of one key, counted by each API process.")
    submission_limit: str = Field("120/minute", description="POSTs of one key, counted by each API process.")
    upload_megabytes_per_day: int = Field(100_000, gt=0, description="Of one key, counted by each API process.")
    body_limit_megabytes: float = Field(2, gt=0, description="Of a JSON request.")
    upload_limit_megabytes: float = Field(20_000, gt=0, description="Of an uploaded archive.")
    upload_expanded_limit_megabytes: float = Field(50_000, gt=0, description="Of what an uploaded archive holds.")
    owner_quota_gigabytes: float = Field(0, ge=0, description="Uploads and fine-tuned weights of one key. 0: any.")
    upload_entry_limit: int = Field(200_000, gt=0, description="Files in an uploaded archive; more: register a path.")
    body_grace_seconds: float = Field(20, gt=0, description="A body may take this long, and longer as bytes arrive.")
    body_minimum_bytes_per_second: float = Field(10_000, gt=0, description="A slower body is given up.")
    idempotency_hours: float = Field(24, gt=0, description="How long the answer to an Idempotency-Key is kept.")
    idempotency_in_flight_seconds: float = Field(
        60, gt=0, description="A request that died blocks its key for this long."
    )
    scores_limit_megabytes: float = Field(256, gt=0, description="Of the arrays sent to /v1/scores, expanded.")
    scores_memory_megabytes: float = Field(
        4000, gt=0, description="Of one process that scores what is sent, beyond its libraries."
    )
    scores_processes: int = Field(1, ge=1, description="Processes that score what is sent to /v1/scores.")
    scores_waiting_limit: int = Field(100, ge=1, description="Requests that wait for such a process; more: 503.")
    scores_limit_seconds: float = Field(60, gt=0, description="All metrics of one request to /v1/scores.")
    events_stream_limit: int = Field(750, ge=1, description="Streams of events open at once in one API process.")
    events_polling_seconds: float = Field(0.5, gt=0, description="How often each API process looks for new events.")
    events_heartbeat_seconds: float = Field(10, gt=0, description="A silent stream of events says that it lives.")
    log_format: Literal["console", "json"] = Field("console", description="console or json.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug to error.")

    store_url: str = Field(
        "",
        pattern=r"^(s3://[^/]+(/.*)?)?$",
        description="Of what hosts share, `s3://bucket/prefix`. Empty: they share ``home``. Credentials: `AWS_*`.",
    )

    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto: cuda, else mps, else cpu.")
    queues: Annotated[tuple[Queue, ...], NoDecode] = Field(
        (), description="Which queues a worker serves, separated by commas. Empty: all."
    )
    threads: int = Field(0, ge=0, description="CPU threads of one extractor or scorer. 0: one per core.")
    batch_size: int = Field(0, ge=0, description="Images a forward pass. 0: found by halving until it fits memory.")
    worker_metrics_port: int = Field(
        0, ge=0, le=65535, description="Where a worker answers Prometheus, one port a worker. 0: nowhere."
    )
    worker_metrics_host: str = Field(
        "127.0.0.1", description="Its address. It asks for no key, and tells counts and seconds only."
    )
    precision: Precision = Field(
        "float32", description="Of forward passes; the same on all workers. Half is for GPUs and moves scores a little."
    )
    compile_models: bool = Field(False, description="torch.compile; worth it on GPUs and for thousands of images.")
    extraction_time_limit_seconds: float = Field(3600, gt=0, description="One model on one data set.")
    extractor_memory_megabytes: float = Field(
        0, ge=0, description="Host memory of a model beyond the libraries'. 0: four fifths of the machine's."
    )
    trial_time_limit_seconds: float = Field(
        14400, gt=0, description="One fold of a trial, or one run of a fine-tuning."
    )
    scoring_time_limit_seconds: float = Field(3600, gt=0, description="All metrics of one model, or all ensembles.")
    scorer_memory_megabytes: float = Field(
        0, ge=0, description="Of one scorer beyond its libraries. 0: four fifths of the machine's."
    )
    models_in_flight_per_ranking: int = Field(
        4, ge=1, description="So that a large ranking leaves room for a small one."
    )

    feature_quota_gigabytes: float = Field(50, gt=0, description="Least recently used evidence goes first.")
    image_cache_quota_gigabytes: float = Field(20, gt=0, description="Of decoded images.")
    copy_quota_gigabytes: float = Field(
        50, gt=0, description="Of a host's copies of data sets that lie in buckets; least recently used goes first."
    )
    disk_reserve_gigabytes: float = Field(1, ge=0, description="Free disk for which evidence and decoded images go.")
    unreadable_share_limit: float = Field(0.05, ge=0, le=1, description="Beyond this a data set fails inspection.")
    image_pixel_limit: int = Field(100_000_000, gt=0, description="Pixels of one decoded image.")
    image_processor_seconds: float = Field(10, gt=0, description="Of the processor, to read one image at inspection.")
    image_time_limit_seconds: float = Field(60, gt=0, description="To read one image at inspection, waiting included.")
    image_memory_megabytes: float = Field(2000, gt=0, description="Reading one image at inspection. Linux only.")
    image_count_limit: int = Field(5_000_000, gt=0, description="Images of one data set.")
    dataset_entry_limit: int = Field(
        20_000_000, gt=0, description="Files, folders and rows that one inspection visits."
    )
    dataset_depth_limit: int = Field(32, gt=0, description="Folders in folders of one data set.")
    inspection_time_limit_seconds: float = Field(21_600, gt=0, description="All images of one data set.")
    inspections_per_owner: int = Field(
        2, ge=1, le=16, description="Data sets of one key that a worker inspects at once."
    )

    heartbeat_seconds: float = Field(5, gt=0, description="How often a worker says that it lives.")
    heartbeat_limit_seconds: float = Field(30, gt=0, description="A worker silent for longer is taken over.")
    polling_seconds: float = Field(0.2, gt=0, description="How often queues are looked at.")

    schedule_shortest_seconds: float = Field(60, ge=1, description="No schedule may be due more often.")
    schedule_polling_seconds: float = Field(5, gt=0, description="How soon workers notice that schedules changed.")
    schedule_misfire_hours: float = Field(
        24,
        gt=0,
        description="A run that was not started in time is caught up with for this long; later it is left out.",
    )
    webhook_private_addresses: bool = Field(
        False, description="Let webhooks go to private, loopback and link-local addresses, and by plain http."
    )
    webhook_time_limit_seconds: float = Field(10, gt=0, description="One attempt, from the name to the answer.")
    webhook_attempts: int = Field(8, ge=1, le=50, description="Attempts before a delivery fails.")
    webhook_first_pause_seconds: float = Field(
        5, gt=0, description="Before the second attempt; each pause is five times the one before, to 12 hours."
    )

    retention_hours: float = Field(
        1, gt=0, description="How often a worker removes what is past the limits below; 0 there: none."
    )
    ranking_history_days: float = Field(0, ge=0, description="Rankings that ended longer ago go.")
    ranking_history_count: int = Field(0, ge=0, description="Ended rankings kept of each owner and target.")
    finetune_history_days: float = Field(
        0, ge=0, description="Fine-tunings that ended longer ago go, with the weights that they kept."
    )
    finetune_history_count: int = Field(0, ge=0, description="Ended fine-tunings kept of each owner and target.")
    run_history_days: float = Field(0, ge=0, description="Runs of schedules that ended longer ago go.")
    run_history_count: int = Field(0, ge=0, description="Ended runs kept of each schedule.")
    delivery_history_days: float = Field(30, ge=0, description="Messages to webhooks that ended longer ago go.")
    delivery_history_count: int = Field(0, ge=0, description="Ended messages kept of each webhook.")
    job_history_days: float = Field(30, ge=0, description="Jobs of the engine that ended longer ago go; results stay.")
    job_history_count: int = Field(0, ge=0, description="Ended jobs that the engine keeps; results stay.")
    evidence_history_days: float = Field(0, ge=0, description="Evidence that was not used for this long goes.")
    evidence_history_count: int = Field(0, ge=0, description="Pieces of evidence kept, those used last.")

    @field_validator("queues", "data_urls", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("data_urls")
    @classmethod
    def _normalize(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(normalized, value))

    @field_validator("data_roots", "model_roots", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(Path(part) for part in value.split(os.pathsep) if part)
        return value

    @field_validator("data_roots", "model_roots")
    @classmethod
    def _resolve(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(path.expanduser().resolve() for path in value)

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @model_validator(mode="after")
    def _home_is_no_data_root(self) -> Self:
        for root in self.data_roots:
            if root.is_relative_to(self.home):
                raise ValueError(
                    f"{root} of FORERANK_DATA_ROOTS lies in FORERANK_HOME, where other people's uploads are"
                )
        return self

    @model_validator(mode="after")
    def _store_is_no_data_url(self) -> Self:
        for url in self.data_urls:
            if self.store_url and is_below(url, self.store_url):
                raise ValueError(
                    f"{url} of FORERANK_DATA_URLS lies in FORERANK_STORE_URL, where other people's uploads are"
                )
        return self

    @model_validator(mode="after")
    def _beats_before_limit(self) -> Self:
        if self.heartbeat_limit_seconds <= 2 * self.heartbeat_seconds:
            raise ValueError("FORERANK_HEARTBEAT_LIMIT_SECONDS must be more than twice FORERANK_HEARTBEAT_SECONDS")
        return self

    @field_validator("database_url")
    @classmethod
    def _readable(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            try:
                make_url(value.get_secret_value())
            except (ArgumentError, ValueError):
                # Not as it was raised: the reason quotes the URL, and so the password.
                raise ValueError("is not an SQLAlchemy URL such as postgresql://user:password@host/database") from None
        return value

    @model_validator(mode="after")
    def _shared_storage_is_of_many_hosts(self) -> Self:
        given = self.database_url.get_secret_value()
        if self.store_url and (not given or make_url(given).get_backend_name() == "sqlite"):
            raise ValueError("FORERANK_STORE_URL needs FORERANK_DATABASE_URL: hosts cannot share a file of SQLite")
        return self

    @cached_property
    def url(self) -> URL:
        """The database's URL, with the driver named; as a text it hides its password."""
        given = self.database_url.get_secret_value()
        url = make_url(given) if given else URL.create("sqlite", database=str(self.home / "forerank.sqlite"))
        if url.drivername in ("postgresql", "postgres"):
            return url.set(drivername="postgresql+psycopg")
        return url

    def environment(self) -> dict[str, str]:
        """The settings that were given, as variables from which another process reads the same."""
        variables = {}
        for name in self.model_fields_set:
            value = getattr(self, name)
            if isinstance(value, SecretStr):
                text = value.get_secret_value()
            elif name in ("queues", "data_urls"):
                text = ",".join(value)
            elif isinstance(value, tuple):
                text = os.pathsep.join(map(str, value))
            else:
                text = str(value)
            variables[f"FORERANK_{name.upper()}"] = text
        return variables

    @property
    def datasets_folder(self) -> Path:
        """Indexes of data sets, and the images of those that were uploaded."""
        return self.home / "datasets"

    @property
    def features_folder(self) -> Path:
        """The feature store."""
        return self.home / "features"

    @property
    def images_folder(self) -> Path:
        """The decode-once cache."""
        return self.home / "images"

    @property
    def copies_folder(self) -> Path:
        """This host's copies of data sets that lie in buckets."""
        return self.home / "copies"

    @property
    def rankings_folder(self) -> Path:
        """Terms of ensembles, one folder per ranking."""
        return self.home / "rankings"

    @property
    def fine_tunings_folder(self) -> Path:
        """Fine-tuned weights, a folder a fine-tuning."""
        return self.home / "finetunes"

    @property
    def zoo_folder(self) -> Path:
        """Weights that ``forerank zoo install`` fetched; always a model root."""
        return self.home / "zoo"

    @property
    def served_queues(self) -> tuple[Queue, ...]:
        """Of a worker."""
        return self.queues or tuple(Queue)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False
