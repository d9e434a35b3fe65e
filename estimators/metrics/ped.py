"""PED: move overlapping classes apart as a physical system would, then score the moved features."""

from collections.abc import Callable, Mapping

from array_api_compat import array_namespace

from estimators.arrays import discriminant
from estimators.arrays.validation import Array, check_choice, check_compat, check_features, check_labels, check_number
from estimators.metric import COMPAT, Linear, Metric, Parameter
from estimators.metrics import gbc, h_score, logme, nleep, sfda
from estimators.score import InvalidEvidence, Score

BASES: Mapping[str, Callable[..., Score]] = {
    "sfda": sfda.sfda,
    "logme": logme.logme,
    "nleep": nleep.nleep,
    "h_score": h_score.h_score,
    "gbc": gbc.gbc,
}
STEPS = 6
SMALLEST_SCALE = 1e-3


def ped(
    *,
    features: Array,
    labels: Array,
    reference_features: Array | None = None,
    base: str = "sfda",
    overlap: float = 0.6,
    time_step: float = 0.1,
    exit_ratio: float = 0.5,
    scale: str = "none",
    compat: str | None = None,
) -> Score:
    """Potential energy decline: a base metric on features whose classes have repelled each other (`displacements`).

    Li et al., "Exploring Model Transferability through the Lens of Potential Energy", ICCV 2023, sec. 3.

    Args:
        features: (N, D).
        labels: (N,) integers or strings.
        reference_features: (M, D) of the same model on a sample of what it was trained on; the authors use the
            ImageNet validation set. Without them the target's own mean and deviation are used, which the authors
            never do, and a warning says so.
        base: the metric of the moved features: sfda, logme, nleep, h_score or gbc.
        overlap: how many radii wide a class counts.
        time_step: of the simulated motion.
        exit_ratio: stop when a step moves less than this share of the first.
        scale: ``"rows"`` gives the moved features length one before the base metric sees them; see `sfda`.
        compat: handed to the base metric; the motion is the same.

    Returns:
        The base metric's Score. Details: those of the base, and base, steps, motion (of each step tried).

    Raises:
        InvalidEvidence: wrong shapes, NaN, reference features of another dimension.
        CannotBeComputed: the base metric has no value.
    """
    check_compat(compat)
    check_choice("base", base, tuple(BASES))
    features = check_features(features)
    moved, motion, steps = move(
        features=features,
        labels=labels,
        reference_features=reference_features,
        overlap=overlap,
        time_step=time_step,
        exit_ratio=exit_ratio,
    )
    moved = discriminant.rescaled(moved, scale)
    score = BASES[base](features=moved, labels=labels, compat=compat)
    return describe(score, base=base, motion=motion, steps=steps, referenced=reference_features is not None)


def score_and_shares(
    *,
    features: Array,
    labels: Array,
    reference_features: Array | None = None,
    base: str = "sfda",
    scale: str = "none",
    compat: str | None = None,
    **motion_parameters: float,
) -> tuple[Score, Array]:
    """The Score of `ped` with base SFDA, and (N,) what each sample adds to it, with motion and fit held fixed."""
    moved, motion, steps = move(
        features=features, labels=labels, reference_features=reference_features, **motion_parameters
    )
    score, shares = sfda.score_and_shares(features=moved, labels=labels, scale=scale, compat=compat)
    return describe(score, base=base, motion=motion, steps=steps, referenced=reference_features is not None), shares


def describe(score: Score, *, base: str, motion: list[float], steps: int, referenced: bool) -> Score:
    """The base metric's Score on moved features, with what is to be said of the motion."""
    warnings = list(score.warnings)
    if not referenced:
        warnings.append(
            "no reference: features are scaled by the target's own statistics, which is not the authors' protocol"
        )
    if steps == 0:
        warnings.append(f"no motion: no two classes overlap, so the score is that of {base} alone")
    return Score(score.value, tuple(warnings), {**score.details, "base": base, "steps": steps, "motion": motion})


