"""From an image to bytes.

picture -> plan -> prepared -> analyse (g_a, h_a) -> drawn/choice -> refine -> latents/streams -> container
        -> decode again -> file

`drawn.choice` may take parts of a drawn picture out, fill what they leave, and put an overlay over them.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgacodec import decoding
from sgacodec.arrays import Int32Array
from sgacodec.bitsback import embed
from sgacodec.bitsback.distributions import bits_back_of
from sgacodec.bitsback.message import Message, frame
from sgacodec.devices import as_by_default
from sgacodec.drawn import choice, hidden
from sgacodec.errors import CorruptStreamError, EncodeError, ModelMismatchError, SymbolRangeError
from sgacodec.format import container
from sgacodec.format.container import Container, Section, SectionType
from sgacodec.latents import streams
from sgacodec.latents.symbols import Band
from sgacodec.metrics import psnr_of, sum_of_squares
from sgacodec.nets.bits_back import BitsBackNets, CarryingNets
from sgacodec.nets.pieces import analyse as analysed
from sgacodec.nets.pieces import rated_pieces, to_tensor
from sgacodec.nets.registry import FloatModel, RefinedModel, float_model
from sgacodec.options import EncodeOptions
from sgacodec.picture import Picture, alpha_of, region_of, to_picture
from sgacodec.plan import Plan, make_plan
from sgacodec.refine import loop, pieces
from sgacodec.refine.objective import Objective

_BAND_PIXELS = 2**21
"""A decoder holds what it knows of a band: some 150 bytes a pixel. A border between bands costs 0.004 % of the file."""

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
    """

    data: bytes
    refined: loop.Refined
    table_bits: float
    bpp: float
    psnr_db: float


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
        EncodeError: refinement or the self-check failed.
    """
    with as_by_default():
        plan = make_plan(options or EncodeOptions())
    return encode_with(plan, to_picture(source), report, message).data


def encode_with(plan: Plan, picture: Picture, report: Report | None = None, message: Message | None = None) -> Encoded:
    """Encode a picture as planned and say what came of it; errors as in `encode`."""
    with as_by_default():
        return _encode(plan, prepared(plan, picture), report, message)


def _encode(plan: Plan, picture: Picture, report: Report | None, message: Message | None) -> Encoded:
    chosen = choice.choose(plan, picture, partial(choose_coding, message=message))
    coding = chosen.coding
    refined = refine_picture(chosen.plan, chosen.picture, coding, report)
    coded = coding.code(refined.y, refined.z)
    decoded = _decode_own(coded, plan, message, picture)
    data = container.serialize(replace(coded.container, pixel_crc=decoded.pixel_crc))
    bpp = 8 * len(data) / (picture.rgb.shape[0] * picture.rgb.shape[1])
    return Encoded(data, refined, coded.table_bits, bpp, decoded.psnr_db)


def prepared(plan: Plan, picture: Picture) -> Picture:
    """Return the picture whose colours are coded: those that cannot be seen are filled, unless they are asked for."""
    return picture if plan.exact else hidden.filled(picture)


def refine_picture(plan: Plan, picture: Picture, coding: Coding, report: Report | None = None) -> loop.Refined:
    """Refine the latents of a picture: a large one piece by piece."""
    model, y, z = coding.model, coding.y, coding.z
    if len(rated_pieces(model, y, z)) == 1:
        return loop.refine(make_objective(plan, picture, model), y, z, plan.settings, report)
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
        seen=None if seen is None else torch.from_numpy(seen).to(plan.device),
    )


@dataclass(frozen=True, eq=False)
class _Coded:
    """A picture's latents as streams; the container's pixel CRC is still to come.

    Attributes:
        container: has the streams.
        digests: of z, and of y of each band.
        table_bits: see `Encoded`.
    """

    container: Container
    digests: list[bytes]
    table_bits: float


class Coding(Protocol):
    """A way to code latents.

    Attributes:
        y, z: where refinement starts, float32 [1, M, H/16, W/16] and [1, N, H/64, W/64].
    """

    y: Tensor
    z: Tensor

    @property
    def model(self) -> RefinedModel:
        """What rates and synthesises the latents while they are refined."""

    def code(self, y: Tensor, z: Tensor) -> _Coded:
        """Return latents, refined or not, as a container; shapes are those of the attributes."""


def choose_coding(plan: Plan, picture: Picture, message: Message | None = None) -> Coding:
    """Return how a picture is coded: a message goes to the latents where that makes a shorter file, else to a section.

    Either way the latents are refined for what was chosen, so the lengths are compared before.
    """
    if message is None:
        return _Plain(plan, picture)
    plain = _Plain(plan, picture, (Section(SectionType.MESSAGE, frame(message)),))
    if plan.model.bits_back is None:
        return plain
    carrying = _Carrying(plan, picture, message, plain)
    if plan.embedding.always_carries or carrying.n_bytes_unrefined < plain.n_bytes_unrefined:
        return carrying
    return plain


class _Plain:
    """z and y in streams of their own; a message, if any, in a section."""

    def __init__(self, plan: Plan, picture: Picture, sections: tuple[Section, ...] = ()) -> None:
        self._plan, self._picture, self._sections = plan, picture, sections
        self.model = nets = float_model(plan.model, plan.target.level_q4, plan.device)
        self.y, self.z = analyse(nets, picture)

    @property
    def n_bytes_unrefined(self) -> int:
        """Length of the file without refinement."""
        return _n_bytes(self.code(self.y, self.z))

    def code(self, y: Tensor, z: Tensor) -> _Coded:
        """Round z, then y around the mu that the decoder will compute."""
        decoder, level_q4 = self._plan.model.decoder, self._plan.target.level_q4
        prior = decoder.entropy
        median = prior.z_median[:, None, None] * 2.0**-prior.z_frac_bits
        z_symbols = streams.to_symbols(z.cpu().numpy() - median)
        z_stream, z_bits = streams.write_z(decoder, z_symbols)
        height, width = self._picture.rgb.shape[:2]
        n_bands = streams.number_of_bands(z.shape[2], round(height * width / _BAND_PIXELS))
        writer = streams.Writer(y.cpu().numpy(), decoder.y_frac_bits)
        bands = streams.y_bands(decoder, z.shape[2], n_bands)
        digests = _digests(z_symbols, streams.walk_bands(decoder, level_q4, z_symbols, bands, writer))
        filled = Container(
            **_described(self._plan, self._picture, self._plan.model.model_id),
            z_stream=z_stream,
            y_streams=tuple(writer.streams),
            sections=(*self._picture.sections(), *self._sections),
        )
        return _Coded(filled, digests, z_bits + writer.table_bits)


class _Carrying:
    """The z's carry a message, y lies on the integers."""

    def __init__(self, plan: Plan, picture: Picture, message: Message, plain: _Plain) -> None:
        """Take what was analysed for plain streams: y is the same."""
        self._plan, self._picture, self._message = plan, picture, message
        level_q4 = plan.target.level_q4
        self._bits_back = bits_back_of(plan.model, level_q4)
        bits_back_nets = BitsBackNets(plan.model, level_q4, plan.device)
        self.y = plain.y
        with torch.no_grad():
            self.z, _ = bits_back_nets.posterior(torch.round(self.y))
        mask = embed.likely_carriers(self._bits_back, _whole(self.y), message, plan.embedding)
        is_carrier = torch.from_numpy(mask).to(plan.device)
        self.model = CarryingNets(plain.model, bits_back_nets, is_carrier, plan.settings.seed)

    @property
    def n_bytes_unrefined(self) -> int:
        """Length of the file without refinement, of one variant of the message's bits."""
        return _n_bytes(self._embed(self.y, self.z, replace(self._plan.embedding, tries=1)))

    def code(self, y: Tensor, z: Tensor) -> _Coded:
        """Embed the message in the z's."""
        return self._embed(y, z, self._plan.embedding)

    def _embed(self, y: Tensor, z: Tensor, settings: embed.Settings) -> _Coded:
        embedded = embed.embed(self._bits_back, _whole(y), self._message, settings, _whole(z))
        model = self._plan.model
        filled = Container(
            **_described(self._plan, self._picture, model.bits_back_id or model.model_id),
            z_stream=b"",
            y_streams=(embedded.stream,),
            sections=(*embedded.sections, *self._picture.sections()),
        )
        symbols = embedded.symbols
        bands = [Band(slice(0, symbols.y.shape[2]), symbols.y, symbols.y_hat_q)]
        return _Coded(filled, _digests(symbols.z, bands), embedded.table_bits)


