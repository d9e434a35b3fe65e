"""Every metric against a plain implementation of its formula: seconds, peak memory, and whether the numbers agree.

    python -m benchmarks.estimators              the table of ratios, and how cost grows with N, D and C
    python -m benchmarks.estimators NAME...      some rows of the table only
    python -m benchmarks.estimators --figure     the growth only, drawn into docs/metrics-cost.svg

The plain implementations are those of ``tests/reference/formulas.py``. Each measurement runs in a process of its own,
so that its peak memory is its own, on the same made-up features: rectified, classes shifted, dimensions of unlike
scale, as the last layer of a network has them. Goals are ratios that the project set itself; a row that misses its
goal, or differs from the plain number, is marked, and the script then ends with 1.
"""

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import estimators
from estimators.metrics.ped import move
from tests.reference import formulas

FIGURE = Path("docs/metrics-cost.svg")
Call = Callable[..., Any]


def made_up(samples: int, dimensions: int, classes: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(samples) % classes
    scales = rng.lognormal(0, 0.5, dimensions)
    centres = 0.1 * rng.normal(size=(classes, dimensions))
    features = np.maximum(centres[labels] + rng.normal(size=(samples, dimensions)), 0) * scales
    return {"x": features, "y": labels, "reference": np.maximum(rng.normal(size=(2000, dimensions)), 0) * scales}


def predictions(samples: int, sources: int, classes: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(samples) % classes
    probabilities = rng.dirichlet(np.full(sources, 0.1), size=samples)
    return {"p": probabilities, "z": probabilities.argmax(axis=1), "y": labels}


def by_features(name: str, **settings: Any) -> Call:
    return lambda x, y, **_: getattr(estimators, name)(features=x, labels=y, **settings).value


@dataclass(frozen=True)
class Row:
    """One line of the table: what is computed, fast and plainly, on which data, and the ratio that is the goal."""

    name: str
    data: Callable[[], dict[str, np.ndarray]]
    fast: Call
    plain: Call
    goal: float = 1.0
    limit_megabytes: float | None = None


def large() -> dict[str, np.ndarray]:
    return made_up(5000, 2048, 100)


ROWS = [
    Row(
        "leep",
        lambda: predictions(5000, 1000, 100),
        lambda p, y, **_: estimators.leep(source_probabilities=p, labels=y).value,
        lambda p, y, **_: formulas.leep(p, y),
    ),
    Row(
        "nce",
        lambda: predictions(5000, 1000, 100),
        lambda z, y, **_: estimators.nce(source_labels=z, labels=y).value,
        lambda z, y, **_: formulas.nce(z, y),
    ),
    Row("tmi", large, by_features("tmi"), lambda x, y, **_: formulas.tmi(x, y)),
    Row(
        "tmi, 20,000 in 10",
        lambda: made_up(20_000, 2048, 10),
        by_features("tmi"),
        lambda x, y, **_: formulas.tmi(x, y),
        goal=10,
    ),
    Row("logme", large, by_features("logme"), lambda x, y, **_: formulas.logme(x, y), goal=5),
    Row("h_score", large, by_features("h_score"), lambda x, y, **_: formulas.h_score(x, y), goal=10),
    Row(
        "regularized_h_score",
        large,
        by_features("regularized_h_score"),
        lambda x, y, **_: formulas.regularized_h_score(x, y),
    ),
    Row("sfda", large, by_features("sfda"), lambda x, y, **_: formulas.sfda(x, y), goal=10),
    Row("lda", large, by_features("lda"), lambda x, y, **_: formulas.lda(x, y)),
    Row(
        "ped",
        large,
        lambda x, y, reference: estimators.ped(features=x, labels=y, reference_features=reference).value,
        formulas.ped,
        goal=10,
    ),
    Row(
        "ped step, 400 classes",
        lambda: made_up(4000, 2048, 400),
        # An exit ratio above one stops after the first step, so both take two: one moved, one tried.
        lambda x, y, reference: float(
            np.sum(move(features=x, labels=y, reference_features=reference, exit_ratio=0.9999)[0])
        ),
        lambda x, y, reference: float(np.sum(formulas.ped_step(x, y, reference)[0])),
        goal=100,
        limit_megabytes=300,
    ),
    Row(
        "nleep, 100 of 512",
        lambda: made_up(5000, 512, 20),
        by_features("nleep"),
        lambda x, y, **_: formulas.nleep(x, y),
        goal=3,
    ),
    Row(
        "gbc",
        lambda: made_up(2000, 1024, 100),
        by_features("gbc"),
        lambda x, y, **_: formulas.gbc(x, y),
    ),
    Row("transrate", large, by_features("transrate"), lambda x, y, **_: formulas.transrate(x, y), goal=10),
    Row("parc", large, by_features("parc"), lambda x, y, **_: formulas.parc(x, y), goal=5),
    Row(
        "nearest_neighbor",
        lambda: made_up(1000, 2048, 100),
        by_features("nearest_neighbor"),
        lambda x, y, **_: formulas.nearest_neighbor(x, y),
    ),
    Row(
        "energy",
        large,
        lambda x, **_: estimators.energy(features=x).value,
        lambda x, **_: formulas.energy(x),
    ),
]


def _measure(call: Call, data: Callable[[], dict[str, np.ndarray]], repeats: int, answers: Any) -> None:
    arguments = data()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, work = [], []
    for _ in range(repeats):
        started, worked = time.perf_counter(), time.process_time()
        value = call(**arguments)
        seconds.append(time.perf_counter() - started)
        work.append(time.process_time() - worked)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    answers.send({"seconds": min(seconds), "work": min(work), "megabytes": peak * 1024 / 1e6, "value": value})


def measure(call: Call, data: Callable[[], dict[str, np.ndarray]], *, repeats: int) -> dict[str, float]:
    """Best seconds of some repeats, megabytes beyond the data, and the value, from a process of its own."""
    answers, questions = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_measure, args=(call, data, repeats, questions))
    process.start()
    questions.close()
    try:
        found: dict[str, float] = answers.recv()
    except EOFError:
        found = {"seconds": np.nan, "work": np.nan, "megabytes": np.nan, "value": np.nan}
    process.join()
    return found


def table(names: list[str]) -> bool:
    """Print the table; whether all numbers agree and memory is kept."""
    print(f"{'':24}{'seconds':>9}{'plain':>9}{'ratio':>8}{'(CPU)':>8}{'goal':>7}{'MB':>8}{'plain':>8}   value")
    good = True
    for row in ROWS:
        if names and row.name.split(",")[0] not in names and row.name not in names:
            continue
        fast = measure(row.fast, row.data, repeats=3)
        plain = measure(row.plain, row.data, repeats=1 if fast["seconds"] > 0.05 else 3)
        ratio = plain["seconds"] / fast["seconds"]
        slow = [] if ratio >= row.goal else ["below its goal"]
        complaints = []
        if not abs(fast["value"] - plain["value"]) <= 1e-6 * max(1e-12, abs(plain["value"])):
            complaints.append(f"differs from {plain['value']!r}")
        if row.limit_megabytes is not None and not fast["megabytes"] <= row.limit_megabytes:
            complaints.append(f"more than {row.limit_megabytes:.0f} MB")
        print(
            f"{row.name:24}{fast['seconds']:9.3f}{plain['seconds']:9.2f}{ratio:8.1f}"
            f"{plain['work'] / fast['work']:8.1f}{row.goal:7.0f}"
            f"{fast['megabytes']:8.0f}{plain['megabytes']:8.0f}   {fast['value']:.6g} {'; '.join(complaints + slow)}",
            flush=True,
        )
        good &= not complaints
    return good


def scale() -> None:
    """What no method that needs it can go below: the matrix product and its factorisations."""
    features = large()["x"]
    gram = features.T @ features
    for name, call in (
        ("X^T X", lambda: features.T @ features),
        ("Cholesky of it", lambda: np.linalg.cholesky(gram)),
        ("eigenvectors of it", lambda: np.linalg.eigh(gram)),
    ):
        seconds = []
        for _ in range(2):
            started = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - started)
        print(f"for scale: {name:28}{min(seconds):6.3f} s")


