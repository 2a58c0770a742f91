"""The project's one search: where, on a scale of whole numbers, something that rises passes zero."""

from __future__ import annotations

import math


class Crossing:
    """Proposes where to measure next, by interpolation between what was measured.

    What is measured may fall here and there where it should rise: the search ends all the same, between a place where
    it was below zero and its neighbour where it was not.

    Attributes:
        below: the place before the crossing that is nearest to it, -1 at first.
        above: the place behind it that is nearest to it, `last + 1` at first.
    """

    def __init__(self, last: int, start: float | None = None, slope: float = 0.0) -> None:
        """Prepare a search among the places 0 to `last`.

        Args:
            last: the highest place.
            start: where to measure first; None stands for the middle.
            slope: about how much is gained from one place to the next; 0 where that is not known.
        """
        self.below, self.above, self._last = -1, last + 1, last
        self._start, self._slope = last / 2 if start is None else start, slope
        self._measured: dict[int, float] = {}

    def note(self, place: int, value: float) -> None:
        """Take what was measured at a place."""
        self._measured[place] = value
        if value < 0:
            self.below = place
        else:
            self.above = place

    def next(self) -> int | None:
        """Return where to measure, or None if the crossing lies between two neighbours."""
        if self.above - self.below == 1:
            return None
        wanted = math.ceil(self.estimate())
        if self._is_bracketed and len(self._measured) % 3 == 2:
            wanted = (self.below + self.above) // 2  # interpolation closes in on a curve from one side
        return min(self.above - 1, max(self.below + 1, wanted))

    def again(self, more: float) -> Crossing:
        """Return a search for something that is about `more` larger everywhere than what was measured here."""
        slope = self.slope
        return Crossing(self._last, self.estimate() - more / slope if slope else self.estimate(), slope)

    def estimate(self) -> float:
        """Return about where the crossing lies, which may be beyond all places."""
        ends = [place for place in (self.below, self.above) if place in self._measured]
        if not ends:
            return self._start
        if not self.slope:
            return (self.below + self.above) / 2
        nearest = min(ends, key=lambda place: abs(self._measured[place]))
        return nearest - self._measured[nearest] / self.slope

    @property
    def slope(self) -> float:
        """About how much is gained from one place to the next near the crossing; 0 where that is not known yet."""
        if len(self._measured) < 2:
            return self._slope
        near = sorted(self._measured, key=lambda place: abs(self._measured[place]))[:2]
        low, high = (self.below, self.above) if self._is_bracketed else sorted(near)
        slope = (self._measured[high] - self._measured[low]) / (high - low)
        return slope if slope > 0 else self._slope

    @property
    def _is_bracketed(self) -> bool:
        return self.below in self._measured and self.above in self._measured
