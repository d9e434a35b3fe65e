"""Samples in the order of their classes: each class is one slice, and nothing of size (N, C) is built."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace, device

from estimators.arrays.validation import (
    Array,
    check_labels,
    from_numpy,
    row_blocks,
    working_dtype,
    working_rows,
)


@dataclass(frozen=True)
class ClassOrder:
    """The order that brings samples of one class together, stably.

    Attributes:
        order: (N,) NumPy indices: sample i in this order is sample ``order[i]`` of the input.
        counts: (C,) NumPy class sizes.
        classes: the C original labels.
    """

    order: np.ndarray
    counts: np.ndarray
    classes: tuple[object, ...]

    @property
    def starts(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.counts)[:-1]])

    @property
    def codes(self) -> np.ndarray:
        """(N,) NumPy class codes in this order."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def slices(self) -> Iterator[slice]:
        for start, count in zip(self.starts.tolist(), self.counts.tolist(), strict=True):
            yield slice(start, start + count)

    def blocks(self, matrix: Array) -> Iterator[tuple[slice, list[tuple[int, Array]]]]:
        """Rows of a checked matrix (N, D) in this order, ready to compute with, a block at a time.

        Of each block its place in the order, and for each class in it the class's code and rows.
        """
        codes = self.codes
        for block in row_blocks(matrix):
            rows = working_rows(matrix, self.order[block])
            found, starts = np.unique(codes[block], return_index=True)
            ends = [*starts[1:].tolist(), block.stop - block.start]
            parts = zip(found.tolist(), starts.tolist(), ends, strict=True)
            yield block, [(c, rows[start:end, :]) for c, start, end in parts]

    def restore(self, values: Array) -> Array:
        """(N, ...) values in this order in the order of the input."""
        return array_namespace(values).take(values, from_numpy(np.argsort(self.order), like=values), axis=0)


@dataclass(frozen=True)
class ByClass(ClassOrder):
    """Rows sorted by class.

    Attributes:
        rows: (N, D) the rows in class order.
    """

    rows: Array

    def groups(self) -> Iterator[Array]:
        for part in self.slices():
            yield self.rows[part]

    def means(self) -> Array:
        """(C, D) class means."""
        xp = array_namespace(self.rows)
        return xp.stack([xp.mean(group, axis=0) for group in self.groups()])

    def spread(self, values: Array) -> Array:
        """(N, ...) the value of each row's class, from (C, ...)."""
        xp = array_namespace(self.rows)
        return xp.take(values, from_numpy(self.codes, like=self.rows), axis=0)


def class_order(labels: Array, length: int) -> ClassOrder:
    """The order of ``length`` samples by their labels (N,)."""
    codes, classes = check_labels(labels, length=length)
    return ClassOrder(np.argsort(codes, kind="stable"), np.bincount(codes, minlength=len(classes)), classes)


def by_class(rows: Array, labels: Array) -> ByClass:
    """Sort checked rows (N, D) by their labels (N,), ready to compute with; the input stays as it is."""
    order = class_order(labels, rows.shape[0])
    grouped = array_namespace(rows).empty(rows.shape, dtype=working_dtype(rows), device=device(rows))
    for block in row_blocks(rows):
        grouped[block, :] = working_rows(rows, order.order[block])
    return ByClass(order.order, order.counts, order.classes, grouped)


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
    counts = xp.asarray(grouped.counts, dtype=centres.dtype, device=device(features))
    return grouped, centres - (counts @ centres) / features.shape[0]


def centred_by_class(features: Array, labels: Array) -> tuple[ByClass, Array]:
    """Checked features (N, D) by class, each row less the mean of all, and that mean (D,)."""
    grouped = by_class(features, labels)
    mean = array_namespace(features).mean(grouped.rows, axis=0)
    # The sorted rows are a copy of ours.
    grouped.rows[...] -= mean
    return grouped, mean


def label_slots(classes: tuple[object, ...]) -> int:
    """How many classes a program sees that counts from 0 to the largest integer label, gaps included."""
    integers = [label for label in classes if isinstance(label, int) and label >= 0]
    return max(integers) + 1 if len(integers) == len(classes) else len(classes)
