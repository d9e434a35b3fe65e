"""Transferability estimators: arrays in, a Score out."""

from estimators.baselines import linear_probe, nearest_neighbor
from estimators.catalog import METRICS, Evidence, Metric, Parameter
from estimators.etran import energy, etran
from estimators.gbc import gbc
from estimators.hscore import h_score, regularized_h_score
from estimators.leep import leep
from estimators.logme import logme
from estimators.nce import nce
from estimators.ncti import ncti
from estimators.nleep import nleep
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
    "Score",
    "energy",
    "etran",
    "gbc",
    "h_score",
    "lda",
    "leep",
    "linear_probe",
    "logme",
    "nce",
    "ncti",
    "nearest_neighbor",
    "nleep",
    "parc",
    "ped",
    "regularized_h_score",
    "sfda",
    "tmi",
    "transrate",
]
