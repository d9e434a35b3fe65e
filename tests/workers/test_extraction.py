"""The evidence against plain loops over timm, for networks of each kind."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.data import create_transform, resolve_model_data_config

from app.contracts.extraction import ExtractionCommand
from app.contracts.models import InputConfiguration
from app.contracts.progress import Progress
from app.settings import Settings
from tests.workers.conftest import MODEL, inspect_folder
from workers.device import extraction, inference
from workers.device.loading import inspect_model
from workers.errors import DatasetChanged, ExtractionFailed, ModelRefused
from workers.images.index import DatasetIndex
from workers.store.features import HEAD, FeatureStore, evidence_keys

Specify = Callable[..., dict[str, Any]]
Extract = Callable[..., ExtractionCommand]
SAMPLE = [0, 2, 5, 6, 11]


def ignore(event: dict[str, Any]) -> None:
    """Progress that nobody follows."""


@pytest.fixture
def index(image_folder: Path, settings: Settings) -> DatasetIndex:
    index = inspect_folder(image_folder, settings)
    index.save(settings.datasets_folder / "animals.json")
    return index


@pytest.fixture
def store(settings: Settings) -> FeatureStore:
    return FeatureStore.of(settings)


@pytest.fixture
def payload(index: DatasetIndex, settings: Settings) -> Callable[..., ExtractionCommand]:
    def build(
        spec: dict[str, Any], layers: tuple[str, ...] = (HEAD,), also: tuple[InputConfiguration, ...] = ()
    ) -> ExtractionCommand:
        model = MODEL.validate_python(spec)
        card = inspect_model(model, settings)
        return ExtractionCommand(
            spec=model,
            card=card,
            dataset_id="animals",
            sample_indices=tuple(SAMPLE),
            keys=evidence_keys(card, dataset_fingerprint=index.fingerprint, sample_indices=SAMPLE, layers=layers),
            transforms_of_job=(card.input, *also),
        )

    return build


def by_hand(spec: dict[str, Any], index: DatasetIndex) -> tuple[torch.nn.Module, torch.Tensor]:
    """timm's own model and pipeline, one image at a time."""
    state = load_file(spec["path"])
    model = timm.create_model(spec["architecture"], num_classes=7, **spec["arguments"])
    model.load_state_dict(state)
    transform = create_transform(**resolve_model_data_config(model, args={"input_size": (3, 64, 64)}))
    root = Path(index.spec.path)
    images = [transform(Image.open(root / index.paths[position]).convert("RGB")) for position in SAMPLE]
    return model.eval(), torch.stack(images)


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        ("test_resnet", {}),
        ("test_efficientnet", {"pad_type": "same"}),
        ("test_vit", {"img_size": 64}),
        ("test_mambaout", {}),
    ],
)
def test_features_and_probabilities_equal_plain_timm(
    architecture: str,
    arguments: dict[str, Any],
    model_spec: Specify,
    payload: Callable[..., dict[str, Any]],
    index: DatasetIndex,
    store: FeatureStore,
    settings: Settings,
) -> None:
    asked = payload(model_spec(architecture, arguments=arguments))
    report = extraction.extract(asked, settings, ignore)
    model, images = by_hand(asked.spec.plain(), index)
    with torch.inference_mode():
        features = model.forward_head(model.forward_features(images), pre_logits=True)
        probabilities = model(images).softmax(dim=1)
    with store.open(asked.keys[HEAD]) as evidence:
        np.testing.assert_allclose(evidence.features, features, atol=1e-5 * float(features.abs().max()))
        np.testing.assert_allclose(evidence.source_probabilities, probabilities, atol=1e-5)
        np.testing.assert_array_equal(evidence.labels, index.labels[SAMPLE])
        np.testing.assert_allclose(evidence.source_probabilities.sum(axis=1), 1, atol=1e-5)
    assert (report.n, report.models_loaded, report.images_decoded) == (5, 1, 5)


