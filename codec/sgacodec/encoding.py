"""From an image to bytes.

image.read -> analyse (g_a, h_a) -> refine.loop -> symbols -> hyper -> entropy -> decoding (self-check)
    -> container.serialize
"""

from __future__ import annotations

import logging
import math
import zlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from sgacodec import decoding, limits
from sgacodec.bitsback import distributions as heads
from sgacodec.bitsback import embed
from sgacodec.bitsback.message import SideInformation
from sgacodec.entropy import range_coder
from sgacodec.errors import EncodeError, InvalidImageError, ModelMismatchError, SymbolRangeError, TargetNotReachedError
from sgacodec.format import container
from sgacodec.format.container import Container
from sgacodec.latents import hyperprior
from sgacodec.latents.hyperprior import Symbols
from sgacodec.metrics import psnr_db
from sgacodec.models import store
from sgacodec.models.model import Model
from sgacodec.nets.evaluator import HeadNets, Nets
from sgacodec.options import EncodeOptions
from sgacodec.picture import Picture, picture_from_array, picture_from_pillow
from sgacodec.refine import loop, rounding, schedule
from sgacodec.refine.objective import CarryingObjective, Objective

log = logging.getLogger(__name__)

_BAND_PIXELS = 2**22
_BFLOAT16_CHANNELS = 16
Report = loop.Report


@dataclass(frozen=True, eq=False)
class Encoded:
    """An encoded image and what is known of it.

    Attributes:
        data: the .sga file.
        refined: where the latents stood before and after refinement, by the float model.
        table_bits: sum of -log2 of the integer tables' probabilities, in bits.
        bpp: bits per pixel of the whole file.
        psnr_db: PSNR of the decoded RGB picture.
    """

    data: bytes
    refined: loop.Refined
    table_bits: float
    bpp: float
    psnr_db: float


