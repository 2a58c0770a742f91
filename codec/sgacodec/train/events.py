"""What a run reports, and where it goes: a JSON-lines file, TensorBoard."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgacodec.errors import TrainError
from sgacodec.strict_json import dumps
from sgacodec.train.loss import LevelLoss


@dataclass(frozen=True)
class Started:
    """A run began or went on; `facts` are its options, data and device."""

    step: int
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Stepped:
    """One step is done; `fraction` of the schedule lies behind."""

    step: int
    fraction: float


@dataclass(frozen=True)
class Averaged:
    """Means over the steps since the last one: loss (the objective), bpp, mse in 0..255 units."""

    step: int
    seconds: float
    lr_factor: float
    loss: float
    bpp: float
    mse: float
    pixels_per_second: float


@dataclass(frozen=True)
class Validated:
    """R-D by level of the averaged weights on held-out images; `loss` sums them up, without refinement.

    `levels` are rates alone where a stage trains no more. `refined_loss` is the same as `loss`, of a few images after
    refinement, if the stage measures it.
    """

    step: int
    seconds: float
    seen_pixels: int
    loss: float
    levels: tuple[LevelLoss, ...]
    refined_loss: float | None = None


Record = Started | Stepped | Averaged | Validated
Listener = Callable[[Record], None]


def json_log(path: Path) -> Listener:
    """Return a listener that appends a line of JSON for every record but single steps."""

    def write(record: Record) -> None:
        if isinstance(record, Stepped):
            return
        line = dumps({"record": type(record).__name__.lower(), **dataclasses.asdict(record)})
        with path.open("a") as file:
            file.write(line + "\n")

    return write


def tensorboard(folder: Path) -> Listener:
    """Return a listener that writes TensorBoard's event files.

    Raises:
        TrainError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as err:
        raise TrainError("TensorBoard is not installed; install it with: pip install tensorboard") from err
    writer = SummaryWriter(str(folder))

    def write(record: Record) -> None:
        for name, value in _scalars(record).items():
            writer.add_scalar(name, value, record.step)
        if not isinstance(record, Stepped):
            writer.flush()

    return write


def _scalars(record: Record) -> dict[str, float]:
    if isinstance(record, Averaged):
        return {f"train/{name}": getattr(record, name) for name in ("loss", "bpp", "mse", "lr_factor")}
    if isinstance(record, Validated):
        by_level = {
            f"validation/{name}-{level.lmbda:g}": value
            for level in record.levels
            for name, value in vars(level).items()
            if name != "lmbda"
        }
        refined = {} if record.refined_loss is None else {"validation/refined-loss": record.refined_loss}
        return {"validation/loss": record.loss, **refined, **by_level}
    return {}
