"""What is said of a ranking when all of its models have ended."""

from pydantic import AliasChoices, Field

from app.contracts.advice import Recommendation
from app.contracts.base import Contract

Ranks = dict[str, int]


class Interval(Contract):
    """Holds the asked share (``level``) of a score's resamples."""

    low: float
    high: float
    level: float
    resamples: int
    method: str


class Chances(Contract):
    """How likely each model comes first by one metric on another sample of these images; by model, empty unless all
    models share the draws. It is not the chance to be best once fine-tuned."""

    models: int
    resamples: int
    chance_first_on_another_sample: dict[str, float] = Field(
        default_factory=dict, validation_alias=AliasChoices("chance_first_on_another_sample", "probability_best")
    )
    expected_rank: dict[str, float] = Field(default_factory=dict)


class ConsensusSummary(Contract):
    """One order of the models by all metrics."""

    ranks: Ranks
    mean_ranks: dict[str, float]
    method: str
    citation: str = Field(validation_alias=AliasChoices("citation", "source"))


class Disagreement(Contract):
    """How much the metrics disagree; a correlation that does not exist is the text ``nan``."""

    kendall_tau: dict[str, dict[str, float | str]]
    mean_kendall_tau: float | None
    kendall_w: float | None


class Summary(Contract):
    """Ranks, intervals and the chance to come first for each metric, and what the metrics say together.

    Attributes:
        order: ids of models, best first.
        ranks: metric -> model -> rank.
        layer_ranks: model -> metric -> layer -> rank.
        pool_values: metric -> model -> value, of metrics that mean something within a pool only.
        intervals: model -> metric -> interval.
        layer_intervals: layer -> model -> metric -> interval.
        metrics: metric -> chances.
        abstentions: metric -> why it does not vote: it cannot tell these models apart.
    """

    order: tuple[str, ...]
    ranks: dict[str, Ranks] = Field(default_factory=dict)
    layer_ranks: dict[str, dict[str, Ranks]] = Field(default_factory=dict)
    pool_values: dict[str, dict[str, float]] = Field(default_factory=dict)
    intervals: dict[str, dict[str, Interval]] = Field(default_factory=dict)
    layer_intervals: dict[str, dict[str, dict[str, Interval]]] = Field(default_factory=dict)
    metrics: dict[str, Chances] = Field(default_factory=dict)
    abstentions: dict[str, str] = Field(default_factory=dict)
    consensus: ConsensusSummary | None = None
    disagreement: Disagreement | None = None
    recommendation: Recommendation | None = None

    @property
    def advised_order(self) -> tuple[str, ...]:
        """Ids of models, best first, as is advised; the consensus where nothing is."""
        if self.recommendation is None:
            return self.order
        return tuple(model.model_id for model in self.recommendation.order)
