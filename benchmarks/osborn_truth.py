"""Do ensemble metrics rank ensembles as fine-tuning does? Measured on a zoo whose fine-tuned predictions are known.

    python -m benchmarks.osborn_truth --zoo DIR --truth DIR --data DIR --source DIR [--output docs/osborn_truth.md]

``--zoo``      zoo.json (a list with name, file, builder, timm_architecture, timm_kwargs, num_classes, input_size, mean,
               std, crop_pct, interpolation, parameters) beside the safetensors files it names
``--truth``    for each target TARGET_split.json (train: indices into the sorted relative paths of its images) and
               TARGET_test_probabilities.npz (y_test, and NAME__seed0 with (n_test, classes) for each model)
``--data``     one image folder a target: class/file
``--source``   an image folder, the source sample
``--size``     native: each model's own transform, as a service without further knowledge does; or a number of pixels to
               which every image is squashed
``--cache``    where features are kept between runs

All ensembles of 2 and 3 models are scored from features and compared with the test accuracy of their averaged softmax.
"""

import argparse
import dataclasses
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import estimators
from estimators import Pool, build_pool, select
from estimators.comparison.agreement import STATISTICS, agreement
from estimators.ensembles.osborn import PRESETS

SINGLES = ("leep", "nce", "logme", "regularized_h_score", "sfda", "tmi")


@dataclasses.dataclass
class Evidence:
    """One model on one set of images."""

    features: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray


def load_model(entry: Mapping[str, Any], folder: Path) -> Any:
    import timm
    import torch
    from safetensors.torch import load_file
    from timm.models.efficientnet import EfficientNet, decode_arch_def, round_channels

    arguments = dict(entry["timm_kwargs"])
    if entry["builder"] == "create_model":
        model = timm.create_model(entry["timm_architecture"], num_classes=entry["num_classes"], **arguments)
    else:
        # MobileNetV1 of fractional width has no registered name.
        multiplier, architecture = arguments.pop("channel_multiplier"), arguments.pop("arch_def")
        arguments["act_layer"] = {"relu6": torch.nn.ReLU6}[arguments["act_layer"]]
        model = EfficientNet(
            block_args=decode_arch_def(architecture),
            round_chs_fn=partial(round_channels, multiplier=multiplier),
            num_classes=entry["num_classes"],
            **arguments,
        )
    model.load_state_dict(load_file(str(folder / entry["file"])), strict=True)
    return model.float().eval()


def make_transform(entry: Mapping[str, Any], size: str) -> Callable[[Any], Any]:
    if size == "native":
        from timm.data import create_transform

        return create_transform(
            input_size=tuple(entry["input_size"]),
            interpolation=entry["interpolation"],
            crop_pct=entry["crop_pct"],
            mean=entry["mean"],
            std=entry["std"],
        )
    from torchvision import transforms

    return transforms.Compose(
        [
            transforms.Resize((int(size), int(size))),
            transforms.ToTensor(),
            transforms.Normalize(entry["mean"], entry["std"]),
        ]
    )


def extract(entry: Mapping[str, Any], folder: Path, files: list[Path], size: str) -> tuple[np.ndarray, np.ndarray]:
    import torch
    from PIL import Image

    model, transform = load_model(entry, folder), make_transform(entry, size)
    features, probabilities = [], []
    with torch.inference_mode():
        for start in range(0, len(files), 50):
            images = torch.stack([transform(Image.open(file).convert("RGB")) for file in files[start : start + 50]])
            pooled = model.forward_head(model.forward_features(images), pre_logits=True)
            logits = model.get_classifier()(pooled).double()
            if logits.shape[1] == 1:
                positive = torch.sigmoid(logits)
                shares = torch.cat([1 - positive, positive], dim=1)
            else:
                shares = torch.softmax(logits, dim=1)
            features.append(pooled.numpy())
            probabilities.append(shares.numpy())
    return np.concatenate(features), np.concatenate(probabilities)


def images_of(folder: Path) -> tuple[list[Path], np.ndarray]:
    files = sorted(path for path in folder.glob("*/*") if path.is_file())
    files.sort(key=lambda path: path.relative_to(folder).as_posix())
    return files, np.asarray([path.parent.name for path in files])


def evidence_of(
    name: str, zoo: list[Mapping[str, Any]], zoo_folder: Path, files: list[Path], labels: np.ndarray, arguments: Any
) -> list[Evidence]:
    found = []
    for entry in zoo:
        stored = arguments.cache / f"{name}-{arguments.size}-{entry['name']}.npz"
        if not stored.exists():
            started = time.perf_counter()
            features, probabilities = extract(entry, zoo_folder, files, arguments.size)
            np.savez(stored, features=features, probabilities=probabilities)
            print(f"  {name}: {entry['name']}, {len(files)} images, {time.perf_counter() - started:.0f} s", flush=True)
        with np.load(stored) as data:
            found.append(Evidence(data["features"], data["probabilities"], labels))
    return found


