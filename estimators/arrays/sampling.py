"""Stratified samples that are the same on every platform."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def sample_indices(
    labels: ArrayLike, *, max_samples: int | None = None, max_samples_per_class: int | None = None, seed: int = 0
) -> NDArray[np.int64]:
    """Sorted indices of a sample whose classes keep their shares.

    Every class is first limited to ``max_samples_per_class``. If more than ``max_samples`` remain, places are shared in
    proportion (largest remainder, in integers), and every class keeps at least one while there are enough places. For
    one seed, a larger sample of a class contains the smaller one.

    Args:
        labels: (N,) class codes, non-negative integers.
        max_samples: of the whole; None for no limit.
        max_samples_per_class: None for no limit.
        seed: of NumPy's PCG64.
    """
    codes = np.asarray(labels)
    if codes.ndim != 1 or codes.size == 0:
        raise ValueError(f"labels must be one-dimensional and not empty, got shape {codes.shape}")
    for name, limit in (("max_samples", max_samples), ("max_samples_per_class", max_samples_per_class)):
        if limit is not None and limit < 1:
            raise ValueError(f"{name} must be at least 1, got {limit}")
    _, codes = np.unique(codes, return_inverse=True)
    counts = np.bincount(codes)
    places = counts if max_samples_per_class is None else np.minimum(counts, max_samples_per_class)
    if max_samples is not None and places.sum() > max_samples:
        places = _share(places, max_samples)
    generator = np.random.Generator(np.random.PCG64(seed))
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])
    chosen = [member[generator.permutation(member.size)[:place]] for member, place in zip(members, places, strict=True)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def _share(sizes: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """Share ``total`` places in proportion to ``sizes``: (C,) integers that sum to ``total``."""
    places, remainders = np.divmod(sizes * total, sizes.sum())
    if total >= sizes.size:
        remainders[places == 0] = -1
        places = np.maximum(places, 1)
    missing = total - int(places.sum())
    if missing > 0:
        places[np.argsort(-remainders, kind="stable")[:missing]] += 1
    while missing < 0:
        reducible = np.flatnonzero(places > 1)
        reduced = reducible[np.argsort(remainders[reducible], kind="stable")][:-missing]
        places[reduced] -= 1
        missing += reduced.size
    return places


def stratified_folds(labels: ArrayLike, folds: int, *, seed: int = 0) -> NDArray[np.int64]:
    """(N,) the fold of each image, 0 to ``folds`` - 1. Classes are dealt out evenly, and so is what remains of them.

    Raises:
        ValueError: fewer than two folds, or fewer images than folds.
    """
    codes = np.asarray(labels)
    if codes.ndim != 1 or not 2 <= folds <= codes.size:
        raise ValueError(f"folds must be at least 2 and at most the number of images ({codes.size}), got {folds}")
    generator = np.random.Generator(np.random.PCG64(seed))
    shuffled = generator.permutation(codes.size)
    dealt = shuffled[np.argsort(codes[shuffled], kind="stable")]
    assigned = np.empty(codes.size, dtype=np.int64)
    assigned[dealt] = np.arange(codes.size) % folds
    return assigned
