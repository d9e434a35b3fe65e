"""What retention removed, or would remove."""

from datetime import datetime

from pydantic import Field

from app.contracts.base import Body
from app.contracts.retention import Kind
from app.contracts.states import RunState
from app.schemas.base import Answer, Problem


class RetentionCreate(Body):
    """A look at all that is past its time."""

    model_config = Body.model_config | {"json_schema_extra": {"examples": [{"dry_run": True}]}}

    dry_run: bool = Field(True, description="Say what would go and remove nothing. `false` removes it.")


class RuleAnswer(Answer):
    """When something is past its time; it is enough that one of the two says so."""

    days: float | None = Field(description="Older than this; null: age does not matter.")
    newest: int | None = Field(description="Beyond this many of the newest; null: the number does not matter.")


class RemovalAnswer(Answer):
    """What went of one kind, or would go in a dry run."""

    kind: Kind
    rule: RuleAnswer
    removed: int = Field(description="How many.")
    bytes: int = Field(description="Of files, and of rows written as text; the database itself keeps more than these.")
    kept: int = Field(description="Past their time, but kept: a leaderboard, a schedule or work under way needs them.")
    examples: list[str] = Field(description="Ids of the first that went.")


class RetentionAnswer(Answer):
    """One look at all that is past its time."""

    id: str
    dry_run: bool
    by_hand: bool
    state: RunState
    removals: list[RemovalAnswer]
    problem: Problem | None
    created_at: datetime
    finished_at: datetime | None
