"""The authors' outputs, by the first part of their names."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent


@cache
def inputs(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / name) as stored:
        return {key: stored[key] for key in stored}


@cache
def _entries() -> list[dict[str, Any]]:
    return json.loads((FOLDER / "manifest.json").read_text())["entries"]


def oracles(kind: str) -> list[dict[str, Any]]:
    """All entries whose name is ``kind`` or starts with ``kind/``."""
    found = [entry for entry in _entries() if entry["name"].split("/")[0] == kind]
    assert found, f"no oracle is called {kind}"
    return found
