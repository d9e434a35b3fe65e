"""Rankings: where one stands, and the answer."""

from datetime import datetime
from typing import Literal

from pydantic import Field, computed_field

from app.contracts.advice import Recommendation
from app.contracts.base import Body, JsonObject
from app.contracts.question import EnsembleReading, Members
from app.contracts.rankings import Counters, DrawnSample
from app.contracts.states import ModelRunState, RankingState, TrialState
from app.contracts.summary import Chances, ConsensusSummary, Disagreement, Interval
from app.schemas.base import Answer, OwnedAnswer, Problem
from estimators.ensembles.result import Selection


class GivenEnsembles(EnsembleReading):
    """Ensembles of your own, to be scored in the pool of a ranking that has ended."""

    model_config = Body.model_config | {
        "json_schema_extra": {
            "examples": [{"given_ensembles": [["tf_efficientnet_lite0.in1k", "mobilenetv2_100.tv_in1k"]]}]
        }
    }

    method: Literal["osborn", "ms_leep", "e_leep"] = "e_leep"
    given_ensembles: list[Members] = Field(min_length=1, max_length=100)


class TargetAnswer(Answer):
    """The target, and how much of it was used."""

    id: str
    name: str
    sample: DrawnSample | None = Field(description="Size and seed of the sample that was drawn, once known.")


class RankingAnswer(OwnedAnswer):
    """A ranking as it stands; the table is at `results`."""

    state: RankingState
    problem: Problem | None
    target: TargetAnswer
    zoo: str | None
    metrics: list[str]
    priority: str
    models_by_state: dict[str, int]
    counters: Counters
    recommendation: Recommendation | None = Field(
        description="What is advised: the order, which to fine-tune, why, and how sure; null until the end."
    )
    seconds_left: float | None = Field(
        description="Expected until the last model is scored: models that have not ended, times the mean time of those "
        "that have. The conclusion and other rankings' jobs are not in it. Null until one has ended, and at the end."
    )
    started_at: datetime | None
    finished_at: datetime | None

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated property
    @property
    def links(self) -> dict[str, str]:
        """Where the rest of it is."""
        own = f"/v1/rankings/{self.id}"
        return {"self": own} | {part: f"{own}/{part}" for part in ("results", "ensembles", "events")}


class TrialAnswer(Answer):
    """One model's short fine-tuning."""

    state: TrialState
    reason: str | None = Field(description="Why it was left early: excluded by its interval, or the budget was spent.")
    folds_done: int
    accuracy: float | None = Field(description="On the images held out so far.")
    log_loss: float | None = Field(description="Mean negative log-likelihood of the true class there; lower is better.")
    image_side: int | None = Field(description="In pixels.")
    stage: str | None
    done: int
    total: int
    seconds: float
    seconds_left: float | None = Field(description="Of the fold that runs, once its speed is known.")
    warnings: list[str]
    problem: Problem | None


class ScoreAnswer(Answer):
    """One metric of one model."""

    value: float | None = Field(description="Higher is better; null with a problem.")
    rank: int | None = Field(description="1 is best; equal scores share a rank; null until the ranking has ended.")
    seconds: float
    warnings: list[str]
    details: JsonObject
    problem: Problem | None
    interval: Interval | None


class ModelRow(Answer):
    """One model of a ranking."""

    model_id: str
    model: str
    state: ModelRunState
    stage: str | None
    done: int = Field(description="Images of the present stage that are done.")
    total: int
    scores: dict[str, ScoreAnswer]
    layers: dict[str, dict[str, ScoreAnswer]] = Field(description="Layer -> metric -> score, ranked inside the model.")
    consensus_rank: int | None
    trial: TrialAnswer | None = Field(description="null: not tried.")
    parameters: int | None
    seconds: dict[str, float] | None = Field(description="Seconds of each stage.")
    images_per_second: float | None
    evidence_reused: bool
    warnings: list[str]
    problem: Problem | None


class RankedMetric(Answer):
    """A metric of a ranking."""

    name: str
    parameters: JsonObject
    title: str
    unit: str = Field(description="Of its values; empty: a plain number.")
    interpretation: str = Field(description="How to read a value.")


class SummaryAnswer(Answer):
    """What is said of the whole table."""

    metrics: dict[str, Chances] = Field(
        description="Metric -> each model's chance to come first on another sample of these images."
    )
    abstentions: dict[str, str] = Field(description="Metric -> why it does not vote.")
    consensus: ConsensusSummary | None
    disagreement: Disagreement | None


class ResultsAnswer(Answer):
    """The table, in the order of the consensus; rows appear while the ranking runs."""

    ranking_id: str
    state: RankingState
    target: TargetAnswer
    metrics: list[RankedMetric]
    models: list[ModelRow]
    recommendation: Recommendation | None = Field(description="See the ranking.")
    summary: SummaryAnswer | None = Field(description="null until the end.")
    counters: Counters


class ModelMove(Answer):
    """A model of either of two rankings."""

    model_id: str
    model: str
    first_place: int | None = Field(description="Among the models with a result; null: not one of them.")
    second_place: int | None
    moved_up: int | None = Field(description="Places gained from the first ranking to the second; negative: lost.")
    score_changes: dict[str, float] = Field(description="Metric -> score in the second minus score in the first.")


class ComparisonAnswer(Answer):
    """Two rankings side by side."""

    first_id: str
    second_id: str
    same_target: bool = Field(description="Scores are compared only if both rankings are of one data set.")
    metrics: list[RankedMetric] = Field(description="Those whose scores are compared.")
    models: list[ModelMove] = Field(description="In the order of the second; then those that it does not have.")


class EnsembleAnswer(Answer):
    """An ensemble, or the reason why there is none."""

    request: JsonObject = Field(description="What was asked.")
    problem: Problem | None
    selection: Selection | None


class EnsemblesAnswer(Answer):
    """The ensembles of a ranking."""

    ranking_id: str
    state: RankingState
    ensembles: list[EnsembleAnswer]


ParameterValue = float | int | str | bool | None


class MetricParameter(Answer):
    """What may be set of a metric."""

    default: ParameterValue
    description: str
    kind: str
    minimum: float | None
    choices: list[ParameterValue] | None


class MetricAnswer(Answer):
    """A metric's catalog entry."""

    name: str
    title: str
    required_evidence: list[str] = Field(description="What it cannot do without.")
    optional_evidence: list[str] = Field(description="What it takes if it is there.")
    tasks: list[str]
    range: list[float | None] = Field(description="Lowest and highest value; null: no bound.")
    unit: str
    measures: str
    formula: str
    interpretation: str = Field(description="How to read a value.")
    caveats: str = Field(description="When not to trust it.")
    cost: str = Field(description="Order of operations in N images, D dimensions, C classes, S source classes.")
    cpu_only: str = Field(description="The part that runs on the CPU even if the features lie on a GPU.")
    citation: str
    version: int = Field(description="Raised when the code changes what it computes; older scores are not reused.")
    parameters: dict[str, MetricParameter]
