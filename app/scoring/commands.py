"""What the process is asked to do that scores arrays of strangers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.contracts.progress import Progress, TellProgress
from app.processes.errors import Problem
from app.processes.role import Commands, Role
from app.scoring.arrays import Refused, make_evidence, read_arrays
from app.scoring.metric import compute_metric, start_linear_algebra
from app.settings import Settings
from estimators.score import InvalidEvidence

MEGABYTE = 1_000_000
ARRAY_SCORER = Role(
    name="process that scores arrays",
    module="app.scoring.commands",
    time_setting="scores_limit_seconds",
    memory_setting="scores_memory_megabytes",
    remedy="send fewer samples",
)


class ArraysRefused(Problem):
    """The file cannot be scored; the detail says why."""

    code = "arrays-refused"


def commands(settings: Settings) -> Commands:
    """The commands by name."""
    start_linear_algebra()
    return {"score": lambda payload, progress: score(payload, settings, progress)}


def score(payload: Mapping[str, Any], settings: Settings, progress: TellProgress) -> dict[str, Any]:
    """The metrics of the arrays in a file.

    Args:
        payload: ``path`` of the file, ``metrics`` (``name`` and ``parameters``).

    Returns:
        ``samples``, ``arrays`` (their shapes), ``scores`` (see `compute_metric`; without resamples).

    Raises:
        ArraysRefused: the file is not sound, or its arrays do not fit one another.
    """
    try:
        arrays = read_arrays(Path(payload["path"]), limit_bytes=int(settings.scores_limit_megabytes * MEGABYTE))
        evidence, samples = make_evidence(arrays)
    except (Refused, InvalidEvidence) as error:
        raise ArraysRefused(str(error)) from error
    except MemoryError as error:
        raise ArraysRefused("the arrays need more memory than one request may have; send fewer samples") from error
    scores = []
    for done, metric in enumerate(payload["metrics"]):
        progress(Progress(stage="scoring", done=done, total=len(payload["metrics"])))
        result = compute_metric(metric["name"], evidence, metric["parameters"], ARRAY_SCORER)
        shown = result.model_dump(mode="json", exclude={"resamples"})
        scores.append({"metric": metric["name"], "parameters": metric["parameters"], **shown})
    return {"samples": samples, "arrays": {name: list(array.shape) for name, array in arrays.items()}, "scores": scores}
