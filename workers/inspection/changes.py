"""Whether the files of a data set are still those that were inspected; no image is opened."""

from app.contracts.datasets import BuiltinSpec, DatasetSpec, ManifestSpec
from app.settings import Settings
from workers.errors import DatasetRejected, Problem
from workers.images.buckets import list_objects
from workers.images.candidates import Allowance, dataset_folder, folder_candidates, manifest_candidates
from workers.images.index import DatasetIndex


def is_by_path(spec: DatasetSpec) -> bool:
    """Whether others may change the images: they were not uploaded, and do not come with a library."""
    return not isinstance(spec, BuiltinSpec) and not spec.uploaded


def has_changed(index: DatasetIndex, settings: Settings) -> bool:
    """Whether a file came, went, changed its class, its size or its time of modification.

    Of an object in a bucket, size and ETag are compared. What cannot be read anymore has changed, too: inspecting it
    again says why.
    """
    spec = index.spec
    if isinstance(spec, BuiltinSpec):
        return False
    if spec.url:
        try:
            return list_objects(spec, settings).version != spec.version
        except Problem:
            return True
    if spec.uploaded and settings.store_url:
        # Nobody can change what the shared storage has, and this host may have no copy.
        return False
    try:
        allowance = Allowance(settings, None)
        folder = dataset_folder(spec, settings)
        if isinstance(spec, ManifestSpec):
            found = list(manifest_candidates(folder, spec, settings, allowance))
        else:
            found = list(folder_candidates(folder, spec, settings, allowance))
    except (DatasetRejected, OSError):
        return True
    unreadable = {entry["path"] for entry in index.unreadable}
    usable = {candidate.path: candidate.class_name for candidate in found if candidate.path not in unreadable}
    known = {path: index.class_names[label] for path, label in zip(index.paths, index.labels.tolist(), strict=True)}
    if usable != known or unreadable - {candidate.path for candidate in found}:
        return True
    try:
        status = [(folder / path).stat() for path in index.paths]
    except OSError:
        return True
    return any(
        one.st_size != size or one.st_mtime_ns != mtime
        for one, size, mtime in zip(status, index.sizes.tolist(), index.mtimes_ns.tolist(), strict=True)
    )
