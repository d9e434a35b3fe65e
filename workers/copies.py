"""What this host copied from buckets, and what writers left in the shared storage."""

import shutil
import time

from app.db.repositories.datasets import Datasets
from app.db.session import Database
from app.settings import Settings
from workers.images.buckets import copies_of
from workers.images.cache import decoded_entries_of
from workers.store.entries import EntryStore
from workers.store.features import entries_of
from workers.store.objects import ObjectStore

SECONDS = 3600.0
# An upload that is registered at this moment has no row yet.
NEW_SECONDS = 86_400.0


def sweep(settings: Settings, database: Database) -> None:
    """Remove copies of data sets that were deleted, and files in the service that no manifest names."""
    for store in stores(settings).values():
        if isinstance(store, ObjectStore):
            store.collect()
    folder = settings.datasets_folder
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.startswith(".") or time.time() - path.stat().st_mtime < NEW_SECONDS:
            continue
        with database.reading() as session:
            row = Datasets(session).get(path.name.removesuffix(".json").removesuffix("-sheet"))
        if row is None:
            shutil.rmtree(path, ignore_errors=True)
            if path.exists():
                path.unlink()


def stores(settings: Settings) -> dict[str, EntryStore]:
    """Every kind of entry, by name."""
    return {"features": entries_of(settings), "images": decoded_entries_of(settings), "copies": copies_of(settings)}
