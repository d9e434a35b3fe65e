"""A command that another one started ends with it: standard input is a pipe, which breaks however the other is gone."""

import os
import sys
import threading
from collections.abc import Callable

VARIABLE = "FORERANK_STOP_WITH_PARENT"


def when_parent_ends(act: Callable[[], None]) -> None:
    """Call ``act`` in a thread once the pipe breaks, if whoever started this process set ``VARIABLE`` to 1."""
    # Taken out, so that what this process starts does not take its own input for such a pipe.
    if os.environ.pop(VARIABLE, None) != "1":
        return

    def wait() -> None:
        while sys.stdin.buffer.read(1024):
            pass
        act()

    threading.Thread(target=wait, name="parent", daemon=True).start()
