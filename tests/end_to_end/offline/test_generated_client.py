"""A client that openapi-python-client writes from the committed document ranks, as docs/clients.md shows."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.offline.conftest import OFFLINE
from tests.service import Service

DOCS = Path(__file__).parents[3] / "docs"
RANK, FOLLOW = re.findall(r"```python\n(.*?)```", (DOCS / "clients.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the package `forerank_client` lies, written without a warning."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "config.yaml").write_text("post_hooks: []\n")
    arguments = ["generate", "--path", str(DOCS / "openapi.json"), "--meta", "none", "--fail-on-warning"]
    arguments += ["--config", str(folder / "config.yaml"), "--output-path", str(folder / "forerank_client")]
    done = subprocess.run(
        [sys.executable, "-c", "from openapi_python_client.cli import app; app()", *arguments],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == "forerank_client"]:
        del sys.modules[name]


def test_generated_client_ranks_and_follows(
    offline: Service, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"__name__": "clients"}
    exec(RANK.replace("http://127.0.0.1:8000", str(offline.http.base_url)), names)  # noqa: S102 - of our own page
    table = capsys.readouterr().out.splitlines()
    assert names["ranking"].state.value == "succeeded"
    assert sorted(line.split()[0] for line in table) == sorted(OFFLINE)
    assert all(re.search(r"'leep': -\d.*'tmi': \d", line) for line in table)
    exec(FOLLOW, names)  # noqa: S102
    told = capsys.readouterr().out.splitlines()
    assert re.search(r"EndEvent succeeded$", told[-1])
    assert any(re.search(r"ModelEvent succeeded$", line) for line in told)


def test_generated_client_tells_problems_by_type(offline: Service, package: Path) -> None:
    from forerank_client import Client  # type: ignore[import-not-found]
    from forerank_client.api.rankings import get_ranking  # type: ignore[import-not-found]
    from forerank_client.models import ProblemDocument  # type: ignore[import-not-found]

    answer = get_ranking.sync("none", client=Client(str(offline.http.base_url)))
    assert isinstance(answer, ProblemDocument)
    assert (answer.status, answer.type_) == (404, "urn:forerank:problem:not-found")
