"""Whether the files of a local model are still those that were digested; none of them is opened."""

from app.contracts.models import LocalFolderSpec, ModelCard, ModelSpec, WeightsFile, WeightsFileSpec
from app.paths import OutsideRoots, model_roots
from app.settings import Settings


def is_local(spec: ModelSpec) -> bool:
    """Whether others may change the weights: they lie under a model root."""
    return isinstance(spec, LocalFolderSpec | WeightsFileSpec)


def files_of(spec: ModelSpec, settings: Settings) -> tuple[WeightsFile, ...]:
    """The files of a local model; none if they cannot be reached, or the model is not local."""
    if not isinstance(spec, LocalFolderSpec | WeightsFileSpec):
        return ()
    try:
        path = model_roots(settings).resolve(spec.path)
        files = sorted(path.iterdir()) if isinstance(spec, LocalFolderSpec) else [path]
        status = [(file.name, file.stat()) for file in files if file.is_file()]
    except (OutsideRoots, OSError):
        return ()
    return tuple(WeightsFile(path=name, size=one.st_size, mtime_ns=one.st_mtime_ns) for name, one in status)


def has_changed(spec: ModelSpec, card: ModelCard | None, settings: Settings) -> bool:
    """Whether a file came, went, or has another size or time of modification.

    A model that was digested before this was written down, or whose files are gone, has changed, too.
    """
    found = files_of(spec, settings)
    return card is None or not found or card.files != found
