"""From bytes to pixels: integer arithmetic from end to end, so every machine gives the same picture.

    bytes -> container -> model -> z -> entropy model and y, pass by pass -> synthesis -> overlay -> picture

Source: format_spec.md, section 1.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sgacodec import limits, overlay, picture
from sgacodec.errors import ChecksumError, CorruptStreamError, LimitError, SgacodecError
from sgacodec.exact import fast
from sgacodec.format import container
from sgacodec.format.container import Container, SectionType
from sgacodec.latents import streams
from sgacodec.latents.symbols import Symbols
from sgacodec.latents.synthesis import RunNetwork, synthesise
from sgacodec.models import store
from sgacodec.models.model import Model
from sgacodec.sources import read_bytes

if TYPE_CHECKING:
    from PIL import Image

    from sgacodec.bitsback.extract import Carried
    from sgacodec.bitsback.message import Message
    from sgacodec.sources import Source


def decode(
    source: Source, *, max_pixels: int = limits.MAX_PIXELS, device: str | None = None, extract: bool = False
) -> Image.Image:
    """Decode an .sga file.

    Args:
        source: the file: its bytes, its path, or open for reading bytes.
        max_pixels: refuse larger images before allocating anything.
        device: None for numpy; a torch device such as "cuda" to run g_s there. The pixels are the same.
        extract: whether to recover the message, which takes longer.

    Returns:
        Image of mode L, LA, RGB or RGBA with its ICC profile, EXIF and XMP in `info`, and a message that was asked for
        and is there as `info["message"]`, bytes or str.

    Raises:
        FormatError: the bytes are not a sound .sga file.
        UnsupportedVersionError: the file needs a newer sgacodec.
        ModelNotFoundError: its model is not installed.
        OSError: a path or an open file cannot be read.
    """
    if isinstance(max_pixels, bool) or not isinstance(max_pixels, Integral) or max_pixels < 1:
        raise LimitError(f"max_pixels is {max_pixels!r}, and must be a positive integer")
    parsed = container.parse(read_bytes(source), int(max_pixels))
    model = store.load_by_id(parsed.model_id)
    latents = decode_latents(parsed, model)
    rgb = reconstruct(parsed, model, latents.symbols, _evaluator(device))
    if zlib.crc32(rgb.tobytes()) != parsed.pixel_crc:
        raise ChecksumError("the decoded picture is not the one that was encoded", section="pixel CRC")
    image = picture.to_pillow(parsed, rgb)
    message = read_message(parsed, model, latents) if extract else None
    if message is not None:
        image.info["message"] = message
    return image


def _evaluator(device: str | None) -> RunNetwork:
    """Return what runs g_s.

    Raises:
        SgacodecError: torch is not installed.
    """
    if device is None:
        return fast.run
    try:
        from sgacodec.exact import on_torch
    except ImportError as err:
        raise SgacodecError("a torch device needs torch; install it with: pip install 'sgacodec[encode]'") from err
    return lambda network, x: on_torch.run(network, x, device)


@dataclass(frozen=True, eq=False)
class Latents:
    """What a file's streams code.

    Attributes:
        symbols: z and y.
        carried: the same with what a message is recovered from, in a file whose latents carry one.
    """

    symbols: Symbols
    carried: Carried | None = None


def decode_latents(parsed: Container, model: Model) -> Latents:
    """Decode a container's streams: z, then y.

    Args:
        parsed: a parsed file.
        model: the model that it names.

    Raises:
        FormatError: the streams are damaged.
    """
    if parsed.carries:
        from sgacodec.bitsback import extract  # a wing that plain files never enter

        carried = extract.read_carried(parsed, model)
        return Latents(carried.symbols, carried)
    if parsed.model_id != model.model_id:
        raise CorruptStreamError("the file names a bits-back model and does not use it", section="model_id")
    decoder = model.decoder
    z = streams.read_z(decoder, parsed.z_stream, parsed.height, parsed.width)
    bands = streams.y_bands(decoder, z.shape[2], len(parsed.y_streams))
    return Latents(streams.walk(decoder, parsed.level_q4, z, bands, streams.Reader(parsed.y_streams)))


def reconstruct(parsed: Container, model: Model, symbols: Symbols, run: RunNetwork = fast.run) -> npt.NDArray[np.uint8]:
    """Return the picture of decoded symbols, its overlay applied, uint8 [H, W, 3]; `run` evaluates g_s.

    Raises:
        CorruptStreamError: the overlay is damaged, or not one of this picture.
    """
    png = parsed.section(SectionType.OVERLAY)
    checked = None if png is None else overlay.parse(png, parsed.height, parsed.width)
    padded = synthesise(model.decoder, symbols.y_hat_q, parsed.level_q4, run)
    rgb = padded[: parsed.height, : parsed.width]
    return np.ascontiguousarray(rgb if checked is None else overlay.apply(checked, rgb))


def read_message(parsed: Container, model: Model, latents: Latents) -> Message | None:
    """Return the message of a file, or None if it has none.

    Raises:
        FormatError: the message is damaged.
    """
    if latents.carried is not None:
        from sgacodec.bitsback.extract import carried_message

        return carried_message(parsed, model, latents.carried)
    section = parsed.section(SectionType.MESSAGE)
    if section is None:
        return None
    from sgacodec.bitsback.message import unframe

    return unframe(section)
