"""What each ensemble metric says of an ensemble of models, and the best ensemble of a given size."""

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from estimators.arrays.validation import Array, check_choice, check_number, check_probabilities, to_numpy
from estimators.ensembles.osborn import (
    PRESETS,
    disagreement,
    domain_difference,
    prediction_entropy,
    same_predictions,
    task_difference,
)
from estimators.ensembles.result import MemberTerms, PairTerms, Ranked, Selection, Single, Step
from estimators.ensembles.search import Numbers, exact, greedy, local
from estimators.ensembles.terms import COHESIONS, NEAR_COPIES, STANDARDIZATIONS, Candidates, Pool, number_or_none
from estimators.metrics.leep import expected_predictions
from estimators.score import CannotBeComputed, InvalidEvidence, Score

__all__ = [
    "PRESETS",
    "Pool",
    "Selection",
    "build_pool",
    "e_leep",
    "expected_empirical_prediction",
    "ms_leep",
    "score_ensemble",
    "select",
]

SEARCHES = ("auto", "greedy", "exact", "local")


def expected_empirical_prediction(*, source_probabilities: Array, labels: Array) -> Array:
    """EEP of each target image's own label under one model, (N,): what E-LEEP averages over models.

    Args:
        source_probabilities: (N, S) softmax output of the source classifier on the target images.
        labels: (N,) target labels.

    Raises:
        InvalidEvidence: wrong shapes, negative numbers, rows that do not sum to one.
    """
    return expected_predictions(check_probabilities(source_probabilities), labels)[0]


def _predictions(source_probabilities: Sequence[Array], labels: Array) -> list[Array]:
    if len(source_probabilities) == 0:
        raise InvalidEvidence("source_probabilities must hold the probabilities of at least one model")
    return [
        expected_predictions(check_probabilities(one, name=f"source_probabilities[{index}]"), labels)[0]
        for index, one in enumerate(source_probabilities)
    ]


def ms_leep(*, source_probabilities: Sequence[Array], labels: Array, reduction: str = "sum") -> Score:
    """Multi-source LEEP: ``Σ_m (1/N) Σ_i ln EEP_i^m``, as if the models' predictions were multiplied.

    Agostinelli et al., "Transferability Metrics for Selecting Source Model Ensembles", CVPR 2022, eq. 5.

    Args:
        source_probabilities: one (N, S_m) array per model; the label spaces may differ.
        labels: (N,) target labels.
        reduction: ``"sum"`` over the models or their ``"mean"``; ensembles of one size rank the same.

    Returns:
        Score in nats, at most 0. Details: leep (one number per model), models, samples.

    Raises:
        InvalidEvidence: no models, wrong shapes, rows that do not sum to one.
    """
    check_choice("reduction", reduction, ("sum", "mean"))
    parts = []
    for predictions in _predictions(source_probabilities, labels):
        xp = array_namespace(predictions)
        parts.append(float(xp.mean(xp.log(predictions))))
    total = math.fsum(parts)
    return Score(
        total if reduction == "sum" else total / len(parts),
        (),
        {"leep": parts, "models": len(parts), "samples": len(labels), "reduction": reduction},
    )


def e_leep(*, source_probabilities: Sequence[Array], labels: Array) -> Score:
    """Ensemble LEEP: ``(1/N) Σ_i ln( (1/|M|) Σ_m EEP_i^m )``, as if the models' predictions were averaged.

    Agostinelli et al., CVPR 2022, eq. 6.

    Args:
        source_probabilities: one (N, S_m) array per model; the label spaces may differ.
        labels: (N,) target labels.

    Returns:
        Score in nats, at most 0. Details: models, samples.

    Raises:
        InvalidEvidence: no models, wrong shapes, rows that do not sum to one.
    """
    predictions = _predictions(source_probabilities, labels)
    xp = array_namespace(predictions[0])
    mean = predictions[0]
    for other in predictions[1:]:
        mean = mean + other
    mean = mean / len(predictions)
    return Score(float(xp.mean(xp.log(mean))), (), {"models": len(predictions), "samples": len(labels)})


