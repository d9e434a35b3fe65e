"""What a child process is for, and which settings limit it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.contracts.progress import TellProgress
from app.settings import Settings

# Of what computes for minutes: an API on the same cores answers at once, and alone it is as fast as without.
YIELDING = 10

Command = Callable[[Mapping[str, Any], TellProgress], Any]
Commands = Mapping[str, Command]


@dataclass(frozen=True, slots=True)
class Role:
    """A kind of child process.

    Attributes:
        name: how messages call it.
        module: of its commands, imported by the child alone. It has a function ``commands(settings) -> Commands`` that
            prepares the process and gives its commands by name. A command takes a payload and a function that reports
            progress, and returns what JSON can say.
        time_setting: the field of `Settings` that limits the seconds of a command; the start of the process does not
            count. Beyond it the process is killed.
        processor_setting: the field that limits the processor's seconds of a command, which a busy machine does not
            stretch. Beyond it the kernel kills the process.
        memory_setting: the field that limits the memory that the process may take beyond what its libraries take, in
            megabytes; 0 is four fifths of the machine's. Beyond it an allocation fails. Linux only, and host memory
            only: what a GPU has is limited by itself.
        niceness: how much it lets other processes have the processor first, from 0 to 19.
        threads: that computing libraries may start; None: as many as `thread_count` says.
        remedy: what to do when the process was probably killed for its memory.
    """

    name: str
    module: str
    time_setting: str | None = None
    processor_setting: str | None = None
    memory_setting: str | None = None
    niceness: int = 0
    threads: int | None = None
    remedy: str = ""

    def time_limit(self, settings: Settings) -> float | None:
        """Seconds of one command."""
        return None if self.time_setting is None else float(getattr(settings, self.time_setting))


def variable(setting: str) -> str:
    """The environment variable of a field of `Settings`, as messages name it."""
    return f"FORERANK_{setting.upper()}"
