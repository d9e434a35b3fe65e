"""A child process answers, survives bad commands, is limited, is replaced when it dies, and dies with its parent."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.contracts.progress import Progress
from app.processes.errors import Problem, ProcessDied, Stopped, Stopping, TimeLimitExceeded
from app.processes.limits import machine_memory, memory_limit_megabytes
from app.processes.parent import ChildProcess
from app.processes.pool import ProcessPool
from app.processes.role import Role
from app.settings import Settings
from tests.service import is_running

GONE_SECONDS = 10
PLAIN = Role("helper", "tests.app.processes.commands")
LIMITED = Role(
    "helper",
    "tests.app.processes.commands",
    time_setting="scores_limit_seconds",
    memory_setting="scores_memory_megabytes",
    remedy="send less",
)


def wait_until_gone(process_id: int) -> bool:
    deadline = time.monotonic() + GONE_SECONDS
    while time.monotonic() < deadline:
        if not is_running(process_id):
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def process(tmp_path: Path) -> Iterator[ChildProcess]:
    with ChildProcess(Settings(home=tmp_path), PLAIN) as process:
        yield process


def limited(tmp_path: Path, **settings: Any) -> ChildProcess:
    return ChildProcess(Settings(home=tmp_path, **settings), LIMITED)


def test_a_process_of_a_role_that_yields_lets_others_have_the_processor_first(tmp_path: Path) -> None:
    with ChildProcess(Settings(home=tmp_path), replace(PLAIN, niceness=3)) as process:
        process.call("echo", {})
        assert process.process_id is not None
        assert psutil.Process(process.process_id).nice() == psutil.Process().nice() + 3


class TestCommands:
    def test_answers_come_back_and_the_process_stays_warm(self, process: ChildProcess) -> None:
        assert process.call("echo", {"a": [1, None, "é"]}) == {"a": [1, None, "é"]}
        warm = process.process_id
        assert process.call("echo", {}) == {}
        assert process.process_id == warm

    def test_progress_reaches_the_caller(self, process: ChildProcess) -> None:
        events: list[Progress] = []
        process.call("sleep", {"seconds": 0}, progress=events.append)
        assert events == [Progress(stage="sleep", done=0, total=1)]

    def test_problem_of_a_command_is_raised_with_its_code(self, process: ChildProcess) -> None:
        with pytest.raises(Problem, match="the reason") as caught:
            process.call("refuse", {"detail": "the reason"})
        assert caught.value.code == "problem"

    def test_unexpected_exception_does_not_end_the_process(self, process: ChildProcess) -> None:
        process.call("echo", {})
        warm = process.process_id
        with pytest.raises(Problem, match="KeyError") as caught:
            process.call("break", {})
        assert caught.value.code == "internal-error"
        assert process.process_id == warm

    def test_callers_take_turns(self, process: ChildProcess) -> None:
        answers: list[Any] = []
        threads = [
            threading.Thread(target=lambda n=n: answers.append(process.call("echo", {"n": n})["n"])) for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == [0, 1, 2, 3]

    def test_the_password_of_the_database_stays_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FORERANK_DATABASE_URL", "postgresql://user:password@host/base")
        with ChildProcess(Settings(home=tmp_path), PLAIN) as process:
            assert process.call("environment", {"name": "FORERANK_DATABASE_URL"}) is None
            assert "password" not in str(process.call("database", {}))

    @pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "FSSPEC_S3_SECRET"])
    def test_credentials_of_buckets_stay_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.setenv(name, "secret")
        with ChildProcess(Settings(home=tmp_path), PLAIN) as process:
            assert process.call("environment", {"name": name}) is None


class TestLimits:
    def test_time_limit_names_the_setting_of_the_role(self, tmp_path: Path) -> None:
        with limited(tmp_path, scores_limit_seconds=1) as process:
            with pytest.raises(TimeLimitExceeded, match=r"not done after 1 s \(FORERANK_SCORES_LIMIT_SECONDS\)"):
                process.call("sleep", {"seconds": 60})
            assert process.process_id is None

    def test_processor_limit_counts_each_command_anew(self, tmp_path: Path) -> None:
        role = Role("helper", "tests.app.processes.commands", processor_setting="scores_limit_seconds")
        with ChildProcess(Settings(home=tmp_path, scores_limit_seconds=1), role) as process:
            process.call("spin", {"seconds": 0.8})
            warm = process.process_id
            assert process.call("spin", {"seconds": 0.8}) == "spun"
            assert process.process_id == warm
            with pytest.raises(TimeLimitExceeded, match=r"1 s of the processor \(FORERANK_SCORES_LIMIT_SECONDS\)"):
                process.call("spin", {"seconds": 60})

    def test_memory_is_limited_beyond_what_the_process_has(self, tmp_path: Path) -> None:
        with limited(tmp_path, scores_memory_megabytes=50) as process:
            assert process.call("allocate", {"megabytes": 40}) == "allocated"
            assert process.call("allocate", {"megabytes": 60}) == "no memory"
            assert process.call("allocate", {"megabytes": 40}) == "allocated"

    def test_a_limit_of_zero_is_a_share_of_the_machine(self) -> None:
        role = Role("helper", "", memory_setting="extractor_memory_megabytes")
        assert memory_limit_megabytes(role, Settings()) == pytest.approx(0.8 * machine_memory() / 1e6)


class TestEnds:
    def test_a_killed_process_is_replaced_and_the_reason_names_what_helps(self, tmp_path: Path) -> None:
        with limited(tmp_path, scores_memory_megabytes=50) as process:
            with pytest.raises(
                ProcessDied,
                match=r"the helper was ended by signal SIGKILL: probably out of memory "
                r"\(send less; its limit is 50 MB, FORERANK_SCORES_MEMORY_MEGABYTES\)",
            ):
                process.call("die", {"signal": signal.SIGKILL})
            assert process.call("echo", {}) == {}

    def test_another_signal_is_named(self, process: ChildProcess) -> None:
        with pytest.raises(ProcessDied, match=r"the helper was ended by signal SIGSEGV$"):
            process.call("die", {"signal": signal.SIGSEGV})

    def test_an_exit_is_named(self, process: ChildProcess) -> None:
        with pytest.raises(ProcessDied, match="the helper ended with exit code 3"):
            process.call("exit", {"code": 3})

    def test_a_stopped_command_ends_at_once(self, process: ChildProcess) -> None:
        process.call("echo", {})
        began = time.monotonic()
        started: list[dict[str, Any]] = []
        with pytest.raises(Stopped):
            process.call("sleep", {"seconds": 60}, progress=started.append, should_stop=lambda: bool(started))
        assert time.monotonic() - began < 5
        assert process.process_id is None

    def test_close_says_that_the_parent_stops_and_not_that_the_process_died(self, tmp_path: Path) -> None:
        process = ChildProcess(Settings(home=tmp_path), PLAIN)
        started = threading.Event()
        threading.Thread(target=lambda: (started.wait(), process.close())).start()
        with pytest.raises(Stopping):
            process.call("sleep", {"seconds": 60}, progress=lambda event: started.set())
        assert process.process_id is None

    def test_nothing_runs_after_close(self, tmp_path: Path) -> None:
        process = ChildProcess(Settings(home=tmp_path), PLAIN)
        process.close()
        with pytest.raises(Stopping):
            process.call("echo", {})

    def test_stopping_is_no_problem_of_an_item(self) -> None:
        assert not issubclass(Stopping, Problem)

    def test_a_child_started_from_a_thread_that_ended_lives_on(self, process: ChildProcess) -> None:
        thread = threading.Thread(target=lambda: process.call("echo", {}))
        thread.start()
        thread.join()
        first = process.process_id
        time.sleep(0.3)
        assert first is not None
        assert is_running(first)
        assert process.call("echo", {}) == {}
        assert process.process_id == first


class TestPool:
    def test_commands_run_beside_one_another(self, tmp_path: Path) -> None:
        pool = ProcessPool(Settings(home=tmp_path), PLAIN, 2)
        try:
            inside = threading.Barrier(2, timeout=30)
            threads = [
                threading.Thread(
                    target=lambda: pool.call("sleep", {"seconds": 0}, progress=lambda event: bool(inside.wait()))
                )
                for _ in range(2)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not inside.broken
        finally:
            pool.close()

    def test_who_waits_for_a_process_can_be_stopped(self, tmp_path: Path) -> None:
        pool = ProcessPool(Settings(home=tmp_path), PLAIN, 1)
        busy = threading.Event()

        def occupy() -> None:
            with pytest.raises(Stopping):
                pool.call("sleep", {"seconds": 60}, progress=lambda event: busy.set())

        thread = threading.Thread(target=occupy)
        thread.start()
        assert busy.wait(30)
        with pytest.raises(Stopped):
            pool.call("echo", {}, should_stop=lambda: True)
        pool.close()
        thread.join()


PARENT = """
import sys, threading, time
from app.processes.parent import ChildProcess
from app.processes.role import Role
from app.settings import Settings

process = ChildProcess(Settings(home=sys.argv[1]), Role("helper", "tests.app.processes.commands"))
def show():
    while process.process_id is None:
        time.sleep(0.01)
    if sys.argv[2] == "starting":
        print(process.process_id, flush=True)
threading.Thread(target=show, daemon=True).start()
process.call("echo", {})
print(process.process_id, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("moment", ["starting", "idle", "stuck"])
def test_it_dies_with_a_parent_that_is_killed(moment: str, tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), moment],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_running(child)
        if moment == "stuck":
            # It cannot look at its socket; the kernel has to end it.
            os.kill(child, signal.SIGSTOP)
        parent.kill()
        parent.wait()
        assert wait_until_gone(child)
    finally:
        parent.kill()
        parent.wait()