@pytest.mark.parametrize(
    ("architecture", "arguments", "layer"),
    [("test_resnet", {}, "layer2"), ("test_vit", {"img_size": 64}, "blocks.3"), ("test_mambaout", {}, "stages.1")],
    ids=["NCHW", "tokens", "NHWC"],
)
def test_a_layer_is_averaged_over_its_positions(
    architecture: str,
    arguments: dict[str, Any],
    layer: str,
    model_spec: Specify,
    payload: Callable[..., dict[str, Any]],
    index: DatasetIndex,
    store: FeatureStore,
    settings: Settings,
) -> None:
    asked = payload(model_spec(architecture, arguments=arguments), (HEAD, layer))
    extraction.extract(asked, settings, ignore)
    model, images = by_hand(asked.spec.plain(), index)
    outputs: list[torch.Tensor] = []
    model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: outputs.append(output))
    with torch.inference_mode():
        model(images)
    (output,) = outputs
    axes = {"layer2": (2, 3), "blocks.3": (1,), "stages.1": (1, 2)}[layer]
    expected = output.numpy().mean(axis=axes)
    with store.open(asked.keys[layer]) as evidence:
        assert evidence.features.shape == expected.shape
        np.testing.assert_allclose(evidence.features, expected, atol=1e-5 * float(np.abs(expected).max()))
        assert evidence.source_probabilities is None
        assert evidence.manifest["layer"] == layer


def test_without_a_classifier_there_are_features_only(
    model_spec: Specify, payload: Callable[..., dict[str, Any]], store: FeatureStore, settings: Settings
) -> None:
    asked = payload(model_spec(num_classes=0))
    extraction.extract(asked, settings, ignore)
    with store.open(asked.keys[HEAD]) as evidence:
        assert evidence.features.shape[0] == 5
        assert evidence.source_probabilities is None


def test_what_is_there_is_not_computed_again(
    model_spec: Specify, payload: Callable[..., dict[str, Any]], settings: Settings
) -> None:
    asked = payload(model_spec())
    extraction.extract(asked, settings, ignore)
    again = extraction.extract(asked, settings, ignore)
    assert (again.models_loaded, again.images_decoded, again.seconds["forward"]) == (0, 0, 0.0)


def test_only_the_missing_layer_is_written(
    model_spec: Specify, payload: Callable[..., dict[str, Any]], store: FeatureStore, settings: Settings
) -> None:
    spec = model_spec()
    extraction.extract(payload(spec), settings, ignore)
    asked = payload(spec, (HEAD, "layer1"))
    report = extraction.extract(asked, settings, ignore)
    assert (report.models_loaded, report.images_decoded) == (1, 0)
    assert store.has_many(asked.keys.values()) == set(asked.keys.values())


def test_one_decode_serves_the_other_models_of_the_job(
    model_spec: Specify, payload: Callable[..., dict[str, Any]], settings: Settings
) -> None:
    first = model_spec()
    second = model_spec("test_efficientnet", input={"input_size": [3, 48, 48]})
    other = payload(second)
    assert extraction.extract(payload(first, also=(other.card.input,)), settings, ignore).images_decoded == 5
    assert extraction.extract(other, settings, ignore).images_decoded == 0


def test_two_runs_agree_bit_for_bit(
    model_spec: Specify, payload: Callable[..., dict[str, Any]], store: FeatureStore, settings: Settings
) -> None:
    asked = payload(model_spec())
    runs = []
    for _ in range(2):
        extraction.extract(asked, settings, ignore)
        with store.open(asked.keys[HEAD]) as evidence:
            runs.append((evidence.features.tobytes(), evidence.source_probabilities.tobytes()))
        assert store.delete(asked.keys[HEAD])
    assert runs[0] == runs[1]


def test_the_manifest_holds_what_the_result_depends_on(
    model_spec: Specify, payload: Callable[..., dict[str, Any]], store: FeatureStore, settings: Settings
) -> None:
    asked = payload(model_spec())
    extraction.extract(asked, settings.model_copy(update={"batch_size": 2}), ignore)
    with store.open(asked.keys[HEAD]) as evidence:
        manifest = evidence.manifest
    assert (manifest["batch_size"], manifest["device"], manifest["n"]) == (2, "cpu", 5)
    assert manifest["versions"]["torch"] == torch.__version__
    assert manifest["class_names"] == ["cat", "dog", "owl"]


def test_progress_goes_through_all_stages(
    model_spec: Specify, payload: Callable[..., dict[str, Any]], settings: Settings
) -> None:
    events: list[Progress] = []
    extraction.extract(payload(model_spec()), settings, events.append)
    assert list(dict.fromkeys(event.stage for event in events)) == ["load", "decode", "forward", "write"]
    assert Progress(stage="forward", done=5, total=5, batch_size=16) in events


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near_and_is_evidence_of_its_own(
    precision: str,
    model_spec: Specify,
    payload: Callable[..., dict[str, Any]],
    store: FeatureStore,
    settings: Settings,
) -> None:
    asked = payload(model_spec())
    extraction.extract(asked, settings, ignore)
    with store.open(asked.keys[HEAD]) as evidence:
        exact = evidence.features.copy()
    assert store.delete(asked.keys[HEAD])
    extraction.extract(asked, settings.model_copy(update={"precision": precision}), ignore)
    with store.open(asked.keys[HEAD]) as evidence:
        assert evidence.features.dtype == np.float32
        assert evidence.manifest["precision"] == precision
        difference = np.abs(evidence.features - exact).max()
    assert 0 < difference < 0.05 * np.abs(exact).max()
    keys = {
        of: evidence_keys(asked.card, dataset_fingerprint="f", sample_indices=[0], precision=of)[HEAD]
        for of in ("float32", precision)
    }
    assert len(set(keys.values())) == 2


