"""Values in buckets that widen by a constant factor: OpenTelemetry's base-2 exponential histogram.

At scale s, bucket i holds the values in `(base**i, base**(i+1)]` with `base = 2**(2**-s)` (OpenTelemetry's data model
of metrics, "Exponential Buckets"). Laws: two neighbours `2i` and `2i + 1` are together exactly bucket `i` of the next
coarser scale, so nothing is guessed when buckets are merged; values are kept at one fine scale, and whoever shows them
takes the finest scale at which they fit.

They can't be had from buckets with bounds of their own, whose values may stand anywhere between them: so they are kept
beside those, from the values themselves.
"""

from collections import Counter
from dataclasses import dataclass, field
from math import ceil, log2
from typing import Final, NamedTuple

SCALE: Final = 5
"""Values are kept within about 1.1 % of the middle of their bucket."""

MOST: Final = 160
"""Buckets that are shown at most: the default of OpenTelemetry's SDKs."""

_SHORTEST: Final = 1e-9  # what is shorter, no clock of ours can tell from nothing


class Fitted(NamedTuple):
    """Buckets as they are shown: all from the lowest used one to the highest."""

    scale: int
    offset: int
    counts: list[int]


@dataclass(slots=True)
class Powers:
    """How many values fell into each bucket; those below a nanosecond count as zeros."""

    zeros: int = 0
    counts: Counter[int] = field(default_factory=Counter[int])

    def add(self, value: float) -> None:
        """Count one value."""
        if value < _SHORTEST:
            self.zeros += 1
        else:
            self.counts[ceil(log2(value) * 2**SCALE) - 1] += 1

    def copy(self) -> "Powers":
        """Return a copy that no later value changes."""
        return Powers(self.zeros, self.counts.copy())

    def since(self, earlier: "Powers") -> "Powers":
        """Return what was counted after an earlier copy was made."""
        return Powers(self.zeros - earlier.zeros, self.counts - earlier.counts)

    def fitted(self) -> Fitted:
        """Return the buckets at the finest scale at which there are `MOST` at most."""
        if not self.counts:
            return Fitted(SCALE, 0, [])
        low, high, merged = min(self.counts), max(self.counts), 0
        while (high >> merged) - (low >> merged) >= MOST:
            merged += 1
        counts = [0] * ((high >> merged) - (low >> merged) + 1)
        for index, count in self.counts.items():
            counts[(index >> merged) - (low >> merged)] += count
        return Fitted(SCALE - merged, low >> merged, counts)