def growth() -> list[dict[str, Any]]:
    """CPU seconds of each metric as one of N, D and C doubles and doubles again, from 3,000, 512 and 20."""
    points = []
    base = {"N": 3000, "D": 512, "C": 20}
    for name in ("tmi", "logme", "h_score", "sfda", "ped", "gbc", "transrate", "parc", "nearest_neighbor"):
        for axis, smallest in base.items():
            for size in (smallest, 2 * smallest, 4 * smallest):
                shape = base | {axis: size}
                arguments = made_up(shape["N"], shape["D"], shape["C"])
                call = by_features(name)
                seconds = []
                for _ in range(3):
                    started = time.process_time()
                    call(**arguments)
                    seconds.append(time.process_time() - started)
                points.append({"metric": name, "axis": axis, "size": size, "seconds": min(seconds)})
    return points


def exponent(points: list[dict[str, Any]], name: str, axis: str) -> float:
    """The slope of ln seconds over ln size."""
    chosen = [point for point in points if point["metric"] == name and point["axis"] == axis]
    logs = np.log([[point["size"], point["seconds"]] for point in chosen])
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def draw(points: list[dict[str, Any]]) -> None:
    import altair

    lines = (
        altair.Chart(altair.Data(values=points))
        .mark_line(point=True)
        .encode(
            x=altair.X("size:Q", title=None).scale(type="log", base=2),
            y=altair.Y("seconds:Q", title="CPU seconds").scale(type="log"),
            color=altair.Color("metric:N", title=None),
        )
        .properties(width=240, height=240)
    )
    lines.facet(altair.Column("axis:N", title=None, sort=["N", "D", "C"])).resolve_scale(x="independent").save(FIGURE)


def main() -> int:
    names = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    good = "--figure" in sys.argv or table(names)
    if not names:
        scale()
        points = growth()
        print(f"\nCPU seconds ~ size^e{'N':>31}{'D':>8}{'C':>8}")
        for name in dict.fromkeys(point["metric"] for point in points):
            print(f"{name:43}" + "".join(f"{exponent(points, name, axis):8.1f}" for axis in ("N", "D", "C")))
        if "--figure" in sys.argv:
            draw(points)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
