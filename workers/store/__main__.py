"""`forerank store`: looks after the feature store and the decoded images, wherever they are."""

import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from app.settings import Settings
from app.storage import StorageUnavailable
from workers.copies import stores
from workers.store.entries import EntryStore, StoredEntry

DAMAGED, FULL, AWAY = 1, 1, 4
DAY = 86_400

commands = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="The feature store, the decoded images, and the copies of data sets in buckets.",
    epilog="Exit codes: 0 done, 1 damaged entries were found, or what is in use exceeds the quota, 2 wrong usage, "
    "4 the shared storage does not answer.",
    pretty_exceptions_enable=False,
)


@commands.command()
def show() -> None:
    """Say how many entries there are of each kind, their bytes, how many are in use, and the oldest."""
    for kind, store in stores(Settings()).items():
        entries = _oldest_first(store)
        size = sum(entry.bytes for entry in entries)
        used = f"in use {len(store.in_use())}"
        oldest = f"oldest {_moment(entries[0].used_at)}" if entries else "oldest none"
        typer.echo(
            f"{kind}: {len(entries)} entries, {_megabytes(size)} of {_megabytes(store.quota_bytes)}, {used}, {oldest}"
        )


@commands.command()
def verify() -> None:
    """Hash every file. A damaged entry is put in quarantine, and computed again when it is needed."""
    damaged = 0
    for kind, store in stores(Settings()).items():
        entries = _oldest_first(store)
        for entry in entries:
            if problem := store.verify(entry.key):
                damaged += 1
                typer.echo(f"{kind}: {entry.key}: {problem}", err=True)
        typer.echo(f"{kind}: {len(entries)} entries were read")
    if damaged:
        raise typer.Exit(DAMAGED)


@commands.command()
def prune(
    days: Annotated[float | None, typer.Option("--days", min=0, help="Also what was not used for this long.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go.")] = False,
) -> None:
    """Remove the least recently used entries that no process reads, down to the quota."""
    too_full = False
    for kind, store in stores(Settings()).items():
        entries = _oldest_first(store)
        used = store.in_use()
        left = sum(entry.bytes for entry in entries)
        gone = freed = 0
        for entry in entries:
            is_old = days is not None and time.time() - entry.used_at > days * DAY
            if not is_old and left <= store.quota_bytes:
                break
            if entry.key not in used and (dry_run or store.delete(entry.key)):
                gone, freed, left = gone + 1, freed + entry.bytes, left - entry.bytes
        verb = "would be removed" if dry_run else "were removed"
        typer.echo(f"{kind}: {gone} entries, {_megabytes(freed)}, {verb}; {_megabytes(left)} stay")
        too_full |= left > store.quota_bytes
    if too_full:
        raise typer.Exit(FULL)


def _oldest_first(store: EntryStore) -> list[StoredEntry]:
    return sorted(store.entries(), key=lambda entry: entry.used_at)


def _megabytes(number: int) -> str:
    return f"{number / 1e6:.1f} MB"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    try:
        commands()
    except StorageUnavailable as problem:
        typer.echo(problem.detail, err=True)
        raise SystemExit(AWAY) from problem
