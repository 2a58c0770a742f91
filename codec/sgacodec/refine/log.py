"""The log of a refinement: one row for each step, as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sgacodec.strict_json import dumps

if TYPE_CHECKING:
    from sgacodec.refine.loop import Progress, Refined
    from sgacodec.refine.objective import Quality

Row = dict[str, "float | None"]


def row(progress: Progress) -> Row:
    """Return a step: the sample, and where it was measured the truly rounded state and its gap to the sample."""
    rounded = progress.rounded
    true = dict.fromkeys(("true_loss", "true_bpp", "true_psnr_db", "gap"))
    if rounded is not None:
        true = {f"true_{key}": value for key, value in point(rounded).items()}
        true["gap"] = rounded.loss - progress.sampled.loss
    place = {"attempt": progress.attempt, "step": progress.step, "tau": progress.temperature}
    return {**place, **point(progress.sampled), **true}


def point(quality: Quality) -> dict[str, float]:
    """Return loss, bpp and psnr_db."""
    return {"loss": quality.loss, "bpp": quality.bpp, "psnr_db": quality.psnr_db}


def dump(options: Mapping[str, Any], refined: Refined, rows: Sequence[Row]) -> bytes:
    """Return the log as JSON, a line for each step.

    Args:
        options: what was asked for.
        refined: truly rounded, where the refinement started and its best state.
        rows: the steps.
    """
    header = {"options": options, "start": point(refined.start), "best": point(refined.best)}
    text = "".join(f" {dumps(key)}: {dumps(value)},\n" for key, value in header.items())
    lines = ",\n".join(f"  {dumps(step)}" for step in rows)
    return f'{{\n{text} "steps": [\n{lines}\n ]\n}}\n'.encode()