def build_pool(
    *,
    names: Sequence[str],
    labels: Array,
    source_probabilities: Sequence[Array | None],
    features: Sequence[Array] | None = None,
    source_features: Sequence[Array | None] | None = None,
    source_labels: Array | None = None,
    label_spaces: Sequence[Hashable] | None = None,
    costs: Sequence[float | None] | None = None,
    preset: str = "default",
) -> Pool:
    """All terms of a pool from the models' evidence on one target.

    Args:
        names: M different names.
        labels: (N,) target labels.
        source_probabilities: (N, S_m) per model, None for a model without a classifier. A one-logit head is [1 - s, s].
        features: (N, D_m) per model, and
        source_features: (K, D_m) per model from a sample of what it was trained on, None where there is no sample; both
            are needed for W_D.
        source_labels: (K,) labels of that sample when it is the same for all models, for class-balanced samples.
        label_spaces: for each model what its outputs mean, such as ``"imagenet-1k"``; equal values say that equal
            predictions are the same class.
        costs: (M,) parameters, latency or the like.
        preset: ``"default"``, ``"scale_free"`` or ``"paper"``, see ``PRESETS``.
    """
    check_choice("preset", preset, tuple(PRESETS))
    settings = PRESETS[preset]
    count = len(names)
    known = [index for index, one in enumerate(source_probabilities) if one is not None]
    predicted = {}
    for index in known:
        probabilities = check_probabilities(source_probabilities[index], name=f"source_probabilities[{index}]")
        predicted[index] = array_namespace(probabilities).argmax(probabilities, axis=1)
    task: list[float | None] = [None] * count
    eep: list[Numbers | None] = [None] * count
    uncertain, same, entropy = (np.full(shape, np.nan) for shape in ((count, count), (count, count), (count,)))
    for index in known:
        task[index] = float(
            task_difference(source_labels=predicted[index], labels=labels, **settings["task_difference"])
        )
        eep[index] = to_numpy(
            expected_empirical_prediction(source_probabilities=source_probabilities[index], labels=labels)
        )
    if known:
        rows = [predicted[index] for index in known]
        block = np.ix_(known, known)
        uncertain[block] = disagreement(source_labels=rows)
        entropy[known] = prediction_entropy(source_labels=rows)
        if label_spaces is not None:
            equal = np.asarray([[one == other for other in label_spaces] for one in label_spaces])
            same[block] = same_predictions(source_labels=rows)
            same[~equal] = np.nan
    domain: list[float | None] = [None] * count
    if features is not None and source_features is not None:
        for index in range(count):
            if source_features[index] is not None:
                domain[index] = float(
                    domain_difference(
                        source_features=source_features[index],
                        features=features[index],
                        source_labels=source_labels,
                        labels=labels,
                        **settings["domain_difference"],
                    )
                )
    return Pool(
        names=tuple(names),
        domain_difference=domain,
        task_difference=task,
        disagreement=uncertain,
        eep=eep,
        costs=costs,
        agreement=same,
        entropy=entropy,
    )


