"""The metrics written down plainly, one step a line, as the papers define them and as one would first program them.

They are what the fast versions are tested and timed against. Arguments: ``x`` (N, D) float64, ``y`` (N,) codes 0..C-1,
``p`` (N, S) probabilities.
"""

import numpy as np
from scipy import linalg, optimize, spatial, special, stats


def leep(p: np.ndarray, y: np.ndarray) -> float:
    joint = np.zeros((y.max() + 1, p.shape[1]))
    for c in range(len(joint)):
        joint[c] = p[y == c].sum(axis=0) / len(y)
    conditional = joint / joint.sum(axis=0)
    predictions = p @ conditional.T
    return float(np.mean(np.log(predictions[np.arange(len(y)), y])))


def nce(z: np.ndarray, y: np.ndarray) -> float:
    total = 0.0
    for label in range(y.max() + 1):
        for source in range(z.max() + 1):
            both = np.mean((y == label) & (z == source))
            if both > 0:
                total += both * np.log(both / np.mean(z == source))
    return float(total)


def tmi(x: np.ndarray, y: np.ndarray, neighbors: int = 3, floor: float = 1.0) -> float:
    total = 0.0
    for c in range(y.max() + 1):
        group = x[y == c]
        n, d = group.shape
        distances = spatial.cKDTree(group).query(group, neighbors + 1, p=np.inf, workers=2)[0][:, -1]
        entropy = special.digamma(n) - special.digamma(neighbors)
        entropy += d * np.mean(np.log(2 * np.maximum(distances, floor)))
        total += n / len(x) * entropy
    return float(total)


def logme(x: np.ndarray, y: np.ndarray) -> float:
    n = len(x)
    u, singular, _ = np.linalg.svd(x, full_matrices=False)
    sigma = singular**2
    evidences = []
    for c in range(y.max() + 1):
        t = (y == c).astype(float)
        projected = (u.T @ t) ** 2
        outside = t @ t - projected.sum() if n > x.shape[1] else 0.0

        def loss(log_ratio: float, projected: np.ndarray = projected, outside: float = outside) -> float:
            ratio = np.exp(log_ratio)
            residual = outside + np.sum(projected * ratio / (ratio + sigma))
            beta = n / residual
            alpha = ratio * beta
            evidence = len(sigma) / 2 * np.log(alpha) + n / 2 * np.log(beta) - n / 2 - n / 2 * np.log(2 * np.pi)
            return -float(evidence - 0.5 * np.sum(np.log(alpha + beta * sigma))) / n

        grid = np.log(sigma[0]) + np.linspace(-27, 27, 60)
        best = grid[np.argmin([loss(point) for point in grid])]
        found = optimize.minimize_scalar(loss, bounds=(best - 1, best + 1), method="bounded", options={"xatol": 1e-8})
        evidences.append(-found.fun)
    return float(np.mean(evidences))


def h_score(x: np.ndarray, y: np.ndarray) -> float:
    means = np.zeros_like(x)
    for c in range(y.max() + 1):
        means[y == c] = x[y == c].mean(axis=0)
    return float(np.trace(np.linalg.pinv(np.cov(x.T), rcond=1e-15) @ np.cov(means.T)))


def regularized_h_score(x: np.ndarray, y: np.ndarray) -> float:
    from sklearn.covariance import LedoitWolf

    shrunk = LedoitWolf().fit(x)
    means = np.zeros_like(x)
    for c in range(y.max() + 1):
        means[y == c] = x[y == c].mean(axis=0)
    between = (1 - shrunk.shrinkage_) * np.cov(means.T)
    return float(np.trace(np.linalg.pinv(shrunk.covariance_) @ between))


