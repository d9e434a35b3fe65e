"""Scores: what is to be computed, and what came out."""

from pydantic import Field

from app.contracts.base import Contract, JsonObject
from app.contracts.problems import ProblemDocument
from app.contracts.question import IntervalChoice
from app.contracts.tasks import TaskName

ScoreKey = tuple[str, str, str]


class Cell(Contract):
    """One cell of a ranking's table.

    Attributes:
        evidence_key: in the feature store.
        reference_key: of the reference features, if the metric uses any.
        parameters_key: SHA-256 of all but the evidence that the score depends on.
    """

    layer: str
    metric: str
    parameters: JsonObject
    evidence_key: str
    reference_key: str | None
    intervals: IntervalChoice | None
    parameters_key: str

    @property
    def key(self) -> ScoreKey:
        """Under which the score is stored."""
        return self.evidence_key, self.metric, self.parameters_key


class DrawnScores(Contract):
    """A score's resamples; ``parts`` are those of what a metric of pools combines."""

    method: str
    values: tuple[float, ...]
    parts: dict[str, tuple[float, ...]] = Field(default_factory=dict)


class ScoreResult(Contract):
    """A metric on one piece of evidence; a value or the reason why there is none."""

    value: float | None = None
    warnings: tuple[str, ...] = ()
    details: JsonObject = Field(default_factory=dict)
    problem: ProblemDocument | None = None
    resamples: DrawnScores | None = None
    seconds: float = 0.0


class ScoreCommand(Contract):
    """Compute these cells."""

    task: TaskName
    cells: tuple[Cell, ...]

    @property
    def evidence_keys(self) -> list[str]:
        """Of all that the cells read."""
        return [key for cell in self.cells for key in (cell.evidence_key, cell.reference_key) if key]