def test_a_compiled_model_gives_the_same_features_for_a_last_batch_that_is_not_full(
    model_spec: Specify,
    payload: Callable[..., dict[str, Any]],
    store: FeatureStore,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The graph is taken in the same way; what makes code of it takes a minute by default.
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **_: compile_(function, dynamic=False, backend="eager"))
    asked = payload(model_spec())
    found = []
    for compiled in (False, True):
        changed = settings.model_copy(update={"compile_models": compiled, "batch_size": 2})
        extraction.extract(asked, changed, ignore)
        with store.open(asked.keys[HEAD]) as evidence:
            found.append(evidence.features.copy())
        assert store.delete(asked.keys[HEAD])
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)


class TestBatchSize:
    """A network that runs out of memory beyond some batch size."""

    @pytest.fixture
    def run(
        self,
        model_spec: Specify,
        payload: Callable[..., dict[str, Any]],
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Callable[[int, Exception], dict[str, Any]]:
        def run(largest: int, error: Exception) -> dict[str, Any]:
            asked = payload(model_spec())
            plain = inference.forward

            def limited(model: torch.nn.Module, images: torch.Tensor) -> Any:
                if images.shape[0] > largest:
                    raise error
                return plain(model, images)

            monkeypatch.setattr(inference, "forward", limited)
            return extraction.extract(asked, settings.model_copy(update={"batch_size": 4}), ignore)

        return run

    @pytest.mark.parametrize(
        "error",
        [
            torch.OutOfMemoryError("CUDA out of memory"),
            MemoryError(),
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        ],
    )
    def test_is_halved_until_it_fits(self, error: Exception, run: Callable[..., dict[str, Any]]) -> None:
        assert run(1, error).batch_size == 1

    def test_one_image_that_does_not_fit_is_a_problem(self, run: Callable[..., dict[str, Any]]) -> None:
        with pytest.raises(ExtractionFailed, match="one image does not fit the memory of cpu"):
            run(0, MemoryError())

    def test_other_errors_are_not_retried(self, run: Callable[..., dict[str, Any]]) -> None:
        with pytest.raises(RuntimeError, match="shape mismatch"):
            run(1, RuntimeError("shape mismatch"))


class TestProblems:
    def test_weights_that_changed_since_inspection(
        self, model_spec: Specify, payload: Callable[..., dict[str, Any]], settings: Settings
    ) -> None:
        spec = model_spec()
        asked = payload(spec)
        Path(spec["path"]).write_bytes(Path(model_spec(seed=1)["path"]).read_bytes())
        with pytest.raises(ModelRefused, match="not those that were inspected"):
            extraction.extract(asked, settings, ignore)

    def test_an_unknown_layer(
        self, model_spec: Specify, payload: Callable[..., dict[str, Any]], settings: Settings
    ) -> None:
        with pytest.raises(ExtractionFailed, match=r"no layer layer9; it has, for instance, conv1"):
            extraction.extract(payload(model_spec(), (HEAD, "layer9")), settings, ignore)

    def test_an_image_that_changed_leaves_no_evidence(
        self,
        model_spec: Specify,
        payload: Callable[..., dict[str, Any]],
        index: DatasetIndex,
        store: FeatureStore,
        settings: Settings,
    ) -> None:
        asked = payload(model_spec())
        (Path(index.spec.path) / index.paths[2]).write_bytes(b"changed")
        with pytest.raises(DatasetChanged, match=index.paths[2]):
            extraction.extract(asked, settings, ignore)
        assert store.has_many(asked.keys.values()) == set()


def test_two_that_need_the_same_evidence_compute_it_once(
    model_spec: Specify, payload: Callable[..., dict[str, Any]], settings: Settings
) -> None:
    asked = payload(model_spec())
    reports: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda: reports.append(extraction.extract(asked, settings, ignore))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(report.models_loaded for report in reports) == [0, 0, 1]
