"""A server that a command started for itself ends when the command is killed, which leaves nobody to stop it."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.app.processes.test_child_process import wait_until_gone

COMMAND = """
import subprocess, sys, time
from app.embedded import FORERANK
from app.processes import lifeline
import os
server = subprocess.Popen([*FORERANK, "serve", "--no-worker"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                          env=os.environ | {lifeline.VARIABLE: "1"})
print(server.pid, flush=True)
time.sleep(60)
"""


def test_a_server_ends_with_the_command_that_was_killed(tmp_path: Path) -> None:
    command = subprocess.Popen(
        [sys.executable, "-c", COMMAND],
        env={"PATH": "", "FORERANK_HOME": str(tmp_path), "FORERANK_PORT": "0"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert command.stdout is not None
    server = int(command.stdout.readline())
    command.send_signal(signal.SIGKILL)
    command.wait()
    assert wait_until_gone(server)