def select(
    pool: Pool,
    *,
    size: int,
    method: str = "osborn",
    search: str | None = None,
    weights: Mapping[str, float] | None = None,
    standardize: str | None = None,
    cohesion: str | None = None,
    missing: str = "drop_term",
    near_copies: str | None = None,
    budget: float | None = None,
    top: int = 10,
    preset: str = "default",
) -> Selection:
    """Choose the best ensemble of ``size`` candidates.

        osborn    - ( w_d Σ_m W_D(m) + w_t Σ_m W_T(m) + w_c Σ_{pairs} W_C(m, m') )    of standardised terms
        ms_leep   Σ_m LEEP(m)
        e_leep    (1/N) Σ_i ln( (1/k) Σ_m EEP_i^m )

    The size is forced: raw gains are never positive, so a rule that may stop early returns no ensemble at all. Greedy
    adds the model with the largest gain at each step. Its (1 - 1/e) bound is for monotone submodular functions, and
    this one is not monotone; once standardised, W_C may be negative and it is not submodular either. So ensembles are
    enumerated while there are few, and otherwise searched by swaps from many starts; ``gap`` says how far the result
    is from the best ensemble known.

    Args:
        pool: the candidates.
        size: members of an ensemble.
        method: ``"osborn"``, ``"ms_leep"`` or ``"e_leep"``.
        search: ``"exact"`` enumerates, ``"greedy"``, ``"local"`` swaps one member at a time, ``"auto"`` is exact while
            there are at most ``EXACT_ENSEMBLES`` ensembles and local beyond.
        weights: of ``domain``, ``task`` and ``cohesion`` (osborn only), at least 0; 1 each where not given. A term of
            weight 0 is left out.
        standardize: ``"pool"`` gives W_D and W_T mean 0 and standard deviation 1 over the candidates and W_C over their
            pairs, the same numbers for every size; ``"ensembles"`` gives each term's sum a standard deviation of 1 over
            all ensembles of this size, so that W_C does not grow in weight with the number of pairs; ``"none"`` adds
            raw terms of different units.
        cohesion: W_C of a pair: ``"symmetric"`` ½(H(i|j) + H(j|i)), ``"ordered"`` their sum, ``"directed"`` H(i|j) with
            i before j in the pool (then the order of the candidates matters).
        missing: ``"drop_term"`` leaves out a term that some candidate lacks; ``"drop_models"`` leaves out the
            candidates that lack a term which others have. A pool is never compared on different terms.
        near_copies: ``"exclude"`` builds no ensemble with two near copies, ``"allow"`` only names them. W_C rewards
            agreement, so that two copies of one model are its best pair.
        budget: the most that the members may cost together (``pool.costs``).
        top: length of ``ranking``.
        preset: ``"default"``, ``"scale_free"``, or ``"paper"`` for the published protocol (greedy, copies allowed).
            Arguments that are given override it.

    Raises:
        InvalidEvidence: the pool's arrays do not fit together.
        CannotBeComputed: no term is left, too few candidates are, no ensemble keeps the budget, or there are too many
            ensembles for ``search="exact"``.
    """
    settings = _settings(preset, search, standardize, cohesion, near_copies)
    candidates = Candidates(pool, size, method, weights, missing, budget, settings)
    return _report(candidates, None, settings["search"], top)


def score_ensemble(
    pool: Pool,
    members: Sequence[str],
    *,
    method: str = "osborn",
    weights: Mapping[str, float] | None = None,
    standardize: str | None = None,
    cohesion: str | None = None,
    missing: str = "drop_term",
    near_copies: str | None = None,
    budget: float | None = None,
    top: int = 10,
    preset: str = "default",
) -> Selection:
    """The value of a given ensemble in the pool, on the terms and among the ensembles that ``select`` would use.

    An ensemble that breaks the budget or holds near copies is scored all the same, and a note says so.

    Args:
        members: different names from the pool. The other arguments and the errors are those of ``select``.
    """
    settings = _settings(preset, "auto", standardize, cohesion, near_copies)
    unknown = [name for name in members if name not in pool.names]
    if unknown or len(set(members)) != len(members):
        raise InvalidEvidence(f"members must be different names from the pool; got {list(members)}")
    candidates = Candidates(pool, len(members), method, weights, missing, budget, settings)
    for name in members:
        if name in candidates.left_out:
            raise CannotBeComputed(
                f"{name} takes no part: {candidates.left_out[name]}; choose other members or missing"
            )
    ensemble = np.sort(np.asarray([candidates.names.index(name) for name in members]))
    return _report(candidates, ensemble, "auto", top)


def _settings(
    preset: str, search: str | None, standardize: str | None, cohesion: str | None, copies: str | None
) -> Any:
    check_choice("preset", preset, tuple(PRESETS))
    given = {"search": search, "standardize": standardize, "cohesion": cohesion, "near_copies": copies}
    settings = dict(PRESETS[preset]["select"]) | {name: value for name, value in given.items() if value is not None}
    for name, choices in (
        ("search", SEARCHES),
        ("standardize", STANDARDIZATIONS),
        ("cohesion", COHESIONS),
        ("near_copies", NEAR_COPIES),
    ):
        check_choice(name, settings[name], choices)
    return settings


