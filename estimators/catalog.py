"""The registry of metrics: what each needs, what it means, what it costs, and how to call it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from array_api_compat import array_namespace

from estimators.hscore import h_score
from estimators.leep import leep
from estimators.logme import logme
from estimators.nce import nce
from estimators.score import CannotBeComputed, Score
from estimators.tmi import tmi
from estimators.validation import Array, check_choice, check_number, check_probabilities


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
        probabilities = check_probabilities(self.source_probabilities)
        return array_namespace(probabilities).argmax(probabilities, axis=1)


MISSING = {
    "features": "not available: no features were extracted",
    "labels": "not available: this data set has no class labels",
    "source_probabilities": "not available: this model has no classifier",
    "source_labels": "not available: this model has no classifier",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One keyword argument of a metric.

    Attributes:
        default: the value if none is given.
        description: one sentence.
        kind: ``integer``, ``number`` or ``choice``.
        minimum: smallest value; ``exclusive`` if it is itself not allowed.
        choices: all values that a ``choice`` may take.
        optional: whether None is a value.
    """

    default: Any
    description: str
    kind: str = "number"
    minimum: float = 0.0
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
            check_number(name, value, minimum=self.minimum, exclusive=self.exclusive, whole=self.kind == "integer")


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's catalogue entry. Higher is better in every metric.

    Attributes:
        name: the name in the API and of the function in this package.
        title: the name in prose.
        needs: what evidence it cannot do without: ``features``, ``labels``, ``source_probabilities``.
        uses: what evidence it takes if there is any: ``reference_features``, ``targets``.
        tasks: ``classification``, ``multi_label``, ``regression``.
        range: lowest and highest value; None where there is no bound.
        unit: of the value, or "" for a plain number.
        measures, formula, reads, fails: for people: what it measures, how it is defined, how to read it, when it fails.
        cost: order of operations in N samples, D dimensions, C classes, S source classes.
        cpu_step: what runs on the CPU in a library, wherever the arrays lie; "" if nothing does.
        source: the citation.
        parameters: its keyword arguments.
        function: the function itself; ``arguments`` are the fields of the evidence that it takes.
    """

    name: str
    title: str
    needs: frozenset[str]
    range: tuple[float | None, float | None]
    unit: str
    measures: str
    formula: str
    reads: str
    fails: str
    cost: str
    source: str
    function: Callable[..., Score]
    arguments: tuple[str, ...]
    uses: frozenset[str] = frozenset()
    tasks: frozenset[str] = frozenset({"classification"})
    cpu_step: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=lambda: MappingProxyType({}))

    def compute(self, evidence: Evidence, **parameters: Any) -> Score:
        """The score of one model.

        Raises:
            CannotBeComputed: the evidence that the metric needs is missing, or has no value.
            InvalidEvidence: the evidence is malformed.
            ValueError: unknown or impossible parameters.
        """
        self.check_parameters(parameters)
        given: dict[str, Array] = {}
        for argument in self.arguments:
            value = getattr(evidence, argument)
            optional = argument in self.uses or (argument == "labels" and evidence.targets is not None)
            if value is None and not optional:
                raise CannotBeComputed(MISSING[argument])
            if value is not None:
                given[argument] = value
        return self.function(**given, **parameters)

    def check_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Raise ValueError, naming what is allowed, unless every parameter exists and has a possible value."""
        for name, value in parameters.items():
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                raise ValueError(f"{self.name} has no parameter {name!r}; it has: {known}")
            self.parameters[name].check(name, value)


COMPAT = Parameter(
    None,
    "'author' gives the number of the authors' program where it departs from the paper",
    "choice",
    choices=(None, "author"),
    optional=True,
)

