"""What retention removes: by which rule, how much of it, and what it spares because something needs it."""

from enum import StrEnum

from app.contracts.base import Contract


class Kind(StrEnum):
    """What is kept for a while."""

    RANKINGS = "rankings"
    FINETUNES = "finetunes"
    RUNS = "runs"
    DELIVERIES = "deliveries"
    JOBS = "jobs"
    EVIDENCE = "evidence"
    SCORES = "scores"


class Rule(Contract):
    """What of a kind is past its time: what is older than ``days``, and all but the ``newest``; None: no limit."""

    days: float | None = None
    newest: int | None = None

    @property
    def limits_anything(self) -> bool:
        """Whether anything can ever be past its time."""
        return self.days is not None or self.newest is not None


class Removal(Contract):
    """What happened to one kind, or would happen in a dry run.

    Attributes:
        removed: how many went.
        bytes: of their files, and of their rows' values written as text.
        kept: how many are past their time and stay, since something needs them.
        examples: ids of the first that went.
    """

    kind: Kind
    rule: Rule
    removed: int = 0
    bytes: int = 0
    kept: int = 0
    examples: tuple[str, ...] = ()
