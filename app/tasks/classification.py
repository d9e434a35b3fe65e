"""Classification: one image, one class."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from app.contracts.question import SampleChoice
from app.contracts.tasks import TaskName
from app.tasks.task import Labels
from estimators.arrays.sampling import sample_indices, stratified_folds

MINIMUM_CLASSES = 2


class Classification:
    """Labels are (N,) class codes, non-negative integers."""

    name: TaskName = "classification"
    evidence = frozenset({"features", "labels", "source_probabilities", "reference_features"})

    def why_unusable(self, name: str, counts: Mapping[str, int]) -> str | None:
        """Fewer than two classes leave nothing to tell apart."""
        if len(counts) < MINIMUM_CLASSES:
            return f"{name!r} has one class only; a ranking needs at least {MINIMUM_CLASSES}"
        return None

    def sample(self, labels: Labels, choice: SampleChoice) -> NDArray[np.int64]:
        """Stratified by class."""
        return sample_indices(
            labels,
            max_samples=choice.max_samples,
            max_samples_per_class=choice.max_samples_per_class,
            seed=choice.seed,
        )

    def folds(self, labels: Labels, folds: int, *, seed: int) -> NDArray[np.int64]:
        """Every class is dealt out evenly."""
        return stratified_folds(labels, folds, seed=seed)

    def held_out(self, labels: Labels, share: float, *, seed: int) -> NDArray[np.int64]:
        """Stratified by class."""
        return sample_indices(labels, max_samples=max(1, round(share * len(labels))), seed=seed)

    def describe(self, labels: Labels) -> dict[str, int]:
        """How many classes there are, and how large the smallest and the largest are."""
        counts = np.unique(labels, return_counts=True)[1]
        return {"classes": len(counts), "smallest_class": int(counts.min()), "largest_class": int(counts.max())}

    def rows(self, labels: Labels) -> dict[str, Labels]:
        """The codes as they are."""
        return {"labels": labels}
