"""A worker that stops hands its work over, and one that was only paused finds that it may not write any more."""

import os
import signal
from collections.abc import Callable

import pytest

from tests.faults.conftest import PATIENCE_SECONDS, Drill, worker_process
from tests.service import PATIENCE, Service, descendants, is_running, running, wait_for


def terminate(service: Service) -> None:
    """What a service manager does."""
    service.process.send_signal(signal.SIGTERM)


def terminate_everyone(service: Service) -> None:
    """What systemd does by default."""
    for pid in service.processes():
        os.kill(pid, signal.SIGTERM)


def kill_the_server_alone(service: Service) -> None:
    """Its worker sees the end of the pipe and stops by itself."""
    service.process.kill()


pytestmark = pytest.mark.timeout(600 * PATIENCE)


# Each way to stop once, and each database; `soak` stops and kills at random on both.
@pytest.mark.parametrize(
    ("database_url", "stop"),
    [("sqlite", terminate), ("postgresql", terminate_everyone), ("postgresql", kill_the_server_alone)],
    indirect=["database_url"],
)
def test_a_stop_in_a_forward_pass_fails_nothing(drill: Drill, stop: Callable[[Service], None]) -> None:
    with running(drill.settings) as service:
        drill.register(service)
        ranking, _ = drill.submit_and_hold(service)
        everyone = service.processes()
        stop(service)
        wait_for(
            lambda: not any(is_running(pid) for pid in everyone),
            seconds=PATIENCE_SECONDS,
            what="the end of all processes",
        )
    with running(drill.settings, "--no-worker") as service:
        assert {row["state"] for row in service.rows(ranking).values()} <= {"queued", "extracting"}
    with running(drill.settings) as service:
        drill.ends_undisturbed(service, ranking)


def test_a_paused_worker_overwrites_nothing(drill: Drill) -> None:
    with running(drill.settings) as service:
        drill.register(service)
        ranking, extractor = drill.submit_and_hold(service)
        worker = descendants(service.process.pid)[0]
        os.kill(worker, signal.SIGSTOP)
        with worker_process(drill.settings):
            drill.ends_undisturbed(service, ranking)
            os.kill(extractor, signal.SIGCONT)
            os.kill(worker, signal.SIGCONT)
            wait_for(
                lambda: "another execution" in service.log.read_text(),
                seconds=PATIENCE_SECONDS,
                what="the woken worker to write what it was about",
            )
            drill.ends_undisturbed(service, ranking)
            assert is_running(worker)
