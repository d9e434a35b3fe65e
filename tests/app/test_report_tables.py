"""A run's report as CSV and as Markdown: everything that it says, and no cell that a spreadsheet would run."""

import csv
import io
from datetime import UTC, datetime

import pytest

from app.api.markdown import SHOWN_MOVES, report_markdown
from app.api.tables import report_csv
from app.contracts.problems import failure
from app.contracts.rankings import Counters
from app.contracts.schedules import Move, Place, RunReport, TargetReport
from app.contracts.states import RunState

MOVES = tuple(Move(model_id=f"m{n}", model=f"moved_{n}", before=n + 1, after=n) for n in range(1, SHOWN_MOVES + 3))
CHANGED = TargetReport(
    target="signs",
    target_id="dat_1",
    ranking_id="rnk_2",
    previous_ranking_id="rnk_1",
    data_change="inspected again",
    problem=None,
    best=Place(model_id="m1", model="=best|of*all", rank=1),
    new_best=True,
    entered=(Place(model_id="m2", model="newcomer", rank=3),),
    left=(Place(model_id="m3", model="gone", rank=9),),
    moved=MOVES,
    failed=("broken",),
    computed=("newcomer",),
    reused=7,
    counters=Counters(),
    seconds=4.0,
)
BROKEN = TargetReport(
    target="lost",
    target_id=None,
    ranking_id=None,
    previous_ranking_id=None,
    data_change="unchanged",
    problem=failure("dataset-changed", "the folder is gone"),
    best=None,
    new_best=False,
    entered=(),
    left=(),
    moved=(),
    failed=(),
    computed=(),
    reused=0,
    counters=Counters(),
    seconds=None,
)
REPORT = RunReport(
    run_id="run_1",
    schedule_id="sch_1",
    schedule="night_ly",
    scheduled_at=datetime(2026, 3, 1, 2, tzinfo=UTC),
    finished_at=None,
    state=RunState.SUCCEEDED,
    seconds=12.34,
    computed=1,
    reused=7,
    changed_models={"replaced": "inspected again"},
    targets=(CHANGED, BROKEN),
)


@pytest.mark.parametrize(
    "line",
    [
        ["", "weights", "replaced", "", "", "inspected again"],
        ["signs", "images", "", "", "", "inspected again"],
        ["signs", "new best", "'=best|of*all", "", "1", ""],
        ["signs", "entered", "newcomer", "", "3", ""],
        ["signs", "left", "gone", "9", "", ""],
        ["signs", "moved", "moved_22", "23", "22", ""],
        ["signs", "failed", "broken", "", "", ""],
        ["signs", "computed", "newcomer", "", "", ""],
        ["lost", "problem", "", "", "", "the folder is gone"],
    ],
    ids=lambda line: line[1],
)
def test_the_table_has_a_line_for_each_change(line: list[str]) -> None:
    assert line in list(csv.reader(io.StringIO(report_csv(REPORT))))


@pytest.mark.parametrize(
    "sentence",
    [
        "# night\\_ly, 2026-03-01 02:00 UTC",
        "Succeeded in 12.3 s: 1 forward pass, 7 results reused.",
        "Weights that were replaced: replaced (inspected again).",
        "- The images were found changed: inspected again.",
        "- Best (new): **=best\\|of\\*all**",
        "- Entered at 3: newcomer",
        "- Left from 9: gone",
        "- moved\\_1: 2 → 1",
        "- 2 more have moved.",
        "- Failed: broken",
        "- Problem: the folder is gone",
    ],
)
def test_the_text_says_each_change(sentence: str) -> None:
    assert sentence in report_markdown(REPORT).splitlines()