def move(
    *,
    features: Array,
    labels: Array,
    reference_features: Array | None = None,
    overlap: float = 0.6,
    time_step: float = 0.1,
    exit_ratio: float = 0.5,
) -> tuple[Array, list[float], int]:
    """The moved features (N, D), how far the classes moved in each step tried, and how many steps were accepted.

    With s and t the mean and standard deviation (at least 1e-3) of each dimension of the reference features,
    Z = (X - s)/t, μ_a the class means of Z and R_a² the sum of the class's variances over the dimensions,

        d_ab = |μ_a - μ_b|,   F_ab = max(overlap (R_a + R_b) - d_ab, 0)
        δ_a  = Σ_b min(time_step²/2 F_ab, F_ab) (μ_a - μ_b)/d_ab,      Z_i <- Z_i + δ_{y_i}

    at most six times, as long as Σ|δ| exceeds ``exit_ratio`` times that of the first step. A class is only shifted, so
    R never changes and the steps need the class means alone: O(C² D) time and O(C² + C D) memory each.
    Classes with the same mean exert no force on each other, because it would have no direction.
    """
    check_number("overlap", overlap, minimum=0)
    check_number("time_step", time_step, minimum=0, exclusive=True)
    check_number("exit_ratio", exit_ratio, minimum=0)
    features = check_features(features)
    xp = array_namespace(features)
    reference = features
    if reference_features is not None:
        reference = check_features(reference_features, name="reference_features")
        if reference.shape[1] != features.shape[1]:
            raise InvalidEvidence(
                f"reference_features have {reference.shape[1]} dimensions, features {features.shape[1]}: "
                "both must come from the same model and layer"
            )
    scale = xp.clip(xp.std(reference, axis=0), min=SMALLEST_SCALE)
    codes, classes = check_labels(labels, length=features.shape[0], like=features)
    groups = [features[codes == c, :] for c in range(len(classes))]
    means = xp.stack([xp.mean(group, axis=0) for group in groups])
    spreads = [xp.sum(xp.mean(((group - means[c, :]) / scale) ** 2, axis=0)) for c, group in enumerate(groups)]
    del groups
    radii = xp.sqrt(xp.stack(spreads))
    # Only differences of means matter, so any common origin will do; the middle keeps the digits.
    start = means / scale
    start = start - xp.mean(start, axis=0)
    means, motion, steps = start, [], 0
    for _ in range(STEPS):
        shift = displacements(means, radii, overlap=overlap, time_step=time_step)
        motion.append(float(xp.sum(xp.abs(shift))))
        if not motion[-1] / motion[0] > exit_ratio if motion[0] else True:
            break
        means, steps = means + shift, steps + 1
    if not steps:
        return features, motion, 0
    return features + xp.take((means - start) * scale, codes, axis=0), motion, steps


def displacements(means: Array, radii: Array, *, overlap: float, time_step: float) -> Array:
    """(C, D) the δ of one step, as ``(diag(W 1) - W) μ`` with ``W_ab = min(time_step²/2 F_ab, F_ab)/d_ab``."""
    xp = array_namespace(means)
    distances = pairwise_distances(means)
    force = xp.clip(overlap * (radii[:, None] + radii[None, :]) - distances, min=0.0)
    # The distance of a class to itself, or to one with the same mean, is zero, and so is the force.
    apart = distances > 0
    weights = xp.where(apart, min(0.5 * time_step**2, 1.0) * force / xp.where(apart, distances, 1.0), 0.0)
    return xp.sum(weights, axis=1)[:, None] * means - weights @ means


def pairwise_distances(means: Array) -> Array:
    """(C, C) Euclidean distances; pairs so close that the product form would lose digits are taken one by one."""
    xp = array_namespace(means)
    squares = xp.sum(means**2, axis=1)
    scale = squares[:, None] + squares[None, :]
    distances = xp.sqrt(xp.clip(scale - 2 * (means @ xp.matrix_transpose(means)), min=0.0))
    for row in range(means.shape[0]):
        close = xp.nonzero(distances[row, :] ** 2 <= 1e-4 * scale[row, :])[0]
        exact = xp.linalg.vector_norm(xp.take(means, close, axis=0) - means[row, :], axis=1)
        noise = 1e-14 * xp.sqrt(xp.take(scale[row, :], close))
        distances[row, close] = xp.where(exact > noise, exact, xp.zeros_like(exact))
    return distances


METRIC = Metric(
    name="ped",
    title="PED",
    required_evidence=frozenset({"features", "labels"}),
    optional_evidence=frozenset({"reference_features"}),
    range=(None, None),
    unit="that of the base metric",
    measures="The base metric after classes that overlap have pushed each other apart, as fine-tuning would.",
    formula="base(X'), where class means move by δ_a = Σ_b min(h²/2 F_ab, F_ab) (μ_a - μ_b)/d_ab, "
    "F_ab = max(overlap (R_a + R_b) - d_ab, 0), at most six times",
    interpretation="As the base metric. The gain over the base says how much room there is between the classes.",
    caveats="Moves little when classes are few, by one or two steps when they are about a hundred (a hundred and one "
    "classes can move half as far as ninety-nine); without reference features it is not the published protocol.",
    cost="O(N D + C² D) and the base metric",
    citation="Li et al., Exploring Model Transferability through the Lens of Potential Energy, ICCV 2023",
    function=ped,
    resampling=Linear(score_and_shares, applies=lambda parameters: parameters.get("base", "sfda") == "sfda"),
    parameters={
        "base": Parameter("sfda", "metric of the moved features", "choice", choices=tuple(BASES)),
        "overlap": Parameter(0.6, "how many radii wide a class counts"),
        "time_step": Parameter(0.1, "step of the simulated motion", exclusive=True),
        "exit_ratio": Parameter(0.5, "stop when a step moves less than this share of the first"),
        "scale": sfda.SCALE,
        "compat": COMPAT,
    },
)
