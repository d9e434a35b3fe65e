"""Transferability estimators: arrays in, a Score out."""

from estimators.catalog import METRICS, Evidence, Metric, Parameter
from estimators.hscore import h_score
from estimators.leep import leep
from estimators.logme import logme
from estimators.nce import nce
from estimators.score import CannotBeComputed, InvalidEvidence, Score
from estimators.tmi import tmi

__all__ = [
    "METRICS",
    "CannotBeComputed",
    "Evidence",
    "InvalidEvidence",
    "Metric",
    "Parameter",
    "Score",
    "h_score",
    "leep",
    "logme",
    "nce",
    "tmi",
]
