"""Where what is past its time is: rows of our tables, the engine's tables, the feature store."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy.orm import Session

from app import shared_home
from app.contracts.retention import Kind, Rule
from app.db.fine_tuning_tables import FineTuning
from app.db.repositories.retention import OF_DELIVERY, OF_FINE_TUNING, OF_RANKING, OF_RUN, OF_SCORE, Expired, Needed
from app.db.schedule_tables import ScheduleRun
from app.db.tables import Base, Ranking, Score, now
from app.db.webhook_tables import Delivery
from app.settings import Settings
from workers import engine
from workers.runtime import Runtime
from workers.store.features import entries_of

# Told of what went, in the transaction in which it went where there is one: (session, how many, bytes).
Tell = Callable[[Session, int, int], None]


@dataclass(frozen=True, slots=True)
class Found:
    """Ids of what may go, the oldest first, and how many are past their time but needed."""

    identifiers: list[str]
    kept: int = 0


class Source(ABC):
    """One kind of thing.

    Attributes:
        at_once: how many of them go in one piece, so that no transaction is long.
    """

    at_once = 200

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    @abstractmethod
    def find(self, rule: Rule) -> Found:
        """What is past its time by the rule."""

    @abstractmethod
    def measure(self, identifiers: Sequence[str]) -> tuple[int, int]:
        """How many things would go with these, and their bytes."""

    @abstractmethod
    def remove(self, identifiers: Sequence[str], tell: Tell) -> None:
        """Let them go."""


def before(rule: Rule) -> datetime | None:
    """The moment before which things are past their time."""
    return None if rule.days is None else now() - timedelta(days=rule.days)


class Rows(Source):
    """Rows of our tables, with all that hangs on them."""

    table: type[Base]
    parts: Sequence[tuple[type[Base], str]]

    @abstractmethod
    def past(self, session: Session, rule: Rule) -> list[str]:
        """Ids of what is past its time."""

    def needed(self, session: Session) -> set[str]:
        """Ids of what stays nevertheless."""
        return set()

    def files_of(self, identifier: str) -> Path | None:
        """A folder that goes with the row."""
        return None

    def find(self, rule: Rule) -> Found:
        with self.runtime.database.reading() as session:
            past = self.past(session, rule)
            needed = self.needed(session) if past else set()
        going = [identifier for identifier in past if identifier not in needed]
        return Found(going, kept=len(past) - len(going))

    def measure(self, identifiers: Sequence[str]) -> tuple[int, int]:
        with self.runtime.database.reading() as session:
            return len(identifiers), self._bytes(session, identifiers)

    def _bytes(self, session: Session, identifiers: Sequence[str]) -> int:
        folders = (self.files_of(identifier) for identifier in identifiers)
        files = sum(size_of(folder) for folder in folders if folder is not None)
        return files + Expired(session).characters(self.parts, identifiers)

    def remove(self, identifiers: Sequence[str], tell: Tell) -> None:
        with self.runtime.transaction() as session:
            size = self._bytes(session, identifiers)
            # Files first: if this is interrupted, the rows are found again.
            for identifier in identifiers:
                if (folder := self.files_of(identifier)) is not None:
                    shared_home.remove(self.runtime.settings, folder)
            tell(session, Expired(session).delete(self.table, identifiers), size)


class OldRankings(Rows):
    """Rankings that ended, with their tables, events and terms of ensembles; scores and evidence stay."""

    # A ranking of a large zoo has tens of thousands of rows.
    at_once = 5
    table, parts = Ranking, OF_RANKING

    def past(self, session: Session, rule: Rule) -> list[str]:
        return Expired(session).rankings(before=before(rule), newest=rule.newest)

    def needed(self, session: Session) -> set[str]:
        return Needed(session).rankings()

    def files_of(self, identifier: str) -> Path | None:
        return self.runtime.settings.rankings_folder / identifier


class OldFineTunings(Rows):
    """Fine-tunings that ended, with their runs and the weights that they kept; what they taught the history stays."""

    table, parts = FineTuning, OF_FINE_TUNING

    def past(self, session: Session, rule: Rule) -> list[str]:
        return Expired(session).fine_tunings(before=before(rule), newest=rule.newest)

    def files_of(self, identifier: str) -> Path | None:
        return self.runtime.settings.fine_tunings_folder / identifier


class OldRuns(Rows):
    """Runs of schedules that ended, with their reports."""

    table, parts = ScheduleRun, OF_RUN

    def past(self, session: Session, rule: Rule) -> list[str]:
        return Expired(session).runs(before=before(rule), newest=rule.newest)

    def needed(self, session: Session) -> set[str]:
        return Needed(session).runs()


class OldDeliveries(Rows):
    """Messages to webhooks that ended, with their attempts."""

    table, parts = Delivery, OF_DELIVERY

    def past(self, session: Session, rule: Rule) -> list[str]:
        return Expired(session).deliveries(before=before(rule), newest=rule.newest)


class UnusedScores(Rows):
    """Scores that no ranking shows."""

    table, parts = Score, OF_SCORE

    def past(self, session: Session, rule: Rule) -> list[str]:
        return Expired(session).scores(before=before(rule))


class OldJobs(Source):
    """Jobs that ended. A child goes with its parent, which may still ask for its answer."""

    def find(self, rule: Rule) -> Found:
        past = self.runtime.jobs.ended(before=before(rule), newest=rule.newest)
        with self.runtime.database.reading() as session:
            needed = engine.waited_for(session)
        going = [job for job in past if job not in needed]
        return Found(going, kept=len(past) - len(going))

    def measure(self, identifiers: Sequence[str]) -> tuple[int, int]:
        with self.runtime.database.reading() as session:
            return engine.size_of_jobs(session, identifiers)

    def remove(self, identifiers: Sequence[str], tell: Tell) -> None:
        number, size = self.measure(identifiers)
        self.runtime.jobs.forget(identifiers)
        with self.runtime.transaction() as session:
            tell(session, number, size)


class OldEvidence(Source):
    """Entries of the feature store, by when they were last used."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._store = entries_of(runtime.settings)
        self._bytes: dict[str, int] = {}

    def find(self, rule: Rule) -> Found:
        entries = sorted(self._store.entries(), key=lambda entry: entry.used_at)
        self._bytes = {entry.key: entry.bytes for entry in entries}
        moment = before(rule)
        oldest_kept = float("-inf") if moment is None else moment.timestamp()
        too_many = 0 if rule.newest is None else max(0, len(entries) - rule.newest)
        past = [entry.key for place, entry in enumerate(entries) if place < too_many or entry.used_at < oldest_kept]
        with self.runtime.database.reading() as session:
            needed = Needed(session).evidence() if past else set()
        going = [key for key in past if key not in needed]
        return Found(going, kept=len(past) - len(going))

    def measure(self, identifiers: Sequence[str]) -> tuple[int, int]:
        return len(identifiers), sum(self._bytes[key] for key in identifiers)

    def remove(self, identifiers: Sequence[str], tell: Tell) -> None:
        # What is read at this moment stays.
        gone = [key for key in identifiers if self._store.delete(key)]
        with self.runtime.transaction() as session:
            tell(session, *self.measure(gone))


