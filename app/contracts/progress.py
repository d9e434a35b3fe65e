"""How far a piece of work is."""

from collections.abc import Callable

from app.contracts.base import Contract


class Progress(Contract):
    """Within one stage of the work.

    Attributes:
        done: of ``total``: images, steps, scores or files.
        batch_size: of a forward pass.
        seconds_left: of the work, once its speed is known.
    """

    stage: str
    done: int
    total: int
    batch_size: int | None = None
    seconds_left: float | None = None


TellProgress = Callable[[Progress], None]