_ALL = (
    Metric(
        name="leep",
        title="LEEP",
        needs=frozenset({"source_probabilities", "labels"}),
        arguments=("source_probabilities", "labels"),
        range=(None, 0.0),
        unit="nats",
        measures="How well the target label can be guessed from the output of the model's own classifier, unchanged.",
        formula="(1/N) Σ_i ln Σ_s P_is p(y_i | s), with p(y | s) = Σ_{i: y_i = y} P_is / Σ_i P_is",
        reads="0 is perfect; -H(Y) (about -ln C for balanced classes) means that the source classes tell nothing.",
        fails="Ranks models by their source label set as much as by their features; knows nothing of models without a "
        "classifier, and little when the source classes are far from the target's.",
        cost="O(N S)",
        source="Nguyen et al., LEEP: A New Measure to Evaluate Transferability of Learned Representations, ICML 2020",
        function=leep,
        parameters=MappingProxyType({"compat": COMPAT}),
    ),
    Metric(
        name="nce",
        title="NCE",
        needs=frozenset({"source_probabilities", "labels"}),
        arguments=("source_labels", "labels"),
        range=(None, 0.0),
        unit="nats",
        measures="What is left unknown of the target label once the model's single best source class is known.",
        formula="-H(Y | Z) = Σ_yz p(y, z) ln p(y | z), with Z the most probable source class",
        reads="0 is perfect; -H(Y) means that the predicted source classes tell nothing.",
        fails="Too high when there are few images for many source classes, because each class then sees one image.",
        cost="O(N S)",
        source="Tran, Nguyen, Hassner, Transferability and Hardness of Supervised Classification Tasks, ICCV 2019",
        function=nce,
        cpu_step="counting pairs of labels",
        parameters=MappingProxyType({"compat": COMPAT}),
    ),
    Metric(
        name="tmi",
        title="TMI",
        needs=frozenset({"features", "labels"}),
        arguments=("features", "labels"),
        range=(None, None),
        unit="nats",
        measures="How much variety the features keep inside each class: the entropy of the features given the label.",
        formula="Σ_c p_c h_c, h_c = ψ(n_c) - ψ(k) + (D/n_c) Σ_i ln(2 max(ε_i, floor)), ε_i the Chebyshev distance to "
        "the k-th nearest sample of the same class",
        reads="Only differences between models on one data set mean anything: one nat in D dimensions is little.",
        fails="Grows with D and with the scale of the features, so it favours wide models and large activations; for "
        "features smaller than the floor it says nothing but D (see the clipped share).",
        cost="O(Σ_c n_c² D)",
        source="Xu and Kang, Fast and Accurate Transferability Measurement by Evaluating Intra-class Feature Variance, "
        "ICCV 2023",
        function=tmi,
        parameters=MappingProxyType(
            {
                "neighbors": Parameter(3, "which nearest neighbour's distance is taken", "integer", 1),
                "floor": Parameter(1.0, "smallest distance, in the unit of the features"),
                "compat": COMPAT,
            }
        ),
    ),
    Metric(
        name="logme",
        title="LogME",
        needs=frozenset({"features", "labels"}),
        uses=frozenset({"targets"}),
        arguments=("features", "labels", "targets"),
        tasks=frozenset({"classification", "multi_label", "regression"}),
        range=(None, None),
        unit="nats per sample",
        measures="How probable the labels are under a linear model of the features whose weights are averaged out.",
        formula="mean over targets of max over α, β of ln p(t | X, α, β) / N",
        reads="Higher is better; often between -1 and 2. Values of different data sets cannot be compared.",
        fails="With few samples for the dimensions all models look good; sensitive to uncentred features of large "
        "mean, because the linear model has no intercept.",
        cost="O(N D min(N, D) + min(N, D)³)",
        source="You et al., LogME: Practical Assessment of Pre-trained Models for Transfer Learning, ICML 2021",
        function=logme,
        parameters=MappingProxyType({"compat": COMPAT}),
    ),
    Metric(
        name="h_score",
        title="H-score",
        needs=frozenset({"features", "labels"}),
        arguments=("features", "labels"),
        range=(0.0, None),
        unit="",
        measures="How much of the features' variation lies between classes, each direction counted at its own scale.",
        formula="tr(cov(X)⁺ cov(μ_y))",
        reads="0 means that class means coincide; C - 1 that the classes are linearly separated without overlap.",
        fails="Too high when D is close to N, and exactly C - 1 for N <= D: use the regularised H-score there.",
        cost="O(N D² + D³)",
        source="Bao et al., An Information-Theoretic Approach to Transferability in Task Transfer Learning, ICIP 2019",
        function=h_score,
        parameters=MappingProxyType({"compat": COMPAT}),
    ),
)

METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _ALL})
