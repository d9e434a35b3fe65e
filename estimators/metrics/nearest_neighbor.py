"""The nearest neighbour (a baseline): how often the most similar other image has the same class."""

import numpy as np

from estimators.arrays.validation import Array, check_features, check_labels, check_number, to_numpy
from estimators.metric import Linear, Metric, Parameter
from estimators.score import CannotBeComputed, Score


def nearest_neighbor(*, features: Array, labels: Array, neighbors: int = 1) -> Score:
    """Leave-one-out accuracy of the nearest other samples' majority label (Euclidean distance; ties: the nearest).

    Cover and Hart, "Nearest neighbor pattern classification", 1967. Runs on the CPU in scikit-learn.

    Args:
        features: (N, D).
        labels: (N,) integers or strings.
        neighbors: how many vote.

    Returns:
        Score in [0, 1]. Details: samples, dimensions, classes.

    Raises:
        InvalidEvidence: wrong shapes, NaN.
        CannotBeComputed: no more samples than neighbours.
    """
    return score_and_shares(features=features, labels=labels, neighbors=neighbors)[0]


def score_and_shares(*, features: Array, labels: Array, neighbors: int = 1) -> tuple[Score, np.ndarray]:
    """The Score of `nearest_neighbor`, and (N,) what each sample adds to it."""
    check_number("neighbors", neighbors, minimum=1, whole=True)
    features = to_numpy(check_features(features))
    codes, classes = check_labels(labels, length=features.shape[0])
    if features.shape[0] <= neighbors:
        raise CannotBeComputed(f"{neighbors} neighbours need more than {features.shape[0]} samples")
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=neighbors).fit(features).kneighbors(return_distance=False)
    votes = codes[found]
    same = votes[:, :, None] == votes[:, None, :]
    # argmax takes the first, and so the nearest, of equally frequent labels.
    winners = votes[np.arange(len(votes)), np.argmax(same.sum(axis=2), axis=1)]
    correct = winners == codes
    samples, dimensions = features.shape
    details = {"samples": samples, "dimensions": dimensions, "classes": len(classes)}
    return Score(float(np.mean(correct)), (), details), correct / samples


METRIC = Metric(
    name="nearest_neighbor",
    title="Nearest neighbour",
    required_evidence=frozenset({"features", "labels"}),
    range=(0.0, 1.0),
    unit="accuracy",
    measures="How often the most similar other image has the same class (a baseline).",
    formula="leave-one-out accuracy of the nearest neighbours' majority label, Euclidean distance",
    interpretation="An accuracy: the share of the largest class is what guessing gives.",
    caveats="Near-duplicate images make every model look good.",
    cost="O(N² D)",
    cpu_only="neighbour search (scikit-learn)",
    citation="Cover and Hart, Nearest neighbor pattern classification, 1967",
    function=nearest_neighbor,
    resampling=Linear(score_and_shares),
    parameters={"neighbors": Parameter(1, "how many vote", "integer", 1)},
)
