"""The interface of a codec under test."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Codec:
    """A codec that can run here.

    Attributes:
        name: what `--codecs` takes.
        version: of the library or program.
        argv: how it is called; SETTING stands for the setting.
        settings: the settings of a full R-D curve, in the codec's own scale.
        grid: lowest setting, highest setting and step, for a search.
        encode: (rgb uint8 [H, W, 3], setting) to the bytes of a file.
        decode: bytes to rgb uint8 [H, W, 3].
        rising: whether a higher setting means a better picture.
        alone: whether it uses all cores itself, so that no two calls should run at once.
        at_most: (rgb, n_bytes) to the bytes of its best file of at most so many bytes, or None where it has no such way.
        details: what else identifies it (model id, device).
    """

    name: str
    version: str
    argv: str
    settings: tuple[float, ...]
    grid: tuple[float, float, float]
    encode: Callable[[Rgb, float], bytes]
    decode: Callable[[bytes], Rgb]
    rising: bool = True
    alone: bool = False
    at_most: Callable[[Rgb, int], bytes] | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Absent:
    """A codec that cannot run here.

    Attributes:
        name: what `--codecs` takes.
        reason: why not.
        remedy: a command that installs it.
    """

    name: str
    reason: str
    remedy: str


def missing_program(name: str, program: str, remedy: str) -> Absent | None:
    """Return an `Absent` if a program is not on PATH."""
    return None if shutil.which(program) else Absent(name, f"{program} is not on PATH", remedy)
