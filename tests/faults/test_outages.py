"""The database is killed while a model is on the device: nothing fails, and nothing is left behind."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import CrashingDatabase, Drill, answers, drill_settings
from tests.service import PATIENCE, running, wait_for

pytestmark = pytest.mark.timeout(600 * PATIENCE)


# A crash; and an outage that is longer than retries with a limit would last. `soak` has the other pairs.
@pytest.mark.parametrize(
    ("crashing_database", "seconds"), [("socket", 4.0), ("tcp", 20.0)], indirect=["crashing_database"]
)
def test_an_outage_is_waited_out(
    seconds: float,
    crashing_database: CrashingDatabase,
    material: tuple[Path, dict[str, dict[str, Any]]],
    undisturbed: dict[str, Any],
    tmp_path: Path,
) -> None:
    folder, bodies = material
    drill = Drill(drill_settings(folder, tmp_path / "home", crashing_database.url), bodies, undisturbed)
    with running(drill.settings) as service:
        drill.register(service)
        ranking, extractor = drill.submit_and_hold(service)
        crashing_database.kill()
        # The forward pass ends without a database to write to.
        os.kill(extractor, signal.SIGCONT)
        time.sleep(seconds)
        crashing_database.start()
        wait_for(answers(service), what="the API to reach the database")
        drill.ends_undisturbed(service, ranking)
