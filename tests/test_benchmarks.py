"""Benchmarks that assert something still run, and what ships is what they found."""

import numpy as np
import pytest

from benchmarks import nightly
from benchmarks.study import chances as study_chances
from estimators.comparison.calibration import PUBLISHED


def test_a_night_on_which_nothing_is_new_computes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert nightly.measure(2, "").wall < nightly.LIMIT_SECONDS
    assert "2 models x 5 targets" in capsys.readouterr().out


def test_the_shipped_chances_are_the_fit_on_the_committed_tables() -> None:
    found = study_chances.fitted(study_chances.pools())
    shipped = PUBLISHED[frozenset({"known", "metrics"})]
    assert (shipped.targets, shipped.most_models) == (found.targets, found.most_models)
    assert shipped.sharpness == pytest.approx(found.sharpness, abs=0.01)


def test_chances_hold_on_targets_that_they_were_not_fitted_on() -> None:
    judged = study_chances.left_out(study_chances.pools())
    stated, truth, first = study_chances.outcomes(judged)
    assert stated[first].mean() == pytest.approx(truth[first].mean(), abs=0.15)
    equal = [np.log(len(pool.accuracies)) for pool, _ in judged]
    assert float(np.sum(truth * np.log(stated))) / len(judged) > -np.mean(equal) + 0.5
