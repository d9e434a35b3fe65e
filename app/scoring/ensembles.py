"""The terms of a ranking's pool as a file, so that other ensembles can be scored later without any evidence.

Workers write it and score the ensembles of the request; the API reads it and scores those that are asked for later.
"""

import uuid
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from app.contracts.base import JsonObject
from app.contracts.ensembles import EnsembleResult
from app.contracts.plain import plain
from app.contracts.problems import failure
from app.contracts.question import EnsembleChoice, EnsembleReading
from estimators.ensembles.result import Selection
from estimators.ensembles.terms import Pool
from estimators.score import CannotBeComputed, InvalidEvidence

VECTORS = ("domain_difference", "task_difference", "costs", "entropy")
TABLES = ("disagreement", "agreement")


def save_pool(folder: Path, preset: str, pool: Pool) -> None:
    """Write the pool whole or not at all; a missing number is NaN."""
    count = len(pool.names)
    arrays: dict[str, Any] = {"names": np.array(pool.names, dtype=np.str_)}
    for name in VECTORS:
        values = getattr(pool, name)
        arrays[name] = np.array(
            [np.nan if v is None else float(v) for v in (values if values is not None else [None] * count)]
        )
    for name in TABLES:
        table = getattr(pool, name)
        arrays[name] = np.full((count, count), np.nan) if table is None else np.asarray(table)
    known = [vector for vector in (pool.eep or []) if vector is not None]
    if known:
        missing = np.full(len(known[0]), np.nan)
        arrays["eep"] = np.stack([missing if vector is None else np.asarray(vector) for vector in pool.eep or []])
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{uuid.uuid4().hex}.npz"
    np.savez(temporary, allow_pickle=False, **arrays)
    temporary.replace(folder / f"{preset}.npz")


def load_pool(folder: Path, preset: str) -> Pool | None:
    """What `save_pool` wrote, or None."""
    path = folder / f"{preset}.npz"
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    eep = [None if np.isnan(row[0]) else row for row in arrays["eep"]] if "eep" in arrays else None
    return Pool(
        names=tuple(str(name) for name in arrays["names"]),
        eep=eep,
        **{name: arrays[name] for name in (*VECTORS, *TABLES)},
    )


def reading(choice: EnsembleReading) -> dict[str, Any]:
    """The keyword arguments of `select` and `score_ensemble` that a request means."""
    return {
        "method": choice.method,
        "preset": choice.preset,
        "weights": choice.weights.plain() if choice.method == "osborn" else None,
        "standardize": choice.standardize,
        "cohesion": choice.cohesion,
        "near_copies": choice.near_copies,
        "missing": choice.missing,
        "budget": choice.max_parameters,
        "top": choice.top,
    }


def search(choice: EnsembleChoice) -> dict[str, Any]:
    """The keyword arguments that `select` alone takes."""
    return {"size": choice.size, "search": choice.search}


def attempt(request: JsonObject, compute: Callable[[], Selection]) -> EnsembleResult:
    """The selection, or the reason why there is none."""
    try:
        return EnsembleResult.read({"request": request, "selection": plain(asdict(compute()))})
    except (CannotBeComputed, InvalidEvidence) as error:
        return EnsembleResult(request=request, problem=failure("metric-problem", f"cannot be computed: {error}"))