@dataclass(frozen=True)
class Target:
    """What is aimed for.

    Attributes:
        level_q4: the model's level in sixteenths.
        lmbda: R-D trade-off of the refinement; need not be the level's own.
    """

    level_q4: int
    lmbda: float


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that `EncodeOptions` stand for.

    Attributes:
        model: the model.
        target: level and lambda.
        settings: how to refine.
        device: where to refine.
        embedding: how to embed side information.
    """

    model: Model
    target: Target
    settings: loop.Settings
    device: torch.device
    embedding: embed.Settings = field(default_factory=embed.Settings)


def encode(
    source: Any,
    options: EncodeOptions | None = None,
    report: Report | None = None,
    side_information: SideInformation | None = None,
) -> bytes:
    """Encode an image.

    Args:
        source: a Pillow image, a uint8 array [H, W], [H, W, 3] or [H, W, 4], or an `image.Picture`.
        options: see `EncodeOptions`.
        report: called after every refinement step.
        side_information: bytes, or a text such as a caption, that the file carries besides; a model with a bits-back
            head carries it in the picture's latents, where that is shorter than a section.

    Returns:
        The bytes of an .sga file, which `decode` has read back.

    Raises:
        InvalidImageError: `source` cannot be encoded.
        ModelNotFoundError: the model is not installed.
        EncodeError: refinement or the self-check failed.
    """
    return encode_picture(to_picture(source), options or EncodeOptions(), report, side_information).data


def to_picture(source: Any) -> Picture:
    """Return `source` (see `encode`) as a Picture."""
    if isinstance(source, Picture):
        return source
    if isinstance(source, Image.Image):
        return picture_from_pillow(source)
    if isinstance(source, np.ndarray):
        return picture_from_array(source)
    raise InvalidImageError(f"expected a Pillow image or a numpy array, got {type(source).__name__}")


def encode_picture(
    picture: Picture,
    options: EncodeOptions,
    report: Report | None = None,
    side_information: SideInformation | None = None,
) -> Encoded:
    """Encode a picture and say what came of it; arguments and errors as in `encode`."""
    return carry_out(make_plan(options), picture, report, side_information)


def make_plan(options: EncodeOptions) -> Plan:
    """Return what the options stand for; errors as in `encode`."""
    model = store.load_by_name(options.model)
    round_ = rounding.choose(options.method, rounding.Form(options.classes))
    settings = loop.Settings(round_, schedule.for_iterations(options.steps), options.seed)
    return Plan(model, choose_target(model, options), settings, torch_device(options.device))


def carry_out(
    plan: Plan,
    picture: Picture,
    report: Report | None = None,
    side_information: SideInformation | None = None,
) -> Encoded:
    """Encode a picture as planned and say what came of it."""
    if side_information is None:
        coded = _code(plan, picture, report)
    elif plan.model.bits_back is None:
        section = embed.appended(side_information)  # before refinement: it may be refused
        coded = _with_section(_code(plan, picture, report), section)
    else:
        coded = _code_carrying(plan, picture, report, side_information)
    rgb = _decode_own(coded, plan.model, side_information)
    data = container.serialize(replace(coded.box, pixel_crc=zlib.crc32(rgb.tobytes())))
    bpp = 8 * len(data) / (rgb.shape[0] * rgb.shape[1])
    return Encoded(data, coded.refined, coded.table_bits, bpp, psnr_db(picture.rgb, rgb))


@dataclass(frozen=True, eq=False)
class _Coded:
    """A picture's latents as symbols and as streams; the container's pixel CRC is still to come."""

    box: Container
    symbols: Symbols
    refined: loop.Refined
    table_bits: float


def _code(plan: Plan, picture: Picture, report: Report | None) -> _Coded:
    model, level_q4 = plan.model, plan.target.level_q4
    refined = _refine(plan, picture, report)
    symbols = _to_symbols(model, level_q4, refined)
    box = _fill_container(picture, model, level_q4, symbols)
    return _Coded(box, symbols, refined, _table_bits(model, symbols))


def _with_section(coded: _Coded, section: container.Section) -> _Coded:
    return replace(coded, box=replace(coded.box, sections=(*coded.box.sections, section)))


def _code_carrying(plan: Plan, picture: Picture, report: Report | None, side_information: SideInformation) -> _Coded:
    """Let the z's of a picture carry side information, y on the integers."""
    refined = _refine_carrying(plan, picture, report, side_information)
    y, z = (_to_int(latent.cpu().numpy()) for latent in (refined.y, refined.z))
    embedded = embed.embed(heads.of_model(plan.model), y, side_information, plan.embedding, z)
    box = Container(
        width=picture.rgb.shape[1],
        height=picture.rgb.shape[0],
        grayscale=picture.grayscale,
        model_id=plan.model.bits_back_id or plan.model.model_id,
        level_q4=plan.target.level_q4,
        z_stream=b"",
        y_streams=(embedded.stream,),
        sections=(*embedded.sections, *picture.sections()),
        pixel_crc=0,
    )
    return _Coded(box, embedded.symbols, refined, embedded.table_bits)


def _refine_carrying(
    plan: Plan, picture: Picture, report: Report | None, side_information: SideInformation
) -> loop.Refined:
    """Refine y, and z from where h_a has it, for the carriers that the side information will need."""
    nets, x, _ = prepare(plan, picture)
    head_nets = HeadNets(plan.model, plan.device)
    y, _ = analyse(nets, x)
    with torch.no_grad():
        z, _ = head_nets.posterior(torch.round(y))
    y_start = _to_int(y.cpu().numpy())
    mask = embed.likely_carriers(heads.of_model(plan.model), y_start, side_information, plan.embedding)
    objective = CarryingObjective(
        nets,
        head_nets,
        x,
        plan.target.lmbda,
        torch.from_numpy(mask).to(plan.device),
        plan.settings.seed,
        autocast=bfloat16_pays(plan.device, plan.model),
        synthesis_every=plan.settings.schedule.synthesis_every,
    )
    return loop.refine(objective, y, z, plan.settings, report)


def capacity_bytes(picture: Picture, options: EncodeOptions) -> tuple[int, ...]:
    """Return how many bytes of side information the latents of a picture take on each lattice, coarsest first.

    That is before refinement, which changes it little.

    Raises:
        ModelMismatchError: the model has no bits-back head.
        EncodeError: see `encode`.
    """
    plan = make_plan(options)
    if plan.model.bits_back is None:
        raise ModelMismatchError(
            f"model {plan.model.name} has no bits-back head; its files carry nothing in their latents"
        )
    head = heads.of_model(plan.model)
    nets, x, _ = prepare(plan, picture)
    return embed.capacity_bytes(head, _to_int(analyse(nets, x)[0].cpu().numpy()))


