"""Optimal transport between two sets of features: one small interface to four solvers, three of them POT's.

Every solver works on the dense (N, M) cost matrix, except the sliced one, whose memory is (N + M) x projections. With
8 bytes a number, a 5,000 x 5,000 problem has a cost matrix and a plan of 200 MB each; docs/ensembles.md has the
measured peaks.
"""

import math
import warnings as python_warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from estimators.arrays.validation import (
    Array,
    check_choice,
    check_features,
    check_labels,
    check_number,
    from_numpy,
    to_numpy,
)
from estimators.score import CannotBeComputed, InvalidEvidence

SOLVERS = ("exact", "entropic", "frobenius", "sliced")
COSTS = ("squared_euclidean", "euclidean")
WEIGHTS = ("uniform", "class_balanced")

# A plan whose marginals are off by more than this share of the mass is refused; by less than TIGHT it needs no remark.
LOOSE, TIGHT = 1e-2, 1e-6


@dataclass(frozen=True, slots=True)
class Transport:
    """A transport problem and its solution.

    Attributes:
        cost: Σ_ij π_ij C_ij, without the regulariser's value. For the sliced solver its estimate (see ``transport``).
        plan: (N, M) π in the library and on the device of the features; None for the sliced solver.
        marginal_error: Σ_i |Σ_j π_ij - a_i| + Σ_j |Σ_i π_ij - b_j|, the share of mass that is misplaced.
        warnings: sentences in the form of ``Score.warnings``.
        details: the solver and what it was given, as plain numbers and strings.
    """

    cost: float
    plan: Array | None
    marginal_error: float
    warnings: tuple[str, ...]
    details: dict[str, Any]


