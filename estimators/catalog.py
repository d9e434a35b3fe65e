"""The registry of metrics: the ``METRIC`` of every module in `estimators.metrics`."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType

from estimators import metrics
from estimators.metric import Evidence, Metric, Parameter

__all__ = ["METRICS", "Evidence", "Metric", "Parameter", "collect"]


def collect(folders: Iterable[str]) -> Mapping[str, Metric]:
    """Name -> metric, in the order of the names, from all modules of `estimators.metrics` that lie in ``folders``.

    Cheap: these modules import libraries other than NumPy only when a score is computed.
    """
    names = sorted(module.name for module in iter_modules(folders))
    found = [import_module(f"{metrics.__name__}.{name}").METRIC for name in names]
    return MappingProxyType({metric.name: metric for metric in found})


METRICS = collect(metrics.__path__)
