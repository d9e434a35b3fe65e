"""The metric that docs/architecture.md adds, as it stands there."""

import re
from pathlib import Path

import numpy as np
import pytest

from estimators import METRICS, Metric, metrics
from estimators.catalog import collect
from estimators.comparison.resampling import resample
from tests.estimators.examples import evidence

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Metric:
    """The metric of the page, collected from a file of its own."""
    section = PAGE.read_text().split("\n## Add a metric\n")[1]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert code is not None
    (tmp_path / "between_share.py").write_text(code[1])
    monkeypatch.setattr(metrics, "__path__", [*metrics.__path__, str(tmp_path)])
    (metric,) = collect([str(tmp_path)]).values()
    return metric


def test_the_added_metric_is_its_formula(added: Metric) -> None:
    given = evidence()
    x, y = given.features, given.labels
    means = np.stack([x[y == c].mean(axis=0) for c in range(5)])[y]
    expected = np.sum((means - x.mean(axis=0)) ** 2) / np.sum((x - x.mean(axis=0)) ** 2)
    assert added.compute(given).value == pytest.approx(expected, rel=1e-12)


def test_the_added_metric_is_resampled(added: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("estimators.comparison.resampling.METRICS", {**METRICS, added.name: added})
    found = resample("between_share", evidence(), resamples=8)
    assert found.method == "subsample"
    assert np.mean(found.values) == pytest.approx(found.score.value)
    assert np.ptp(found.values) > 0
