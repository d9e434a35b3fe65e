"""The catalog of what the installed timm can build, for the API to search without timm."""

from functools import cache
from typing import Any

import timm

from app.contracts.catalog import CatalogDetails, PublishedModel
from workers.catalog import facts, sources


def publish_catalog() -> list[PublishedModel]:
    """Every pre-trained name of the installed timm, without building any model."""
    known = facts.table()
    return [_entry(name, known.get(name, facts.Facts())) for name in timm.list_pretrained()]


def _entry(name: str, fact: facts.Facts) -> PublishedModel:
    config: Any = timm.get_pretrained_cfg(name)
    architecture, _, tag = name.partition(".")
    known = {what: source for what, source in facts.SOURCES.items() if getattr(fact, what) is not None}
    return PublishedModel(
        name=name,
        architecture=architecture,
        family=family(architecture),
        tag=tag,
        parameters=fact.parameters,
        gmacs=fact.gmacs,
        weight_bytes=fact.weight_bytes,
        input_size=config.input_size[-1],
        source_classes=config.num_classes,
        license=config.license if config.license != "unknown" else None,
        source_dataset=sources.source_dataset(tag, classes=config.num_classes),
        training_data=sources.training_data(tag),
        top1=fact.top1,
        details=CatalogDetails(
            input_size=config.input_size,
            description=config.description,
            sources={"license": f"timm {timm.__version__}"} | known,
            top1_input_size=fact.top1_input_size,
        ),
    )


@cache
def family(architecture: str) -> str:
    """timm's own grouping: the module that defines the architecture, such as ``resnet`` or ``vision_transformer``."""
    return timm.model_entrypoint(architecture).__module__.rpartition(".")[2]
