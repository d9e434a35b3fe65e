"""What a ranking will cost, from what earlier rankings measured on this deployment."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from sqlalchemy.orm import Session

from app.contracts.caller import Caller
from app.contracts.question import RankingCreate
from app.contracts.states import ModelRunState
from app.db.repositories.measurements import Measurements
from app.db.repositories.rankings import UNFINISHED_RUNS, Rankings
from app.db.tables import Model, Ranking
from app.services import datasets
from app.services import zoos as zoo_rules
from app.submission import zoos
from app.submission.rankings import listed_models


@dataclass(frozen=True, slots=True)
class Estimate:
    """Attributes:
    images: of the target that each model sees; None before the target was inspected.
    models: in the pool.
    run_before: models that an earlier ranking ran on the same sample, whose evidence is likely stored.
    unmeasured: models that never ran here, so that their time is not known.
    seconds: forward passes of the rest, one after the other, at their last measured speeds; None if none was measured.
    """

    images: int | None
    models: int
    run_before: int
    unmeasured: int
    seconds: float | None


def of_ranking(session: Session, caller: Caller, body: RankingCreate) -> Estimate:
    """The cost of this question, should it be asked now.

    Raises:
        Invalid, NotFound: as its submission would.
    """
    target = datasets.get(session, caller, body.target)
    pool = _pool(session, caller, body)
    images = target.image_count
    if images is not None and body.sample.max_samples is not None:
        images = min(images, body.sample.max_samples)
    measurements = Measurements(session)
    measured = measurements.speeds([model.id for model in pool])
    before = measurements.ran_on([model.id for model in pool], target.id, body.sample.model_dump())
    rest = [model.id for model in pool if model.id not in before]
    known = [measured[identifier] for identifier in rest if identifier in measured]
    seconds = sum(images / speed for speed in known) if images is not None and (known or not rest) else None
    return Estimate(
        images=images,
        models=len(pool),
        run_before=len(before),
        unmeasured=len(rest) - len(known),
        seconds=seconds,
    )


def _pool(session: Session, caller: Caller, body: RankingCreate) -> Sequence[Model]:
    """The models that are registered already; what a query would register first is not counted."""
    if body.zoo is None:
        return listed_models(session, caller, body.models or [])
    zoo = zoo_rules.get(session, caller, body.zoo)
    if zoo.query is None:
        return zoos.members(session, caller, [zoo])[zoo.id]
    return zoos.find(session, caller, zoo.query)[0]


def seconds_left(session: Session, rankings: Sequence[Ranking]) -> dict[str, float]:
    """How long these rankings will take, by id: the mean time of a ranking's models that ended, for each that has not.

    A ranking is left out while none of its models has ended, and when it has. One query for all.
    """
    spent: dict[str, list[float]] = {}
    unfinished: Counter[str] = Counter()
    running = [ranking.id for ranking in rankings if not ranking.state.is_final]
    for ranking_id, state, seconds in Rankings(session).times(running):
        if state in UNFINISHED_RUNS:
            unfinished[ranking_id] += 1
        elif state is ModelRunState.SUCCEEDED and seconds:
            spent.setdefault(ranking_id, []).append(sum(seconds.values()))
    return {
        ranking_id: unfinished[ranking_id] * fmean(times)
        for ranking_id, times in spent.items()
        if unfinished[ranking_id]
    }
