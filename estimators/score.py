"""What every metric returns, and the two ways in which it can refuse."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Score:
    """A metric's answer. Higher is better in every metric.

    Attributes:
        value: finite number, in the unit that the metric's catalog entry states.
        warnings: sentences a person should read before trusting ``value``; each starts with a stable word and a
            colon (``"clipped: 41 % of the distances lie under the floor"``).
        details: plain numbers, strings and lists that explain ``value`` (n, D, C, iterations, ...).
    """

    value: float
    warnings: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __float__(self) -> float:
        return self.value


class InvalidEvidence(ValueError):
    """The arrays cannot be what they claim: wrong shapes, NaN, negative probabilities. The message names the fix."""


class CannotBeComputed(ValueError):
    """The arrays are sound but the metric has no value on them. The message says why, never a bare NaN."""
