import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators.arrays.sampling import sample_indices

LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=80)


def test_everything_without_limits() -> None:
    assert sample_indices([1, 0, 1, 2]).tolist() == [0, 1, 2, 3]


def test_shares_follow_the_classes() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    assert np.bincount(labels[sample_indices(labels, max_samples=20)]).tolist() == [12, 6, 2]


def test_largest_remainder_gets_the_last_place() -> None:
    labels = np.repeat([0, 1], [7, 3])
    assert np.bincount(labels[sample_indices(labels, max_samples=4)]).tolist() == [3, 1]


def test_the_same_everywhere() -> None:
    assert sample_indices(np.arange(30) % 3, max_samples=6, seed=4).tolist() == [0, 1, 3, 8, 10, 20]


def test_seed_changes_the_choice() -> None:
    labels = np.zeros(100, dtype=int)
    first, second = (sample_indices(labels, max_samples=10, seed=seed) for seed in (0, 1))
    assert first.tolist() != second.tolist()


def test_a_rare_class_is_kept() -> None:
    labels = np.repeat([0, 1, 2], [10_000, 1, 1])
    assert np.bincount(labels[sample_indices(labels, max_samples=3)]).tolist() == [1, 1, 1]


def test_many_classes_are_quick() -> None:
    labels = np.arange(100_000)
    assert sample_indices(labels, max_samples=100_000).size == 100_000


@given(labels=LABELS, total=st.integers(1, 100), per_class=st.integers(1, 20) | st.none(), seed=st.integers(0, 5))
def test_properties(labels: list[int], total: int, per_class: int | None, seed: int) -> None:
    chosen = sample_indices(labels, max_samples=total, max_samples_per_class=per_class, seed=seed)
    codes = np.array(labels)
    _, counts = np.unique(codes, return_counts=True)
    capped = counts if per_class is None else np.minimum(counts, per_class)
    assert np.all(np.diff(chosen) > 0)
    assert chosen.size == min(total, capped.sum())
    if total >= counts.size:
        assert set(codes[chosen]) == set(labels)
    if per_class is not None:
        assert np.unique(codes[chosen], return_counts=True)[1].max() <= per_class


@given(labels=LABELS, limit=st.integers(1, 10))
def test_a_larger_sample_contains_the_smaller(labels: list[int], limit: int) -> None:
    smaller = sample_indices(labels, max_samples_per_class=limit)
    larger = sample_indices(labels, max_samples_per_class=limit + 3)
    assert set(smaller) <= set(larger)


@pytest.mark.parametrize("arguments", [{"max_samples": 0}, {"max_samples_per_class": -1}])
def test_limits_below_one_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        sample_indices([0, 1], **arguments)
