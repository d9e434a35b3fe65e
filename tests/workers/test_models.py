import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from timm.models import _builder

from app.contracts.models import ModelCard
from app.settings import Settings
from tests.workers.conftest import MODEL
from workers.device import loading
from workers.device.loading import LoadedModel
from workers.device.weights import check_finite, watched_loading
from workers.errors import ModelRefused, ModelUnavailable

Specify = Callable[..., dict[str, Any]]


def load_model(spec: dict[str, Any], settings: Settings) -> LoadedModel:
    return loading.load_model(MODEL.validate_python(spec), settings)


def inspect_model(spec: dict[str, Any], settings: Settings) -> ModelCard:
    return loading.inspect_model(MODEL.validate_python(spec), settings)


def change_file(spec: dict[str, Any], change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    state = load_file(spec["path"])
    change(state)
    save_file(state, spec["path"])


def write_local_folder(
    folder: Path, *, architecture: str = "test_resnet", config: dict[str, Any] | None = None
) -> Path:
    """A folder as the hub has it: config.json and model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(3)
    model = timm.create_model(architecture, num_classes=5)
    save_file(model.state_dict(), folder / "model.safetensors")
    content = {
        "architecture": architecture,
        "num_classes": 5,
        "num_features": model.num_features,
        "pretrained_cfg": {**model.pretrained_cfg, "num_classes": 5, "input_size": [3, 64, 64], "license": "mit"},
    }
    (folder / "config.json").write_text(json.dumps(content | (config or {})))
    return folder


class TestFile:
    def test_card(self, model_spec: Specify, settings: Settings) -> None:
        card = inspect_model(model_spec(), settings)
        reference = timm.create_model("test_resnet", num_classes=7)
        assert card.architecture == "test_resnet"
        assert card.parameters == sum(parameter.numel() for parameter in reference.parameters())
        assert card.feature_dimension == reference.num_features
        assert card.source_classes == 7
        assert card.input.input_size == (3, 64, 64)
        assert card.stages == ("act1", "layer1", "layer2", "layer3", "layer4")
        assert ModelCard.read(json.loads(json.dumps(card.plain()))) == card

    @pytest.mark.parametrize(("num_classes", "columns"), [(0, 0), (1, 2), (1001, 1001)])
    def test_classes_are_read_from_the_file(
        self, num_classes: int, columns: int, model_spec: Specify, settings: Settings
    ) -> None:
        assert inspect_model(model_spec(num_classes=num_classes), settings).source_classes == columns

    def test_arguments_reach_the_model(self, model_spec: Specify, settings: Settings) -> None:
        spec = model_spec("test_efficientnet", arguments={"pad_type": "same", "bn_eps": 0.001})
        loaded = load_model(spec, settings)
        assert loaded.module.bn1.eps == 0.001
        assert loaded.card.arguments == {"num_classes": 7, "pad_type": "same", "bn_eps": 0.001}

    def test_image_size_argument_is_the_input(self, model_spec: Specify, settings: Settings) -> None:
        spec = model_spec("test_vit", arguments={"img_size": 64}, input={})
        assert inspect_model(spec, settings).input.input_size == (3, 64, 64)

    def test_sixteen_bit_weights_run_in_32(self, model_spec: Specify, settings: Settings) -> None:
        spec = model_spec()
        change_file(spec, lambda state: state.update({name: value.half() for name, value in state.items()}))
        assert {value.dtype for value in load_model(spec, settings).module.parameters()} == {torch.float32}

    def test_the_digest_is_of_the_content(self, model_spec: Specify, settings: Settings) -> None:
        spec = model_spec()
        copy = settings.model_roots[0] / "another name.safetensors"
        state = load_file(spec["path"])
        save_file(dict(reversed(state.items())), copy, metadata={"note": "other bytes"})
        digests = {inspect_model(spec | {"path": path}, settings).weights_digest for path in (spec["path"], str(copy))}
        assert len(digests) == 1

    def test_another_value_is_another_digest(self, model_spec: Specify, settings: Settings) -> None:
        spec = model_spec()
        before = inspect_model(spec, settings).weights_digest
        change_file(spec, lambda state: state["fc.bias"].add_(1e-6))
        assert inspect_model(spec, settings).weights_digest != before

    def test_loading_leaves_the_random_state_alone(self, model_spec: Specify, settings: Settings) -> None:
        torch.manual_seed(0)
        expected = torch.rand(1)
        torch.manual_seed(0)
        load_model(model_spec(), settings)
        assert torch.rand(1) == expected


class TestIncompleteWeights:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda state: state.pop("layer2.0.conv1.weight"), r"1 missing: layer2\.0\.conv1\.weight"),
            (lambda state: state.update(extra=torch.zeros(1)), "1 unexpected: extra"),
            (
                lambda state: state.update({"bn1.bias": torch.zeros(3)}),
                r"1 of another shape: bn1\.bias \(\(3,\) in the file",
            ),
            (lambda state: state.pop("fc.bias"), r"1 missing: fc\.bias"),
            (lambda state: state["bn1.bias"].fill_(torch.nan), r"not finite: bn1\.bias"),
        ],
        ids=["missing", "unexpected", "shape", "half a classifier", "nan"],
    )
    def test_is_refused_and_named(
        self, change: Callable[..., object], message: str, model_spec: Specify, settings: Settings
    ) -> None:
        spec = model_spec()
        change_file(spec, change)
        with pytest.raises(ModelRefused, match=message):
            inspect_model(spec, settings)

    def test_what_a_foreign_loader_skips_is_noticed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def copy_one_tensor(model: torch.nn.Module, *_: Any, **__: Any) -> None:
            torch.nn.init.ones_(model.fc.weight)

        monkeypatch.setattr(_builder, "load_pretrained", copy_one_tensor)
        with watched_loading() as loaded:
            model = timm.create_model("test_resnet", pretrained=True)
        assert loaded == [model]
        with pytest.raises(ModelRefused, match=r"were not in the weights.*conv1"):
            check_finite(model)

    def test_many_names_are_cut(self, model_spec: Specify, settings: Settings) -> None:
        spec = model_spec()
        change_file(spec, lambda state: [state.pop(name) for name in list(state)[:30]])
        with pytest.raises(ModelRefused) as caught:
            inspect_model(spec, settings)
        assert caught.value.detail.startswith("the weights do not fit the architecture completely (30 missing: ")
        assert caught.value.detail.count(",") == 10

    def test_another_width_is_refused(self, model_spec: Specify, settings: Settings) -> None:
        with pytest.raises(ModelRefused, match=r"of another shape: fc\.weight"):
            inspect_model(model_spec() | {"num_classes": 9}, settings)

    def test_another_architecture_is_refused(self, model_spec: Specify, settings: Settings) -> None:
        with pytest.raises(ModelRefused, match="missing"):
            inspect_model(model_spec() | {"architecture": "test_convnext", "num_classes": 7}, settings)


class TestHostileFiles:
    def refuse(self, content: bytes, settings: Settings, match: str, name: str = "x.safetensors") -> None:
        path = settings.model_roots[0] / name
        path.write_bytes(content)
        with pytest.raises(ModelRefused, match=match):
            inspect_model({"kind": "file", "path": str(path), "architecture": "test_resnet"}, settings)

    def test_a_pickle_named_safetensors_is_not_run(self, settings: Settings, tmp_path: Path) -> None:
        class Bomb:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.touch, (tmp_path / "run",))

        self.refuse(pickle.dumps(Bomb()), settings, "not a sound safetensors file")
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        "content",
        [
            struct.pack("<Q", 2**60) + b"{}",
            struct.pack("<Q", 100)
            + b'{"a":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4]}}'.ljust(100)
            + b"0000",
            struct.pack("<Q", 70) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4000000000]}}'.ljust(70),
            b"",
        ],
        ids=["header-size", "shape", "offsets", "empty"],
    )
    def test_a_lying_header(self, content: bytes, settings: Settings) -> None:
        self.refuse(content, settings, "not a sound safetensors file")

    def test_other_suffixes_are_never_read(self, settings: Settings) -> None:
        self.refuse(b"", settings, "not a .safetensors file", name="x.pth")

    @pytest.mark.parametrize("path", ["/etc/passwd", "relative.safetensors", "/proc/self/environ"])
    def test_paths_outside_the_roots(self, path: str, settings: Settings) -> None:
        with pytest.raises(ModelRefused, match="FORERANK_MODEL_ROOTS"):
            inspect_model({"kind": "file", "path": path, "architecture": "test_resnet"}, settings)

    def test_links_out_of_the_roots(self, model_spec: Specify, settings: Settings, tmp_path: Path) -> None:
        spec = model_spec()
        outside = tmp_path / "outside.safetensors"
        Path(spec["path"]).rename(outside)
        Path(spec["path"]).symlink_to(outside)
        with pytest.raises(ModelRefused, match="FORERANK_MODEL_ROOTS"):
            inspect_model(spec, settings)

    def test_the_zoo_folder_is_a_root(self, model_spec: Specify, settings: Settings) -> None:
        spec = model_spec()
        settings.zoo_folder.mkdir(parents=True)
        path = settings.zoo_folder / "model.safetensors"
        Path(spec["path"]).rename(path)
        assert inspect_model(spec | {"path": str(path)}, settings).source_classes == 7


class TestSpecification:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"architecture": "test_resnett"}, "Did you mean test_resnet"),
            ({"architecture": "test_resnet.r160_in1k"}, "without a tag"),
            ({"arguments": {"pretrained": True}}, "the arguments pretrained cannot be given"),
            ({"arguments": {"nonsense": 1}}, "timm cannot build test_resnet with"),
            ({"input": {"input_size": [1, 64, 64]}}, "1 channels: only RGB"),
            ({"input": {"std": [0.0, 1.0, 1.0]}}, "std above 0"),
            ({"input": {"mean": [0.5, 0.5]}}, "is not sound|three values"),
        ],
    )
    def test_faults_name_the_fix(
        self, change: dict[str, Any], message: str, model_spec: Specify, settings: Settings
    ) -> None:
        with pytest.raises(ModelRefused, match=message):
            inspect_model(model_spec() | change, settings)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("resnet5O", "Did you mean resnet50"),
            ("resnet50.nope", r"It has: resnet50\.a1_in1k"),
            ("owner/name", "use the kind hf-hub"),
            ("test_efficientnet_ln_x", "no architecture"),
        ],
    )
    def test_timm_names(self, name: str, message: str, settings: Settings) -> None:
        with pytest.raises(ModelRefused, match=message):
            inspect_model({"kind": "timm", "name": name}, settings)


class TestLocalFolder:
    def test_is_loaded_as_saved(self, settings: Settings) -> None:
        folder = write_local_folder(settings.model_roots[0] / "mine")
        card = inspect_model({"kind": "local-dir", "path": str(folder)}, settings)
        assert (card.source_classes, card.license, card.input.input_size) == (5, "mit", (3, 64, 64))

    def test_agrees_with_the_same_weights_as_a_file(self, settings: Settings) -> None:
        folder = write_local_folder(settings.model_roots[0] / "mine")
        file = {"kind": "file", "path": str(folder / "model.safetensors"), "architecture": "test_resnet"}
        cards = [inspect_model(spec, settings) for spec in ({"kind": "local-dir", "path": str(folder)}, file)]
        assert cards[0].weights_digest == cards[1].weights_digest
        assert cards[0].arguments == cards[1].arguments

    def test_a_classifier_that_timm_would_drop_is_refused(self, settings: Settings) -> None:
        folder = write_local_folder(settings.model_roots[0] / "mine", config={"model_args": {"num_classes": 9}})
        with pytest.raises(ModelRefused, match=r"2 missing: fc\.weight, fc\.bias"):
            inspect_model({"kind": "local-dir", "path": str(folder)}, settings)

    def test_missing_weights_are_refused(self, settings: Settings) -> None:
        folder = write_local_folder(settings.model_roots[0] / "mine")
        change_file({"path": folder / "model.safetensors"}, lambda state: state.pop("conv1.0.weight"))
        with pytest.raises(ModelRefused, match=r"1 missing: conv1\.0\.weight"):
            inspect_model({"kind": "local-dir", "path": str(folder)}, settings)

    def test_a_pickle_in_place_of_weights_is_not_run(self, settings: Settings, tmp_path: Path) -> None:
        class Bomb:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.touch, (tmp_path / "run",))

        folder = write_local_folder(settings.model_roots[0] / "mine")
        (folder / "model.safetensors").unlink()
        torch.save({"state_dict": Bomb()}, folder / "pytorch_model.bin")
        with pytest.raises(ModelRefused, match="weights_only"):
            inspect_model({"kind": "local-dir", "path": str(folder)}, settings)
        assert not (tmp_path / "run").exists()

    def test_plain_tensors_in_the_old_format_are_read(self, settings: Settings) -> None:
        folder = write_local_folder(settings.model_roots[0] / "mine")
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
        assert inspect_model({"kind": "local-dir", "path": str(folder)}, settings).source_classes == 5

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"architecture": "nothing"}, "Unknown model"),
            ({"model_args": {"features_only": True}}, "the arguments features_only cannot be given"),
            ({"pretrained_cfg": {"input_size": [3, 0, 64]}}, "between 1 and 4096|not sound"),
            ({"pretrained_cfg": {"interpolation": "cubist"}}, "unknown interpolation 'cubist'"),
            ({"pretrained_cfg": {"crop_mode": "spiral"}}, "unknown crop mode 'spiral'"),
            ({"pretrained_cfg": {"crop_pct": 7.0}}, "crop_pct must lie between"),
            (None, "has no config.json"),
        ],
    )
    def test_faults_are_named(self, config: dict[str, Any] | None, message: str, settings: Settings) -> None:
        folder = write_local_folder(settings.model_roots[0] / "mine", config=config)
        if config is None:
            (folder / "config.json").unlink()
        with pytest.raises(ModelRefused, match=message):
            inspect_model({"kind": "local-dir", "path": str(folder)}, settings)

    def test_a_link_inside_that_leads_out_is_refused(self, settings: Settings, tmp_path: Path) -> None:
        folder = write_local_folder(settings.model_roots[0] / "mine")
        (folder / "model.safetensors").rename(tmp_path / "out.safetensors")
        (folder / "model.safetensors").symlink_to(tmp_path / "out.safetensors")
        with pytest.raises(ModelRefused, match="a link that leads outside"):
            inspect_model({"kind": "local-dir", "path": str(folder)}, settings)


class TestHub:
    @pytest.fixture
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        return tmp_path / "hub"

    def test_weights_in_the_cache_need_no_network(self, cache: Path, settings: Settings) -> None:
        repository = cache / "models--owner--name"
        revision = "0123456789012345678901234567890123456789"
        write_local_folder(repository / "snapshots" / revision)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(revision)
        assert inspect_model({"kind": "hf-hub", "name": "owner/name", "revision": None}, settings).source_classes == 5

    @pytest.mark.parametrize(
        "spec", [{"kind": "hf-hub", "name": "owner/other"}, {"kind": "timm", "name": "resnet18.a1_in1k"}]
    )
    def test_out_of_reach_says_what_to_do(self, spec: dict[str, Any], cache: Path, settings: Settings) -> None:
        with pytest.raises(ModelUnavailable, match=r"fill the cache first.*local-dir"):
            inspect_model(spec, settings)

    def test_an_address_that_refuses_is_out_of_reach_at_once(
        self, cache: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(ModelUnavailable, match="cannot be reached"):
            inspect_model({"kind": "hf-hub", "name": "owner/other"}, settings)
        assert constants.HF_HUB_OFFLINE is False


def test_the_single_logit_is_a_pair(model_spec: Specify, settings: Settings) -> None:
    from workers.device.forward import forward, probabilities

    loaded = load_model(model_spec(num_classes=1), settings)
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        _, logits = forward(loaded.module, images)
        logit = loaded.module(images)[:, 0].double().numpy()
    assert logits is not None
    positive = 1 / (1 + np.exp(-logit))
    np.testing.assert_allclose(probabilities(logits).numpy(), np.stack([1 - positive, positive], axis=1), rtol=1e-6)
