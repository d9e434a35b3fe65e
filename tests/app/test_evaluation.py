"""``forerank evaluate``: scores and accuracies from a CSV file."""

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from typer.testing import CliRunner

from app.cli import app

ROWS = [("a", 0.90, 1.0, 3), ("b", 0.80, 3.0, 2), ("c", 0.95, 2.0, 1), ("d", 0.70, 0.5, 4)]


def _write(path: Path, rows: list[tuple[Any, ...]], header: str = "model,accuracy,logme,leep,note") -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, (*row, "x"))) for row in rows)]) + "\n")
    return path


def _run(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["evaluate", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_a_table_gives_every_measure_of_every_numeric_column(tmp_path: Path) -> None:
    scores = _run(str(_write(tmp_path / "table.csv", ROWS)))["targets"][""]
    assert set(scores) == {"logme", "leep", "random"}
    expected = stats.weightedtau([row[2] for row in ROWS], [row[1] for row in ROWS]).statistic
    assert scores["logme"]["weighted_kendall"]["value"] == pytest.approx(expected)
    assert scores["logme"]["regret_1"]["value"] == pytest.approx(15.0)
    assert scores["random"]["regret_1"]["value"] == pytest.approx(95 - 83.75)


def test_percent_is_another_unit_of_the_same_accuracies(tmp_path: Path) -> None:
    shares = _run(str(_write(tmp_path / "shares.csv", ROWS)))
    rows = [(name, 100 * accuracy, *rest) for name, accuracy, *rest in ROWS]
    percent = _run(str(_write(tmp_path / "percent.csv", rows)), "--percent")
    assert percent["targets"][""]["leep"]["regret_1"] == shares["targets"][""]["leep"]["regret_1"]


def test_several_targets_have_means_and_paired_tests(tmp_path: Path) -> None:
    rows = [(f"{name}", accuracy, logme, leep, target) for target in "xyz" for name, accuracy, logme, leep in ROWS]
    answer = _run(str(_write(tmp_path / "table.csv", rows, "model,accuracy,logme,leep,target,note")))
    assert answer["means"]["logme"]["regret_1"]["value"] == pytest.approx(15.0)
    pairs = {(test["measure"], test["first"], test["second"]): test for test in answer["tests"]}
    # Three targets that agree: 2 of 8 sign patterns are as extreme.
    assert pairs["regret_1", "logme", "leep"]["p_value"] == pytest.approx(0.25)
    assert pairs["regret_1", "logme", "leep"]["difference"] == pytest.approx(25 - 15)


def test_a_model_without_a_score_is_left_out_of_that_score_only(tmp_path: Path) -> None:
    rows: list[tuple[Any, ...]] = [*ROWS, ("e", 0.85, "", 2.5)]
    scores = _run(str(_write(tmp_path / "table.csv", rows)))["targets"][""]
    assert (scores["logme"]["models"], scores["leep"]["models"]) == (4, 5)


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (ROWS, "model,top1,logme,leep,note", "no column 'accuracy'"),
        ([], "model,accuracy,logme,leep,note", "no rows"),
        ([("a", 91.0, 1.0, 2.0)], "model,accuracy,logme,leep,note", "give --percent"),
        ([("a", "high", 1.0, 2.0)], "model,accuracy,logme,leep,note", "line 2"),
    ],
)
def test_bad_tables_say_what_is_wrong(tmp_path: Path, rows: list[Any], header: str, message: str) -> None:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["evaluate", str(_write(tmp_path / "t.csv", rows, header))])
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())


def test_without_json_a_table_is_shown(tmp_path: Path) -> None:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["evaluate", str(_write(tmp_path / "t.csv", ROWS))])
    assert result.exit_code == 0
    assert "weighted tau" in result.output
    assert "logme" in result.output
