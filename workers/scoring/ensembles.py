"""The best ensembles of a ranking, from the feature store. Runs in a scorer's process."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from app.ensembles import attempt, reading, save_pool, search
from app.settings import Settings
from estimators.ensembles.selection import build_pool, score_ensemble, select
from estimators.ensembles.terms import Pool
from workers.store.features import FeatureStore


def choose_ensembles(
    payload: Mapping[str, Any], settings: Settings, progress: Callable[[dict[str, Any]], None]
) -> list[dict[str, Any]]:
    """Every selection and every given ensemble of ``payload``; one that cannot be had says why.

    Args:
        payload: ``models`` (name, parameters, label_space, target_key and source_key or None), ``source_is_one``
            (whether all source keys are of one sample), ``choices`` and ``given_ensembles`` of the request, ``file``.
    """
    store = FeatureStore.of(settings)
    pools: dict[str, Pool] = {}

    def pool(preset: str) -> Pool:
        if preset not in pools:
            progress({"stage": f"terms ({preset})", "done": 0, "total": 1})
            pools[preset] = _pool(store, payload["models"], preset, source_is_one=payload["source_is_one"])
            save_pool(Path(payload["folder"]), preset, pools[preset])
        return pools[preset]

    pool("default")
    chosen = [
        {"request": choice} | attempt(lambda c=choice: select(pool(c["preset"]), **reading(c), **search(c)))
        for choice in payload["choices"]
    ]
    given = [
        {"request": {"given_ensemble": members}} | attempt(lambda m=members: score_ensemble(pool("default"), m))
        for members in payload["given_ensembles"]
    ]
    return chosen + given


def _pool(store: FeatureStore, models: Sequence[Mapping[str, Any]], preset: str, *, source_is_one: bool) -> Pool:
    with ExitStack() as opened:
        targets = [opened.enter_context(store.open(model["target_key"])) for model in models]
        sources = [
            opened.enter_context(store.open(model["source_key"])) if model["source_key"] else None for model in models
        ]
        known = [source for source in sources if source is not None]
        return build_pool(
            names=[model["name"] for model in models],
            labels=targets[0].labels,
            source_probabilities=[target.source_probabilities for target in targets],
            features=[target.features for target in targets],
            source_features=[None if source is None else source.features for source in sources],
            source_labels=known[0].labels if known and source_is_one else None,
            label_spaces=[model["label_space"] for model in models],
            costs=[model["parameters"] for model in models],
            preset=preset,
        )
