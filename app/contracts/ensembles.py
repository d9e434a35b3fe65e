"""Ensembles: the pool that they are chosen from, and what was chosen."""

from app.contracts.base import Contract, JsonObject
from app.contracts.problems import ProblemDocument
from app.contracts.question import EnsembleChoice
from estimators.ensembles.result import Selection


class PoolMember(Contract):
    """A model of the pool.

    Attributes:
        name: unique in the pool.
        label_space: equal for models whose source classes are the same.
        target_key: evidence on the target.
        source_key: evidence on a sample of what the model was trained on, or None.
    """

    name: str
    parameters: int | None
    label_space: str
    target_key: str
    source_key: str | None


class EnsemblesCommand(Contract):
    """Choose ensembles, and value the given ones.

    Attributes:
        source_is_one: whether all source keys are of one sample.
        given: names of members.
        folder: where the pool's terms are stored for later questions.
    """

    models: tuple[PoolMember, ...]
    source_is_one: bool
    choices: tuple[EnsembleChoice, ...]
    given: tuple[tuple[str, ...], ...]
    folder: str

    @property
    def evidence_keys(self) -> list[str]:
        """Of all that is read."""
        return [key for model in self.models for key in (model.target_key, model.source_key) if key]

    @property
    def requests(self) -> tuple[JsonObject, ...]:
        """What was asked, choices first, as the results repeat it."""
        choices = (choice.plain() for choice in self.choices)
        return (*choices, *({"given_ensemble": list(members)} for members in self.given))


class EnsembleResult(Contract):
    """An ensemble, or the reason why there is none; ``request`` repeats what was asked."""

    request: JsonObject
    problem: ProblemDocument | None = None
    selection: Selection | None = None