def balanced_sample(*, labels: Array, size: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Choose samples so that the classes are as equal in number as they can be.

    Every class gets the same quota; a class that has fewer gives all it has, and the others share what is left. Of
    samples that remain over (``size`` not divisible by the number of classes) the first classes get one each. The
    same arguments always choose the same samples.

    Args:
        labels: (N,) integers or strings.
        size: how many to choose; with N or more, all are chosen.
        seed: which of the equally good samples.

    Returns:
        Sorted NumPy indices, int64, ``min(size, N)`` of them.
    """
    check_number("size", size, minimum=1, whole=True)
    codes, classes = check_labels(labels)
    counts = np.bincount(codes, minlength=len(classes))
    quota = np.zeros_like(counts)
    remaining = min(size, int(counts.sum()))
    while remaining:
        unfilled = np.flatnonzero(quota < counts)
        share = remaining // unfilled.size
        if share == 0:
            quota[unfilled[:remaining]] += 1
            break
        added = np.minimum(share, counts[unfilled] - quota[unfilled])
        quota[unfilled] += added
        remaining -= int(added.sum())
    shuffled = np.random.default_rng(seed).permutation(codes.size)
    shuffled = shuffled[np.argsort(codes[shuffled], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    chosen = [shuffled[start : start + take] for start, take in zip(starts, quota, strict=True)]
    return np.sort(np.concatenate(chosen))


def sample_weights(weights: str | Array, *, length: int, labels: Array | None, name: str) -> np.ndarray[Any, Any]:
    """Masses (N,) that sum to one.

    ``"uniform"`` gives 1/N to each sample, ``"class_balanced"`` 1/(C n_c) to each sample of class c; an array of
    positive numbers is divided by its sum.
    """
    if isinstance(weights, str):
        check_choice("weights", weights, WEIGHTS)
        if weights == "uniform":
            return np.full(length, 1.0 / length)
        if labels is None:
            raise InvalidEvidence(f"class_balanced weights need the labels of {name}")
        codes, classes = check_labels(labels, length=length, name=f"labels of {name}")
        balanced: np.ndarray[Any, Any] = 1.0 / (len(classes) * np.bincount(codes)[codes])
        return balanced
    masses = np.asarray(to_numpy(weights), dtype=np.float64)
    if masses.shape != (length,) or not np.isfinite(masses).all() or not (masses > 0).all():
        raise InvalidEvidence(f"weights of {name} must be {length} positive numbers, one per sample")
    normalized: np.ndarray[Any, Any] = masses / masses.sum()
    return normalized


def transport(
    *,
    source_features: Array,
    features: Array,
    source_labels: Array | None = None,
    labels: Array | None = None,
    solver: str = "exact",
    cost: str = "squared_euclidean",
    weights: str = "uniform",
    regularization: float | None = None,
    max_iterations: int | None = None,
    projections: int = 200,
    seed: int = 0,
) -> Transport:
    """Move the mass of one set of features onto another as cheaply as possible.

        π* = argmin_π Σ_ij π_ij C_ij + R(π)   with   Σ_j π_ij = a_i,  Σ_i π_ij = b_j,  π ≥ 0

    - ``"exact"``: R = 0, by the network simplex (on the CPU for every array);
    - ``"entropic"``: R = ε Σ π ln π with ε = regularization · max C, Sinkhorn in the log domain on the arrays' device;
    - ``"frobenius"``: R = γ/2 Σ π² with γ = regularization · max C · max(N, M), by L-BFGS on the smooth dual (CPU);
    - ``"sliced"``: the mean of one-dimensional problems along random directions.

    ε and γ are given relative to the costs, so that one setting means the same for models of different scale. The
    sliced cost is multiplied by D (squared costs) or by √π Γ((D+1)/2) / Γ(D/2) (distances): a pure shift then costs
    what the exact solver says, and models of different D can be compared. In expectation over the directions the
    sliced cost is never above the exact one; it is another distance, so do not mix the two in one pool.

    Args:
        source_features: (N, D).
        features: (M, D), of the same model.
        source_labels, labels: (N,) and (M,); needed for ``weights="class_balanced"`` only.
        solver, cost, weights: see above, ``COSTS`` and ``WEIGHTS``.
        regularization: strength, above 0; 0.05 for entropic and 0.1 for frobenius when not given.
        max_iterations: of the solver; 10,000,000 pivots, 1,000 Sinkhorn iterations or 5,000 L-BFGS steps.
        projections, seed: number of random directions of the sliced solver, and which.

    Raises:
        InvalidEvidence: shapes that do not match, NaN.
        CannotBeComputed: the solver stopped before its marginals came right; the message says what to change.

    Sources: Flamary et al., "POT: Python Optimal Transport", JMLR 2021; Cuturi, NeurIPS 2013 (entropic); Blondel,
    Seguy, Rolet, AISTATS 2018 (frobenius); Bonneel et al., J. Math. Imaging and Vision 2015 (sliced).
    """
    check_choice("solver", solver, SOLVERS)
    check_choice("cost", cost, COSTS)
    source = check_features(source_features, name="source_features")
    target = check_features(features)
    if source.shape[1] != target.shape[1]:
        raise InvalidEvidence(
            f"source_features and features must come from one model: {source.shape[1]} and {target.shape[1]} dimensions"
        )
    xp = array_namespace(source, target)
    source_mass = sample_weights(weights, length=source.shape[0], labels=source_labels, name="source_features")
    mass = sample_weights(weights, length=target.shape[0], labels=labels, name="features")
    details: dict[str, Any] = {
        "solver": solver,
        "cost": cost,
        "weights": weights,
        "source_samples": int(source.shape[0]),
        "samples": int(target.shape[0]),
        "dimensions": int(source.shape[1]),
    }
    # Transport ignores a common shift; without it the squared distances lose fewer digits to cancellation.
    center = xp.mean(target, axis=0)
    source, target = source - center, target - center
    a, b = from_numpy(source_mass, like=source), from_numpy(mass, like=target)
    a, b = xp.astype(a, source.dtype), xp.astype(b, target.dtype)
    if solver == "sliced":
        check_number("projections", projections, minimum=1, whole=True)
        details |= {"projections": projections, "seed": seed}
        return Transport(_sliced(source, target, a, b, cost, projections, seed), None, 0.0, (), details)
    import ot

    matrix = ot.dist(source, target, metric="sqeuclidean" if cost == "squared_euclidean" else "euclidean")
    # The copies of the features go before the solver takes its memory.
    del source, target
    value, plan, iterations = _dense(matrix, a, b, solver, regularization, max_iterations, details)
    error = float(xp.sum(xp.abs(xp.sum(plan, axis=1) - a)) + xp.sum(xp.abs(xp.sum(plan, axis=0) - b)))
    if not error <= LOOSE or not math.isfinite(value):
        raise CannotBeComputed(
            f"the {solver} transport has not converged after {iterations} iterations: {error:.2g} of the mass is "
            "misplaced; raise max_iterations, or regularization where the solver has one"
        )
    remarks: tuple[str, ...] = ()
    if error > TIGHT:
        remarks = (f"not_converged: {error:.2g} of the mass is misplaced; raise max_iterations or regularization",)
    return Transport(value, plan, error, remarks, details | {"marginal_error": error})


def _dense(
    matrix: Array,
    a: Array,
    b: Array,
    solver: str,
    regularization: float | None,
    max_iterations: int | None,
    details: dict[str, Any],
) -> tuple[float, Array, int]:
    import ot

    xp = array_namespace(matrix)
    limit = max_iterations or {"exact": 10_000_000, "entropic": 1000, "frobenius": 5000}[solver]
    check_number("max_iterations", limit, minimum=1, whole=True)
    with python_warnings.catch_warnings():
        # Convergence is judged by the marginals, not by POT's printed remarks.
        python_warnings.simplefilter("ignore")
        if solver == "exact":
            solution = ot.solve(matrix, a, b, max_iter=limit)
            if solution.status != "Converged":
                raise CannotBeComputed(
                    f"the exact transport stopped: {str(solution.status).strip()}; raise max_iterations"
                )
            return float(solution.value_linear), solution.plan, limit
        strength = {"entropic": 0.05, "frobenius": 0.1}[solver] if regularization is None else regularization
        check_number("regularization", strength, minimum=0.0, exclusive=True)
        details["regularization"] = float(strength)
        largest = float(xp.max(matrix))
        if largest == 0.0:
            return 0.0, a[:, None] * b[None, :], 0
        # Costs of at most one make the solvers' absolute tolerances mean the same for every model. In place, as the
        # caller still holds the matrix and a copy would count twice.
        matrix /= largest
        if solver == "entropic":
            return _sinkhorn(matrix, a, b, strength, largest, limit)
        strength = strength * max(matrix.shape)
        # L-BFGS's tolerance is a relative decrease of the dual: a coarser one leaves 1e-4 of the mass misplaced.
        solution = ot.solve(matrix, a, b, reg=strength, reg_type="L2", max_iter=limit, tol=1e-16)
    return float(xp.sum(solution.plan * matrix)) * largest, solution.plan, limit


def _sinkhorn(
    matrix: Array, a: Array, b: Array, strength: float, largest: float, limit: int
) -> tuple[float, Array, int]:
    """Sinkhorn in the log domain. Not POT's, which holds eight more matrices at once; this one holds the plan.

    ``matrix`` has costs of at most one and is overwritten.
    """
    xp = array_namespace(matrix)
    matrix /= -strength
    log_a, log_b = xp.log(a), xp.log(b)
    left, right = xp.zeros_like(a), xp.zeros_like(b)
    iterations = 0
    while iterations < limit:
        iterations += 1
        balanced = log_b - _log_sums(matrix.T, left)
        # With the former right potentials the columns held this much; the rows were exact.
        error = float(xp.sum(xp.abs(b * xp.expm1(right - balanced)))) if iterations > 1 else 1.0
        right = balanced
        left = log_a - _log_sums(matrix, right)
        if error < 1e-9:
            break
    plan = matrix + left[:, None]
    plan += right
    cost = 0.0
    for start in range(0, plan.shape[0], 500):
        rows = slice(start, start + 500)
        plan[rows, :] = xp.exp(plan[rows, :])
        cost -= float(xp.sum(plan[rows, :] * matrix[rows, :])) * strength
    return cost * largest, plan, iterations


def _log_sums(matrix: Array, potentials: Array) -> Array:
    """ln Σ_j exp(matrix_ij + potentials_j), in blocks of rows."""
    xp = array_namespace(matrix)
    sums = []
    for start in range(0, matrix.shape[0], 500):
        block = matrix[start : start + 500, :] + potentials
        top = xp.max(block, axis=1, keepdims=True)
        block -= top
        sums.append(xp.log(xp.sum(xp.exp(block), axis=1)) + top[:, 0])
    return xp.concat(sums)


def _sliced(source: Array, target: Array, a: Array, b: Array, cost: str, projections: int, seed: int) -> float:
    import ot

    dimensions = source.shape[1]
    # Drawn with NumPy for every kind of array, so that all see the same directions.
    directions = np.random.default_rng(seed).standard_normal((dimensions, projections))
    directions /= np.linalg.norm(directions, axis=0)
    xp = array_namespace(source)
    directions = xp.astype(from_numpy(directions, like=source), source.dtype)
    power = 2 if cost == "squared_euclidean" else 1
    distance = float(ot.sliced_wasserstein_distance(source, target, a, b, p=power, projections=directions))
    if power == 2:
        return distance * distance * float(dimensions)
    return distance * math.sqrt(math.pi) * math.exp(math.lgamma((dimensions + 1) / 2) - math.lgamma(dimensions / 2))
