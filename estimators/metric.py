"""What a metric is: a function of evidence, what it needs, how it is resampled, and what to know before trusting it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from array_api_compat import array_namespace

from estimators.arrays.validation import Array, check_choice, check_number, check_probabilities, row_blocks
from estimators.score import CannotBeComputed, Score

Numbers: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What forward passes left of one model on one data set; what is missing is None.

    Attributes:
        features: (N, D) on the target images.
        labels: (N,) target labels.
        source_probabilities: (N, S) of the model's own classifier on the target images.
        reference_features: (M, D) of the same model on a sample of what it was trained on.
        targets: (N,) or (N, K) real numbers in place of labels.
    """

    features: Array | None = None
    labels: Array | None = None
    source_probabilities: Array | None = None
    reference_features: Array | None = None
    targets: Array | None = None

    @property
    def source_labels(self) -> Array | None:
        """(N,) the most probable source class of each image."""
        if self.source_probabilities is None:
            return None
        probabilities = check_probabilities(self.source_probabilities, convert=False)
        xp = array_namespace(probabilities)
        return xp.concat([xp.argmax(probabilities[part, :], axis=1) for part in row_blocks(probabilities)])


MISSING = {
    "features": "not available: no features were extracted",
    "labels": "not available: this data set has no class labels",
    "source_probabilities": "not available: this model has no classifier",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One keyword argument of a metric.

    Attributes:
        default: the value if none is given.
        description: one sentence.
        kind: ``integer``, ``number`` or ``choice``.
        minimum: smallest value; ``exclusive`` if it is itself not allowed.
        maximum: largest value, or None.
        choices: all values that a ``choice`` may take.
        optional: whether None is a value.
    """

    default: Any
    description: str
    kind: str = "number"
    minimum: float = 0.0
    maximum: float | None = None
    exclusive: bool = False
    choices: tuple[Any, ...] = ()
    optional: bool = False

    def check(self, name: str, value: Any) -> None:
        """Raise ValueError, naming what is allowed, unless ``value`` is."""
        if value is None and self.optional:
            return
        if self.kind == "choice":
            check_choice(name, value, self.choices)
        else:
            check_number(
                name,
                value,
                minimum=self.minimum,
                maximum=self.maximum,
                exclusive=self.exclusive,
                whole=self.kind == "integer",
            )


COMPAT = Parameter(
    None,
    "'author' gives the number of the authors' program where it departs from the paper",
    "choice",
    choices=(None, "author"),
    optional=True,
)


@dataclass(frozen=True, slots=True)
class Reweighted:
    """A bootstrap stratified by class: the score is computed again with each sample counted as often as it was drawn.

    Attributes:
        values: called with the metric's own keyword arguments and ``weights`` (R, N), the counts of R draws; returns
            the Score on all samples and the (R,) values of the draws.
    """

    values: Callable[..., tuple[Score, Numbers]]


@dataclass(frozen=True, slots=True)
class Linear:
    """The same bootstrap on a first-order expansion: each sample has a share in the score, and a draw adds up shares.

    Attributes:
        shares: called with the metric's own keyword arguments; returns the Score on all samples and (N,) shares.
        parts: for metrics with ``pool_parts``: called with the evidence and ``weights`` (R, N), returns part -> (R,)
            values of the draws.
        applies: whether the expansion exists for these parameters; `Subsampled` takes its place where it does not.
    """

    shares: Callable[..., tuple[Score, Array]]
    parts: Callable[[Evidence, Numbers], dict[str, Numbers]] | None = None
    applies: Callable[[Mapping[str, Any]], bool] = lambda parameters: True


@dataclass(frozen=True, slots=True)
class Subsampled:
    """The metric is computed again on parts drawn without replacement, class by class.

    Attributes:
        largest: the most samples in a part, for metrics whose cost forbids more.
        prepare: what is done once and then held fixed, such as a projection: the evidence and the parameters to the
            evidence that parts are drawn of.
    """

    largest: int | None = None
    prepare: Callable[[Evidence, Mapping[str, Any]], Evidence] = lambda evidence, parameters: evidence


Resampling: TypeAlias = Reweighted | Linear | Subsampled


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's catalog entry. Higher is better in every metric.

    Attributes:
        name: the name in the API, and of its module in `estimators.metrics`.
        title: the name in prose.
        required_evidence: fields of the evidence that it cannot do without.
        optional_evidence: fields that it takes if they are there.
        tasks: ``classification``, ``multi_label``, ``regression``.
        range: lowest and highest value; None where there is no bound.
        unit: of the value, or "" for a plain number.
        measures: what it measures, in a sentence.
        formula: its definition.
        interpretation: how to read a value.
        caveats: when not to trust it.
        cost: order of operations in N samples, D dimensions, C classes, S source classes.
        cpu_only: what runs on the CPU in a library, wherever the arrays lie; "" if nothing does.
        citation: the publication.
        function: the function itself.
        arguments: the fields of the evidence that the function takes, if they are not those above.
        parameters: its other keyword arguments.
        resampling: how the scatter of the score is found.
        combine: for metrics that mean something only within a pool of models: all the pool's Scores to its final
            values, in the same order; None for the others.
        pool_parts: the details that ``combine`` reads in addition to the values.
        version: part of the key under which scores are stored; raise it when the code changes what it computes.
    """

    name: str
    title: str
    required_evidence: frozenset[str]
    range: tuple[float | None, float | None]
    unit: str
    measures: str
    formula: str
    interpretation: str
    caveats: str
    cost: str
    citation: str
    function: Callable[..., Score]
    resampling: Resampling = Subsampled()
    optional_evidence: frozenset[str] = frozenset()
    arguments: tuple[str, ...] = ()
    tasks: frozenset[str] = frozenset({"classification"})
    cpu_only: str = ""
    combine: Callable[[Sequence[Score]], list[float]] | None = None
    pool_parts: tuple[str, ...] = ()
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    version: int = 1

    def compute(self, evidence: Evidence, **parameters: Any) -> Score:
        """The score of one model.

        Raises:
            CannotBeComputed: the evidence that the metric needs is missing, or has no value.
            InvalidEvidence: the evidence is malformed.
            ValueError: unknown or impossible parameters.
        """
        self.check_parameters(parameters)
        return self.function(**self.taken(evidence), **parameters)

    def taken(self, evidence: Evidence) -> dict[str, Array]:
        """The fields of the evidence that the function takes, by name.

        Raises:
            CannotBeComputed: a field that the metric needs is missing; the message says which.
        """
        for need in sorted(self.required_evidence):
            instead = need == "labels" and "targets" in self.optional_evidence and evidence.targets is not None
            if getattr(evidence, need) is None and not instead:
                raise CannotBeComputed(MISSING[need])
        names = self.arguments or self.required_evidence | self.optional_evidence
        given = {name: getattr(evidence, name) for name in names}
        return {name: value for name, value in given.items() if value is not None}

    def check_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Raise ValueError, naming what is allowed, unless every parameter exists and has a possible value."""
        for name, value in parameters.items():
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                raise ValueError(f"{self.name} has no parameter {name!r}; it has: {known}")
            self.parameters[name].check(name, value)

    def resampling_with(self, parameters: Mapping[str, Any]) -> Resampling:
        """How the metric is resampled when it has these parameters."""
        if isinstance(self.resampling, Linear) and not self.resampling.applies(parameters):
            return Subsampled()
        return self.resampling
