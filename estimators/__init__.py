"""Transferability estimators: arrays in, a Score out."""

from estimators.baselines import linear_probe, nearest_neighbor
from estimators.catalog import METRICS, Evidence, Metric, Parameter
from estimators.ensembles import (
    Pool,
    Selection,
    build_pool,
    e_leep,
    expected_empirical_prediction,
    ms_leep,
    score_team,
    select,
)
from estimators.etran import energy, etran
from estimators.gbc import gbc
from estimators.hscore import h_score, regularized_h_score
from estimators.leep import leep
from estimators.logme import logme
from estimators.nce import nce
from estimators.ncti import ncti
from estimators.nleep import nleep
from estimators.osborn import disagreement, domain_difference, task_difference, transported_task_difference
from estimators.otce import otce
from estimators.parc import parc
from estimators.ped import ped
from estimators.score import CannotBeComputed, InvalidEvidence, Score
from estimators.sfda import lda, sfda
from estimators.tmi import tmi
from estimators.transrate import transrate

__all__ = [
    "METRICS",
    "CannotBeComputed",
    "Evidence",
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
    "regularized_h_score",
    "score_team",
    "select",
    "sfda",
    "task_difference",
    "tmi",
    "transported_task_difference",
    "transrate",
]