def _n_bytes(coded: _Coded) -> int:
    return len(container.serialize(coded.container))


def _whole(latent: Tensor) -> npt.NDArray[np.int32]:
    return streams.to_symbols(latent.cpu().numpy())


def _described(plan: Plan, picture: Picture, model_id: bytes) -> dict[str, Any]:
    """Return what a container says of its picture; the pixel CRC is still to come."""
    height, width = picture.rgb.shape[:2]
    return {
        "width": width,
        "height": height,
        "grayscale": picture.grayscale,
        "model_id": model_id,
        "level_q4": plan.target.level_q4,
        "pixel_crc": 0,
    }


def analyse(nets: FloatModel, picture: Picture) -> tuple[Tensor, Tensor]:
    """Return y and z of a picture of any size, scaled to the level.

    Raises:
        SymbolRangeError: a latent is not finite.
    """
    y, z = analysed(nets, picture.rgb)
    if not torch.isfinite(y.sum() + z.sum()):
        raise SymbolRangeError("a latent is not finite; this model does not suit this image")
    return y, z


def _digests(z: Int32Array, bands: Iterable[Band]) -> list[bytes]:
    return [_digest(z), *(_digest(band.y) for band in bands)]


def _digest(symbols: Int32Array) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(symbols).data).digest()


@dataclass(frozen=True)
class _Decoded:
    """What decoding has shown.

    Attributes:
        pixel_crc: of the decoded picture.
        psnr_db: see `Encoded`.
    """

    pixel_crc: int
    psnr_db: float


def _decode_own(coded: _Coded, plan: Plan, message: Message | None, picture: Picture) -> _Decoded:
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
    digests = [_digest(latents.z)]
    bands = _watched(latents.bands(), digests)
    decoded = _measure(picture, decoding.colours(latents, region_of(None, reread.width, reread.height), bands))
    same = digests == coded.digests and _comes_back(reread, picture.alpha)
    if not same or decoding.read_message(reread, plan.model, latents) != message:
        raise EncodeError("the encoded file does not decode to its own content; please report this")
    return decoded


def _watched(bands: Iterable[Band], digests: list[bytes]) -> Iterator[Band]:
    """Yield bands, and append their digests."""

    def watch(band: Band) -> Band:
        digests.append(_digest(band.y))
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
    chosen = choice.choose(plan, prepared(plan, picture), _Plain)  # what is under an overlay carries nothing
    bits_back = bits_back_of(plan.model, chosen.plan.target.level_q4)
    return embed.capacity_bytes(bits_back, _whole(chosen.coding.y))
