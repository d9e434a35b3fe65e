"""What is said of an ensemble that was chosen or given; ``dataclasses.asdict`` gives plain JSON."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """The ``step``-th model that greedy search added, what it gained, and the value since."""

    step: int
    added: str
    gain: float
    value: float


@dataclass(frozen=True, slots=True)
class HeldOutStep:
    """A model that greedy selection added, with the accuracy and the log loss of the ensemble since."""

    added: str
    accuracy: float
    log_loss: float


@dataclass(frozen=True, slots=True)
class Single:
    """A single model, with the value that it has as an ensemble of one."""

    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberTerms:
    """A member's terms, None where it has none.

    Attributes:
        cost: parameters or the like.
        contribution: the value that the ensemble loses without the member.
        domain_difference_standardized, task_difference_standardized: None where the term does not count.
    """

    name: str
    domain_difference: float | None
    task_difference: float | None
    leep: float | None
    cost: float | None
    domain_difference_standardized: float | None = None
    task_difference_standardized: float | None = None
    contribution: float


@dataclass(frozen=True, slots=True)
class HeldOutMember:
    """A model with its own accuracy and log loss on images held out."""

    name: str
    accuracy: float
    log_loss: float


@dataclass(frozen=True, slots=True)
class Gain:
    """How much better an ensemble is than the best single model, on the same images.

    Attributes:
        value: positive if the ensemble is better.
        low, high: the bounds of a paired bootstrap over images.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class HeldOutSingle:
    """The best single model on images held out, and what the ensemble gains on it."""

    name: str
    accuracy: float
    log_loss: float
    accuracy_gain: Gain
    log_loss_gain: Gain


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTerms:
    """The terms of two members.

    Attributes:
        first_given_second, second_given_first: what one's predictions leave open of the other's, in nats.
        cohesion: W_C as it is read.
        agreement: share of the images for which both predict the same class.
        cohesion_standardized: None where the term does not count.
    """

    first: str
    second: str
    first_given_second: float | None
    second_given_first: float | None
    cohesion: float | None
    agreement: float | None
    cohesion_standardized: float | None = None


@dataclass(frozen=True, slots=True)
class NearCopies:
    """Two candidates that predict (nearly) the same.

    Attributes:
        agreement: share of the images for which both predict the same class.
        mutual_information: share of the predictions' information that both have.
    """

    first: str
    second: str
    agreement: float | None
    mutual_information: float | None


@dataclass(frozen=True, slots=True)
class Standardization:
    """The mean that was taken off a term, and the scale by which it was then divided."""

    mean: float
    scale: float


@dataclass(frozen=True, slots=True)
class Ranked:
    """An ensemble that was evaluated, with its place among all of those."""

    rank: int
    members: tuple[str, ...]
    value: float
    cost: float | None


@dataclass(frozen=True, slots=True)
class Selection:
    """An ensemble with all that went into its value; ``dataclasses.asdict`` gives plain JSON.

    Attributes:
        method, size, search: how the ensemble was chosen; ``search`` is ``"given"`` if it was only scored.
        members: the names, in the order of the pool.
        value: higher is better; comparable only within one pool, method, size and settings.
        cost: what the members cost together, None without costs.
        rank, evaluated, exhaustive: the place among the ensembles that were evaluated, how many those are, and whether
            they are all ensembles that the constraints allow.
        best_value, gap: the best value known, and how far the ensemble is below it.
        trace: greedy's steps; empty if greedy found none.
        best_single: the best single model by the same terms, or None where a single model has no value.
        member_terms, pair_terms: raw and standardised terms.
        standardization: mean and scale that each term was standardised with.
        terms_used: the terms that count.
        left_out: candidates that did not take part, each with the reason.
        near_copies: pairs of candidates that predict (nearly) the same.
        notes: sentences a person should read; each starts with a stable word and a colon.
        ranking: the best ensembles that were evaluated.
    """

    method: str
    size: int
    search: str
    members: tuple[str, ...]
    value: float
    cost: float | None
    rank: int
    evaluated: int
    exhaustive: bool
    best_value: float
    gap: float
    trace: tuple[Step | HeldOutStep, ...]
    best_single: Single | HeldOutSingle | None
    member_terms: tuple[MemberTerms | HeldOutMember, ...]
    pair_terms: tuple[PairTerms, ...]
    standardization: dict[str, Standardization]
    terms_used: tuple[str, ...]
    left_out: dict[str, str]
    near_copies: tuple[NearCopies, ...]
    notes: tuple[str, ...]
    ranking: tuple[Ranked, ...]
