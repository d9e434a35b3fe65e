"""Arguments that users choose: giants are refused unbuilt, and what an architecture fixes can be given."""

import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from timm.models.efficientnet import EfficientNet, decode_arch_def, round_channels

from app.settings import Settings
from tests.workers.conftest import MODEL
from workers.device.extractor import Extractor
from workers.device.loading import load_model
from workers.errors import ModelRefused, Problem

Specify = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arguments": {"depth": 10**9}}, "the argument depth holds 1e[+]09"),
        ({"arguments": {"mlp_ratio": 1e12}}, "the argument mlp_ratio holds 1e[+]12"),
        ({"arguments": {"depth": 60_000}}, "far more parameters than the"),
        ({"arguments": {"embed_dim": 60_000}}, "of another shape"),
        ({"arguments": {"img_size": 4096}}, "of another shape: pos_embed"),
        ({"num_classes": 10**6}, "the argument num_classes holds 1e[+]06"),
        ({"num_classes": 60_000}, r"of another shape: head\.weight"),
    ],
)
def test_a_giant_is_refused_before_it_is_built(
    change: dict[str, Any], message: str, model_spec: Specify, settings: Settings
) -> None:
    spec = model_spec("test_vit")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelRefused, match=message):
        load_model(MODEL.validate_python(spec | change), settings)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kilobytes


def test_repeats_inside_a_definition_of_blocks_count_too(model_spec: Specify, settings: Settings) -> None:
    spec = model_spec("test_efficientnet")
    with pytest.raises(ModelRefused, match="the argument arch_def holds 1e"):
        load_model(
            MODEL.validate_python(spec | {"arguments": {"arch_def": [["ir_r1000000000_k3_s1_e3_c16"]]}}), settings
        )


def test_a_width_that_the_architecture_fixes_can_be_given(settings: Settings) -> None:
    """A MobileNetV1 of a quarter of the width, made of timm's parts, as files of such models are."""
    blocks = ["dsa_r1_k3_s1_c64", "dsa_r2_k3_s2_c128", "dsa_r2_k3_s2_c256", "dsa_r6_k3_s2_c512", "dsa_r2_k3_s2_c1024"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = EfficientNet(
            block_args=decode_arch_def([[block] for block in blocks]),
            round_chs_fn=partial(round_channels, multiplier=0.25),
            num_classes=7,
            num_features=0,
            stem_size=32,
            pad_type="same",
            act_layer=torch.nn.ReLU6,
        ).eval()
        images = torch.randn(2, 3, 64, 64)
    path = settings.model_roots[0] / "narrow.safetensors"
    save_file(model.state_dict(), path)
    loaded = load_model(
        MODEL.validate_python(
            {
                "kind": "file",
                "path": str(path),
                "architecture": "mobilenetv1_100",
                "arguments": {"channel_multiplier": 0.25, "pad_type": "same"},
                "num_classes": None,
                "input": {"input_size": [3, 64, 64]},
            }
        ),
        settings,
    )
    assert loaded.card.arguments == {"num_classes": 7, "channel_multiplier": 0.25, "pad_type": "same"}
    with torch.inference_mode():
        torch.testing.assert_close(loaded.module(images), model(images), rtol=0, atol=0)


def test_an_input_that_needs_too_much_memory_fails_this_model_alone(
    model_spec: Specify, settings: Settings, tmp_path: Path
) -> None:
    spec = model_spec()
    limited = settings.model_copy(update={"extractor_memory_megabytes": 150.0})
    with Extractor(limited) as extractor:
        with pytest.raises(Problem, match=r"one image of 4096 x 4096 needs more memory.*smaller input_size") as caught:
            extractor.inspect_model(MODEL.validate_python(spec | {"input": {"input_size": [3, 4096, 4096]}}))
        assert caught.value.code == "model-refused"
        process = extractor.process_id
        assert extractor.inspect_model(MODEL.validate_python(spec)).source_classes == 7
        assert extractor.process_id == process
