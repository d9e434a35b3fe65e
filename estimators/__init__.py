"""Transferability estimators: arrays in, a Score out."""

from estimators.catalog import METRICS
from estimators.ensembles.held_out import HeldOutSelection, probe_predictions, select_held_out
from estimators.ensembles.osborn import disagreement, domain_difference, task_difference, transported_task_difference
from estimators.ensembles.otce import otce
from estimators.ensembles.result import Selection
from estimators.ensembles.selection import (
    Pool,
    build_pool,
    e_leep,
    expected_empirical_prediction,
    ms_leep,
    score_ensemble,
    select,
)
from estimators.metric import Evidence, Metric, Parameter
from estimators.metrics.energy import energy
from estimators.metrics.etran import etran
from estimators.metrics.gbc import gbc
from estimators.metrics.h_score import h_score
from estimators.metrics.lda import lda
from estimators.metrics.leep import leep
from estimators.metrics.linear_probe import linear_probe
from estimators.metrics.logme import logme
from estimators.metrics.nce import nce
from estimators.metrics.ncti import ncti
from estimators.metrics.nearest_neighbor import nearest_neighbor
from estimators.metrics.nleep import nleep
from estimators.metrics.parc import parc
from estimators.metrics.ped import ped
from estimators.metrics.regularized_h_score import regularized_h_score
from estimators.metrics.sfda import sfda
from estimators.metrics.tmi import tmi
from estimators.metrics.transrate import transrate
from estimators.score import CannotBeComputed, InvalidEvidence, Score

__all__ = [
    "METRICS",
    "CannotBeComputed",
    "Evidence",
    "HeldOutSelection",
    "InvalidEvidence",
    "Metric",
    "Parameter",
    "Pool",
    "Score",
    "Selection",
    "build_pool",
    "disagreement",
    "domain_difference",
    "e_leep",
    "energy",
    "etran",
    "expected_empirical_prediction",
    "gbc",
    "h_score",
    "lda",
    "leep",
    "linear_probe",
    "logme",
    "ms_leep",
    "nce",
    "ncti",
    "nearest_neighbor",
    "nleep",
    "otce",
    "parc",
    "ped",
    "probe_predictions",
    "regularized_h_score",
    "score_ensemble",
    "select",
    "select_held_out",
    "sfda",
    "task_difference",
    "tmi",
    "transported_task_difference",
    "transrate",
]
