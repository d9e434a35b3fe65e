"""Speed and memory of what ensembles cost: pairwise disagreement, selection, optimal transport.

    python -m benchmarks.ensembles

Each part runs in a process of its own, so that its peak memory is its own. Limits are those that the project sets
itself; the script ends with 1 if one is broken.
"""

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MODELS, IMAGES, CLASSES = 200, 5000, 1000


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def resident_megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def predictions(models: int = MODELS) -> list[np.ndarray]:
    """Hard predictions of models that are right on a shared truth in 60 to 90 % of the images."""
    generator = np.random.default_rng(0)
    truth = generator.integers(0, CLASSES, IMAGES)
    guesses = generator.integers(0, CLASSES, (models, IMAGES))
    right = generator.random((models, IMAGES)) < generator.uniform(0.6, 0.9, (models, 1))
    return list(np.where(right, truth, guesses))


def disagreement_numpy() -> dict[str, float]:
    from estimators import disagreement

    rows = predictions()
    before = resident_megabytes()
    started = time.perf_counter()
    disagreement(source_labels=rows)
    return {"seconds": time.perf_counter() - started, "megabytes": peak_megabytes() - before, "limit_seconds": 60}


def disagreement_torch() -> dict[str, float]:
    import torch

    from estimators import disagreement

    rows = [torch.asarray(row) for row in predictions()]
    before = resident_megabytes()
    started = time.perf_counter()
    disagreement(source_labels=rows)
    return {"seconds": time.perf_counter() - started, "megabytes": peak_megabytes() - before, "limit_seconds": 60}


def disagreement_dense() -> dict[str, float]:
    """The obvious way, a table of 1,000 x 1,000 counts a pair, on 20 of the 200 models."""
    rows = predictions(20)
    started = time.perf_counter()
    for first in rows:
        for second in rows:
            joint = np.bincount(first * CLASSES + second, minlength=CLASSES**2) / IMAGES
            np.where(joint > 0, joint * np.log(np.where(joint > 0, joint, 1.0)), 0.0).sum()
    pairs = len(rows) ** 2
    return {"seconds": (time.perf_counter() - started) * MODELS**2 / pairs, "extrapolated_from_pairs": pairs}


def selection(method: str, models: int, size: int) -> dict[str, float]:
    from estimators import Pool, disagreement, select
    from estimators.ensembles.osborn import prediction_entropy

    rows = predictions(models)
    generator = np.random.default_rng(0)
    pool = Pool(
        names=[f"model {index}" for index in range(models)],
        domain_difference=generator.gamma(3.0, 10.0, models),
        task_difference=generator.random(models),
        disagreement=disagreement(source_labels=rows),
        entropy=prediction_entropy(source_labels=rows),
        eep=list(generator.uniform(0.05, 1.0, (models, IMAGES))),
        costs=generator.uniform(1.0, 10.0, models),
    )
    started = time.perf_counter()
    found = select(pool, size=size, method=method)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "limit_seconds": 1, "evaluated": found.evaluated, "exhaustive": found.exhaustive}


def dense_transport(solver: str, samples: int, dimensions: int) -> dict[str, float]:
    import ot

    from estimators import domain_difference

    generator = np.random.default_rng(0)
    source = generator.normal(size=(samples, dimensions)).astype(np.float32)
    target = (generator.normal(size=(samples, dimensions)) + 0.3).astype(np.float32)
    ot.solve(np.eye(3))
    before = resident_megabytes()
    started = time.perf_counter()
    moved = domain_difference(source_features=source, features=target, solver=solver, regularization=0.1)
    return {
        "seconds": time.perf_counter() - started,
        "megabytes": peak_megabytes() - before,
        "limit_megabytes": 1.2 * 1024**3 / 1e6,
        "marginal_error": moved.details.get("marginal_error", 0.0),
    }


def _child(function: Callable[..., dict[str, float]], arguments: tuple[Any, ...], results: Any) -> None:
    results.put(function(*arguments))


def run(title: str, function: Callable[..., dict[str, float]], *arguments: Any) -> bool:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_child, args=(function, arguments, results))
    process.start()
    found = results.get()
    process.join()
    print(f"{title:<58}", ", ".join(f"{name} {value:.4g}" for name, value in found.items()), flush=True)
    return all(
        found[measure] <= found[f"limit_{measure}"]
        for measure in ("seconds", "megabytes")
        if f"limit_{measure}" in found
    )


def main() -> int:
    kept = [
        run(f"all pairwise W_C, {MODELS} models, NumPy", disagreement_numpy),
        run(f"all pairwise W_C, {MODELS} models, torch on the CPU", disagreement_torch),
        run("all pairwise W_C, dense tables (for comparison)", disagreement_dense),
        *(run(f"select 5 of {MODELS}, {method}", selection, method, MODELS, 5) for method in ("osborn", "ms_leep")),
        run(f"select 5 of {MODELS}, e_leep", selection, "e_leep", MODELS, 5),
        run("select 3 of 12, osborn (enumeration)", selection, "osborn", 12, 3),
        run("exact transport 1,000 x 1,000, D 1,280", dense_transport, "exact", 1000, 1280),
        run("exact transport 5,000 x 5,000, D 1,280", dense_transport, "exact", 5000, 1280),
        run("frobenius transport 5,000 x 5,000, D 1,280", dense_transport, "frobenius", 5000, 1280),
        run("entropic transport 5,000 x 5,000, D 1,280", dense_transport, "entropic", 5000, 1280),
        run("sliced transport 5,000 x 5,000, D 1,280", dense_transport, "sliced", 5000, 1280),
    ]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