SOURCES: dict[Kind, type[Source]] = {
    Kind.RANKINGS: OldRankings,
    Kind.FINETUNES: OldFineTunings,
    Kind.RUNS: OldRuns,
    Kind.DELIVERIES: OldDeliveries,
    Kind.JOBS: OldJobs,
    Kind.EVIDENCE: OldEvidence,
    Kind.SCORES: UnusedScores,
}


def rules(settings: Settings) -> dict[Kind, Rule]:
    """What the settings say, in the order in which things go: rankings first, since they hold scores."""

    def rule(days: float, count: int) -> Rule:
        return Rule(days=days or None, newest=count or None)

    evidence = rule(settings.evidence_history_days, settings.evidence_history_count)
    return {
        Kind.RANKINGS: rule(settings.ranking_history_days, settings.ranking_history_count),
        Kind.FINETUNES: rule(settings.finetune_history_days, settings.finetune_history_count),
        Kind.RUNS: rule(settings.run_history_days, settings.run_history_count),
        Kind.DELIVERIES: rule(settings.delivery_history_days, settings.delivery_history_count),
        Kind.JOBS: rule(settings.job_history_days, settings.job_history_count),
        Kind.EVIDENCE: evidence,
        Kind.SCORES: Rule(days=evidence.days),
    }


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder; 0 if there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
