"""Ensembles by what their members predict for images they were not fitted to: linear probes, and greedy selection."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from estimators.arrays.sampling import stratified_folds
from estimators.arrays.validation import (
    Array,
    check_choice,
    check_features,
    check_labels,
    check_number,
    check_probabilities,
    to_numpy,
)
from estimators.ensembles.result import Gain, HeldOutMember, HeldOutSingle, HeldOutStep, Selection
from estimators.score import CannotBeComputed, InvalidEvidence

Numbers = np.ndarray[Any, Any]
Costs = Sequence[float | None] | None

OBJECTIVES = ("log_loss", "accuracy")
# The log loss of an image whose class was given less than this is that of this; a class unseen in training has 0.
SMALLEST_PROBABILITY = 1e-12


@dataclass(frozen=True, slots=True)
class HeldOutSelection:
    """An ensemble chosen by held-out predictions; ``dataclasses.asdict`` gives plain JSON.

    The images that chose the members also judge them, which flatters the ensemble a little, and the best single model
    less. With few images and many models prefer small ensembles.

    Attributes:
        members: names in the order in which they were added.
        accuracy, log_loss: of the average of the members' probabilities; the log loss is in nats per image.
        best_single: the best model by the same objective.
        accuracy_gain, log_loss_gain: against the best single model.
        trace: the steps of the greedy selection.
        level, resamples: of the intervals.
    """

    members: tuple[str, ...]
    accuracy: float
    log_loss: float
    best_single: HeldOutMember
    accuracy_gain: Gain
    log_loss_gain: Gain
    trace: tuple[HeldOutStep, ...]
    level: float
    resamples: int


def probe_predictions(
    *, features: Array, labels: Array, folds: int = 5, penalty: float = 0.01, seed: int = 0
) -> Numbers:
    """Held-out class probabilities of linear probes: each sample is predicted by a probe fitted to the other folds.

    A probe is a multinomial logistic regression with a squared penalty on features that are standardised by the
    training folds and divided by √D. Where D exceeds the training samples it is fitted in the space that they span,
    which gives the same probe.

    Args:
        features: (N, D).
        labels: (N,) integers or strings.
        folds: number of folds, see `estimators.arrays.sampling.stratified_folds`.
        penalty: strength of the penalty: before any sample is seen, a logit has variance 1 / penalty.
        seed: of the folds.

    Returns:
        NumPy (N, C), each row sums to one, columns in the sorted order of the labels. A class of which all samples lie
        in one fold has probability 0 there.

    Raises:
        InvalidEvidence: wrong shapes, NaN.
        CannotBeComputed: fewer samples than folds, or a fold's training samples are all of one class.
    """
    check_number("folds", folds, minimum=2, whole=True)
    check_number("penalty", penalty, minimum=0, exclusive=True)
    check_number("seed", seed, minimum=0, whole=True)
    rows = to_numpy(check_features(features))
    codes, classes = check_labels(labels, length=rows.shape[0])
    if len(codes) < folds:
        raise CannotBeComputed(f"{folds} folds need as many samples; there are {len(codes)}")
    from threadpoolctl import threadpool_limits

    assigned = stratified_folds(codes, folds, seed=seed)
    predictions = np.zeros((len(codes), len(classes)))
    # Hundreds of small products lose more by waking threads than they gain.
    with threadpool_limits(1):
        for fold in range(folds):
            _predict(rows, codes, assigned == fold, penalty, predictions)
    return predictions


def _predict(rows: Numbers, codes: Numbers, held_out: Numbers, penalty: float, predictions: Numbers) -> None:
    """Fill in the predictions (N, C) of the held-out rows."""
    from sklearn.linear_model import LogisticRegression

    seen = np.unique(codes[~held_out])
    if len(seen) < 2:
        raise CannotBeComputed("a probe needs two classes in the folds that it is fitted to; there is one")
    mean, scale = rows[~held_out].mean(axis=0), rows[~held_out].std(axis=0)
    scaled = (rows - mean) / (np.where(scale > 0, scale, 1.0) * np.sqrt(rows.shape[1]))
    train, test = scaled[~held_out], scaled[held_out]
    if train.shape[0] < train.shape[1] and train.any():
        train, test = _coordinates(train, test)
    probe = LogisticRegression(C=1 / penalty, max_iter=1000, tol=1e-5).fit(train, codes[~held_out])
    predictions[np.ix_(held_out, seen)] = probe.predict_proba(test)


def _coordinates(train: Numbers, test: Numbers) -> tuple[Numbers, Numbers]:
    """Coordinates of both in an orthonormal basis of the space that the rows of ``train`` span.

    A squared penalty leaves no weight outside it, so that products within it are all that a probe needs.
    """
    eigenvalues, vectors = np.linalg.eigh(train @ train.T)
    kept = eigenvalues > max(train.shape) * np.finfo(np.float64).eps * eigenvalues[-1]
    directions = vectors[:, kept] / np.sqrt(eigenvalues[kept])
    return vectors[:, kept] * np.sqrt(eigenvalues[kept]), (test @ train.T) @ directions


def select_held_out(
    *,
    names: Sequence[str],
    probabilities: Sequence[Array],
    labels: Array,
    size: int,
    objective: str = "log_loss",
    resamples: int = 1000,
    level: float = 0.9,
    seed: int = 0,
) -> HeldOutSelection:
    """Greedy ensemble selection: add the model whose probabilities improve the average most, without replacement.

    Caruana, Niculescu-Mizil, Crew, Ksikes, "Ensemble Selection from Libraries of Models", ICML 2004. Intervals are
    percentiles of a paired bootstrap over images: the ensemble and the single model are judged on the same draws.

    Args:
        names: M different names.
        probabilities: M arrays (N, C) of held-out class probabilities for the same images.
        labels: (N,) the column of each image's class, or, if there are C different labels, any labels whose sorted
            order is that of the columns.
        size: how many models to choose.
        objective: ``"log_loss"`` (mean of -ln p of the true class, lower is better) or ``"accuracy"``, whose many ties
            the log loss decides. Between equals the first name wins.
        resamples, level, seed: of the bootstrap.

    Raises:
        InvalidEvidence: no models, names that are not different, shapes that do not match, rows that do not sum to
            one, labels without a column.
        CannotBeComputed: fewer models than ``size``.
    """
    check_choice("objective", objective, OBJECTIVES)
    check_number("size", size, minimum=1, whole=True)
    check_number("resamples", resamples, minimum=2, whole=True)
    check_number("level", level, minimum=0, maximum=1, exclusive=True)
    check_number("seed", seed, minimum=0, whole=True)
    table, codes = _checked(names, probabilities, labels)
    if size > len(names):
        raise CannotBeComputed(f"an ensemble of {size} needs as many models; there are {len(names)}")
    singles = [(*_judged(one, codes), index) for index, one in enumerate(table)]
    best = min(singles, key=lambda single: _order(single[0], single[1], objective))[2]
    members: list[int] = []
    trace: list[HeldOutStep] = []
    total = np.zeros(table.shape[1:])
    for _ in range(size):
        candidates = [index for index in range(len(names)) if index not in members]
        reached = {index: _judged((total + table[index]) / (len(members) + 1), codes) for index in candidates}
        added = min(candidates, key=lambda index: _order(*reached[index], objective))
        members.append(added)
        total += table[added]
        correct, losses = reached[added]
        trace.append(HeldOutStep(names[added], float(correct.mean()), float(losses.mean())))
    correct, losses = _judged(total / size, codes)
    correct_single, losses_single, _ = singles[best]
    draws = _draws(len(codes), resamples, seed)
    return HeldOutSelection(
        members=tuple(names[index] for index in members),
        accuracy=float(correct.mean()),
        log_loss=float(losses.mean()),
        best_single=HeldOutMember(names[best], float(correct_single.mean()), float(losses_single.mean())),
        accuracy_gain=_gain(correct.astype(float) - correct_single, draws, level),
        log_loss_gain=_gain(losses_single - losses, draws, level),
        trace=tuple(trace),
        level=level,
        resamples=resamples,
    )


def as_selection(
    found: HeldOutSelection, *, names: Sequence[str], probabilities: Sequence[Array], labels: Array, costs: Costs = None
) -> Selection:
    """The same in the form in which ensembles of other methods are told: the value is minus the log loss.

    Args:
        names, probabilities, labels: what it was selected from.
        costs: of every candidate, as parameters; None where one is not known.
    """
    table, codes = _checked(names, probabilities, labels)
    known = dict(zip(names, costs, strict=True)) if costs is not None else {}
    prices = [known.get(name) for name in found.members]
    terms = []
    for name in found.members:
        correct, losses = _judged(table[names.index(name)], codes)
        terms.append(HeldOutMember(name, float(correct.mean()), float(losses.mean())))
    single, gain = found.best_single, found.accuracy_gain
    low, high = (f"{100 * bound:+.1f}" for bound in (gain.low, gain.high))
    note = (
        f"held_out: {100 * found.accuracy:.1f} % right by linear probes, {100 * gain.value:+.1f} points against "
        f"{single.name} alone ({100 * found.level:g} % interval {low} to {high}); the images that chose "
        "the members also judge them"
    )
    size = len(found.members)
    return Selection(
        method="held_out",
        size=size,
        search="greedy",
        members=found.members,
        value=-found.log_loss,
        cost=sum(price for price in prices if price is not None) if None not in prices else None,
        rank=1,
        evaluated=sum(len(names) - step for step in range(size)),
        exhaustive=False,
        best_value=-found.log_loss,
        gap=0.0,
        trace=found.trace,
        best_single=HeldOutSingle(single.name, single.accuracy, single.log_loss, gain, found.log_loss_gain),
        member_terms=tuple(terms),
        pair_terms=(),
        standardization={},
        terms_used=("log_loss",),
        left_out={},
        near_copies=(),
        notes=(note,),
        ranking=(),
    )


def _checked(names: Sequence[str], probabilities: Sequence[Array], labels: Array) -> tuple[Numbers, Numbers]:
    """(M, N, C) probabilities and (N,) columns of the true classes."""
    if not names or len(set(names)) != len(names) or len(names) != len(probabilities):
        raise InvalidEvidence("there must be at least one model, and one name for each, all different")
    checked = [
        to_numpy(check_probabilities(one, name=f"probabilities[{index}]")) for index, one in enumerate(probabilities)
    ]
    if len({one.shape for one in checked}) > 1:
        raise InvalidEvidence(
            f"the models must predict the same classes of the same images; shapes are {[one.shape for one in checked]}"
        )
    samples, columns = checked[0].shape
    codes, classes = check_labels(labels, length=samples)
    if all(isinstance(label, int) and 0 <= label < columns for label in classes):
        codes = np.asarray(classes)[codes]
    elif len(classes) != columns:
        raise InvalidEvidence(f"labels must be columns of the probabilities, 0 to {columns - 1}, or name each column")
    return np.stack(checked), codes


def _judged(probabilities: Numbers, codes: Numbers) -> tuple[Numbers, Numbers]:
    """(N,) whether the most probable class is the true one, and (N,) -ln of the probability of the true one."""
    true = probabilities[np.arange(len(codes)), codes]
    return probabilities.argmax(axis=1) == codes, -np.log(np.maximum(true, SMALLEST_PROBABILITY))


def _order(correct: Numbers, losses: Numbers, objective: str) -> tuple[float, float]:
    """Sorts the better first. Losses that differ by rounding are equal, so that the first name wins."""
    loss = round(float(losses.mean()), 12)
    return (-float(correct.mean()), loss) if objective == "accuracy" else (loss, -float(correct.mean()))


def _draws(samples: int, resamples: int, seed: int) -> Numbers:
    """(R, N) shares of each image in draws with replacement."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(samples, np.full(samples, 1 / samples), size=resamples) / samples


def _gain(differences: Numbers, draws: Numbers, level: float) -> Gain:
    low, high = np.quantile(draws @ differences, [(1 - level) / 2, (1 + level) / 2])
    return Gain(float(differences.mean()), float(low), float(high))
