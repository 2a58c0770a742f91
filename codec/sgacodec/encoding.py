"""From an image to bytes.

picture -> plan -> prepared -> coding (g_a, h_a) -> drawn/choice -> refine -> coding (streams) -> container
        -> decode again -> file

`drawn.choice` may take parts of a drawn picture out, fill what they leave, and put an overlay over them. For a target,
`targets.search` goes this way at several levels.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgacodec import decoding, targets
from sgacodec.bitsback import embed
from sgacodec.bitsback.distributions import bits_back_of
from sgacodec.bitsback.message import Message
from sgacodec.codings import Coded, Plain, choose_coding, digest_of, n_bytes_of, whole
from sgacodec.devices import as_by_default
from sgacodec.drawn import choice, hidden
from sgacodec.errors import CorruptStreamError, EncodeError, ModelMismatchError
from sgacodec.format import container
from sgacodec.format.container import Container, SectionType
from sgacodec.latents.symbols import Band
from sgacodec.metrics import psnr_of, sum_of_squares
from sgacodec.models.levels import LEVEL_STEPS, level_lambda, level_lambdas
from sgacodec.nets.pieces import rated_pieces, to_tensor
from sgacodec.nets.registry import RefinedModel
from sgacodec.options import EncodeOptions
from sgacodec.picture import Picture, alpha_of, region_of, stripped, to_picture
from sgacodec.plan import Plan, Target, make_plan
from sgacodec.refine import loop, pieces
from sgacodec.refine.batches import Refine, Refinement, alone
from sgacodec.refine.objective import Objective

Report = loop.Report


@dataclass(frozen=True, eq=False)
class Encoded:
    """An encoded image and what is known of it.

    Attributes:
        data: the .sga file.
        refined: where the latents stood before and after refinement, by the float model; below an overlay, where there
            is one: its bits and its pixels do not count there.
        table_bits: sum of -log2 of the integer tables' probabilities, in bits.
        bpp: bits per pixel of the whole file.
        psnr_db: PSNR of the decoded RGB picture, without pixels of alpha 0.
        attempts: at how many levels it was refined on the way to a target.
    """

    data: bytes
    refined: loop.Refined
    table_bits: float
    bpp: float
    psnr_db: float
    attempts: int = 1


def encode(
    source: Any, options: EncodeOptions | None = None, report: Report | None = None, message: Message | None = None
) -> bytes:
    """Encode an image.

    Args:
        source: a Pillow image, a uint8 array [H, W], [H, W, 3] or [H, W, 4], or a `picture.Picture`.
        options: see `EncodeOptions`.
        report: called after every refinement step.
        message: bytes, or a text such as a caption, that the file carries besides; a model with a bits-back model
            carries it in the picture's latents, where that is shorter than a section.

    Returns:
        The bytes of an .sga file, which `decode` has read back.

    Raises:
        InvalidImageError: `source` cannot be encoded.
        ModelNotFoundError: the model is not installed.
        TargetNotReachedError: the picture cannot become so small, or so good.
        EncodeError: refinement or the self-check failed.
    """
    with as_by_default():
        plan = make_plan(options or EncodeOptions())
    return encode_with(plan, to_picture(source), report, message).data


def encode_with(
    plan: Plan,
    picture: Picture,
    report: Report | None = None,
    message: Message | None = None,
    refine: Refine = alone,
) -> Encoded:
    """Encode a picture as planned and say what came of it; errors as in `encode`.

    Args:
        plan: what the options stand for.
        picture: what to encode.
        report: called after every refinement step.
        message: what the file carries besides.
        refine: refines it, if it is not so large that it goes in pieces; with others, where they wait for each other.
    """
    with as_by_default():
        task = _Task(prepared(plan, picture), report, message, refine)
        if plan.wanted is not None:
            return _encode_to(plan.wanted, plan, task)
        attempt = _Attempt(plan, task)
        attempt.refine()
        return attempt.file().encoded


@dataclass(frozen=True, eq=False)
class _Task:
    """What is encoded, at whatever level; see `encode_with`."""

    picture: Picture
    report: Report | None
    message: Message | None
    refine: Refine


def _encode_to(wanted: targets.Wanted, plan: Plan, task: _Task) -> Encoded:
    model, refines = plan.model, plan.settings.schedule.iterations > 0
    lambdas = level_lambdas(model)
    last = len(lambdas) - 1
    step = math.log(lambdas[-1] / lambdas[0]) / last if last else 1.0
    goal = wanted.of_size(task.picture.rgb.shape[0] * task.picture.rgb.shape[1])

    @lru_cache(maxsize=1)  # the level that a search ends at without refinement is often the first that is refined
    def attempt_at(level_q4: int) -> _Attempt:
        target = Target(level_q4, level_lambda(model, level_q4))
        return _Attempt(replace(plan, target=target), task)

    found = targets.search(goal, attempt_at, last, step, refines)
    return replace(found.file.encoded, attempts=found.attempts)


class _Attempt:
    """A picture at one level; a `targets.Attempt`.

    Attributes:
        trims: whether a dead zone changes its files.
        number: how many were refined so far, this one included.
        refined: its latents and where they stand, once they were refined.
    """

    refined: loop.Refined
    number = 1

    def __init__(self, plan: Plan, task: _Task) -> None:
        """Analyse the picture."""
        self._task = task
        self._chosen = choice.choose(plan, task.picture, partial(choose_coding, message=task.message))
        self.trims = self._chosen.coding.trims

    def unrefined(self) -> _File:
        """Return the file of the latents as they were analysed."""
        return _File(self, self._chosen.coding.unrefined)

    def refine(self, before: _Attempt | None = None) -> None:
        """Refine the latents, from where an attempt at another level left them if they serve."""
        plan, coding = self._chosen.plan, self._chosen.coding
        start = coding.y, coding.z
        if before is not None:
            self.number = before.number + 1
            moved = self._moved(before)
            if moved is not None:
                start, plan = moved, replace(plan, settings=plan.settings.shortened())
        report = self._numbered(self._task.report)
        self.refined = refine_latents(plan, self._chosen.picture, coding.model, *start, report, self._task.refine)

    def _numbered(self, report: Report | None) -> Report | None:
        """Return a report that says which attempt this is."""
        return report and (lambda progress: report(replace(progress, attempt=self.number)))

    def _moved(self, before: _Attempt) -> tuple[Tensor, Tensor] | None:
        """Return the latents that another attempt ended with, scaled to this level, or None if they do not serve."""
        here, there = self._chosen, before._chosen
        is_far = abs(here.plan.target.level_q4 - there.plan.target.level_q4) > LEVEL_STEPS  # z does not only scale
        if is_far or there.picture.overlay != here.picture.overlay:  # or they are of another picture
            return None
        return here.coding.moved(there.coding, before.refined.y, before.refined.z)

    def file(self, dead_zone: float = 0.0) -> _File:
        """Return the file of the refined latents; a dead zone is one of `streams.Writer`."""
        return _File(self, self._chosen.coding.code(self.refined.y, self.refined.z, dead_zone))

    def read_back(self, coded: Coded) -> _Decoded:
        """Decode what was coded, and compare it with the picture."""
        return _decode_own(coded, self._chosen.plan, self._task.message, self._task.picture)

    @property
    def n_pixels(self) -> int:
        """Pixels of the picture."""
        return self._task.picture.rgb.shape[0] * self._task.picture.rgb.shape[1]


class _File:
    """A file of an attempt, read back when its picture is first asked for; a `targets.File`."""

    def __init__(self, attempt: _Attempt, coded: Coded) -> None:
        self._attempt, self._coded = attempt, coded

    @cached_property
    def n_bytes(self) -> int:
        """Its length."""
        return n_bytes_of(self._coded)

    @cached_property
    def n_bytes_beside(self) -> int:
        """What the sections take of it: metadata, message, alpha. Overlays are colours, and not at each level."""
        filled = self._coded.container
        colours = tuple(section for section in filled.sections if section.kind == SectionType.OVERLAY)
        return self.n_bytes - len(container.serialize(replace(filled, sections=colours)))

    @cached_property
    def _decoded(self) -> _Decoded:
        return self._attempt.read_back(self._coded)

    @property
    def psnr_db(self) -> float:
        """PSNR of what a decoder makes of it."""
        return self._decoded.psnr_db

    @property
    def encoded(self) -> Encoded:
        """The file with all that is known of it."""
        coded = self._coded
        data = container.serialize(replace(coded.container, pixel_crc=self._decoded.pixel_crc))
        bpp = 8 * len(data) / self._attempt.n_pixels
        return Encoded(data, self._attempt.refined, coded.table_bits, bpp, self.psnr_db)


def prepared(plan: Plan, picture: Picture) -> Picture:
    """Return the picture that is coded, without metadata that are to be left out.

    Colours that cannot be seen are filled, unless they are asked for.
    """
    picture = stripped(picture, plan.strip)
    return picture if plan.exact else hidden.filled(picture)


def refine_latents(
    plan: Plan,
    picture: Picture,
    model: RefinedModel,
    y: Tensor,
    z: Tensor,
    report: Report | None = None,
    refine: Refine = alone,
) -> loop.Refined:
    """Refine the latents of a picture: a large one piece by piece."""
    if len(rated_pieces(model, y, z)) == 1:
        refined = refine(Refinement(make_objective(plan, picture, model), y, z, plan.settings, report))
        refined.warn()
        return refined
    return pieces.refine(model, partial(_window_objective, plan, picture), y, z, plan.settings, report)


def make_objective(plan: Plan, picture: Picture, model: RefinedModel) -> Objective:
    """Return what refinement of a picture lowers."""
    return _objective(plan, picture.rgb, model, None if plan.exact else hidden.seen(picture))


def _window_objective(
    plan: Plan, picture: Picture, model: RefinedModel, rows: slice, columns: slice, counted: tuple[slice, slice]
) -> Objective:
    """Return what refinement of a piece lowers; see `refine.pieces.MakeObjective`."""
    rgb, mask = picture.rgb[rows, columns], np.zeros(picture.rgb[rows, columns].shape[:2], np.bool_)
    mask[counted] = True
    seen = None if plan.exact else hidden.seen(picture)
    return _objective(plan, rgb, model, mask if seen is None else mask & seen[rows, columns])


def _objective(
    plan: Plan, rgb: npt.NDArray[np.uint8], model: RefinedModel, seen: npt.NDArray[np.bool_] | None
) -> Objective:
    return Objective(
        model,
        to_tensor(rgb, plan.device),
        plan.target.lmbda,
        autocast=plan.autocast,
        synthesis_every=plan.settings.schedule.synthesis_every,
        seen=None if seen is None else torch.from_numpy(seen[None]).to(plan.device),
    )


@dataclass(frozen=True)
class _Decoded:
    """What decoding has shown.

    Attributes:
        pixel_crc: of the decoded picture.
        psnr_db: see `Encoded`.
    """

    pixel_crc: int
    psnr_db: float


def _decode_own(coded: Coded, plan: Plan, message: Message | None, picture: Picture) -> _Decoded:
    """Decode the bytes that were just made, row by row.

    Args:
        coded: the bytes.
        plan: for the model.
        message: what they carry.
        picture: what was to be coded.

    Raises:
        EncodeError: they do not give the symbols, the message or the alpha plane that were coded.
    """
    reread = container.parse(container.serialize(coded.container))
    latents = decoding.decode_latents(reread, plan.model)
    digests = [digest_of(latents.z)]
    bands = _watched(latents.bands(), digests)
    decoded = _measure(picture, decoding.colours(latents, region_of(None, reread.width, reread.height), bands))
    same = digests == coded.digests and _comes_back(reread, picture.alpha)
    if not same or decoding.read_message(reread, plan.model, latents) != message:
        raise EncodeError("the encoded file does not decode to its own content; please report this")
    return decoded


def _watched(bands: Iterable[Band], digests: list[bytes]) -> Iterator[Band]:
    """Yield bands, and append their digests."""

    def watch(band: Band) -> Band:
        digests.append(digest_of(band.y))
        return band

    return map(watch, bands)


def _measure(picture: Picture, decoded: Iterable[npt.NDArray[np.uint8]]) -> _Decoded:
    """Compare a picture with its decoded rows; pixels that cannot be seen do not count, unless none can."""
    crc, squares, n_samples, top = 0, 0, 0, 0
    seen = hidden.seen(picture)
    for rgb in decoded:
        rows = slice(top, top + len(rgb))
        counted = slice(None) if seen is None else seen[rows]
        original, shown = picture.rgb[rows][counted], rgb[counted]
        squares, n_samples = squares + sum_of_squares(original, shown), n_samples + shown.size
        crc, top = zlib.crc32(rgb.data, crc), rows.stop
    return _Decoded(crc, psnr_of(squares, n_samples))


def _comes_back(reread: Container, alpha: npt.NDArray[np.uint8] | None) -> bool:
    """Whether a container gives an alpha plane, uint8 [H, W], or has none where there is none."""
    try:
        found = alpha_of(reread)
    except CorruptStreamError:
        return False
    return found is None if alpha is None else found is not None and np.array_equal(found, alpha)


def capacity_bytes(picture: Picture, options: EncodeOptions) -> tuple[int, ...]:
    """Return how many bytes of a message the latents of a picture take on each lattice, coarsest first.

    That is before refinement, which changes it little.

    Raises:
        ModelMismatchError: the model has no bits-back model.
        EncodeError: see `encode`.
    """
    with as_by_default():
        return _capacity_bytes(picture, make_plan(options))


def _capacity_bytes(picture: Picture, plan: Plan) -> tuple[int, ...]:
    if plan.model.bits_back is None:
        raise ModelMismatchError(
            f"model {plan.model.name} has no bits-back model; its files carry nothing in their latents"
        )
    chosen = choice.choose(plan, prepared(plan, picture), Plain)  # what is under an overlay carries nothing
    bits_back = bits_back_of(plan.model, chosen.plan.target.level_q4)
    return embed.capacity_bytes(bits_back, whole(chosen.coding.y))
