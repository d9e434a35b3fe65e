"""How many bytes an owner stores, and how many they may.

Uploads and fine-tuned weights count: nobody else needs them, and only their owner can delete them. Evidence and decoded
images do not: they are found by content, so that one entry serves every key that asks the same, they are computed again
when they are gone, and quotas of the whole deployment bound them.
"""

from pathlib import Path

from sqlalchemy.orm import Session

from app.contracts.datasets import BuiltinSpec
from app.db.repositories.datasets import Datasets
from app.db.repositories.finetunes import FineTunings
from app.db.session import Database
from app.errors import QuotaExceeded
from app.paths import upload_folder
from app.schemas.usage import StoredThing, UsageAnswer
from app.settings import Settings
from app.shared_home import shared_bytes

GIGABYTE = 1e9
SHOWN = 100
NAMED = 3
# An honest archive is not twice as large as what it holds.
SURELY_LARGER, HEADERS = 2, 1_000_000


def quota(settings: Settings) -> int | None:
    """Bytes that one owner may store; None: any number."""
    return int(settings.owner_quota_gigabytes * GIGABYTE) or None


def of(session: Session, settings: Settings, owner: str) -> UsageAnswer:
    """What an owner stores."""
    stored = _stored(session, settings, owner)
    used, allowed = sum(thing.bytes for thing in stored), quota(settings)
    return UsageAnswer(
        owner=owner,
        used_bytes=used,
        quota_bytes=allowed,
        free_bytes=None if allowed is None else max(0, allowed - used),
        largest=sorted(stored, key=lambda thing: (-thing.bytes, thing.id))[:SHOWN],
    )


def _stored(session: Session, settings: Settings, owner: str) -> list[StoredThing]:
    uploads = [
        StoredThing(kind="dataset", id=row.id, name=row.name, bytes=row.stored_bytes)
        for row in Datasets(session).stored(owner)
    ]
    tuned = [
        StoredThing(
            kind="finetune",
            id=row.id,
            name=row.name,
            bytes=shared_bytes(settings, settings.fine_tunings_folder / row.id),
        )
        for row in FineTunings(session).with_weights(owner)
    ]
    return [*uploads, *(thing for thing in tuned if thing.bytes)]


def room(database: Database, settings: Settings, owner: str) -> int | None:
    """Bytes that the owner may still store; None: any number."""
    if quota(settings) is None:
        return None
    with database.reading() as session:
        return of(session, settings, owner).free_bytes


def check_before(database: Database, settings: Settings, owner: str, *, sent: int) -> None:
    """Refuse an archive whose files cannot fit, by its own size.

    Raises:
        QuotaExceeded: as of `check`.
    """
    left = room(database, settings, owner)
    if left is not None and sent > SURELY_LARGER * left + HEADERS:
        with database.reading() as session:
            raise exceeded(session, settings, owner)


def check(session: Session, settings: Settings, owner: str, *, adding: int) -> None:
    """Refuse this many more bytes if that is too much; of two requests at once, one waits here for the other's end.

    Raises:
        QuotaExceeded: the owner would store more than they may; the detail names what could be deleted.
    """
    allowed = quota(settings)
    if allowed is None:
        return
    Datasets(session).hold_owner(owner)
    if sum(thing.bytes for thing in _stored(session, settings, owner)) + adding > allowed:
        raise exceeded(session, settings, owner)


def exceeded(session: Session, settings: Settings, owner: str) -> QuotaExceeded:
    """The error, with the largest uploads."""
    usage = of(session, settings, owner)
    named = ", ".join(f"{_size(thing.bytes)} under /v1/{thing.kind}s/{thing.id}" for thing in usage.largest[:NAMED])
    advice = f"delete what you do not need; the largest are {named}" if named else "ask for less at once"
    return QuotaExceeded(
        f"this key may keep {_size(usage.quota_bytes or 0)} of uploads and fine-tuned weights "
        f"(FORERANK_OWNER_QUOTA_GIGABYTES), keeps {_size(usage.used_bytes)}, and this is larger than what is left: "
        f"{advice}"
    )


def _size(number: int) -> str:
    return f"{number / GIGABYTE:.3g} GB" if number >= GIGABYTE else f"{number / 1e6:.3g} MB"


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def count_older_uploads(settings: Settings, database: Database) -> None:
    """Count the bytes of what was uploaded before they were counted."""
    with database.reading() as session:
        rows = Datasets(session).without_bytes()
    uploaded = [row.id for row in rows if not isinstance(row.spec, BuiltinSpec) and row.spec.uploaded]
    sizes = {identifier: size_of(upload_folder(settings, identifier)) for identifier in uploaded}
    if any(sizes.values()):
        with database.transaction() as session:
            for identifier, size in sizes.items():
                row = Datasets(session).get(identifier)
                if row is not None:
                    row.stored_bytes = size
