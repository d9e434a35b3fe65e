"""Benchmarks that assert something still run."""

import pytest

from benchmarks import nightly


def test_a_night_on_which_nothing_is_new_computes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert nightly.measure(2, "").wall < nightly.LIMIT_SECONDS
    assert "2 models x 5 targets" in capsys.readouterr().out
