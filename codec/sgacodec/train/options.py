"""What a training run can be asked; imports no torch, so that help texts come at once."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgacodec.errors import TrainError

LAMBDAS = (0.0016, 0.0029, 0.0053, 0.0097, 0.0177, 0.0325, 0.0594, 0.1086)
"""R-D trade-offs of the eight levels of a variable-rate model."""

LEARNING_RATES = {"adam": 5e-4, "muon": 2e-3, "soap": 1e-3}
"""Default learning rate of each optimiser."""

FAMILIES = ("mean-scale", "context")
"""Kinds of network that can be trained, see `families.registry`."""

DEFAULT_FAMILY = "context"
"""What a run from nothing trains; a checkpoint that names no family is of the first one."""

STAGES = ("base", "hyper", "refined", "bits-back")
"""What can be trained: everything on noise, the hyperprior on the rate, the decoder on refined latents, or a bits-back
model of a model."""

BLOCKS = (3, 2, 2, 3)
"""Residual blocks of the context family unless others are asked for, see `TrainOptions.blocks`."""

STRIDE = 64
"""Pixels per z sample along one side; patches are multiples of it."""


@dataclass(frozen=True)
class TrainOptions:
    """What defines a run. It is stored in the run's checkpoints, and a resumed run keeps it.

    Attributes:
        model: id, in hexadecimal, of the model that gets a bits-back model and that N, M and lambdas are taken from,
            or None.
        family: kind of network, see `families.registry`.
        N: channels of the hyper-latents and inside g_a and g_s.
        M: channels of the latents.
        blocks: residual blocks of the context family's g_a at an eighth and a sixteenth of the size, and of its g_s at
            a sixteenth and an eighth; None becomes `BLOCKS` there.
        lambdas: R-D trade-off of each level; one trains a single-rate model without gains.
        optimizer: a key of `LEARNING_RATES`.
        lr: learning rate after warm-up; None is the optimiser's default.
        steps: length of the whole schedule in steps, or None.
        seconds: length of the whole schedule in seconds of training, or None.
        warmup_steps: the learning rate rises linearly over so many steps.
        final_lr: the cosine ends at this fraction of the learning rate; 1 keeps the rate constant.
        batch_size: patches per step, all processes together.
        patch_size: side of a patch in pixels.
        zoom: half of the patches are enlarged by up to this factor; 1 enlarges none.
        evenness: 0 minimises the mean of the weighted losses, which busy patches dominate; towards 1, where each
            patch's relative loss would count the same, it counts by its loss to the power 1 - evenness.
        drawn: so large a share of the patches is drawn over with shapes, and as large a one has its colours swapped.
        n_validation: held-out images, at most a fifth of all.
        init: start of g_a and g_s: klt or default.
        seed: seeds weights, crops and noise.
        stage: one of `STAGES`.
        refine_steps: refinement steps on each batch of the refined stage; schedules of about 20 gain next to nothing,
            and 0 is for files without refinement.
        refined_updates: updates of the decoder on each refined batch.

    Raises:
        TrainError: a value is out of range.
    """

    model: str | None = None
    family: str = "mean-scale"
    N: int = 128
    M: int = 192
    blocks: tuple[int, int, int, int] | None = None
    lambdas: tuple[float, ...] = LAMBDAS
    optimizer: str = "adam"
    lr: float | None = None
    steps: int | None = None
    seconds: float | None = None
    warmup_steps: int = 200
    final_lr: float = 0.01
    batch_size: int = 8
    patch_size: int = 256
    zoom: float = 1.0
    evenness: float = 0.0
    drawn: float = 0.0
    n_validation: int = 32
    init: str = "klt"
    seed: int = 0
    stage: str = "base"
    refine_steps: int = 40
    refined_updates: int = 2

    def __post_init__(self) -> None:
        """Check the values."""
        if self.blocks is None and self.family == "context":
            object.__setattr__(self, "blocks", BLOCKS)
        for sentence, holds in self._rules():
            if not holds:
                raise TrainError(sentence)

    def _rules(self) -> tuple[tuple[str, bool], ...]:
        lengths = [value for value in (self.steps, self.seconds) if value is not None]
        return (
            (
                "name the model that gets a bits-back model: --model",
                self.stage != "bits-back" or self.model is not None,
            ),
            ("only the stage bits-back takes a model", self.stage == "bits-back" or self.model is None),
            ("N and M must be at least 8", min(self.N, self.M) >= 8),
            (
                "blocks are four numbers from 1 to 16, and only the context family has them",
                self.blocks is None or (self.family == "context" and _are_counts(self.blocks)),
            ),
            (
                "the batch size and the number of validation images must be positive",
                min(self.batch_size, self.n_validation) >= 1,
            ),
            ("give the schedule's length once: in steps or in seconds", len(lengths) == 1 and lengths[0] > 0),
            (f"the patch size must be a multiple of {STRIDE}", self.patch_size > 0 and self.patch_size % STRIDE == 0),
            ("the final learning rate is a fraction above 0 and at most 1", 0 < self.final_lr <= 1),
            ("the zoom must be at least 1 and at most 4", 1 <= self.zoom <= 4),
            ("the share of drawn patches must be at least 0 and at most 0.5", 0 <= self.drawn <= 0.5),
            ("the evenness must be at least 0 and below 1", 0 <= self.evenness < 1),
            (
                "a bits-back model is trained on net rates, which may be negative: leave out --evenness",
                self.stage != "bits-back" or self.evenness == 0,
            ),
            ("lambdas must be positive and rise, at most 16 of them", _rising(self.lambdas)),
            (f"optimisers are: {', '.join(LEARNING_RATES)}", self.optimizer in LEARNING_RATES),
            ("the learning rate must be positive", self.optimizer not in LEARNING_RATES or self.learning_rate > 0),
            ("the seed must be an integer of 64 bits that is not negative", 0 <= self.seed < 2**64),
            ("the start is klt or default", self.init in ("klt", "default")),
            (f"stages are: {', '.join(STAGES)}", self.stage in STAGES),
            (
                "the refined stage takes any number of refinement steps, and needs at least one update",
                self.refine_steps >= 0 and self.refined_updates >= 1,
            ),
        )

    @property
    def learning_rate(self) -> float:
        """Learning rate after warm-up."""
        return LEARNING_RATES[self.optimizer] if self.lr is None else self.lr


def _are_counts(blocks: Sequence[int]) -> bool:
    return len(blocks) == 4 and all(1 <= count <= 16 for count in blocks)


def _rising(lambdas: tuple[float, ...]) -> bool:
    ascending = all(a < b for a, b in itertools.pairwise(lambdas))
    return 1 <= len(lambdas) <= 16 and lambdas[0] > 0 and ascending


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out here; a resumed run may change all of it.

    Attributes:
        output: the checkpoint file.
        device: torch device, or "auto".
        compile: whether torch.compile is used.
        autocast: whether convolutions run in bfloat16; None is where the device has instructions for it.
        save_every: seconds between checkpoints.
        validate_every: seconds between validations.
        log_every: steps that are averaged for one line of the log.
        stop_after: seconds after which this piece of the run ends, resumable; None is at the schedule's end.
    """

    output: Path
    device: str = "auto"
    compile: bool = False
    autocast: bool | None = None
    save_every: float = 120
    validate_every: float = 600
    log_every: int = 50
    stop_after: float | None = None


def continue_with(stored: TrainOptions, given: Mapping[str, Any]) -> TrainOptions:
    """Return the options of a run that is resumed.

    Args:
        stored: those of the checkpoint.
        given: those that the user names again, by attribute.

    Raises:
        TrainError: one differs from what is stored.
    """
    known = {**dataclasses.asdict(stored), "lr": stored.learning_rate}
    for name, value in given.items():
        if known[name] != value:
            raise TrainError(
                f"the run was started with {name} {known[name]}, not {value}; resume it without this option, or start "
                "a new schedule from its weights with --warm"
            )
    return stored
