"""Where this host has the images of a data set: uploads by its id, data sets in buckets by what was inspected."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.contracts.datasets import BuiltinSpec, DatasetSpec
from app.paths import upload_folder
from app.settings import Settings
from app.shared_home import fetch_folder
from workers.images.buckets import copied, copy_folder


def placed(spec: DatasetSpec, dataset_id: str, settings: Settings) -> DatasetSpec:
    """The specification with the place of an upload or a copy on this host; others are as they were registered."""
    if isinstance(spec, BuiltinSpec):
        return spec
    if spec.url:
        return spec.model_copy(update={"path": str(copy_folder(spec, settings))})
    if not spec.uploaded:
        return spec
    return spec.model_copy(update={"path": str(upload_folder(settings, dataset_id))})


@contextmanager
def at_hand(spec: DatasetSpec, dataset_id: str, settings: Settings) -> Iterator[DatasetSpec]:
    """As `placed`; the images are there, if the shared storage or the bucket has them, and stay until the end.

    Raises:
        DatasetChanged: the bucket does not hold what was inspected.
        DatasetRejected: a data set in a bucket cannot be copied.
        StorageFull, StorageUnavailable, TimeLimitExceeded: as they say.
    """
    if isinstance(spec, BuiltinSpec):
        yield spec
    elif spec.url:
        with copied(spec, settings) as spec_here:
            yield spec_here
    else:
        if spec.uploaded:
            fetch_folder(settings, upload_folder(settings, dataset_id))
        yield placed(spec, dataset_id, settings)
