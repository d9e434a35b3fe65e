"""What a task says to the rest, which knows none of them."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from app.contracts.question import SampleChoice
from app.contracts.tasks import TaskName
from estimators.metric import Metric

Labels = NDArray[Any]


class Task(Protocol):
    """What is assumed of the labels of images. ``labels`` has a row for each image, (N,) or (N, ...)."""

    @property
    def evidence(self) -> frozenset[str]:
        """The attributes of `estimators.metric.Evidence` that its rows can give."""

    @property
    def name(self) -> TaskName:
        """Under which it is entered in the catalog."""

    def why_unusable(self, name: str, counts: Mapping[str, int]) -> str | None:
        """Why the data set of this name, with this many images of each class, cannot be a target."""

    def sample(self, labels: Labels, choice: SampleChoice) -> NDArray[np.int64]:
        """(n,) the images that are used, ascending; equal on every platform."""

    def folds(self, labels: Labels, folds: int, *, seed: int) -> NDArray[np.int64]:
        """(n,) the fold of each image of a sample, 0 to ``folds`` - 1, as alike as they can be."""

    def held_out(self, labels: Labels, share: float, *, seed: int) -> NDArray[np.int64]:
        """(k,) the images of a sample that a fine-tuning does not see, ascending; at least one."""

    def describe(self, labels: Labels) -> dict[str, int]:
        """What is recorded of the labels of a sample."""

    def rows(self, labels: Labels) -> dict[str, Labels]:
        """The labels of stored evidence as metrics take them: attributes of `estimators.metric.Evidence`."""


def applies(metric: Metric, task: Task) -> bool:
    """Whether the evidence of the task is what the metric needs."""
    return metric.required_evidence <= task.evidence
