"""What is known of the candidates of an ensemble, which terms count, and how the terms are put on one scale."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from estimators.arrays.validation import Array, check_choice, check_number, to_numpy
from estimators.ensembles.osborn import mutual_information_share
from estimators.ensembles.result import NearCopies, Standardization
from estimators.ensembles.search import Averaged, Numbers, Objective, Pairwise, Problem
from estimators.score import CannotBeComputed, InvalidEvidence

METHODS = ("osborn", "ms_leep", "e_leep")
STANDARDIZATIONS = ("pool", "ensembles", "none")
COHESIONS = ("symmetric", "ordered", "directed")
MISSING = ("drop_term", "drop_models")
NEAR_COPIES = ("exclude", "allow")
TERMS = ("domain", "task", "cohesion")

# Two models whose predictions agree on this share of the images, or share this much information, are near copies.
NEAR = 0.98


@dataclass(frozen=True, slots=True)
class Pool:
    """What is known of M candidates on one target. None or NaN says that a model lacks a number.

    Attributes:
        names: M different names.
        domain_difference: (M,) W_D.
        task_difference: (M,) W_T.
        disagreement: (M, M) H(i | j); a model without a classifier has a row and a column of NaN.
        eep: M vectors (N,) of expected empirical predictions, for MS-LEEP and E-LEEP.
        costs: (M,) what a model costs an ensemble: parameters, latency, anything that adds up.
        agreement: (M, M) share of equal predictions, NaN where the label spaces differ; finds near copies.
        entropy: (M,) H(i), for the near copies among models whose label spaces differ.
    """

    names: Sequence[str]
    domain_difference: Sequence[float | None] | Array | None = None
    task_difference: Sequence[float | None] | Array | None = None
    disagreement: Array | None = None
    eep: Sequence[Array | None] | None = None
    costs: Sequence[float | None] | Array | None = None
    agreement: Array | None = None
    entropy: Sequence[float | None] | Array | None = None


def _column(values: Any, count: int, name: str) -> Numbers:
    if values is None:
        return np.full(count, np.nan)
    column = np.asarray([np.nan if value is None else float(value) for value in values])
    if column.shape != (count,) or np.isinf(column).any():
        raise InvalidEvidence(f"{name} must hold {count} finite numbers or None, one per candidate")
    return column


def _table(values: Any, count: int, name: str) -> Numbers:
    if values is None:
        return np.full((count, count), np.nan)
    table = np.asarray(to_numpy(values), dtype=np.float64)
    if table.shape != (count, count) or np.isinf(table).any():
        raise InvalidEvidence(f"{name} must be {count} x {count} finite numbers or NaN; got shape {table.shape}")
    return table


def _vectors(values: Any, count: int) -> Numbers:
    """(M, N) predictions, rows of NaN for the models that have none."""
    given = [None] * count if values is None else list(values)
    if len(given) != count:
        raise InvalidEvidence(f"eep must hold {count} vectors or None, one per candidate")
    known = {index: np.asarray(to_numpy(one), dtype=np.float64) for index, one in enumerate(given) if one is not None}
    if len({vector.shape for vector in known.values()}) > 1:
        raise InvalidEvidence("eep vectors must have one number for each of the same target images")
    table = np.full((count, next(iter(known.values())).size if known else 1), np.nan)
    for index, vector in known.items():
        if not (np.isfinite(vector).all() and (vector > 0).all()):
            raise InvalidEvidence(f"eep[{index}] must be positive numbers")
        table[index] = vector
    return table


def _without_pairs(table: Numbers) -> Numbers:
    """(M,) models without a single known pair; a NaN on the diagonal says so for one of two."""
    unknown = np.isnan(table)
    marked = np.diag(unknown)
    if marked.any() and not marked.all():
        return np.asarray(marked)
    return np.asarray((unknown | np.eye(len(table), dtype=bool)).all(axis=1) & (len(table) > 1))


class Candidates:
    """The candidates that take part, their terms raw and standardised, and the problem that a search is to solve."""

    def __init__(
        self,
        pool: Pool,
        size: int,
        method: str,
        weights: Mapping[str, float] | None,
        missing: str,
        budget: float | None,
        settings: Mapping[str, str],
    ) -> None:
        check_choice("method", method, METHODS)
        check_choice("missing", missing, MISSING)
        check_number("size", size, minimum=1, whole=True)
        count = len(pool.names)
        if count == 0 or len(set(pool.names)) != count:
            raise InvalidEvidence("the pool must have candidates, and their names must differ")
        self.size, self.method = size, method
        self.notes: list[str] = []
        self.left_out: dict[str, str] = {}
        self.domain = _column(pool.domain_difference, count, "domain_difference")
        self.task = _column(pool.task_difference, count, "task_difference")
        self.uncertain = _table(pool.disagreement, count, "disagreement")
        self.same = _table(pool.agreement, count, "agreement")
        self.entropy = _column(pool.entropy, count, "entropy")
        self.costs = _column(pool.costs, count, "costs")
        self.eep = _vectors(pool.eep, count)
        self.leep = np.log(self.eep).mean(axis=1)
        takes_part = np.ones(count, dtype=bool)
        if budget is not None:
            check_number("budget", budget, minimum=0.0)
            takes_part &= self._without(pool.names, np.isnan(self.costs), "its cost is not known")
        self.terms_used = self._terms(pool, takes_part, self._weights(method, weights), missing)
        kept = np.flatnonzero(takes_part)
        if size > kept.size:
            raise CannotBeComputed(
                f"an ensemble of {size} needs as many candidates; {kept.size} of {count} take part"
                + (f" ({'; '.join(f'{name}: {why}' for name, why in self.left_out.items())})" if self.left_out else "")
            )
        self.names = [pool.names[index] for index in kept.tolist()]
        self.domain, self.task, self.entropy, self.costs, self.leep = (
            column[kept] for column in (self.domain, self.task, self.entropy, self.costs, self.leep)
        )
        self.uncertain, self.same = self.uncertain[np.ix_(kept, kept)], self.same[np.ix_(kept, kept)]
        self.eep = self.eep[kept]
        self.standardization: dict[str, Standardization] = {}
        self.standardized: dict[str, Numbers] = {}
        self.pair_cohesion = _cohesion(self.uncertain, settings["cohesion"])
        objective = self._objective(self._weights(method, weights), settings["standardize"])
        self.near_copies = self._near_copies()
        clash = np.zeros((kept.size, kept.size), dtype=bool)
        if settings["near_copies"] == "exclude":
            for pair in self.near_copies:
                first, second = self.names.index(pair.first), self.names.index(pair.second)
                clash[first, second] = clash[second, first] = True
        if self.near_copies:
            named = "; ".join(f"{pair.first} and {pair.second}" for pair in self.near_copies[:5])
            rule = "no ensemble holds both" if settings["near_copies"] == "exclude" else "ensembles may hold both"
            self.notes.append(f"near_copies: predict (nearly) the same: {named}; {rule}")
        silent = [name for name, entropy in zip(self.names, self.entropy.tolist(), strict=True) if entropy <= 1e-9]
        if silent and "cohesion" in self.terms_used:
            self.notes.append(
                f"constant_predictions: {', '.join(silent)} predict one source class for every image; their low W_C is "
                "not agreement"
            )
        self.problem = Problem(objective, size, kept.size, clash, self.costs, budget)

    @staticmethod
    def _weights(method: str, weights: Mapping[str, float] | None) -> dict[str, float]:
        if method != "osborn":
            if weights:
                raise ValueError(f"weights are for osborn; {method} has no terms to weigh")
            return {}
        chosen = dict.fromkeys(TERMS, 1.0)
        for name, weight in (weights or {}).items():
            check_choice("weights", name, TERMS)
            check_number(f"weights[{name!r}]", weight, minimum=0.0)
            chosen[name] = float(weight)
        return {name: weight for name, weight in chosen.items() if weight > 0}

    def _without(self, names: Sequence[str], lacking: Numbers, reason: str) -> Numbers:
        for index in np.flatnonzero(lacking).tolist():
            self.left_out.setdefault(names[index], reason)
        return ~lacking

    def _terms(self, pool: Pool, takes_part: Numbers, weights: Mapping[str, float], missing: str) -> tuple[str, ...]:
        """Decide which terms count and who takes part (``takes_part`` is changed)."""
        if not takes_part.any():
            return ()
        if self.method != "osborn":
            takes_part &= self._without(pool.names, np.isnan(self.leep), "it has no source classifier")
            return (self.method,)
        lacking = {
            "domain": np.isnan(self.domain),
            "task": np.isnan(self.task),
            "cohesion": _without_pairs(self.uncertain),
        }
        used = []
        for term in weights:
            absent = lacking[term] & takes_part
            if absent[takes_part].all():
                self.notes.append(f"term_missing: no candidate has the {term} term")
            elif absent.any() and missing == "drop_term":
                who = [pool.names[index] for index in np.flatnonzero(absent).tolist()]
                self.notes.append(
                    f"term_dropped: the {term} term does not count because these lack it: {', '.join(who)}"
                )
            else:
                used.append(term)
        for term in used:
            takes_part &= self._without(pool.names, lacking[term], f"it has no {term} term")
        if not used:
            raise CannotBeComputed(
                "no term is known for every candidate; pass missing='drop_models' to leave out those that lack one"
            )
        kept = np.flatnonzero(takes_part)
        if "cohesion" in used and np.isnan(self.uncertain[np.ix_(kept, kept)][~np.eye(kept.size, dtype=bool)]).any():
            raise InvalidEvidence("disagreement must be known for every pair of the candidates that take part")
        return tuple(used)

    def _objective(self, weights: Mapping[str, float], standardize: str) -> Objective:
        count = len(self.names)
        if self.method == "ms_leep":
            return Pairwise(self.leep, np.zeros((count, count)))
        if self.method == "e_leep":
            return Averaged(self.eep)
        unit, pair = np.zeros(count), np.zeros((count, count))
        for name, column in (("domain", self.domain), ("task", self.task)):
            if name in self.terms_used:
                mean, scale = _unit_scale(column, self.size, standardize)
                self.standardized[name] = self._standardize(name, column, mean, scale)
                unit -= weights[name] * self.standardized[name]
        if "cohesion" in self.terms_used:
            mean, scale = _pair_scale(self.pair_cohesion, self.size, standardize)
            self.standardized["cohesion"] = self._standardize("cohesion", self.pair_cohesion, mean, scale)
            pair -= weights["cohesion"] * self.standardized["cohesion"]
            np.fill_diagonal(pair, 0.0)
        return Pairwise(unit, pair)

    def _standardize(self, name: str, values: Numbers, mean: float, scale: float) -> Numbers:
        self.standardization[name] = Standardization(mean, scale)
        if scale == 0.0:
            self.notes.append(f"constant: the {name} term is the same for all and decides nothing")
            return np.zeros_like(values)
        return (values - mean) / scale

    def _near_copies(self) -> tuple[NearCopies, ...]:
        share = mutual_information_share(disagreement=self.uncertain, entropy=self.entropy)
        # Without entropies only predictions that determine one another exactly can be told.
        exact = self.uncertain + self.uncertain.T <= 1e-9
        share = np.where(np.isnan(share), np.where(exact, 1.0, np.nan), share)
        # Two models that predict one class each determine one another without being alike.
        told = np.isnan(self.entropy) | (self.entropy > 1e-9)
        near = np.where(np.isnan(self.same), (share >= NEAR) & told[:, None] & told[None, :], self.same >= NEAR)
        if np.isnan(self.uncertain).all() and np.isnan(self.same).all() and self.method != "osborn":
            for first in range(len(self.names) - 1):
                near[first, first + 1 :] = np.abs(self.eep[first + 1 :] - self.eep[first]).max(axis=1) <= 1e-9
        return tuple(
            NearCopies(
                first=self.names[first],
                second=self.names[second],
                agreement=number_or_none(self.same[first, second]),
                mutual_information=number_or_none(share[first, second]),
            )
            for first, second in zip(*np.nonzero(np.triu(near, 1)), strict=True)
        )


def number_or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _cohesion(uncertain: Numbers, reading: str) -> Numbers:
    if reading == "symmetric":
        return (uncertain + uncertain.T) / 2
    if reading == "ordered":
        return uncertain + uncertain.T
    upper = np.triu(uncertain, 1)
    return upper + upper.T


def _unit_scale(column: Numbers, size: int, standardize: str) -> tuple[float, float]:
    if standardize == "none":
        return 0.0, 1.0
    mean, spread, count = float(column.mean()), _spread(column), column.size
    if standardize == "ensembles":
        # The sum of a sample drawn without replacement; with all candidates in it there is nothing to compare.
        spread *= math.sqrt(size * (count - size) / (count - 1)) if count > size else 0.0
    return mean, spread


def _pair_scale(table: Numbers, size: int, standardize: str) -> tuple[float, float]:
    if standardize == "none":
        return 0.0, 1.0
    count = table.shape[0]
    pairs = table[np.triu_indices(count, 1)]
    if pairs.size == 0:
        return 0.0, 0.0
    mean = float(pairs.mean())
    if standardize == "pool":
        return mean, _spread(pairs)
    if size < 2 or size == count or _spread(pairs) == 0.0:
        return mean, 0.0
    # Variance of the sum over the pairs of a random ensemble: two pairs are the same, share a member, or are apart.
    centred = table - mean
    np.fill_diagonal(centred, 0.0)
    same = float(np.sum(centred * centred)) / 2
    sharing = float(np.sum(centred.sum(axis=1) ** 2)) - 2 * same
    apart = -same - sharing
    chance = [1.0]
    for step in range(4):
        chance.append(chance[-1] * (size - step) / (count - step) if count > step else 0.0)
    variance = chance[2] * same + chance[3] * sharing + chance[4] * apart
    return mean, math.sqrt(max(variance, 0.0))


def _spread(values: Numbers) -> float:
    """Standard deviation (population), exactly 0 for values that differ by rounding alone."""
    deviation = float(values.std())
    return deviation if deviation > 1e-12 * float(np.abs(values).max()) else 0.0
