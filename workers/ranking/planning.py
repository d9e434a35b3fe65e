"""What a ranking needs, and what of that already exists. Deterministic: the same rows give the same plan."""

import hashlib
import json
from collections.abc import Container, Mapping, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.contracts.base import JsonObject
from app.contracts.question import IntervalChoice, SampleChoice
from app.contracts.rankings import Counters, DrawnSample, EvidenceKeys, RankingRequest
from app.contracts.scores import Cell, ScoreKey
from app.db.tables import Dataset, Model
from app.settings import Settings
from app.tasks.catalog import TASKS
from app.tasks.task import Task
from estimators.catalog import METRICS
from workers.images.index import DatasetIndex, IndexStore
from workers.store.features import HEAD, evidence_keys

# What a reference or source sample contributes; the publication of OSBORN uses as many.
SOURCE_SAMPLE = SampleChoice(max_samples=5000)
STAGES = "stages"


@dataclass(frozen=True)
class Sample:
    """The images of a data set that are used.

    Attributes:
        indices: (N,) positions in the index, ascending.
    """

    task: Task
    dataset_id: str
    index: DatasetIndex
    indices: NDArray[np.int64]

    def describe(self, choice: SampleChoice) -> DrawnSample:
        """What is recorded with a result."""
        return DrawnSample(
            **choice.plain(),
            images=len(self.indices),
            images_of_data_set=len(self.index),
            **self.task.describe(self.index.labels[self.indices]),
            unreadable=len(self.index.unreadable),
            fingerprint=self.index.fingerprint,
        )


def draw(settings: Settings, task: Task, dataset_id: str, choice: SampleChoice) -> Sample:
    """The task's sample of an inspected data set."""
    index = IndexStore(settings).open(dataset_id)
    return Sample(task, dataset_id, index, task.sample(index.labels, choice))


@dataclass(frozen=True)
class Need:
    """Evidence of one model on one sample: layer -> key in the feature store."""

    role: str
    sample: Sample
    keys: dict[str, str]


class Planner:
    """Turns a ranking's request into the evidence and the scores that each model needs."""

    def __init__(self, settings: Settings, request: RankingRequest, target: Dataset) -> None:
        self._settings = settings
        self._request = request
        self._task = TASKS[request.task]
        self.target = draw(settings, self._task, target.id, request.sample)
        names = [metric.name for metric in request.metrics]
        self._wants_reference = any("reference_features" in METRICS[name].optional_evidence for name in names)
        self._samples: dict[str, Sample] = {}

    def layers(self, model: Model) -> list[str]:
        """The layers to keep: always the head, then those that the request names."""
        asked = self._request.layers
        stages = model.card.stages if model.card else ()
        return [HEAD, *(layer for layer in (stages if asked == STAGES else asked) if layer != HEAD)]

    def needs(self, model: Model) -> list[Need]:
        """All evidence that the ranking uses of the model."""
        needs = [self._need("target", model, self.target, self.layers(model))]
        own = self._request.sources.get(model.source_dataset or "")
        reference = self._request.reference or own
        if self._wants_reference and reference:
            needs.append(self._need("reference", model, self._source(reference), [HEAD]))
        if self._request.wants_ensembles and own:
            needs.append(self._need("source", model, self._source(own), [HEAD]))
        return needs

    def evidence(self, model: Model) -> EvidenceKeys:
        """The keys of `needs`."""
        return EvidenceKeys(**{need.role: need.keys for need in self.needs(model)})

    def _source(self, dataset_id: str) -> Sample:
        if dataset_id not in self._samples:
            self._samples[dataset_id] = draw(self._settings, self._task, dataset_id, SOURCE_SAMPLE)
        return self._samples[dataset_id]

    def _need(self, role: str, model: Model, sample: Sample, layers: list[str]) -> Need:
        if model.card is None:
            raise ValueError(f"{model.id} was not inspected")
        keys = evidence_keys(
            model.card,
            dataset_fingerprint=sample.index.fingerprint,
            sample_indices=sample.indices,
            layers=layers,
            precision=self._settings.precision,
        )
        return Need(role, sample, keys)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is left to do of a ranking.

    Attributes:
        extract: models that lack evidence.
        score: models whose evidence is there and that lack scores.
        finished: models that lack nothing.
        found: model -> the cells whose scores are known.
    """

    extract: tuple[str, ...]
    score: tuple[str, ...]
    finished: tuple[str, ...]
    found: Mapping[str, tuple[Cell, ...]]
    counters: Counters


def plan(
    request: RankingRequest, models: Mapping[str, EvidenceKeys], present: Set[str], known: Container[ScoreKey]
) -> Plan:
    """Compare what the models need with what the feature store (``present``) and the scores (``known``) have."""
    extract: list[str] = []
    score: list[str] = []
    finished: list[str] = []
    found: dict[str, tuple[Cell, ...]] = {}
    for model_id, evidence in models.items():
        all_cells = cells(request, evidence)
        found[model_id] = tuple(cell for cell in all_cells if cell.key in known)
        missing = [cell for cell in all_cells if cell.key not in known]
        needed = {key for cell in missing for key in (cell.evidence_key, cell.reference_key) if key}
        if request.wants_ensembles:
            needed |= set(evidence.all)
        (extract if needed - present else score if missing else finished).append(model_id)
    counters = Counters(
        evidence_reused=sum(key in present for evidence in models.values() for key in evidence.all),
        scores_reused=sum(map(len, found.values())),
    )
    return Plan(tuple(extract), tuple(score), tuple(finished), found, counters)


def cells(request: RankingRequest, evidence: EvidenceKeys) -> list[Cell]:
    """Every score of a model: layer, metric, parameters and the keys of what it is computed from."""
    found = []
    for layer, key in evidence.target.items():
        for metric in request.metrics:
            entry = METRICS[metric.name]
            if layer != HEAD and "features" not in entry.required_evidence:
                continue
            uses_reference = layer == HEAD and "reference_features" in entry.optional_evidence
            reference_key = evidence.reference.get(HEAD) if uses_reference else None
            found.append(
                Cell(
                    layer=layer,
                    metric=metric.name,
                    parameters=metric.parameters,
                    evidence_key=key,
                    reference_key=reference_key,
                    intervals=request.intervals,
                    parameters_key=parameters_key(metric.name, metric.parameters, reference_key, request.intervals),
                )
            )
    return found


def parameters_key(
    metric: str, parameters: JsonObject, reference_key: str | None, intervals: IntervalChoice | None
) -> str:
    """SHA-256 of all but the evidence that a score depends on."""
    text = json.dumps(
        {
            "metric_version": METRICS[metric].version,
            "parameters": parameters,
            "reference": reference_key,
            "intervals": intervals and intervals.plain(),
        },
        sort_keys=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()
