"""Encoding to a target: a file of at most so many bytes, or a picture of at least so many dB.

levels without refinement -> where refinement has to start
    -> refined there -> past the target by a little: trimmed; by more, or short of it: the next level

Levels are steps of 1 to 3 % in size. In between, a dead zone in the rounding of y takes bits off: a small one costs no
more quality than a lower level would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from sgacodec.errors import TargetNotReachedError
from sgacodec.search import Crossing

_REACH = 2.0
"""From so many levels above a target, trimming costs too much quality, and the next level is tried."""

_WIDEST = 0.5
"""No dead zone is wider. On the lowest level there is nothing else to make files smaller."""

_TRIMS = 8

_MOST_DB = 1e3
"""Stands for an infinite PSNR: no picture that differs at all comes near."""

_MOST_BYTES = 2**63 - 1


class File(Protocol):
    """A file that was made.

    Attributes:
        n_bytes: its length.
        n_bytes_beside: of them, those of what is beside the colours: metadata, message, alpha.
        psnr_db: of the picture that a decoder makes of it.
    """

    @property
    def n_bytes(self) -> int: ...  # noqa: D102

    @property
    def n_bytes_beside(self) -> int: ...  # noqa: D102

    @property
    def psnr_db(self) -> float: ...  # noqa: D102


F = TypeVar("F", bound=File)
F_co = TypeVar("F_co", bound=File, covariant=True)


class Attempt(Protocol[F_co]):
    """A picture at one level.

    Attributes:
        trims: whether a dead zone changes its files.
    """

    trims: bool

    def unrefined(self) -> F_co:
        """Return the file without refinement."""

    def refine(self, before: Any) -> None:
        """Refine the latents; those of an attempt at another level, or None, may be where that starts."""

    def file(self, dead_zone: float = 0.0) -> F_co:
        """Return the file of the refined latents."""


class Goal(Protocol):
    """What is aimed for.

    Attributes:
        near: so far from the target is near enough.
        by_lambda: how much more is measured, about, where the logarithm of lambda is larger by 1.
        by_refinement: how much more is measured after refinement.
        by_dead_zone: how much more would be measured with a dead zone of 1.
    """

    near: ClassVar[float]
    by_lambda: ClassVar[float]
    by_refinement: ClassVar[float]
    by_dead_zone: ClassVar[float]

    def excess(self, file: File) -> float:
        """Return by how much a file is larger, or its picture better, than the target."""

    def keeps(self, excess: float) -> bool:
        """Say whether the target is kept."""

    def unreachable(self, best: File) -> TargetNotReachedError:
        """Return an error that says what can be reached."""

    def is_hopeless(self, file: File) -> bool:
        """Say whether no level can help."""


@dataclass(frozen=True)
class AtMostBytes:
    """A file of at most so many bytes, with all that is in it.

    What is measured is the logarithm of what the colours take: neither the level nor refinement changes what is beside
    them.

    Attributes:
        n_bytes: the limit.
    """

    n_bytes: int
    near: ClassVar[float] = 0.006
    by_lambda: ClassVar[float] = 0.6
    by_refinement: ClassVar[float] = -0.085
    by_dead_zone: ClassVar[float] = -2.4

    def of_size(self, n_pixels: int) -> AtMostBytes:
        """Return itself."""
        return self

    def excess(self, file: File) -> float:
        """Return by how much a file is too large; see `Goal`."""
        beside = file.n_bytes_beside
        return math.log((file.n_bytes - beside) / max(1, self.n_bytes - beside))

    def keeps(self, excess: float) -> bool:
        """Say whether the target is kept."""
        return excess <= 0

    def unreachable(self, best: File) -> TargetNotReachedError:
        """Return an error that says what can be reached."""
        if self.is_hopeless(best):
            return TargetNotReachedError(
                f"metadata, message and alpha channel of this picture take {best.n_bytes_beside} bytes without its "
                f"colours, and the file may have {self.n_bytes}; leave some of it out, or allow more"
            )
        return TargetNotReachedError(
            f"this picture does not fit in {self.n_bytes} bytes; the smallest file of it has {best.n_bytes}"
        )

    def is_hopeless(self, file: File) -> bool:
        """Say whether no level can help."""
        return file.n_bytes_beside >= max(1, self.n_bytes)


@dataclass(frozen=True)
class AtMostBpp:
    """A file of at most so many bits per pixel.

    Attributes:
        bpp: the limit.
    """

    bpp: float

    def of_size(self, n_pixels: int) -> AtMostBytes:
        """Return the limit for a picture of so many pixels."""
        return AtMostBytes(math.floor(min(self.bpp * n_pixels / 8, _MOST_BYTES)))


@dataclass(frozen=True)
class AtLeastDb:
    """A picture of at least so much PSNR. What is measured is the PSNR.

    Attributes:
        psnr_db: in dB.
    """

    psnr_db: float
    near: ClassVar[float] = 0.03
    by_lambda: ClassVar[float] = 2.6
    by_refinement: ClassVar[float] = 0.05
    by_dead_zone: ClassVar[float] = -6.5

    def of_size(self, n_pixels: int) -> AtLeastDb:
        """Return itself."""
        return self

    def excess(self, file: File) -> float:
        """Return by how much a picture is too good; see `Goal`."""
        return min(file.psnr_db, _MOST_DB) - min(self.psnr_db, _MOST_DB)

    def keeps(self, excess: float) -> bool:
        """Say whether the target is kept."""
        return excess >= 0

    def unreachable(self, best: File) -> TargetNotReachedError:
        """Return an error that says what can be reached."""
        return TargetNotReachedError(
            f"this picture cannot have a PSNR of {self.psnr_db:g} dB; the best file of it has {best.psnr_db:.2f} dB"
        )

    def is_hopeless(self, file: File) -> bool:
        """Say whether no level can help."""
        return False


Wanted = AtMostBytes | AtMostBpp | AtLeastDb


@dataclass(frozen=True, eq=False)
class Found(Generic[F]):
    """A file, and how far it is from the target; `attempts` is the number of levels that were refined."""

    file: F
    excess: float
    attempts: int = 1


def search(goal: Goal, attempt_at: Callable[[int], Attempt[F]], last: int, step: float, refines: bool) -> Found[F]:
    """Return the file that keeps a target and is nearest to it.

    Args:
        goal: the target.
        attempt_at: analyses the picture at a level in sixteenths.
        last: the highest level in sixteenths.
        step: by how much the logarithm of lambda grows from one sixteenth to the next.
        refines: whether latents are refined.

    Raises:
        TargetNotReachedError: no file keeps the target.
    """
    unrefined = _unrefined(goal, attempt_at, Crossing(last, slope=goal.by_lambda * step))
    crossing = unrefined.again(goal.by_refinement if refines else 0)
    before: Attempt[F] | None = None
    best: Found[F] | None = None  # others are let go of: a large picture's latents are large
    n_attempts = 0
    while (level := crossing.next()) is not None:
        attempt = attempt_at(level)
        attempt.refine(before)
        before, found = attempt, _measured(goal, attempt.file())
        crossing.note(level, found.excess)
        close = level == 0 or found.excess <= _REACH * crossing.slope
        if attempt.trims and found.excess > 0 and close and not _is_near(goal, found):
            found = _trimmed(goal, attempt, found)
        best = found if best is None else min(best, found, key=partial(_rank, goal))
        n_attempts += 1
        if _is_near(goal, found):
            break
    assert best is not None  # there is at least one level
    if not goal.keeps(best.excess):
        raise goal.unreachable(best.file)
    return replace(best, attempts=n_attempts)


def _unrefined(goal: Goal, attempt_at: Callable[[int], Attempt[F]], crossing: Crossing) -> Crossing:
    """Search without refinement, until an estimate is good."""
    while (level := crossing.next()) is not None:
        file = attempt_at(level).unrefined()
        if goal.is_hopeless(file):
            raise goal.unreachable(file)
        excess = goal.excess(file)
        crossing.note(level, excess)
        if abs(excess) <= crossing.slope:
            break
    return crossing


def _measured(goal: Goal, file: F) -> Found[F]:
    return Found(file, goal.excess(file))


def _rank(goal: Goal, found: Found[Any]) -> tuple[bool, float]:
    """Return what is least for the best file: it keeps the target, and is near to it."""
    return not goal.keeps(found.excess), abs(found.excess)


def _is_near(goal: Goal, found: Found[Any]) -> bool:
    return goal.keeps(found.excess) and abs(found.excess) <= goal.near


def _trimmed(goal: Goal, attempt: Attempt[F], plain: Found[F]) -> Found[F]:
    """Return a file past the target, or what a dead zone makes of it, whichever is better."""
    aim = goal.near / 3 if goal.keeps(goal.near) else -goal.near / 3
    tried = {0.0: plain}
    while len(tried) <= _TRIMS:
        zone = _zone({zone: found.excess - aim for zone, found in tried.items()}, goal.by_dead_zone)
        if zone in tried:
            break
        tried[zone] = _measured(goal, attempt.file(zone))
        if _is_near(goal, tried[zone]):
            break
    return min(tried.values(), key=partial(_rank, goal))


def _zone(measured: Mapping[float, float], slope: float) -> float:
    """Return the dead zone to try next.

    Args:
        measured: how far off the aim the dead zones are that were tried; the first one is 0, and past it.
        slope: by how much a dead zone of 1 would change that, where only the first one was tried.
    """
    low = max(zone for zone, excess in measured.items() if excess > 0)
    wider = [zone for zone in measured if zone > low]
    other = min(wider) if wider else 0.0
    if other != low:
        slope = (measured[other] - measured[low]) / (other - low)
    return min(_WIDEST, low - measured[low] / slope) if slope < 0 else _WIDEST
