"""Schedules: what each run asks, and what it reports."""

from datetime import datetime

from pydantic import AliasChoices, Field

from app.contracts.base import Contract
from app.contracts.problems import ProblemDocument
from app.contracts.question import RankingOptions
from app.contracts.rankings import Counters
from app.contracts.states import RunState


class Named(Contract):
    """Something stored, with the name that it had when it was chosen."""

    id: str
    name: str


class ScheduleRequest(RankingOptions):
    """What each run asks of each target."""

    zoo: Named
    targets: tuple[Named, ...]

    @property
    def options(self) -> RankingOptions:
        """The same for each target."""
        return RankingOptions(**{name: getattr(self, name) for name in RankingOptions.model_fields})


class Place(Contract):
    """A model on a target's table."""

    model_id: str
    model: str
    rank: int


class Move(Contract):
    """A model whose place changed."""

    model_id: str
    model: str
    before: int
    after: int


class Comparison(Contract):
    """What differs between two tables of one target."""

    best: Place | None
    new_best: bool = Field(description="Whether another model than before is the best.")
    entered: tuple[Place, ...] = Field(description="On the table now, not before.")
    left: tuple[Place, ...] = Field(description="On the table before, not now; with the rank that they had.")
    moved: tuple[Move, ...]


class TargetReport(Comparison):
    """What one run changed for one target, compared with the schedule's last run that ranked it."""

    target: str
    target_id: str | None
    ranking_id: str | None
    previous_ranking_id: str | None = Field(description="Null: there is nothing to compare with.")
    data_change: str = Field(validation_alias=AliasChoices("data_change", "data"))
    problem: ProblemDocument | None
    failed: tuple[str, ...] = Field(description="Models without a result, by name; the ranking says why.")
    computed: tuple[str, ...] = Field(description="Models that were run, by name.")
    reused: int = Field(description="Models whose evidence already existed.")
    counters: Counters
    seconds: float | None


class RunReport(Contract):
    """What a run found."""

    run_id: str
    schedule_id: str
    schedule: str
    scheduled_at: datetime
    finished_at: datetime | None
    state: RunState
    seconds: float | None
    computed: int = Field(description="Forward passes: pairs of a model and a target.")
    reused: int
    changed_models: dict[str, str] = Field(
        default_factory=dict,
        description="Local models whose weights were replaced since they were digested, by name: `inspected again`, or "
        "`changed in use` by another ranking, so that the next run looks again.",
    )
    targets: tuple[TargetReport, ...]
