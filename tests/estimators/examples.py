"""Made-up evidence for the estimators' tests."""

import numpy as np

from estimators import Evidence


def classes_in_space(
    samples: int = 240,
    dimensions: int = 12,
    classes: int = 5,
    *,
    separation: float = 1.0,
    relu: bool = False,
    scale: float = 1.0,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian classes of unlike sizes (at least 4 samples each), optionally cut at zero as after a ReLU."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(classes, 5.0))
    labels = np.concatenate([np.repeat(np.arange(classes), 4), rng.choice(classes, samples - 4 * classes, p=weights)])
    rng.shuffle(labels)
    centres = separation * rng.normal(size=(classes, dimensions))
    features = centres[labels] + rng.normal(size=(samples, dimensions)) * rng.uniform(0.5, 2.0, dimensions)
    return scale * (np.maximum(features, 0) if relu else features), labels


def probabilities_for(labels: np.ndarray, sources: int = 9, *, seed: int = 0) -> np.ndarray:
    """Softmax output of a classifier that knows a little about the labels."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(labels.max() + 1, sources))[labels] + rng.normal(size=(len(labels), sources))
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def evidence(**keywords: object) -> Evidence:
    features, labels = classes_in_space(**keywords)  # type: ignore[arg-type]
    reference = np.random.default_rng(1).normal(size=(100, features.shape[1]))
    return Evidence(
        features=features,
        labels=labels,
        source_probabilities=probabilities_for(labels),
        reference_features=reference,
    )
