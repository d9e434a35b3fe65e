"""Workers, as people and other services see them."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from app.schemas.base import Answer


class WorkerAnswer(Answer):
    """A worker process and when it was last heard of."""

    id: str
    host: str
    device: str
    state: Literal["alive", "silent"] = Field(
        description="`silent`: not heard of for longer than the limit; other workers take over what it held."
    )
    seconds_since_heartbeat: float = Field(description="By the database's clock.")
    started_at: datetime
