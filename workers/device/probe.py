"""A linear probe of frozen features, and the layer that it becomes."""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

# scikit-learn's C, the inverse strength of the penalty, for features of unit spread.
INVERSE_PENALTY = 0.01
SMALLEST_SPREAD = 0.1


def probe_layer(features: NDArray[np.float32], labels: NDArray[np.int64], classes: int) -> nn.Linear:
    """Multinomial logistic regression on standardised features, as a layer for the features as they are.

    The spread of a feature is at least ``SMALLEST_SPREAD`` of the mean one, so that a feature which hardly varies here
    gets no large weight.

    Args:
        features: (N, D).
        labels: (N,) codes; at least two different ones.
        classes: C, the outputs of the layer. A class that ``labels`` lacks gets no weight and the lowest bias.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, spread = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    spread = np.maximum(spread, max(SMALLEST_SPREAD * spread.mean(), np.finfo(np.float32).tiny))
    with warnings.catch_warnings():
        # The fit is a starting point: the last digits do not matter.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = LogisticRegression(C=INVERSE_PENALTY, max_iter=200, tol=1e-4).fit((features - mean) / spread, labels)
    slopes, offsets = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:  # scikit-learn keeps one row, of the second class against the first
        slopes, offsets = np.vstack([-slopes, slopes]) / 2, np.concatenate([-offsets, offsets]) / 2
    weight = np.zeros((classes, features.shape[1]))
    bias = np.full(classes, offsets.min())
    weight[fitted.classes_] = slopes / spread
    bias[fitted.classes_] = offsets - (slopes / spread) @ mean
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, features.shape[1], classes)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
    return layer
