"""Every move from one state to another, allowed or refused by the database, whoever asks."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select, update

from app.contracts.datasets import BuiltinSpec
from app.contracts.models import TimmSpec
from app.contracts.question import SampleChoice
from app.contracts.rankings import RankingRequest
from app.contracts.states import ModelRunState, RankingState
from app.db.repositories.rankings import Rankings
from app.db.session import Database
from app.db.tables import Dataset, Model, Ranking, RankingEvent, RankingModel
from tests.conftest import NewDatabase

RUN_MOVES = {
    ModelRunState.QUEUED: {"extracting", "scoring", "succeeded", "failed", "cancelled"},
    ModelRunState.EXTRACTING: {"extracting", "scoring", "failed", "cancelled"},
    ModelRunState.SCORING: {"scoring", "succeeded", "failed", "cancelled"},
    ModelRunState.SUCCEEDED: set(),
    ModelRunState.FAILED: set(),
    ModelRunState.CANCELLED: set(),
}
RANKING_MOVES = {
    RankingState.QUEUED: {"running", "failed", "cancelled"},
    RankingState.RUNNING: {"running", "succeeded", "failed", "cancelled"},
    RankingState.SUCCEEDED: set(),
    RankingState.FAILED: set(),
    RankingState.CANCELLED: set(),
}
IDS = ("rnk_1", "mdl_1")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """With one ranking of one model, whose states each test sets."""
    make: NewDatabase = request.getfixturevalue(f"new_{request.param}")
    database = Database(make())
    question: dict[str, Any] = {
        "target": "digits",
        "zoo": None,
        "metrics": (),
        "sample": SampleChoice(),
        "priority": "normal",
        "layers": (),
        "reference": None,
        "sources": {},
        "intervals": None,
        "ensembles": (),
        "given_ensembles": (),
    }
    with database.transaction() as session:
        session.add(Dataset(id="dat_1", name="digits", spec=BuiltinSpec(name="digits")))
        session.add(Model(id=IDS[1], name="m", spec=TimmSpec(name="m")))
        session.flush()
        session.add(Ranking(id=IDS[0], target_id="dat_1", priority=1, request=RankingRequest(**question)))
        session.flush()
        session.add(RankingModel(ranking_id=IDS[0], model_id=IDS[1], position=0))
    yield database
    database.close()


def arrange(database: Database, *, ranking: RankingState, run: ModelRunState) -> None:
    with database.transaction() as session:
        session.execute(update(Ranking).values(state=ranking, started_at=None, finished_at=None))
        session.execute(update(RankingModel).values(state=run, stage="as it was"))


def found(database: Database) -> tuple[RankingState, ModelRunState, int]:
    """States of the ranking and its model, and how many events there are."""
    with database.reading() as session:
        ranking, run = session.get_one(Ranking, IDS[0]), session.get_one(RankingModel, IDS)
        return ranking.state, run.state, len(session.scalars(select(RankingEvent.sequence)).all())


@pytest.mark.parametrize("wanted", list(ModelRunState))
@pytest.mark.parametrize("present", list(ModelRunState))
def test_a_model_moves_forward_only(database: Database, present: ModelRunState, wanted: ModelRunState) -> None:
    arrange(database, ranking=RankingState.RUNNING, run=present)
    _, _, events = found(database)
    is_allowed = wanted in RUN_MOVES[present]
    with database.transaction() as session:
        assert Rankings(session).update_run(*IDS, state=wanted, stage=None) is is_allowed
    expected = (wanted, events + 1) if is_allowed else (present, events)
    assert found(database)[1:] == expected


@pytest.mark.parametrize("wanted", list(RankingState))
@pytest.mark.parametrize("present", list(RankingState))
def test_a_ranking_moves_forward_only(database: Database, present: RankingState, wanted: RankingState) -> None:
    arrange(database, ranking=present, run=ModelRunState.SUCCEEDED)
    _, _, events = found(database)
    is_allowed = wanted in RANKING_MOVES[present]
    with database.transaction() as session:
        assert Rankings(session).move(IDS[0], wanted) is is_allowed
    expected = (wanted, events + 1) if is_allowed else (present, events)
    assert found(database)[::2] == expected


@pytest.mark.parametrize("run", [state for state in ModelRunState if RUN_MOVES[state]])
def test_a_ranking_does_not_succeed_before_its_models_have_ended(database: Database, run: ModelRunState) -> None:
    arrange(database, ranking=RankingState.RUNNING, run=run)
    with database.transaction() as session:
        assert not Rankings(session).move(IDS[0], RankingState.SUCCEEDED)
    assert found(database)[0] is RankingState.RUNNING


@pytest.mark.parametrize("present", list(ModelRunState))
def test_only_a_model_that_is_scored_goes_back(database: Database, present: ModelRunState) -> None:
    arrange(database, ranking=RankingState.RUNNING, run=present)
    with database.transaction() as session:
        Rankings(session).extract_again(*IDS)
    expected = ModelRunState.EXTRACTING if present is ModelRunState.SCORING else present
    assert found(database)[1] is expected


@pytest.mark.parametrize("present", list(ModelRunState))
def test_progress_of_a_model_that_has_ended_is_not_written(database: Database, present: ModelRunState) -> None:
    arrange(database, ranking=RankingState.RUNNING, run=present)
    with database.transaction() as session:
        Rankings(session).update_run(*IDS, stage="forward", done=1, total=2)
    with database.reading() as session:
        assert (session.get_one(RankingModel, IDS).stage == "forward") is bool(RUN_MOVES[present])
