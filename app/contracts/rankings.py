"""A ranking: the normalised question, the sample that was drawn, and what it took."""

from typing import Literal

from pydantic import Field

from app.contracts.base import Contract
from app.contracts.question import EnsembleChoice, IntervalChoice, MetricChoice, SampleChoice
from app.contracts.tasks import TaskName
from app.contracts.trials import TrialChoice


class RankingRequest(Contract):
    """The question with names resolved to ids.

    Attributes:
        target: the target's name when it was asked.
        reference: id of the data set for reference features, if one was named.
        sources: what models were trained on -> id of the data set that is a sample of it.
        given_ensembles: ids of models.
    """

    task: TaskName = "classification"
    target: str
    zoo: str | None
    metrics: tuple[MetricChoice, ...]
    sample: SampleChoice
    priority: Literal["high", "normal", "low"]
    layers: tuple[str, ...] | Literal["stages"]
    reference: str | None
    sources: dict[str, str]
    intervals: IntervalChoice | None
    trial: TrialChoice | None = None
    history: bool = True
    ensembles: tuple[EnsembleChoice, ...]
    given_ensembles: tuple[tuple[str, ...], ...]

    @property
    def wants_ensembles(self) -> bool:
        """Whether evidence of all models is needed until the end."""
        return bool(self.ensembles or self.given_ensembles)


class DrawnSample(SampleChoice):
    """The sample that was drawn, with its choice."""

    images: int
    images_of_data_set: int
    classes: int
    smallest_class: int
    largest_class: int
    unreadable: int
    fingerprint: str


class Counters(Contract):
    """What a ranking made, and what it found made."""

    images_decoded: int = 0
    models_loaded: int = 0
    evidence_computed: int = 0
    evidence_reused: int = 0
    scores_computed: int = 0
    scores_reused: int = 0


class EvidenceKeys(Contract):
    """Layer -> key in the feature store, of each sample that a model is run on."""

    target: dict[str, str]
    reference: dict[str, str] = Field(default_factory=dict)
    source: dict[str, str] = Field(default_factory=dict)

    @property
    def all(self) -> tuple[str, ...]:
        """Every key."""
        return (*self.target.values(), *self.reference.values(), *self.source.values())
