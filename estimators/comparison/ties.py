"""Which scores are equal but for rounding."""

from typing import Any

import numpy as np

# What differs by less, relative to its size or to one, is rounding, not merit.
TIE = 1e-9


def levels(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Whole numbers (M, ...) in the order of the values along the first axis, equal where they differ by rounding.

    The lowest level is 0. A value is tied with the next lower one if the two differ by at most `TIE`. NaN is above all.
    """
    order = np.argsort(values, axis=0, kind="stable")
    ordered = np.take_along_axis(values, order, axis=0)
    apart = np.diff(ordered, axis=0) > TIE * np.maximum(1.0, np.abs(ordered[1:]))
    steps = np.concatenate([np.zeros((1, *values.shape[1:]), dtype=np.int64), np.cumsum(apart, axis=0)])
    found = np.empty(values.shape, dtype=np.int64)
    np.put_along_axis(found, order, steps, axis=0)
    return found
