"""The one place that checks shapes, labels and finiteness, and that decides where and how precisely to compute.

Arrays may be NumPy arrays, torch tensors on any device, or plain nested lists. Results lie where the input lies.
Floating-point work is done in float64; in float32 only on devices that have no float64 (Apple's ``mps``).
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj, is_torch_array, to_device

from estimators.score import InvalidEvidence

# An array of any library that follows the array API standard; its type cannot be named without importing the library.
Array: TypeAlias = Any

PROBABILITY_TOLERANCE = 1e-3
BLOCK_NUMBERS = 2_000_000


def working_dtype(array: Array) -> Any:
    """The floating type to compute in: float64, or float32 where the device has no float64."""
    xp = array_namespace(array)
    return xp.float32 if str(device(array)).startswith("mps") else xp.float64


def row_blocks(matrix: Array) -> Iterator[slice]:
    """Slices of about ``BLOCK_NUMBERS`` numbers, and of no fewer rows than columns, that cover the rows of a matrix."""
    samples, columns = matrix.shape
    size = max(BLOCK_NUMBERS // columns, columns)
    for start in range(0, samples, size):
        yield slice(start, min(start + size, samples))


def working_rows(matrix: Array, rows: slice | np.ndarray[Any, Any]) -> Array:
    """Rows of a checked matrix in the floating type to compute in: of a slice, perhaps a view; of indices, a copy."""
    xp = array_namespace(matrix)
    part = matrix[rows, :] if isinstance(rows, slice) else xp.take(matrix, from_numpy(rows, like=matrix), axis=0)
    dtype = working_dtype(matrix)
    return part if part.dtype == dtype else xp.astype(part, dtype)


def to_numpy(array: Array) -> np.ndarray[Any, Any]:
    """A NumPy view or copy on the CPU, for steps that need a CPU library."""
    if is_torch_array(array):
        array = array.detach()
    if is_array_api_obj(array):
        return np.asarray(to_device(array, "cpu"))
    return np.asarray(array)


def from_numpy(array: np.ndarray[Any, Any], *, like: Array) -> Array:
    """The same numbers in the library and on the device of ``like``."""
    return array_namespace(like).asarray(array, device=device(like))


def _floating(array: Array, name: str, *, convert: bool = True) -> Array:
    if not is_array_api_obj(array):
        try:
            array = np.asarray(array, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidEvidence(f"{name} must be an array of numbers: {error}") from None
    if is_torch_array(array):
        array = array.detach()
    xp = array_namespace(array)
    if not xp.isdtype(array.dtype, ("real floating", "integral", "bool")):
        raise InvalidEvidence(f"{name} must hold real numbers, not {array.dtype}")
    dtype = working_dtype(array)
    return xp.astype(array, dtype) if convert and array.dtype != dtype else array


def _matrix(array: Array, name: str, columns: str, *, convert: bool) -> Array:
    array = _floating(array, name, convert=convert)
    if array.ndim != 2:
        raise InvalidEvidence(f"{name} must be a matrix (samples, {columns}); got {array.ndim} dimension(s)")
    if array.shape[0] == 0 or array.shape[1] == 0:
        raise InvalidEvidence(f"{name} must not be empty; got shape {tuple(array.shape)}")
    return array


def _first_row(bad: Array) -> int:
    return int(np.argmax(to_numpy(bad)))


def check_features(features: Array, *, name: str = "features", minimum_samples: int = 1, convert: bool = True) -> Array:
    """Check features and return them ready to compute with.

    Args:
        features: (N, D) real numbers.
        name: what an error message calls them.
        minimum_samples: the fewest rows that make sense.
        convert: False leaves the numbers as they are, perhaps in a mapped file in single precision; whoever computes
            with them takes `working_rows`, a part at a time.

    Returns:
        (N, D) floating array in the library and on the device of the input. It may be the input itself, so it must
        not be written to.

    Raises:
        InvalidEvidence: wrong dimensions, no samples, not numbers, NaN or infinity (the row is named).
    """
    features = _matrix(features, name, "dimensions", convert=convert)
    xp = array_namespace(features)
    if features.shape[0] < minimum_samples:
        raise InvalidEvidence(f"{name} must have at least {minimum_samples} samples; got {features.shape[0]}")
    for part in row_blocks(features):
        rows = working_rows(features, part)
        # NaN and infinity survive a sum, so that one cheap pass clears nearly every input.
        if not bool(xp.isfinite(xp.sum(rows))):
            finite = xp.all(xp.isfinite(rows), axis=1)
            if not bool(xp.all(finite)):
                row = part.start + _first_row(~finite)
                raise InvalidEvidence(f"{name} hold NaN or infinity in row {row}; remove or repair it")
    return features


def check_targets(targets: Array, *, length: int, like: Array, name: str = "targets") -> Array:
    """Check regression or multi-label targets, (N,) or (N, K), and return them as (N, K) on the device of ``like``."""
    if is_array_api_obj(targets) and is_torch_array(targets) != is_torch_array(like):
        targets = to_numpy(targets)
    targets = _floating(targets, name)
    if targets.ndim == 1:
        targets = array_namespace(targets).reshape(targets, (-1, 1))
    targets = check_features(targets, name=name)
    if targets.shape[0] != length:
        raise InvalidEvidence(f"{name} must have one row per sample: {length} samples, {targets.shape[0]} rows")
    xp = array_namespace(like)
    return xp.asarray(targets, dtype=like.dtype, device=device(like))


def check_labels(
    labels: Array | Sequence[Any], *, length: int | None = None, name: str = "labels", like: Array | None = None
) -> tuple[Array, tuple[Any, ...]]:
    """Turn labels of any kind into codes without gaps.

    Args:
        labels: (N,) integers or strings; gaps and negative numbers are fine.
        length: the number of samples that the labels must match.
        name: what an error message calls them.
        like: put the codes in the library and on the device of this array (NumPy without it).

    Returns:
        ``codes`` (N,) int64 in 0..C-1, and ``classes``, the C original labels in sorted order.

    Raises:
        InvalidEvidence: not one-dimensional, wrong length, empty, or real numbers that are not whole.
    """
    values = to_numpy(labels)
    if values.ndim != 1:
        raise InvalidEvidence(f"{name} must be one label per sample, shape (samples,); got shape {tuple(values.shape)}")
    if length is not None and values.shape[0] != length:
        raise InvalidEvidence(f"{name} must have one label per sample: {length} samples, {values.shape[0]} labels")
    if values.shape[0] == 0:
        raise InvalidEvidence(f"{name} must not be empty")
    if values.dtype.kind == "f":
        whole = np.isfinite(values) & (values == np.floor(values))
        if not whole.all():
            raise InvalidEvidence(
                f"{name} must be integers or strings; row {_first_row(~whole)} is {values[_first_row(~whole)]}"
            )
        values = values.astype(np.int64)
    elif values.dtype.kind == "O":
        if any(value is None or value != value for value in values):
            raise InvalidEvidence(f"{name} must not hold missing values")
        values = np.asarray([str(value) for value in values])
    elif values.dtype.kind not in "iubUS":
        raise InvalidEvidence(f"{name} must be integers or strings, not {values.dtype}")
    classes, codes = np.unique(values, return_inverse=True)
    codes = codes.astype(np.int64)
    return (codes if like is None else from_numpy(codes, like=like)), tuple(classes.tolist())


def check_probabilities(probabilities: Array, *, name: str = "source_probabilities", convert: bool = True) -> Array:
    """Check a classifier's output probabilities and return them ready to compute with.

    Args:
        probabilities: (N, S), each row at least zero and summing to one within ``PROBABILITY_TOLERANCE``.
        name: what an error message calls them.
        convert: as in `check_features`.

    Raises:
        InvalidEvidence: wrong dimensions, NaN, negative entries, or rows that do not sum to one (the row is named).
    """
    probabilities = _matrix(probabilities, name, "source classes", convert=convert)
    for part in row_blocks(probabilities):
        _check_distributions(working_rows(probabilities, part), name, part.start)
    return probabilities


def _check_distributions(probabilities: Array, name: str, first: int) -> None:
    xp = array_namespace(probabilities)
    sums = xp.sum(probabilities, axis=1)
    wrong = ~(xp.abs(sums - 1.0) <= PROBABILITY_TOLERANCE)
    if bool(xp.min(probabilities) >= 0) and not bool(xp.any(wrong)):
        return
    finite = xp.all(xp.isfinite(probabilities), axis=1)
    if not bool(xp.all(finite)):
        raise InvalidEvidence(f"{name} hold NaN or infinity in row {first + _first_row(~finite)}")
    negative = xp.any(probabilities < 0, axis=1)
    if bool(xp.any(negative)):
        raise InvalidEvidence(
            f"{name} must not be negative: row {first + _first_row(negative)}; apply the softmax first"
        )
    row = _first_row(wrong)
    raise InvalidEvidence(f"{name} must sum to one in each row: row {first + row} sums to {float(sums[row]):.6g}")


def check_compat(compat: str | None) -> bool:
    """Whether the number of the authors' program is asked for (``compat="author"``) and not the default reading."""
    if compat not in (None, "author"):
        raise ValueError(f"compat must be None or 'author'; got {compat!r}")
    return compat == "author"


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(repr(choice) for choice in choices)}; got {value!r}")


def check_number(
    name: str,
    value: Any,
    *,
    minimum: float,
    maximum: float | None = None,
    exclusive: bool = False,
    whole: bool = False,
) -> None:
    """Check a numeric parameter; ``whole`` asks for an integer, ``exclusive`` for more than the minimum."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer) if whole else (int, float, np.number)):
        raise ValueError(f"{name} must be {'an integer' if whole else 'a number'}; got {value!r}")
    if not np.isfinite(value) or value < minimum or (exclusive and value == minimum):
        raise ValueError(f"{name} must be {'above' if exclusive else 'at least'} {minimum:g}; got {value!r}")
    if maximum is not None and value > maximum:
        raise ValueError(f"{name} must be at most {maximum:g}; got {value!r}")
