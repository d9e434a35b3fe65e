"""Optimal transport against closed forms, brute force and recorded values, on NumPy arrays and torch tensors."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators import CannotBeComputed, InvalidEvidence
from estimators.arrays.transport import SOLVERS, balanced_sample, transport
from estimators.arrays.validation import to_numpy
from tests.reference.oracles import inputs, oracles

Kind = Callable[[Any], Any]
both_kinds = pytest.mark.parametrize("kind", [np.asarray, torch.asarray], ids=["numpy", "torch"])


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def expected() -> tuple[dict[str, float], dict[str, np.ndarray]]:
    (entry,) = oracles("ot_derived")
    return entry["expected"], inputs(entry["input_file"])


@both_kinds
@pytest.mark.parametrize(
    ("key", "arguments", "tolerance"),
    [
        ("emd2_sqeuclidean", {}, 1e-12),
        ("emd2_euclidean", {"cost": "euclidean"}, 1e-12),
        ("sinkhorn_reg0.05max_transport_cost", {"solver": "entropic", "regularization": 0.05}, 1e-8),
        ("sinkhorn_reg0.1max_transport_cost", {"solver": "entropic", "regularization": 0.1}, 1e-8),
        ("sinkhorn_reg0.5max_transport_cost", {"solver": "entropic", "regularization": 0.5}, 1e-8),
    ],
)
def test_recorded_costs(kind: Kind, key: str, arguments: dict[str, Any], tolerance: float) -> None:
    values, data = expected()
    moved = transport(source_features=kind(data["Xs"]), features=kind(data["Xt"]), **arguments)
    assert moved.cost == pytest.approx(values[key], rel=tolerance)


@both_kinds
def test_frobenius_reaches_a_lower_regularised_cost_than_the_recorded_conditional_gradient(kind: Kind) -> None:
    values, data = expected()
    costs = ((data["Xs"][:, None, :].astype(float) - data["Xt"][None, :, :]) ** 2).sum(axis=2)
    strength = 100.0
    moved = transport(
        source_features=kind(data["Xs"]),
        features=kind(data["Xt"]),
        solver="frobenius",
        regularization=strength / (costs.max() * 80),
    )
    norm = float(np.sum(to_numpy(moved.plan) ** 2))
    recorded = values["frobenius_cg_reg100.0_transport_cost"] + strength / 2 * (
        values["frobenius_cg_reg100.0_P_fro"] ** 2
    )
    assert moved.cost + strength / 2 * norm <= recorded * (1 + 1e-7)
    assert moved.cost == pytest.approx(values["frobenius_cg_reg100.0_transport_cost"], rel=1e-5)


@both_kinds
@pytest.mark.parametrize("solver", ["exact", "entropic", "frobenius"])
@pytest.mark.parametrize("weights", ["uniform", "class_balanced"])
def test_plans_keep_their_marginals(kind: Kind, solver: str, weights: str) -> None:
    source_labels, labels = np.arange(30) % 7, np.arange(20) % 3
    moved = transport(
        source_features=kind(normal(30, 4)),
        features=kind(normal(20, 4, seed=1)),
        source_labels=source_labels,
        labels=labels,
        solver=solver,
        weights=weights,
    )
    plan = to_numpy(moved.plan)
    balanced = weights == "class_balanced"
    a = 1 / (7 * np.bincount(source_labels)[source_labels]) if balanced else np.full(30, 1 / 30)
    b = 1 / (3 * np.bincount(labels)[labels]) if balanced else np.full(20, 1 / 20)
    np.testing.assert_allclose(plan.sum(axis=1), a, atol=1e-7)
    np.testing.assert_allclose(plan.sum(axis=0), b, atol=1e-7)
    assert moved.marginal_error <= 1e-6
    assert moved.warnings == ()


@both_kinds
@pytest.mark.parametrize("cost", ["squared_euclidean", "euclidean"])
@pytest.mark.parametrize("solver", ["exact", "sliced"])
def test_a_permuted_source_costs_nothing(kind: Kind, solver: str, cost: str) -> None:
    features = normal(40, 6)
    permuted = features[np.random.default_rng(1).permutation(40)]
    moved = transport(source_features=kind(permuted), features=kind(features), solver=solver, cost=cost)
    assert moved.cost == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
def test_identical_points_cost_nothing(solver: str) -> None:
    moved = transport(source_features=np.ones((5, 3)), features=np.ones((4, 3)), solver=solver)
    assert moved.cost == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("solver", "cost", "tolerance"),
    [
        ("exact", "squared_euclidean", 1e-10),
        ("exact", "euclidean", 1e-10),
        ("sliced", "squared_euclidean", 0.05),
        ("sliced", "euclidean", 0.05),
    ],
)
def test_a_shift_costs_its_length(solver: str, cost: str, tolerance: float) -> None:
    shift = np.array([1.0, -2.0, 0.5, 3.0])
    features = normal(50, 4)
    moved = transport(source_features=features, features=features + shift, solver=solver, cost=cost, projections=5000)
    length = np.linalg.norm(shift)
    assert moved.cost == pytest.approx(length**2 if cost == "squared_euclidean" else length, rel=tolerance)


@pytest.mark.parametrize("solver", ["exact", "sliced"])
def test_two_gaussians_are_their_known_distance_apart(solver: str) -> None:
    # Quantiles stand for the samples, so that N(0, 1) and N(2, 3²) are met without sampling noise: W₂² = 2² + (3-1)².
    from scipy.stats import norm

    quantiles = norm.ppf((np.arange(400) + 0.5) / 400)[:, None]
    moved = transport(source_features=quantiles, features=2 + 3 * quantiles[::-1], solver=solver, projections=3)
    assert moved.cost == pytest.approx(8.0, rel=5e-3)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(2, 6), st.integers(1, 3), st.integers(0, 10_000), st.sampled_from(["squared_euclidean", "euclidean"])
)
def test_exact_is_the_best_of_all_pairings(samples: int, dimensions: int, seed: int, cost: str) -> None:
    generator = np.random.default_rng(seed)
    source, target = generator.normal(size=(2, samples, dimensions))
    costs = ((source[:, None] - target[None]) ** 2).sum(axis=2)
    if cost == "euclidean":
        costs = np.sqrt(costs)
    best = min(costs[np.arange(samples), list(order)].mean() for order in itertools.permutations(range(samples)))
    assert transport(source_features=source, features=target, cost=cost).cost == pytest.approx(best, abs=1e-9)


def test_regularisation_only_ever_costs_more_and_ends_at_the_independent_plan() -> None:
    source, target = normal(25, 3), normal(30, 3, seed=1) + 1
    costs = ((source[:, None] - target[None]) ** 2).sum(axis=2)
    exact = transport(source_features=source, features=target).cost
    for solver in ("entropic", "frobenius"):
        weak, strong = (
            transport(source_features=source, features=target, solver=solver, regularization=strength).cost
            for strength in (0.05, 1000.0)
        )
        assert exact < weak < strong
        assert strong == pytest.approx(costs.mean(), rel=2e-3)


def test_sliced_is_not_above_exact_and_equal_on_both_kinds() -> None:
    source, target = normal(60, 8), normal(50, 8, seed=1) * 2
    exact = transport(source_features=source, features=target).cost
    sliced = transport(source_features=source, features=target, solver="sliced", projections=2000)
    tensors = transport(
        source_features=torch.asarray(source), features=torch.asarray(target), solver="sliced", projections=2000
    )
    assert sliced.cost < exact
    assert tensors.cost == pytest.approx(sliced.cost, rel=1e-12)
    assert sliced.plan is None


def test_a_common_shift_far_from_the_origin_changes_nothing() -> None:
    source, target = normal(20, 3), normal(20, 3, seed=1)
    near = transport(source_features=source, features=target).cost
    far = transport(source_features=source + 1e6, features=target + 1e6).cost
    assert far == pytest.approx(near, rel=1e-8)


def test_inputs_stay_as_they_are() -> None:
    source, target = normal(10, 2), normal(10, 2, seed=1)
    before = source.copy(), target.copy()
    transport(source_features=source, features=target)
    np.testing.assert_array_equal(source, before[0])
    np.testing.assert_array_equal(target, before[1])


@pytest.mark.parametrize("solver", ["exact", "entropic", "frobenius"])
def test_too_few_iterations_are_an_error_not_a_number(solver: str) -> None:
    with pytest.raises(CannotBeComputed, match="max_iterations"):
        transport(
            source_features=normal(60, 3),
            features=normal(60, 3, seed=1) * 3,
            solver=solver,
            regularization=0.001,
            max_iterations=1,
        )


def test_nearly_converged_is_a_warning() -> None:
    moved = transport(
        source_features=normal(40, 3),
        features=normal(40, 3, seed=1),
        solver="entropic",
        regularization=0.02,
        max_iterations=20,
    )
    assert 1e-6 < moved.marginal_error < 1e-2
    assert moved.warnings[0].startswith("not_converged:")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": np.ones((3, 5))}, "one model"),
        ({"source_features": np.full((3, 2), math.nan)}, "source_features hold NaN"),
        ({"weights": "class_balanced"}, "need the labels"),
        ({"weights": np.array([1.0, 2.0])}, "positive numbers"),
    ],
)
def test_bad_evidence_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidEvidence, match=message):
        transport(**({"source_features": normal(3, 2), "features": normal(3, 2)} | arguments))


@pytest.mark.parametrize("argument", [{"solver": "emd"}, {"cost": "cosine"}, {"weights": "equal"}])
def test_unknown_choices_list_the_known(argument: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        transport(source_features=normal(3, 2), features=normal(3, 2), **argument)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 70), st.integers(0, 3))
def test_balanced_samples_are_as_equal_as_they_can_be(labels: list[int], size: int, seed: int) -> None:
    chosen = balanced_sample(labels=np.asarray(labels), size=size, seed=seed)
    assert len(chosen) == min(size, len(labels))
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen, balanced_sample(labels=np.asarray(labels), size=size, seed=seed))
    available = np.bincount(labels, minlength=6)
    taken = np.bincount(np.asarray(labels)[chosen], minlength=6)
    not_exhausted = taken < available
    if not_exhausted.any():
        assert taken.max() <= taken[not_exhausted].min() + 1


def test_another_seed_chooses_other_samples() -> None:
    labels = np.arange(100) % 4
    assert (balanced_sample(labels=labels, size=40) != balanced_sample(labels=labels, size=40, seed=1)).any()
