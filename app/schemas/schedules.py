"""Schedules, their runs, and what a run reports."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, model_validator

from app.contracts.base import Body, Name, Reference, Text
from app.contracts.question import RankingOptions
from app.contracts.schedules import Named
from app.contracts.states import RankingState, RunState, ScheduleState
from app.schemas.base import Answer, OwnedAnswer, Problem


class ScheduleCreate(RankingOptions):
    """When to rank, and what: each run ranks the zoo for every target."""

    model_config = Body.model_config | {
        "json_schema_extra": {
            "examples": [
                {
                    "name": "nightly",
                    "cron": "0 2 * * *",
                    "time_zone": "Europe/Berlin",
                    "zoo": "offline",
                    "targets": ["digits"],
                    "metrics": ["logme", "tmi", "leep"],
                    "sample": {"max_samples": 300},
                }
            ]
        }
    }

    name: Name
    cron: Annotated[Text, Field(min_length=1, max_length=200)] = Field(
        description="Minute, hour, day of month, month, day of week; with six fields, seconds come first."
    )
    time_zone: Annotated[Text, Field(min_length=1, max_length=64)] = Field(
        "UTC", description="Whose wall clock the expression reads, such as `Europe/Berlin`."
    )
    zoo: Reference = Field(description="Id or name of a zoo; what it holds is looked up when a run starts.")
    targets: list[Reference] = Field(min_length=1, max_length=100, description="Ids or names of data sets.")
    webhook: Reference | None = Field(None, description="Id or name of a webhook that is notified of each run.")
    shared: bool = False

    @model_validator(mode="after")
    def _each_once(self) -> "ScheduleCreate":
        if len(set(self.targets)) < len(self.targets):
            raise ValueError("a target is named twice")
        return self


class ScheduleAnswer(OwnedAnswer):
    """A schedule as it stands."""

    cron: str
    time_zone: str
    zoo: str = Field(description="The zoo's name.")
    targets: tuple[Named, ...]
    request: RankingOptions = Field(description="What each run asks of each target.")
    webhook_id: str | None
    state: ScheduleState = Field(description="`stopped`: its key was revoked; `problem` says so.")
    problem: Problem | None
    next_run_at: datetime | None = Field(description="Null unless the schedule is active.")
    next_runs: list[datetime] = Field(description="The next five.")


class RunTargetAnswer(Answer):
    """One target of a run."""

    target: str
    target_id: str | None
    data_change: str = Field(
        description="`unchanged`, or `inspected again`; `changed in use`: others ranked it meanwhile."
    )
    ranking_id: str | None
    state: RankingState | None
    problem: Problem | None


class RunAnswer(Answer):
    """One run of a schedule."""

    id: str
    schedule_id: str
    scheduled_at: datetime
    by_hand: bool
    state: RunState
    problem: Problem | None = Field(description="Why it failed, or was skipped.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    targets: list[RunTargetAnswer]


class LeaderboardRow(Answer):
    """A model's place on a target's board."""

    rank: int
    model_id: str
    model: str
    value: float = Field(description="Of the metric; of the consensus, minus the mean of the ranks by each metric.")
    ranking_id: str = Field(description="The latest ranking that holds the model.")
    measured_at: datetime
    parameters: int | None
    gmacs: float | None
    license: str | None
    images_per_second: float | None
    top1: float | None


class LeaderboardAnswer(Answer):
    """The best models for a target, over all rankings that asked the same."""

    target: str
    target_id: str
    metric: str
    ranking_count: int = Field(description="Rankings that asked the same of the same images.")
    metrics: list[str] = Field(description="What the board can be ordered by, besides `consensus`.")
    rows: list[LeaderboardRow]


class HistoryPoint(Answer):
    """Where a model stood in one ranking."""

    ranking_id: str
    finished_at: datetime
    metric: str
    rank: int
    model_count: int
    value: float


class HistoryAnswer(Answer):
    """A model's rank over time."""

    target_id: str
    model_id: str
    model: str
    points: list[HistoryPoint]