def choose_target(model: Model, options: EncodeOptions) -> Target:
    """Return the level and lambda that the options ask for.

    Raises:
        TargetNotReachedError: the quality, level or lambda is out of range.
    """
    last = hyperprior.max_level_q4(model.decoder)
    if options.lmbda is not None and not options.lmbda > 0:
        raise TargetNotReachedError(f"lambda {options.lmbda:g} is not positive")
    if options.level is not None:
        level_q4 = _in_sixteenths(options.level, last)
    elif options.lmbda is not None:
        level_q4 = min(last, max(0, round(_position(model.lambdas, options.lmbda) * hyperprior.LEVEL_STEPS)))
    else:
        level_q4 = _of_quality(options.quality, last)
        if last == 0 and options.quality != EncodeOptions.quality:
            log.warning("model %s has one rate level; the quality has no effect", model.name)
    return Target(level_q4, level_lambda(model, level_q4) if options.lmbda is None else options.lmbda)


def _of_quality(quality: float, last: int) -> int:
    if not 0 <= quality <= 100:
        raise TargetNotReachedError(f"quality {quality:g} is not between 0 and 100")
    return round(quality / 100 * last)


def _in_sixteenths(level: float, last: int) -> int:
    if not 0 <= level * hyperprior.LEVEL_STEPS <= last:
        raise TargetNotReachedError(f"level {level:g} is not between 0 and {last / hyperprior.LEVEL_STEPS:g}")
    return round(level * hyperprior.LEVEL_STEPS)


def level_lambda(model: Model, level_q4: int) -> float:
    """Return the lambda of a level in sixteenths, interpolated geometrically."""
    logs = np.log(model.lambdas)
    return float(np.exp(np.interp(level_q4 / hyperprior.LEVEL_STEPS, np.arange(len(logs)), logs)))


def _position(lambdas: tuple[float, ...], lmbda: float) -> float:
    return float(np.interp(math.log(lmbda), np.log(lambdas), np.arange(len(lambdas))))


def torch_device(name: str) -> torch.device:
    """Return the torch device called `name`; "auto" is CUDA where there is one.

    Raises:
        EncodeError: torch does not have it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as err:
        raise EncodeError(f"device {name!r} is not available here; use --device cpu") from err
    return device


def bfloat16_pays(device: torch.device, model: Model) -> bool:
    """Say whether autocast is faster for a model."""
    return has_fast_bfloat16(device, model.decoder.inv_gain_z.shape[1])


def has_fast_bfloat16(device: torch.device, n_channels: int) -> bool:
    """Say whether the device has bfloat16 matrix units and so many channels fill them.

    On a CPU that is AMX: with the vector instructions of AVX-512 alone a refinement takes half as long again as in
    float32.
    """
    if n_channels % _BFLOAT16_CHANNELS:
        return False
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # type: ignore[no-any-return]
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return device.type == "cpu" and supported is not None and bool(supported())


def _refine(plan: Plan, picture: Picture, report: Report | None) -> loop.Refined:
    nets, x, objective = prepare(plan, picture)
    y, z = analyse(nets, x)
    return loop.refine(objective, y, z, plan.settings, report)


@torch.no_grad()
def analyse(nets: Nets, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return y and z of a picture, float32 [1, 3, H, W] in 0..255 of any size, scaled to the level.

    Raises:
        SymbolRangeError: a latent is not finite.
    """
    y, z = nets.analyse(pad(x, nets.stride))
    if not torch.isfinite(y.sum() + z.sum()):
        raise SymbolRangeError("a latent is not finite; this model does not suit this image")
    return y, z


