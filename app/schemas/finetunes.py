"""Full fine-tunings: where one stands, and what models reached."""

from datetime import datetime

from pydantic import Field, computed_field

from app.contracts.finetunes import FineTuningRequest, FineTuningSplit
from app.contracts.states import RankingState, RunPurpose, TrialState
from app.schemas.base import Answer, OwnedAnswer, Problem


class FineTuningRunAnswer(Answer):
    """One model fine-tuned once."""

    number: int
    purpose: RunPurpose = Field(description="`rate`: to choose a learning rate; `test`: scored on the test images.")
    rate_multiple: float
    body_rate: float | None = Field(description="The peak learning rate of the pre-trained weights.")
    seed: int
    state: TrialState
    reason: str | None
    accuracy: float | None = Field(description="On the images held out.")
    log_loss: float | None = Field(description="Mean negative log-likelihood of the true class there.")
    probe_accuracy: float | None = Field(description="Of the linear probe that it started from.")
    images: int | None = Field(description="Held out.")
    image_side: int | None
    stage: str | None
    done: int
    total: int
    seconds: float | None
    seconds_left: float | None = Field(description="Of the run, once its speed is known.")
    warnings: list[str]
    problem: Problem | None
    fine_tuning_id: str = Field(exclude=True)
    kept_weights: bool = Field(exclude=True)

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated property
    @property
    def weights(self) -> str | None:
        """Where to find the fine-tuned weights, if they were kept."""
        return f"/v1/finetunes/{self.fine_tuning_id}/runs/{self.number}/weights" if self.kept_weights else None


class FineTunedModelAnswer(Answer):
    """What one model reached."""

    model_id: str
    model: str
    state: TrialState
    accuracy: float | None = Field(description="Mean over the seeds, on the test images.")
    accuracy_spread: float | None = Field(description="Standard deviation from seed to seed; null for a single seed.")
    log_loss: float | None
    recommended_rate_multiple: float | None = Field(description="The best of those tried.")
    recommended_rate: float | None = Field(description="The same as a learning rate of the pre-trained weights.")
    runs: list[FineTuningRunAnswer]


class FineTuningAnswer(OwnedAnswer):
    """A fine-tuning as it stands."""

    state: RankingState
    problem: Problem | None
    target_id: str
    request: FineTuningRequest
    split: FineTuningSplit | None = Field(description="How many images are trained on and tested on, once known.")
    seconds_expected: float | None = Field(
        description="Of all runs, as it was submitted, from measured forward passes; null where none was measured."
    )
    seconds_left: float | None
    models: list[FineTunedModelAnswer] = Field(description="The most accurate first.")
    started_at: datetime | None
    finished_at: datetime | None

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated property
    @property
    def links(self) -> dict[str, str]:
        """Where to ask for it again, and where to end it."""
        own = f"/v1/finetunes/{self.id}"
        return {"self": own, "cancel": f"{own}/cancel"}


class TrainingTimeAnswer(Answer):
    """What a fine-tuning will take."""

    seconds: float | None = Field(description="Of the models that have run here; null if none has.")
    unmeasured: list[str] = Field(description="Models that never ran here, so that their time is not known.")
    images: int | None
    runs: int = Field(description="Of each model.")