def within_scatter(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    scatter = np.zeros((x.shape[1], x.shape[1]))
    for c in range(y.max() + 1):
        scatter += np.mean(y == c) * np.cov(x[y == c].T, bias=True)
    return scatter


def shrinkage(scatter: np.ndarray) -> float:
    right = scatter.sum(axis=1)
    for _ in range(3):
        left = scatter @ right
        left /= np.linalg.norm(left)
        right = scatter @ left
        right /= np.linalg.norm(right)
    return max(float(np.exp(-5 * (right @ scatter @ left))), 1e-10)


def discriminant_posteriors(x: np.ndarray, y: np.ndarray, shrink: float, scatter: np.ndarray) -> np.ndarray:
    d = x.shape[1]
    means = np.stack([x[y == c].mean(axis=0) for c in range(y.max() + 1)])
    shrunk = (1 - shrink) * scatter + shrink * np.trace(scatter) / d * np.eye(d)
    total = np.cov(x.T, bias=True)
    # The Fisher directions: all generalized eigenvectors of the scatter between against the scatter within.
    _, directions = linalg.eigh(total - scatter, shrunk)
    z, centres = x @ directions, means @ directions
    scores = z @ centres.T - 0.5 * np.sum(centres**2, axis=1) + np.log(np.bincount(y) / len(y))
    return special.softmax(scores, axis=1)


def lda(x: np.ndarray, y: np.ndarray) -> float:
    scatter = within_scatter(x, y)
    posteriors = discriminant_posteriors(x, y, shrinkage(scatter), scatter)
    return float(np.mean(posteriors[np.arange(len(y)), y]))


def sfda(x: np.ndarray, y: np.ndarray) -> float:
    scatter = within_scatter(x, y)
    shrink = shrinkage(scatter)
    posteriors = discriminant_posteriors(x, y, shrink, scatter)
    confidence = special.softmax(posteriors, axis=1)[np.arange(len(y)), y]
    means = np.stack([x[y == c].mean(axis=0) for c in range(y.max() + 1)])
    mixed = np.empty_like(x)
    for i in range(len(x)):
        others = (means.sum(axis=0) - means[y[i]]) / (len(means) - 1)
        mixed[i] = confidence[i] * x[i] + (1 - confidence[i]) * others
    posteriors = discriminant_posteriors(mixed, y, shrink, within_scatter(mixed, y))
    return float(np.mean(posteriors[np.arange(len(y)), y]))


def ped_step(x: np.ndarray, y: np.ndarray, reference: np.ndarray, overlap: float = 0.6, time_step: float = 0.1):
    """The features after one step, and how far the classes moved."""
    scale = np.maximum(reference.std(axis=0), 1e-3)
    z = (x - reference.mean(axis=0)) / scale
    classes = y.max() + 1
    means = np.stack([z[y == c].mean(axis=0) for c in range(classes)])
    radii = np.array([np.sqrt(np.sum(z[y == c].var(axis=0))) for c in range(classes)])
    difference = means[:, None, :] - means[None, :, :]
    distance = np.sqrt(np.sum(difference**2, axis=2))
    np.fill_diagonal(distance, 1.0)
    force = np.maximum(overlap * (radii[:, None] + radii[None, :]) - distance, 0)
    np.fill_diagonal(force, 0.0)
    length = np.minimum(0.5 * time_step**2 * force, force)
    shift = np.sum(length[:, :, None] * (difference / distance[:, :, None]), axis=1)
    return (z + shift[y]) * scale + reference.mean(axis=0), float(np.abs(shift).sum())


def ped_moved(x: np.ndarray, y: np.ndarray, reference: np.ndarray) -> np.ndarray:
    first = None
    for _ in range(6):
        moved, motion = ped_step(x, y, reference)
        first = motion if first is None else first
        if not first or motion / first <= 0.5:
            break
        x = moved
    return x


def ped(x: np.ndarray, y: np.ndarray, reference: np.ndarray) -> float:
    return sfda(ped_moved(x, y, reference), y)


def nleep(x: np.ndarray, y: np.ndarray, components: int | None = None, seed: int = 0) -> float:
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    projected = PCA(n_components=0.8, svd_solver="full").fit_transform(x)
    mixture = GaussianMixture(components or 5 * (y.max() + 1), random_state=seed).fit(projected)
    return leep(mixture.predict_proba(projected), y)


def gbc(x: np.ndarray, y: np.ndarray, components: int | None = 64, spherical: bool = True) -> float:
    if components is not None and components < x.shape[1]:
        from sklearn.decomposition import PCA

        x = PCA(components, svd_solver="full").fit_transform(x)
    total = 0.0
    means = [x[y == c].mean(axis=0) for c in range(y.max() + 1)]
    variances = [np.maximum(x[y == c].var(axis=0), 1e-4) for c in range(y.max() + 1)]
    for a in range(len(means)):
        for b in range(len(means)):
            if a == b:
                continue
            va, vb = (np.mean(v, keepdims=True) if spherical else v for v in (variances[a], variances[b]))
            v = (va + vb) / 2
            distance = np.sum((means[a] - means[b]) ** 2 / (8 * v))
            distance += 0.5 * np.sum(np.log(v) - 0.5 * np.log(va) - 0.5 * np.log(vb))
            total -= np.exp(-distance)
    return float(total)


def coding_rate(z: np.ndarray, epsilon: float) -> float:
    n, d = z.shape
    return 0.5 * float(np.linalg.slogdet(np.eye(d) + z.T @ z / (n * epsilon))[1])


def transrate(x: np.ndarray, y: np.ndarray, epsilon: float = 1e-4) -> float:
    z = x - x.mean(axis=0)
    rate = coding_rate(z, epsilon)
    for c in range(y.max() + 1):
        rate -= np.mean(y == c) * coding_rate(z[y == c], epsilon)
    return rate


def parc(x: np.ndarray, y: np.ndarray) -> float:
    scale = x.std(axis=0)
    z = (x - x.mean(axis=0)) / np.where(scale > 0, scale, 1)
    upper = np.triu_indices(len(x), 1)
    different = (y[:, None] != y[None, :])[upper]
    return 100 * float(stats.spearmanr((1 - np.corrcoef(z))[upper], different)[0])


def nearest_neighbor(x: np.ndarray, y: np.ndarray) -> float:
    correct = 0
    for i in range(len(x)):
        distances = np.sum((x - x[i]) ** 2, axis=1)
        distances[i] = np.inf
        correct += int(y[np.argmin(distances)] == y[i])
    return correct / len(x)


def energy(x: np.ndarray, percent: float = 0.5) -> float:
    energies = np.sort(special.logsumexp(x, axis=1))
    return float(np.mean(energies[: max(1, int(percent * len(x) / 100))]))
