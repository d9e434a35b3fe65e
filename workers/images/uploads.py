"""Uploads have their place under every host's ``FORERANK_HOME``, by the id of the data set."""

from app.contracts.datasets import BuiltinSpec, DatasetSpec
from app.paths import upload_folder
from app.settings import Settings
from app.shared_home import fetch_folder


def placed(spec: DatasetSpec, dataset_id: str, settings: Settings) -> DatasetSpec:
    """The specification with the place of an upload on this host; others are as they were registered."""
    if isinstance(spec, BuiltinSpec) or not spec.uploaded:
        return spec
    return spec.model_copy(update={"path": str(upload_folder(settings, dataset_id))})


def at_hand(spec: DatasetSpec, dataset_id: str, settings: Settings) -> DatasetSpec:
    """As `placed`; the images of an upload are there, if the shared storage has them."""
    if not isinstance(spec, BuiltinSpec) and spec.uploaded:
        fetch_folder(settings, upload_folder(settings, dataset_id))
    return placed(spec, dataset_id, settings)
