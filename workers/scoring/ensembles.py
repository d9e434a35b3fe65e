"""The best ensembles of a ranking, from the feature store. Runs in a scorer's process."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.contracts.ensembles import EnsembleResult, EnsemblesCommand, PoolMember
from app.contracts.progress import Progress, TellProgress
from app.contracts.question import EnsembleChoice
from app.scoring.ensembles import attempt, reading, save_pool, search
from app.settings import Settings
from estimators.ensembles.held_out import as_selection, probe_predictions, select_held_out
from estimators.ensembles.result import Selection
from estimators.ensembles.selection import build_pool, score_ensemble, select
from estimators.ensembles.terms import Pool
from workers.store.features import FeatureStore


def choose_ensembles(command: EnsemblesCommand, settings: Settings, progress: TellProgress) -> list[EnsembleResult]:
    """Every selection and every given ensemble; one that is not possible says why."""
    store = FeatureStore.of(settings)
    pools: dict[str, Pool] = {}

    def pool(preset: str) -> Pool:
        if preset not in pools:
            progress(Progress(stage=f"terms ({preset})", done=0, total=1))
            pools[preset] = _pool(store, command.models, preset, source_is_one=command.source_is_one)
            save_pool(Path(command.folder), preset, pools[preset])
        return pools[preset]

    pool("default")
    probes = Probes(store, command.models, progress)
    selections: list[Callable[[], Selection]] = [
        partial(probes.select, choice) if choice.method == "held_out" else partial(_select, pool, choice)
        for choice in command.choices
    ]
    selections += [partial(score_ensemble, pool("default"), members) for members in command.given]
    return [attempt(request, selection) for request, selection in zip(command.requests, selections, strict=True)]


class Probes:
    """Held-out predictions of linear probes of the models, computed once and only if they are asked for."""

    def __init__(self, store: FeatureStore, models: Sequence[PoolMember], progress: TellProgress) -> None:
        self._store, self._models, self._progress = store, models, progress
        self._found: tuple[list[Any], Any] | None = None

    def select(self, choice: EnsembleChoice) -> Selection:
        """The ensemble of the best average."""
        probabilities, labels = self._predictions()
        names = [model.name for model in self._models]
        found = select_held_out(names=names, probabilities=probabilities, labels=labels, size=choice.size)
        costs = [model.parameters for model in self._models]
        return as_selection(found, names=names, probabilities=probabilities, labels=labels, costs=costs)

    def _predictions(self) -> tuple[list[Any], Any]:
        if self._found is None:
            probabilities: list[Any] = []
            labels: Any = None
            for done, model in enumerate(self._models):
                self._progress(Progress(stage="linear probes", done=done, total=len(self._models)))
                with self._store.open(model.target_key) as evidence:
                    labels = np.array(evidence.labels)
                    probabilities.append(probe_predictions(features=np.array(evidence.features), labels=labels))
            self._found = probabilities, labels
        return self._found


def _select(pool: Callable[[str], Pool], choice: EnsembleChoice) -> Selection:
    return select(pool(choice.preset), **reading(choice), **search(choice))


def _pool(store: FeatureStore, models: Sequence[PoolMember], preset: str, *, source_is_one: bool) -> Pool:
    with ExitStack() as opened:
        targets = [opened.enter_context(store.open(model.target_key)) for model in models]
        sources = [opened.enter_context(store.open(model.source_key)) if model.source_key else None for model in models]
        known = [source for source in sources if source is not None]
        return build_pool(
            names=[model.name for model in models],
            labels=targets[0].labels,
            source_probabilities=[target.source_probabilities for target in targets],
            features=[target.features for target in targets],
            source_features=[None if source is None else source.features for source in sources],
            source_labels=known[0].labels if known and source_is_one else None,
            label_spaces=[model.label_space for model in models],
            costs=[model.parameters for model in models],
            preset=preset,
        )