def true_accuracies(truth: Path, target: str, names: list[str], size: int) -> dict[tuple[int, ...], float]:
    with np.load(truth / f"{target}_test_probabilities.npz") as data:
        labels = data["y_test"]
        probabilities = np.stack([data[f"{name}__seed0"].astype(np.float64) for name in names])
    return {
        ensemble: float(np.mean(probabilities[list(ensemble)].mean(axis=0).argmax(axis=1) == labels))
        for ensemble in itertools.combinations(range(len(names)), size)
    }


def single_scores(target: list[Evidence]) -> dict[str, np.ndarray]:
    scores: dict[str, np.ndarray] = {}
    for metric in SINGLES:
        function = getattr(estimators, metric)
        values = []
        for one in target:
            given = {"labels": one.labels}
            if metric == "leep":
                given["source_probabilities"] = one.probabilities
            elif metric == "nce":
                given["source_labels"] = one.probabilities.argmax(axis=1)
            else:
                given["features"] = one.features
            values.append(float(function(**given)))
        scores[metric] = np.asarray(values)
    return scores


def pools_of(
    zoo: list[Mapping[str, Any]], source: list[Evidence], target: list[Evidence]
) -> tuple[dict[str, Pool], dict[str, np.ndarray]]:
    """The pool under each reading of the terms, and one number a model for the sums of single scores."""
    common = {
        "names": [entry["name"] for entry in zoo],
        "labels": target[0].labels,
        "source_probabilities": [one.probabilities for one in target],
        "features": [one.features for one in target],
        "source_features": [one.features for one in source],
        "source_labels": source[0].labels,
        "costs": [entry["parameters"] for entry in zoo],
    }
    pools = {name: build_pool(**common, preset=name) for name in PRESETS}
    pairs = list(zip(source, target, strict=True))
    pools["euclidean"] = dataclasses.replace(
        pools["default"],
        domain_difference=[
            float(estimators.domain_difference(source_features=s.features, features=t.features, cost="euclidean"))
            for s, t in pairs
        ],
    )
    otce = [
        estimators.otce(source_features=s.features, source_labels=s.labels, features=t.features, labels=t.labels)
        for s, t in pairs
    ]
    pools["transported"] = dataclasses.replace(
        pools["default"], task_difference=[one.details["conditional_entropy"] for one in otce]
    )
    ranks = [_ranks(values) for values in single_scores(target).values()]
    cost = np.asarray([one.details["transport_cost"] for one in otce])
    entropy = np.asarray([one.details["conditional_entropy"] for one in otce])
    sums = {
        "OTCE-sum (F-OTCE, -CE)": -entropy,
        "OTCE-sum (standardised -W - CE)": -_standard(cost) - _standard(entropy),
        "mean single rank": -np.mean(ranks, axis=0),
        "parameters": np.asarray([float(entry["parameters"]) for entry in zoo]),
    }
    return pools, sums


def _standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


