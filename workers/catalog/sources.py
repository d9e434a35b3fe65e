"""What timm's tags say of the data that weights were trained on."""

import re

# Part of a tag -> the data set, by its usual name. Parts that name recipes, authors or sizes are not listed.
DATA = {
    "in1k": "imagenet-1k",
    "in12k": "imagenet-12k",
    "in21k": "imagenet-21k",
    "in22k": "imagenet-22k",
    "inw21k": "imagenet-w21k",
    "laion2b": "laion-2b",
    "laion400m": "laion-400m",
    "laiona": "laion-aesthetic",
    "openai": "openai-wit-400m",
    "webli": "webli",
    "datacomp1b": "datacomp-1b",
    "datacompxl": "datacomp-1b",
    "dfn2b": "dfn-2b",
    "dfn5b": "dfn-5b",
    "dfndr2b": "dfndr-2b",
    "merged2b": "merged-2b",
    "cc12m": "cc-12m",
    "yfcc15m": "yfcc-15m",
    "yfcc100m": "yfcc-100m",
    "ig1b": "instagram-1b",
    "swag": "instagram-3.6b",
    "jft": "jft-300m",
    "lvd142m": "lvd-142m",
    "lvd1689m": "lvd-1689m",
    "sat493m": "sat-493m",
    "sa1b": "sa-1b",
    "m30m": "merged-30m",
    "m38m": "merged-38m",
    "bamboo": "bamboo",
}
PARTS = re.compile(r"[_.]")


def training_data(tag: str) -> list[str]:
    """The data sets that a tag names, first to last; the last is what the weights were trained on most recently."""
    found = [DATA[part] for part in PARTS.split(tag) if part in DATA]
    return list(dict.fromkeys(found))


def source_dataset(tag: str, *, classes: int) -> str | None:
    """The data set whose classes the classifier knows: the last that the tag names; None without a classifier."""
    data = training_data(tag)
    return data[-1] if data and classes > 0 else None
