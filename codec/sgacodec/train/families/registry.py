"""Every model family by name."""

from __future__ import annotations

from sgacodec.errors import TrainError
from sgacodec.train.families import mean_scale_files
from sgacodec.train.families.base import Family

FAMILIES: dict[str, Family] = {"mean-scale": mean_scale_files.FAMILY}


def family(name: str) -> Family:
    """Return a family.

    Raises:
        TrainError: there is none of this name.
    """
    if name not in FAMILIES:
        raise TrainError(f"no model family is called {name!r}; there are: {', '.join(FAMILIES)}")
    return FAMILIES[name]
