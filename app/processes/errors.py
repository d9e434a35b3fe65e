"""How a command of a child process can fail."""

from typing import Any


class Problem(Exception):
    """An expected failure. ``code`` is stable, ``detail`` is for a person; both go into the row of the failed item."""

    code = "problem"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def as_dict(self) -> dict[str, str]:
        """``{"code": ..., "detail": ...}``, the form in which a problem crosses processes."""
        return {"code": self.code, "detail": self.detail}

    @staticmethod
    def of(document: dict[str, Any]) -> "Problem":
        """The problem that `as_dict` wrote."""
        problem = Problem(document["detail"])
        problem.code = document["code"]
        return problem


class Stopped(Problem):
    """The caller asked to stop."""

    code = "stopped"


class TimeLimitExceeded(Problem):
    """The command took too long; its process was killed."""

    code = "time-limit-exceeded"


class ProcessDied(Problem):
    """The process ended by itself, or something outside ended it."""

    code = "extractor-died"


class Stopping(Exception):
    """`ChildProcess.close` was called: the parent ends, and nothing is known of the command.

    Not a `Problem`, since it says nothing about a model or a data set and must not be stored as if it did.
    """
