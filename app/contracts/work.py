"""What a step tells its workflow to do next; the engine stores it between them."""

from app.contracts.base import Contract


class RankingWork(Contract):
    """What is left to do for a ranking.

    Attributes:
        extract: ids of models that lack evidence.
        score: ids of models that lack scores only.
        priority: of the ranking; the jobs of its models take turns with those of other rankings of its class.
        in_flight: how many models may be under way at once.
        trial: whether there is one.
    """

    extract: tuple[str, ...] = ()
    score: tuple[str, ...] = ()
    priority: int = 1
    in_flight: int = 1
    trial: bool = False


class FineTuningWork(Contract):
    """The numbers of the runs that are next in a fine-tuning; without any, all have ended."""

    runs: tuple[int, ...] = ()
    priority: int = 1


class FoldWork(Contract):
    """The next fold of a trial, and the models that are still in the race for it; without any, the trial is over."""

    fold: int = 0
    models: tuple[str, ...] = ()
    priority: int = 1
