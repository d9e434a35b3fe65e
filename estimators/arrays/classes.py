"""Samples in the order of their classes: each class is one slice, and nothing of size (N, C) is built."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace, device

from estimators.arrays.validation import Array, check_labels, from_numpy, to_numpy


@dataclass(frozen=True)
class ByClass:
    """Rows sorted by class, stably.

    Attributes:
        rows: (N, D) the rows in class order.
        order: (N,) NumPy indices: ``rows[i]`` is row ``order[i]`` of the input.
        counts: (C,) NumPy class sizes.
        classes: the C original labels.
    """

    rows: Array
    order: np.ndarray
    counts: np.ndarray
    classes: tuple[object, ...]

    @property
    def starts(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.counts)[:-1]])

    @property
    def codes(self) -> np.ndarray:
        """(N,) NumPy class codes of ``rows``."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def slices(self) -> Iterator[slice]:
        for start, count in zip(self.starts.tolist(), self.counts.tolist(), strict=True):
            yield slice(start, start + count)

    def groups(self) -> Iterator[Array]:
        for part in self.slices():
            yield self.rows[part]

    def means(self) -> Array:
        """(C, D) class means."""
        xp = array_namespace(self.rows)
        return xp.stack([xp.mean(group, axis=0) for group in self.groups()])

    def restore(self, values: Array) -> Array:
        """(N, ...) values of ``rows`` in the order of the input."""
        xp = array_namespace(self.rows)
        return xp.take(values, from_numpy(np.argsort(self.order), like=self.rows), axis=0)

    def spread(self, values: Array) -> Array:
        """(N, ...) the value of each row's class, from (C, ...)."""
        xp = array_namespace(self.rows)
        return xp.take(values, from_numpy(self.codes, like=self.rows), axis=0)


def by_class(rows: Array, labels: Array) -> ByClass:
    """Sort checked rows (N, D) by their labels (N,); the input stays as it is."""
    codes, classes = check_labels(labels, length=rows.shape[0])
    order = np.argsort(to_numpy(codes), kind="stable")
    xp = array_namespace(rows)
    return ByClass(
        rows=xp.take(rows, from_numpy(order, like=rows), axis=0),
        order=order,
        counts=np.bincount(codes, minlength=len(classes)),
        classes=classes,
    )


def class_deviations(features: Array, labels: Array) -> tuple[ByClass, Array]:
    """Checked features (N, D) by class, each row less its class mean, and the class means less the mean of all (C, D).

    Both scatters follow without cancellation: ``S_within = rows^T rows``, ``S = S_within + Σ n_c m_c m_c^T``.
    """
    grouped = by_class(features, labels)
    xp = array_namespace(features)
    means = []
    # The sorted rows are a copy of ours; class by class they stay in the cache.
    for part in grouped.slices():
        means.append(xp.mean(grouped.rows[part, :], axis=0))
        grouped.rows[part, :] -= means[-1]
    centres = xp.stack(means)
    counts = xp.asarray(grouped.counts, dtype=features.dtype, device=device(features))
    return grouped, centres - (counts @ centres) / features.shape[0]


def centred_by_class(features: Array, labels: Array) -> ByClass:
    """Checked features (N, D) by class, each row less the mean of all."""
    grouped = by_class(features, labels)
    # The sorted rows are a copy of ours.
    grouped.rows[...] -= array_namespace(features).mean(features, axis=0)
    return grouped


def label_slots(classes: tuple[object, ...]) -> int:
    """How many classes a program sees that counts from 0 to the largest integer label, gaps included."""
    integers = [label for label in classes if isinstance(label, int) and label >= 0]
    return max(integers) + 1 if len(integers) == len(classes) else len(classes)
