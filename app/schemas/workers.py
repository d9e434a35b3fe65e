"""Workers, as people and other services see them."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from app.schemas.base import Answer


class WorkerJob(Answer):
    """Something that a worker does at this moment, whoever asked for it."""

    activity: str = Field(examples=["extracting features"])
    seconds: float = Field(description="How long it has done so, by the database's clock.")


class WorkerAnswer(Answer):
    """A worker process, when it was last heard of, and what it does."""

    id: str
    host: str
    device: str
    state: Literal["alive", "silent"] = Field(
        description="`silent`: not heard of for longer than the limit; other workers take over what it held."
    )
    seconds_since_heartbeat: float = Field(description="By the database's clock.")
    started_at: datetime
    jobs: list[WorkerJob] = Field(description="What it does at this moment, the longest first; empty while it waits.")
