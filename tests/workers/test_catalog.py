"""The catalog of timm's models: what is published of each, and where it comes from."""

import pytest
import timm
import torch

from app.contracts.catalog import PublishedModel
from workers.catalog import facts, measure, sources
from workers.catalog.publish import publish_catalog


@pytest.fixture(scope="module")
def catalog() -> dict[str, PublishedModel]:
    return {entry.name: entry for entry in publish_catalog()}


def test_every_pre_trained_name_is_published(catalog: dict[str, PublishedModel]) -> None:
    assert set(catalog) == set(timm.list_pretrained())


def test_facts_of_a_well_known_model(catalog: dict[str, PublishedModel]) -> None:
    entry = catalog["resnet50.a1_in1k"]
    assert (entry.architecture, entry.family, entry.tag) == ("resnet50", "resnet", "a1_in1k")
    # The publication of ResNet-50: 25.6 million parameters, 4.1 billion multiply-adds.
    assert entry.parameters == 25_557_032
    assert entry.gmacs == pytest.approx(4.09, abs=0.01)
    assert (entry.input_size, entry.license, entry.source_dataset) == (224, "apache-2.0", "imagenet-1k")
    assert entry.top1 == 81.240
    assert set(entry.details.sources) == {"license", "parameters", "gmacs", "weight_bytes", "top1"}


def test_counted_parameters_are_those_of_the_built_network() -> None:
    for name in ("test_resnet.r160_in1k", "mobilenetv3_small_050.lamb_in1k"):
        model = timm.create_model(name, pretrained=False)
        assert facts.table()[name].parameters == sum(parameter.numel() for parameter in model.parameters())
        state = model.state_dict().values()
        assert facts.table()[name].weight_bytes == sum(tensor.numel() * tensor.element_size() for tensor in state)


def test_measuring_again_gives_the_shipped_numbers() -> None:
    shipped = facts.table()["test_vit.r160_in1k"]
    again = measure.measure("test_vit.r160_in1k")
    assert (again["parameters"], again["gmacs"], again["weight_bytes"]) == (
        shipped.parameters,
        shipped.gmacs,
        shipped.weight_bytes,
    )


def test_multiply_adds_of_one_convolution_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    class Config:
        input_size = (3, 8, 8)

    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: Config)
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: torch.nn.Conv2d(3, 5, 3, padding=1, bias=False))
    # 8 x 8 places, 5 outputs, 3 inputs of 3 x 3 each.
    assert measure.measure("convolution")["gmacs"] == round(8 * 8 * 5 * 3 * 9 / 1e9, 4)


def test_most_models_of_timms_table_have_their_accuracy() -> None:
    known = [fact for fact in facts.table().values() if fact.top1 is not None]
    assert len(known) == 1177
    assert all(0 < fact.top1 <= 100 and fact.top1_input_size for fact in known)


@pytest.mark.parametrize(
    ("tag", "data", "source"),
    [
        ("a1_in1k", ["imagenet-1k"], "imagenet-1k"),
        ("augreg_in21k_ft_in1k", ["imagenet-21k", "imagenet-1k"], "imagenet-1k"),
        ("clip_laion2b_soup_ft_in12k", ["laion-2b", "imagenet-12k"], "imagenet-12k"),
        ("lvd142m", ["lvd-142m"], "lvd-142m"),
        ("apple_pt", [], None),
    ],
)
def test_training_data_is_read_off_the_tag(tag: str, data: list[str], source: str | None) -> None:
    assert sources.training_data(tag) == data
    assert sources.source_dataset(tag, classes=1000) == source


def test_without_a_classifier_there_are_no_source_classes() -> None:
    assert sources.source_dataset("lvd142m", classes=0) is None
