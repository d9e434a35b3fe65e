"""Fine-tuned weights as a file that timm loads."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from app.contracts.models import InputConfiguration, ModelCard

TIMM, SEPARATE = "timm", "body and head"


def export(network: Any, file: Path, *, card: ModelCard, config: InputConfiguration, classes: list[str]) -> None:
    """Write a fine-tuned network as safetensors.

    With the layout ``timm``, ``timm.create_model(architecture, num_classes=len(classes), **arguments)`` loads it. A
    network whose classifier is more than a matrix keeps its head apart: ``body.*`` and ``head.*``. The file's metadata
    say which, and hold ``architecture``, ``arguments``, ``input`` and ``classes`` as JSON.

    Args:
        network: with ``body`` and ``head``, see `workers.device.fine_tuning`.
        classes: names, in the order of the outputs.
    """
    state, layout = _state(network)
    metadata = {
        "format": "pt",
        "layout": layout,
        "architecture": card.architecture,
        "arguments": json.dumps(card.arguments),
        "input": json.dumps(config.plain()),
        "classes": json.dumps(classes),
    }
    save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, file, metadata=metadata)


def _state(network: Any) -> tuple[dict[str, Tensor], str]:
    body, head = network.body, network.head
    name = next((name for name, module in body.named_modules() if module is body.get_classifier()), None)
    if name and isinstance(body.get_submodule(name), nn.Linear):
        state = {key: value for key, value in body.state_dict().items() if not key.startswith(f"{name}.")}
        return state | {f"{name}.{key}": value for key, value in head.state_dict().items()}, TIMM
    return dict(network.state_dict()), SEPARATE