def _ranks(values: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return np.asarray(rankdata(-values))


def ensemble_scores(
    pools: Mapping[str, Pool], sums: Mapping[str, np.ndarray], accuracies: np.ndarray, size: int
) -> dict[str, dict[tuple[int, ...], float]]:
    rows: dict[str, tuple[str, dict[str, Any]]] = {
        "**OSBORN, default**": ("default", {}),
        "**OSBORN, paper**": ("paper", {}),
        "OSBORN, standardised over ensembles": ("default", {"standardize": "ensembles"}),
        "OSBORN, directed W_C": ("default", {"cohesion": "directed"}),
        "OSBORN, Euclidean W_D": ("euclidean", {}),
        "OSBORN, W_T through the plan": ("transported", {}),
        "OSBORN without W_D": ("default", {"weights": {"domain": 0}}),
        "OSBORN without W_T": ("default", {"weights": {"task": 0}}),
        "OSBORN without W_C": ("default", {"weights": {"cohesion": 0}}),
        "W_D alone": ("default", {"weights": {"task": 0, "cohesion": 0}}),
        "W_T alone, H(Y given Z)": ("default", {"weights": {"domain": 0, "cohesion": 0}}),
        "W_T alone, H(Z given Y)": ("paper", {"weights": {"domain": 0, "cohesion": 0}}),
        "W_C alone": ("default", {"weights": {"domain": 0, "task": 0}}),
        "**MS-LEEP**": ("default", {"method": "ms_leep"}),
        "**E-LEEP**": ("default", {"method": "e_leep"}),
    }
    scores = {}
    for title, (pool_name, arguments) in rows.items():
        pool = pools[pool_name]
        place = {name: index for index, name in enumerate(pool.names)}
        found = select(pool, size=size, search="exact", near_copies="allow", top=10**9, **arguments)
        scores[title] = {
            tuple(sorted(place[name] for name in listed["members"])): listed["value"] for listed in found.ranking
        }
    ensembles = list(itertools.combinations(range(accuracies.size), size))
    for title, values in sums.items():
        scores[title] = {ensemble: float(values[list(ensemble)].mean()) for ensemble in ensembles}
    scores["(true accuracy of the members, mean)"] = {
        ensemble: float(accuracies[list(ensemble)].mean()) for ensemble in ensembles
    }
    return scores


def table(
    scores: Mapping[str, Mapping[tuple[int, ...], float]], truth: Mapping[tuple[int, ...], float], resamples: int
) -> list[str]:
    ensembles = list(truth)
    true = [truth[ensemble] for ensemble in ensembles]
    lines = [
        "| score of an ensemble | weighted Kendall | Kendall | Pearson | its best really reaches | true rank |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for title, values in scores.items():
        found = [values[ensemble] for ensemble in ensembles]
        cells = []
        for statistic in STATISTICS:
            one = agreement(scores=found, truth=true, statistic=statistic, members=ensembles, resamples=resamples)
            cells.append(f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]")
        chosen = true[int(np.argmax(found))]
        rank = 1 + sum(value > chosen for value in true)
        lines.append(f"| {title} | {' | '.join(cells)} | {chosen:.3f} | {rank} of {len(ensembles)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("zoo", "truth", "data", "source"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--targets", nargs="+", default=["signdigits", "fashion"])
    parser.add_argument("--size", default="native")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "forerank-osborn-truth")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--resamples", type=int, default=1000)
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    zoo = json.loads((arguments.zoo / "zoo.json").read_text())
    names = [entry["name"] for entry in zoo]
    source_files, source_labels = images_of(arguments.source)
    source = evidence_of("source", zoo, arguments.zoo, source_files, source_labels, arguments)
    lines: list[str] = []
    for target_name in arguments.targets:
        files, labels = images_of(arguments.data / target_name)
        train = json.loads((arguments.truth / f"{target_name}_split.json").read_text())["train"]
        files, labels = [files[index] for index in train], labels[train]
        target = evidence_of(target_name, zoo, arguments.zoo, files, labels, arguments)
        for label, kept in (
            (f"all {len(zoo)} models", range(len(zoo))),
            ("models trained on ImageNet", [i for i, e in enumerate(zoo) if e["source_dataset"] == "imagenet-1k"]),
        ):
            part = [zoo[i] for i in kept]
            pools, sums = pools_of(part, [source[i] for i in kept], [target[i] for i in kept])
            single = true_accuracies(arguments.truth, target_name, [names[i] for i in kept], 1)
            accuracies = np.asarray(list(single.values()))
            if len(part) == len(zoo):
                lines += ["", f"## {target_name}", "", *terms_table(pools, accuracies)]
            for size in (2, 3):
                truth = true_accuracies(arguments.truth, target_name, [names[i] for i in kept], size)
                values = np.asarray(list(truth.values()))
                lines += [
                    "",
                    f"### {target_name}, {label}, ensembles of {size}",
                    "",
                    f"{values.size} ensembles, true accuracy {values.min():.3f} to {values.max():.3f}, median "
                    f"{np.median(values):.3f}; best single model {accuracies.max():.3f}.",
                    "",
                    *table(ensemble_scores(pools, sums, accuracies, size), truth, arguments.resamples),
                ]
    text = "\n".join(lines).strip() + "\n"
    print(text)
    if arguments.output:
        marker = "<!-- measured -->\n"
        written = (
            arguments.output.read_text() if arguments.output.exists() else f"# Ensembles against the truth\n\n{marker}"
        )
        arguments.output.write_text(written.partition(marker)[0] + marker + "\n" + text)


def terms_table(pools: Mapping[str, Pool], accuracies: np.ndarray) -> list[str]:
    default, paper = pools["default"], pools["paper"]
    assert default.eep is not None
    assert default.domain_difference is not None
    assert default.task_difference is not None
    assert paper.task_difference is not None
    lines = [
        "| model | W_D | W_T, H(Y given Z) | W_T, H(Z given Y) | LEEP | fine-tuned |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for index, name in enumerate(default.names):
        leep = float(np.mean(np.log(default.eep[index])))
        lines.append(
            f"| {name} | {default.domain_difference[index]:.4g} | {default.task_difference[index]:.3f} | "
            f"{paper.task_difference[index]:.3f} | {leep:.3f} | {accuracies[index]:.3f} |"
        )
    return lines


if __name__ == "__main__":
    main()
