"""The registry of metrics: what each needs, what it means, what it costs, and how to call it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from array_api_compat import array_namespace

from estimators.arrays.validation import Array, check_choice, check_number, check_probabilities
from estimators.metrics.baselines import linear_probe, nearest_neighbor
from estimators.metrics.etran import combine_etran, energy, etran
from estimators.metrics.gbc import gbc
from estimators.metrics.hscore import h_score, regularized_h_score
from estimators.metrics.leep import leep
from estimators.metrics.logme import logme
from estimators.metrics.nce import nce
from estimators.metrics.ncti import combine_ncti, ncti
from estimators.metrics.nleep import nleep
from estimators.metrics.parc import parc
from estimators.metrics.ped import BASES, ped
from estimators.metrics.sfda import lda, sfda
from estimators.metrics.tmi import tmi
from estimators.metrics.transrate import transrate
from estimators.score import CannotBeComputed, Score


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


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's catalog entry. Higher is better in every metric.

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
        combine: for metrics that mean something only within a pool of models: all the pool's Scores to its final
            values, in the same order; None for the others.
        parts: the details that ``combine`` reads beside the values.
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
    combine: Callable[[Sequence[Score]], list[float]] | None = None
    parts: tuple[str, ...] = ()
    parameters: Mapping[str, Parameter] = field(default_factory=lambda: MappingProxyType({}))

    def compute(self, evidence: Evidence, **parameters: Any) -> Score:
        """The score of one model.

        Raises:
            CannotBeComputed: the evidence that the metric needs is missing, or has no value.
            InvalidEvidence: the evidence is malformed.
            ValueError: unknown or impossible parameters.
        """
        self.check_parameters(parameters)
        self.require(evidence)
        given = {name: getattr(evidence, name) for name in self.arguments}
        return self.function(**{name: value for name, value in given.items() if value is not None}, **parameters)

    def require(self, evidence: Evidence) -> None:
        """Raise CannotBeComputed, saying what is missing, unless all that the metric needs is there."""
        for need in sorted(self.needs):
            instead = need == "labels" and "targets" in self.uses and evidence.targets is not None
            if getattr(evidence, need) is None and not instead:
                raise CannotBeComputed(MISSING[need])

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

FEATURES = frozenset({"features", "labels"})

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
        needs=FEATURES,
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
        needs=FEATURES,
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
        needs=FEATURES,
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
    Metric(
        name="regularized_h_score",
        title="Regularised H-score",
        needs=FEATURES,
        arguments=("features", "labels"),
        range=(0.0, None),
        unit="",
        measures="The H-score with a covariance that is trusted only as far as the number of samples allows.",
        formula="(1 - a) tr(Σ_a⁻¹ cov(μ_y)), Σ_a = (1 - a) Σ + a tr(Σ)/D I, a by Ledoit and Wolf",
        reads="As the H-score, and from few samples too; between 0 and C - 1.",
        fails="With very few samples the shrinkage nears 1 and all directions count alike.",
        cost="O(N D² + D³)",
        source="Ibrahim, Ponomareva, Mazumder, Newer is not always better: Rethinking transferability metrics, their "
        "peculiarities, stability and performance, ECML PKDD 2022",
        function=regularized_h_score,
        parameters=MappingProxyType({"compat": COMPAT}),
    ),
    Metric(
        name="sfda",
        title="SFDA",
        needs=FEATURES,
        arguments=("features", "labels"),
        range=(0.0, 1.0),
        unit="probability",
        measures="How surely a linear discriminant recognises each image's class after every image has been pushed "
        "towards the other classes, the more the less sure it was.",
        formula="(1/N) Σ_i p(y_i | x'_i), x'_i = q_i x_i + (1 - q_i) mean of the other class means",
        reads="A mean probability: 1/C is chance, 1 is certainty.",
        fails="Reaches 1 for every model when there are few samples for the dimensions, and then tells nothing.",
        cost="O(N D² + D³ + N D C)",
        source="Shao et al., Not All Models Are Equal: Predicting Model Transferability in a Self-challenging Fisher "
        "Space, ECCV 2022",
        function=sfda,
        parameters=MappingProxyType({"compat": COMPAT}),
    ),
    Metric(
        name="lda",
        title="LDA posterior",
        needs=FEATURES,
        arguments=("features", "labels"),
        range=(0.0, 1.0),
        unit="probability",
        measures="How surely a linear discriminant recognises each image's class.",
        formula="(1/N) Σ_i p(y_i | x_i), p = softmax_c(x^T S⁻¹ μ_c - μ_c^T S⁻¹ μ_c/2 + ln p_c)",
        reads="A mean probability: 1/C is chance, 1 is certainty.",
        fails="As SFDA, sooner: the samples are not made harder.",
        cost="O(N D² + D³ + N D C)",
        source="Gholami et al., ETran: Energy-Based Transferability Estimation, ICCV 2023",
        function=lda,
        parameters=MappingProxyType({"compat": COMPAT}),
    ),
    Metric(
        name="ped",
        title="PED",
        needs=FEATURES,
        uses=frozenset({"reference_features"}),
        arguments=("features", "labels", "reference_features"),
        range=(None, None),
        unit="that of the base metric",
        measures="The base metric after classes that overlap have pushed each other apart, as fine-tuning would.",
        formula="base(X'), where class means move by δ_a = Σ_b min(h²/2 F_ab, F_ab) (μ_a - μ_b)/d_ab, "
        "F_ab = max(overlap (R_a + R_b) - d_ab, 0), at most six times",
        reads="As the base metric. The gain over the base says how much room there is between the classes.",
        fails="Moves little when classes are few, by one or two steps when they are about a hundred (a hundred and one "
        "classes can move half as far as ninety-nine); without reference features it is not the published protocol.",
        cost="O(N D + C² D) and the base metric",
        source="Li et al., Exploring Model Transferability through the Lens of Potential Energy, ICCV 2023",
        function=ped,
        parameters=MappingProxyType(
            {
                "base": Parameter("sfda", "metric of the moved features", "choice", choices=tuple(BASES)),
                "overlap": Parameter(0.6, "how many radii wide a class counts"),
                "time_step": Parameter(0.1, "step of the simulated motion", exclusive=True),
                "exit_ratio": Parameter(0.5, "stop when a step moves less than this share of the first"),
                "compat": COMPAT,
            }
        ),
    ),
    Metric(
        name="nleep",
        title="N-LEEP",
        needs=FEATURES,
        arguments=("features", "labels"),
        range=(None, 0.0),
        unit="nats",
        measures="LEEP with clusters of the features in place of source classes, so it needs no classifier.",
        formula="(1/N) Σ_i ln Σ_k r_ik p(y_i | k), r from a mixture of 5 C Gaussians in the principal components that "
        "explain 80 % of the variance",
        reads="0 is perfect; -H(Y) means that the clusters tell nothing of the classes.",
        fails="With few samples a cluster holds few images of one class and the score is too high; another seed gives "
        "another clustering.",
        cost="O(iterations · N K d²), K components in d ≤ D dimensions; less once assignments are clear",
        cpu_step="k-means (scikit-learn) and the mixture (NumPy)",
        source="Li et al., Ranking Neural Checkpoints, CVPR 2021",
        function=nleep,
        parameters=MappingProxyType(
            {
                "components_per_class": Parameter(5, "mixture components a class", "integer", 1),
                "clustering_seed": Parameter(0, "seed of the k-means start", "integer"),
                "compat": COMPAT,
            }
        ),
    ),
    Metric(
        name="gbc",
        title="GBC",
        needs=FEATURES,
        arguments=("features", "labels"),
        range=(None, 0.0),
        unit="",
        measures="How much the classes overlap, each seen as a Gaussian.",
        formula="-Σ_{a≠b} exp(-D_B(a, b)), D_B the Bhattacharyya distance",
        reads="0 means no overlap; -C (C - 1) that all classes coincide.",
        fails="Depends on the scale of the features through the smallest variance of 1e-4; a few close classes decide "
        "it, because the others' terms vanish.",
        cost="O(N D min(N, D) + min(N, D)³) to project, O(N d + C² d) after",
        source="Pándy et al., Transferability Estimation using Bhattacharyya Class Separability, CVPR 2022",
        function=gbc,
        parameters=MappingProxyType(
            {
                "covariance": Parameter("spherical", "shape of a class", "choice", choices=("spherical", "diagonal")),
                "components": Parameter(64, "principal components to keep; none: all", "integer", 1, optional=True),
                "compat": COMPAT,
            }
        ),
    ),
    Metric(
        name="transrate",
        title="TransRate",
        needs=FEATURES,
        arguments=("features", "labels"),
        range=(0.0, None),
        unit="nats",
        measures="How much shorter a code for the features becomes when the class is known.",
        formula="R(Z) - Σ_c p_c R(Z_c), R(Z) = ½ ln det(I + Z^T Z/(n ε))",
        reads="Only differences between models on one data set mean anything.",
        fails="Depends on the scale of the features against ε, and grows with D; with few samples a class it measures "
        "the number of classes.",
        cost="O(N D² + D³)",
        source="Huang et al., Frustratingly Easy Transferability Estimation, ICML 2022",
        function=transrate,
        parameters=MappingProxyType(
            {
                "epsilon": Parameter(1e-4, "squared distortion, in the unit of the features", exclusive=True),
                "compat": COMPAT,
            }
        ),
    ),
    Metric(
        name="parc",
        title="PARC",
        needs=FEATURES,
        arguments=("features", "labels"),
        range=(-100.0, 100.0),
        unit="percent",
        measures="Whether pairs of images of one class are closer in feature space than pairs of two.",
        formula="100 · Spearman over pairs of (1 - corr(x_i, x_j), 1 - corr(y_i, y_j))",
        reads="0 is chance. Even perfect features stay below 100 with many classes, where few pairs share one.",
        fails="Looks at all pairs alike, so with many classes it hardly sees the few that matter.",
        cost="O(N² D + N² log N), the first part again for each 16 million pairs, so that memory stays O(N D)",
        cpu_step="ranking (NumPy)",
        source="Bolya, Mittapalli, Hoffman, Scalable Diverse Model Selection for Accessible Transfer Learning, "
        "NeurIPS 2021",
        function=parc,
        parameters=MappingProxyType(
            {
                "components": Parameter(None, "principal components to keep; none: all", "integer", 1, optional=True),
                "compat": COMPAT,
            }
        ),
    ),
    Metric(
        name="nearest_neighbor",
        title="Nearest neighbour",
        needs=FEATURES,
        arguments=("features", "labels"),
        range=(0.0, 1.0),
        unit="accuracy",
        measures="How often the most similar other image has the same class (a baseline).",
        formula="leave-one-out accuracy of the nearest neighbours' majority label, Euclidean distance",
        reads="An accuracy: the share of the largest class is what guessing gives.",
        fails="Near-duplicate images make every model look good.",
        cost="O(N² D)",
        cpu_step="neighbour search (scikit-learn)",
        source="Cover and Hart, Nearest neighbor pattern classification, 1967",
        function=nearest_neighbor,
        parameters=MappingProxyType({"neighbors": Parameter(1, "how many vote", "integer", 1)}),
    ),
    Metric(
        name="linear_probe",
        title="Linear probe",
        needs=FEATURES,
        arguments=("features", "labels"),
        range=(0.0, 1.0),
        unit="accuracy",
        measures="How well a linear classifier on the frozen features does on images it has not seen (a baseline).",
        formula="accuracy of logistic regression on standardised features, stratified 3-fold cross-validation",
        reads="An accuracy: the share of the largest class is what guessing gives.",
        fails="Measures the features as they are, so it favours models that need no fine-tuning; slow.",
        cost="O(folds · iterations · N D C)",
        cpu_step="everything (scikit-learn)",
        source="Alain and Bengio, Understanding intermediate layers using linear classifier probes, 2016",
        function=linear_probe,
        parameters=MappingProxyType(
            {
                "folds": Parameter(3, "number of folds", "integer", 2),
                "penalty": Parameter(1.0, "strength of the squared penalty on the weights", exclusive=True),
                "fold_seed": Parameter(0, "seed of the assignment to folds", "integer"),
            }
        ),
    ),
    Metric(
        name="energy",
        title="Energy",
        needs=frozenset({"features"}),
        arguments=("features",),
        range=(None, None),
        unit="nats",
        measures="How strongly the features answer to the images they answer least to.",
        formula="mean over the lowest 0.5 % of the images of ln Σ_d exp(x_id)",
        reads="Only differences between models of one width mean anything. One half of ETran.",
        fails="Knows nothing of the labels; follows the scale and the number of dimensions.",
        cost="O(N D)",
        source="Gholami et al., ETran: Energy-Based Transferability Estimation, ICCV 2023",
        function=energy,
        parameters=MappingProxyType(
            {
                "percent": Parameter(0.5, "share of the images in the tail", exclusive=True, maximum=100.0),
                "tail": Parameter("lowest", "which tail", "choice", choices=("lowest", "highest")),
                "compat": COMPAT,
            }
        ),
    ),
    Metric(
        name="etran",
        title="ETran",
        needs=FEATURES,
        arguments=("features", "labels"),
        range=(0.0, 1.0),
        unit="share of the pool's span",
        measures="The LDA posterior and a little of the energy, each placed between the pool's worst and best.",
        formula="0.15 minmax(energy) + 0.85 minmax(LDA posterior) over the pool",
        reads="1 is best in both; adding a model to the pool changes the others' scores.",
        fails="Means nothing for one model, and what its parts fail at.",
        cost="O(N D² + D³ + N D C)",
        source="Gholami et al., ETran: Energy-Based Transferability Estimation, ICCV 2023",
        function=etran,
        combine=combine_etran,
        parts=("energy",),
        parameters=MappingProxyType({"compat": COMPAT}),
    ),
    Metric(
        name="ncti",
        title="NCTI",
        needs=FEATURES,
        arguments=("features", "labels"),
        range=(-1.0, 2.0),
        unit="sum of shares of the pool's span",
        measures="How far the features already have the shape that the last layer takes at the end of training: spread "
        "classes, confident and compact.",
        formula="minmax(mean posterior) + minmax(nuclear norm of the discriminant projection) - minmax(ln Σ_c nuclear "
        "norm of the posteriors of class c) over the pool",
        reads="2 is best in all parts; adding a model to the pool changes the others' scores.",
        fails="Means nothing for one model; sees the first 64 principal components only.",
        cost="O(N D min(N, D) + min(N, D)³)",
        cpu_step="discriminant (scikit-learn)",
        source="Wang et al., How Far Pre-trained Models Are from Neural Collapse on the Target Dataset Informs their "
        "Transferability, ICCV 2023",
        function=ncti,
        combine=combine_ncti,
        parts=("spread", "compactness"),
        parameters=MappingProxyType({"compat": COMPAT}),
    ),
)

METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _ALL})
