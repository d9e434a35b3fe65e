"""Finds the best ensemble: by enumeration, greedily, or by swaps. An ensemble is a row of sorted candidate indices."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from estimators.score import CannotBeComputed

Numbers = np.ndarray[Any, Any]

# The most ensembles to enumerate; for E-LEEP, whose value needs every image, also the most logarithms to take.
EXACT_ENSEMBLES, EXACT_LOGARITHMS = 500_000, 200_000_000

NO_ENSEMBLE = "no ensemble of {size} keeps the budget without near copies; raise budget or pass near_copies='allow'"


class Objective(Protocol):
    """Values of ensembles of candidate indices. A search needs no more than this."""

    def values(self, ensembles: Numbers) -> Numbers:
        """(T,) values of (T, k) ensembles."""

    def additions(self, members: Sequence[int]) -> Numbers:
        """(M,) values of the ensemble with each candidate added."""


class Pairwise:
    """Σ of one number per member and one per pair: OSBORN, and MS-LEEP with no pairs."""

    def __init__(self, unit: Numbers, pair: Numbers) -> None:
        self.unit, self.pair = unit, pair

    def values(self, ensembles: Numbers) -> Numbers:
        total: Numbers = self.unit[ensembles].sum(axis=1)
        for first, second in itertools.combinations(range(ensembles.shape[1]), 2):
            total = total + self.pair[ensembles[:, first], ensembles[:, second]]
        return total

    def additions(self, members: Sequence[int]) -> Numbers:
        chosen = list(members)
        base = self.values(np.asarray([chosen]))[0] if chosen else 0.0
        return np.asarray(base + self.unit + self.pair[chosen].sum(axis=0))


class Averaged:
    """Mean logarithm of averaged predictions: E-LEEP."""

    def __init__(self, eep: Numbers) -> None:
        self.eep = eep

    def values(self, ensembles: Numbers) -> Numbers:
        rows = max(1, 20_000_000 // (ensembles.shape[1] * self.eep.shape[1]))
        blocks = [ensembles[start : start + rows] for start in range(0, ensembles.shape[0], rows)]
        return np.concatenate([np.log(self.eep[block].mean(axis=1)).mean(axis=1) for block in blocks])

    def additions(self, members: Sequence[int]) -> Numbers:
        total = self.eep[list(members)].sum(axis=0)
        return np.asarray(np.log((total + self.eep) / (len(members) + 1)).mean(axis=1))


@dataclass
class Problem:
    """What a search needs to know.

    Attributes:
        objective: the value of an ensemble, higher is better.
        size: members of an ensemble, at most ``count``.
        count: number of candidates M.
        clash: (M, M) pairs that may not be in one ensemble.
        costs: (M,) what each member costs; used with ``budget`` only.
        budget: the most that an ensemble may cost.
    """

    objective: Objective
    size: int
    count: int
    clash: Numbers
    costs: Numbers
    budget: float | None = None

    def feasible(self, ensembles: Numbers) -> Numbers:
        """(T,) whether (T, k) ensembles keep the budget and hold no clash."""
        allowed = np.ones(ensembles.shape[0], dtype=bool)
        if self.budget is not None:
            allowed &= self.costs[ensembles].sum(axis=1) <= self.budget * (1 + 1e-12)
        if self.clash.any():
            for first, second in itertools.combinations(range(ensembles.shape[1]), 2):
                allowed &= ~self.clash[ensembles[:, first], ensembles[:, second]]
        return allowed

    def can_join(self, members: Sequence[int]) -> Numbers:
        """(M,) which candidates can be added so that the budget still allows an ensemble of full size."""
        chosen = list(members)
        allowed = np.ones(self.count, dtype=bool)
        allowed[chosen] = False
        if self.budget is not None:
            later = self.size - len(chosen) - 1
            costs = np.where(allowed, self.costs, np.inf)
            place = np.argsort(np.argsort(costs, kind="stable"), kind="stable")
            cheapest = np.concatenate([[0.0], np.cumsum(np.sort(costs)[: later + 1])])
            # A candidate among the cheapest is not its own companion.
            total = np.where(place <= later, cheapest[later + 1], costs + cheapest[later])
            allowed &= self.costs[chosen].sum() + total <= self.budget * (1 + 1e-12)
        return np.asarray(allowed & ~self.clash[chosen].any(axis=0))

    def enumerable(self) -> bool:
        ensembles = math.comb(self.count, self.size)
        if isinstance(self.objective, Averaged):
            return ensembles * self.objective.eep.shape[1] <= EXACT_LOGARITHMS and ensembles <= EXACT_ENSEMBLES
        return ensembles <= EXACT_ENSEMBLES


@dataclass
class Evaluated:
    """Ensembles and their values, best first, each ensemble once."""

    ensembles: Numbers
    values: Numbers
    exhaustive: bool


def greedy(problem: Problem, first: int | None = None) -> tuple[list[int], list[float], Evaluated] | None:
    """The members in the order in which they were added, the value after each, and the ensembles of the last step."""
    members: list[int] = []
    reached: list[float] = []
    for step in range(problem.size):
        values, allowed = problem.objective.additions(members), problem.can_join(members)
        if step == 0 and first is not None:
            allowed &= np.arange(allowed.size) == first
        if not allowed.any():
            return None
        if step == problem.size - 1:
            seen = _with(members, np.flatnonzero(allowed)), values[allowed]
        best = int(np.argmax(np.where(allowed, values, -np.inf)))
        reached.append(float(values[best]))
        members.append(best)
    return members, reached, Evaluated(*seen, exhaustive=False)


def _with(members: Sequence[int], candidates: Numbers) -> Numbers:
    """(T, k) sorted ensembles: the members and each of the candidates."""
    fixed = np.broadcast_to(np.asarray(members, dtype=np.int64), (candidates.size, len(members)))
    return np.sort(np.column_stack([fixed, candidates]), axis=1)


def local(problem: Problem) -> Evaluated:
    """Greedy from several first members, then the best single swap until none helps; all ensembles seen on the way."""
    starts: list[int | None] = [None]
    order = np.argsort(-problem.objective.additions([]), kind="stable")
    # E-LEEP looks at every image for every swap, so it gets fewer starts.
    starts += order[: 2 if isinstance(problem.objective, Averaged) else 16].tolist()
    ensembles, values = [], []
    for start in starts:
        grown = greedy(problem, start)
        if grown is None:
            continue
        members, steps, seen = grown
        value = steps[-1]
        ensembles.append(seen.ensembles)
        values.append(seen.values)
        while True:
            best_value, best_ensemble = value, None
            for position in range(problem.size):
                rest = members[:position] + members[position + 1 :]
                reached, allowed = problem.objective.additions(rest), problem.can_join(rest)
                candidates = np.flatnonzero(allowed)
                ensembles.append(_with(rest, candidates))
                values.append(reached[candidates])
                if candidates.size:
                    candidate = int(candidates[np.argmax(reached[candidates])])
                    if reached[candidate] > best_value + 1e-12 * max(1.0, abs(best_value)):
                        best_value, best_ensemble = float(reached[candidate]), [*rest, candidate]
            if best_ensemble is None:
                break
            members, value = best_ensemble, best_value
    if not ensembles:
        raise CannotBeComputed(NO_ENSEMBLE.format(size=problem.size))
    unique, index = np.unique(np.concatenate(ensembles), axis=0, return_index=True)
    return _sorted(unique, np.concatenate(values)[index], exhaustive=False)


def exact(problem: Problem) -> Evaluated:
    count, size = problem.count, problem.size
    flat = itertools.chain.from_iterable(itertools.combinations(range(count), size))
    ensembles = np.fromiter(flat, dtype=np.int64, count=math.comb(count, size) * size).reshape(-1, size)
    ensembles = ensembles[problem.feasible(ensembles)]
    if ensembles.shape[0] == 0:
        raise CannotBeComputed(NO_ENSEMBLE.format(size=size))
    return _sorted(ensembles, problem.objective.values(ensembles), exhaustive=True)


def _sorted(ensembles: Numbers, values: Numbers, *, exhaustive: bool) -> Evaluated:
    # Stable: equal values keep the order of the pool.
    order = np.argsort(-values, kind="stable")
    return Evaluated(ensembles[order], values[order], exhaustive)