def prepare(plan: Plan, picture: Picture) -> tuple[Nets, Tensor, Objective]:
    """Return the networks, the picture as float32 [1, 3, H, W] in 0..255, and its objective, on the plan's device."""
    nets = Nets(plan.model, plan.target.level_q4, plan.device)
    x = torch.from_numpy(picture.rgb.transpose(2, 0, 1)[None].astype(np.float32)).to(plan.device)
    objective = Objective(
        nets,
        x,
        plan.target.lmbda,
        autocast=bfloat16_pays(plan.device, plan.model),
        synthesis_every=plan.settings.schedule.synthesis_every,
    )
    return nets, x, objective


def pad(x: Tensor, stride: int) -> Tensor:
    """Pad [1, C, H, W] by replication to multiples of `stride` (format_spec.md, section 7)."""
    bottom, right = -x.shape[2] % stride, -x.shape[3] % stride
    return torch.nn.functional.pad(x, (0, right, 0, bottom), mode="replicate")


def _to_symbols(model: Model, level_q4: int, refined: loop.Refined) -> Symbols:
    """Round z, then y around the mu that the decoder will compute."""
    decoder = model.decoder
    median = decoder.z_median[:, None, None] * 2.0**-decoder.z_frac_bits
    z = _to_int(refined.z.cpu().numpy() - median)
    parameters = hyperprior.y_parameters(decoder, z, level_q4)
    mu = parameters.mu_q * 2.0**-decoder.y_frac_bits
    return Symbols(z, _to_int(refined.y.cpu().numpy() - mu), parameters)


def _to_int(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    rounded = np.rint(values)
    if not np.all(np.abs(rounded) < 2**limits.MAX_ESCAPE_BITS):
        raise SymbolRangeError("a latent is too large to be coded; this model does not suit this image")
    return rounded.astype(np.int32)  # type: ignore[no-any-return]


def _fill_container(picture: Picture, model: Model, level_q4: int, symbols: Symbols) -> Container:
    """Code the symbols; the pixel CRC is still to come."""
    decoder = model.decoder
    height, width = picture.rgb.shape[:2]
    z_index = decoding.z_table_index(symbols.z.shape[1:])
    y_index = symbols.parameters.table_index
    y_per_z = decoder.z_stride // decoder.y_stride
    bands = container.band_rows(symbols.z.shape[2], _n_bands(symbols.z.shape[2], height * width))
    rows = [slice(first * y_per_z, end * y_per_z) for first, end in bands]
    return Container(
        width=width,
        height=height,
        grayscale=picture.grayscale,
        model_id=model.model_id,
        level_q4=level_q4,
        z_stream=range_coder.encode(symbols.z.ravel(), z_index, decoder.z_tables),
        y_streams=tuple(
            range_coder.encode(symbols.y[:, :, band].ravel(), y_index[:, :, band].ravel(), decoder.y_tables)
            for band in rows
        ),
        sections=picture.sections(),
        pixel_crc=0,
    )


def _n_bands(z_rows: int, n_pixels: int) -> int:
    """Return the number of bands of about 4 Mpx that divide the rows evenly enough for the format."""
    wanted = min(z_rows, max(1, round(n_pixels / _BAND_PIXELS)))
    per_band = -(-z_rows // wanted)
    return -(-z_rows // per_band)


def _table_bits(model: Model, symbols: Symbols) -> float:
    decoder = model.decoder
    z_bits = decoder.z_tables.information_bits(symbols.z.ravel(), decoding.z_table_index(symbols.z.shape[1:]))
    return z_bits + decoder.y_tables.information_bits(symbols.y.ravel(), symbols.parameters.table_index.ravel())


def _decode_own(coded: _Coded, model: Model, side_information: SideInformation | None) -> npt.NDArray[np.uint8]:
    """Decode the bytes that were just made, and return their picture.

    Raises:
        EncodeError: they do not give the symbols or the side information that were coded.
    """
    reread = container.parse(container.serialize(coded.box))
    decoded = decoding.decode_symbols(reread, model)
    same = np.array_equal(decoded.z, coded.symbols.z) and np.array_equal(decoded.y, coded.symbols.y)
    if not same or embed.extract(reread, model, decoded) != side_information:
        raise EncodeError("the encoded file does not decode to its own content; please report this")
    return decoding.reconstruct(reread, model.decoder, decoded)