def _report(candidates: Candidates, given: Numbers | None, search: str, top: int) -> Selection:
    check_number("top", top, minimum=0, whole=True)
    problem = candidates.problem
    enumerable = problem.enumerable()
    if search == "exact" and not enumerable:
        raise CannotBeComputed(
            f"{math.comb(len(candidates.names), candidates.size)} ensembles are too many to enumerate; "
            "use search='local'"
        )
    evaluated = exact(problem) if enumerable else local(problem)
    grown = greedy(problem)
    notes = list(candidates.notes)
    ensemble, how = evaluated.ensembles[0], "exact" if enumerable else "local"
    if given is not None:
        ensemble, how = given, "given"
        if not problem.feasible(given[None, :])[0]:
            notes.append("not_allowed: the ensemble breaks the budget or holds near copies; select would not choose it")
    elif search == "greedy":
        if grown is None:
            raise CannotBeComputed("greedy ran into the budget or near copies; use search='local' or 'exact'")
        ensemble, how = np.sort(np.asarray(grown[0])), "greedy"
    elif search == "local" and enumerable:
        ensemble, how = local(problem).ensembles[0], "local"
    value = float(candidates.problem.objective.values(ensemble[None, :])[0])
    tolerance = 1e-12 * max(1.0, abs(value))
    best = max(float(evaluated.values[0]), value)
    if how in ("greedy", "local") and candidates.method == "osborn":
        known = "of all ensembles" if evaluated.exhaustive else "found, which need not be the best there is"
        notes.append(
            f"no_guarantee: the value is not monotone, so {how} search has no bound; gap is to the best {known}"
        )
    return Selection(
        method=candidates.method,
        size=candidates.size,
        search=how,
        members=tuple(candidates.names[index] for index in ensemble),
        value=value,
        cost=number_or_none(candidates.costs[ensemble].sum()),
        rank=int(np.sum(evaluated.values > value + tolerance)) + 1,
        evaluated=int(evaluated.values.size),
        exhaustive=evaluated.exhaustive,
        best_value=best,
        gap=best - value if best - value > tolerance else 0.0,
        trace=_trace(candidates, grown[0], grown[1]) if grown else (),
        best_single=_best_single(candidates),
        member_terms=_member_terms(candidates, ensemble, value),
        pair_terms=_pair_terms(candidates, ensemble),
        standardization=candidates.standardization,
        terms_used=candidates.terms_used,
        left_out=candidates.left_out,
        near_copies=candidates.near_copies,
        notes=tuple(notes),
        ranking=tuple(
            Ranked(
                rank=int(np.sum(evaluated.values > listed + tolerance)) + 1,
                members=tuple(candidates.names[index] for index in row),
                value=float(listed),
                cost=number_or_none(candidates.costs[row].sum()),
            )
            for row, listed in zip(evaluated.ensembles[:top], evaluated.values[:top], strict=True)
        ),
    )


def _trace(candidates: Candidates, members: Sequence[int], values: Sequence[float]) -> tuple[Step, ...]:
    gains = np.diff(values, prepend=0.0)
    return tuple(
        Step(step, candidates.names[added], float(gain), value)
        for step, (added, gain, value) in enumerate(zip(members, gains, values, strict=True), start=1)
    )


def _best_single(candidates: Candidates) -> Single | None:
    if candidates.terms_used == ("cohesion",):
        return None
    values = candidates.problem.objective.additions([])
    best = int(np.argmax(values))
    return Single(candidates.names[best], float(values[best]))


def _member_terms(candidates: Candidates, ensemble: Numbers, value: float) -> tuple[MemberTerms, ...]:
    def standardized(name: str, index: int) -> float | None:
        values = candidates.standardized.get(name)
        return None if values is None else float(values[index])

    rows = []
    for index in ensemble.tolist():
        rest = [other for other in ensemble.tolist() if other != index]
        without = float(candidates.problem.objective.values(np.asarray([rest]))[0]) if rest else 0.0
        rows.append(
            MemberTerms(
                name=candidates.names[index],
                domain_difference=number_or_none(candidates.domain[index]),
                task_difference=number_or_none(candidates.task[index]),
                leep=number_or_none(candidates.leep[index]),
                cost=number_or_none(candidates.costs[index]),
                contribution=value - without,
                domain_difference_standardized=standardized("domain", index),
                task_difference_standardized=standardized("task", index),
            )
        )
    return tuple(rows)


def _pair_terms(candidates: Candidates, ensemble: Numbers) -> tuple[PairTerms, ...]:
    standardized = candidates.standardized.get("cohesion")
    return tuple(
        PairTerms(
            first=candidates.names[first],
            second=candidates.names[second],
            first_given_second=number_or_none(candidates.uncertain[first, second]),
            second_given_first=number_or_none(candidates.uncertain[second, first]),
            cohesion=number_or_none(candidates.pair_cohesion[first, second]),
            agreement=number_or_none(candidates.same[first, second]),
            cohesion_standardized=None if standardized is None else float(standardized[first, second]),
        )
        for first, second in itertools.combinations(ensemble.tolist(), 2)
    )
