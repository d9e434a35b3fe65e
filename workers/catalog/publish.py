"""The catalog of what the installed timm can build, for the API to search without timm."""

from functools import cache
from typing import Any

import timm

from workers.catalog import facts, sources


def publish_catalog() -> list[dict[str, Any]]:
    """Every pre-trained name of the installed timm, without building any model.

    Returns:
        One dictionary a name, with the columns of ``CatalogModel``. What is not known is None.
    """
    known = facts.table()
    return [_entry(name, known.get(name, facts.Facts())) for name in timm.list_pretrained()]


def _entry(name: str, fact: facts.Facts) -> dict[str, Any]:
    config: Any = timm.get_pretrained_cfg(name)
    architecture, _, tag = name.partition(".")
    details: dict[str, Any] = {"input_size": list(config.input_size), "description": config.description}
    details["sources"] = {
        "license": f"timm {timm.__version__}",
        **{what: source for what, source in facts.SOURCES.items() if getattr(fact, what) is not None},
    }
    if fact.top1_input_size is not None:
        details["top1_input_size"] = fact.top1_input_size
    return {
        "name": name,
        "architecture": architecture,
        "family": family(architecture),
        "tag": tag,
        "parameters": fact.parameters,
        "gmacs": fact.gmacs,
        "weight_bytes": fact.weight_bytes,
        "input_size": config.input_size[-1],
        "source_classes": config.num_classes,
        "license": config.license if config.license != "unknown" else None,
        "source_dataset": sources.source_dataset(tag, classes=config.num_classes),
        "training_data": sources.training_data(tag),
        "top1": fact.top1,
        "details": details,
    }


@cache
def family(architecture: str) -> str:
    """timm's own grouping: the module that defines the architecture, such as ``resnet`` or ``vision_transformer``."""
    return timm.model_entrypoint(architecture).__module__.rpartition(".")[2]
