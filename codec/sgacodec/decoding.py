"""From bytes to pixels: integer arithmetic from end to end, so every machine gives the same picture.

    bytes -> container -> model -> z -> entropy model and y, pass by pass -> synthesis -> overlay -> rows -> sink

From y on this goes band by band and strip by strip, so memory does not grow with the picture but for the file, z, an
alpha plane, an overlay, and what the sink keeps.
Source: format_spec.md, section 1.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sgacodec import limits, memory, overlay, picture
from sgacodec.arrays import Int32Array, Int64Array
from sgacodec.errors import ChecksumError, CorruptStreamError, LimitError, SgacodecError
from sgacodec.exact import fast
from sgacodec.format import container
from sgacodec.format.container import Container, SectionType
from sgacodec.latents import streams
from sgacodec.latents.preview import FACTOR, shortcut_of
from sgacodec.latents.symbols import Band, Symbols
from sgacodec.latents.synthesis import Places, RunNetwork, pixel_rows
from sgacodec.models import store
from sgacodec.models.model import Decoder, Model
from sgacodec.sources import read_bytes

if TYPE_CHECKING:
    from PIL import Image

    from sgacodec.bitsback.extract import Carried
    from sgacodec.bitsback.message import Message
    from sgacodec.sources import Source

Pixels = npt.NDArray[np.uint8]
Crop = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""


def decode(
    source: Source,
    *,
    max_pixels: int = limits.MAX_PIXELS,
    device: str | None = None,
    extract: bool = False,
    crop: Crop | None = None,
    strip: picture.Strip = (),
) -> Image.Image:
    """Decode an .sga file.

    Args:
        source: the file: its bytes, its path, or open for reading bytes.
        max_pixels: refuse larger images before allocating anything.
        device: None for numpy; a torch device such as "cuda" to run g_s there. The pixels are the same.
        extract: whether to recover the message, which takes longer.
        crop: left, top, width and height in pixels, to decode this part alone: the same pixels as in the whole picture.
            The checksum of the file is checked; that of the picture cannot be, as it is one of all its pixels.
        strip: metadata to leave out: "all", "gps" (the position alone), "exif", "xmp" or "icc", or several of these, as
            a text with commas or as texts. Where an ICC profile is left out, the colours are converted to sRGB.

    Returns:
        Image of mode L, LA, RGB or RGBA with its ICC profile, EXIF and XMP in `info`, and a message that was asked for
        and is there as `info["message"]`, bytes or str.

    Raises:
        FormatError: the bytes are not a sound .sga file.
        UnsupportedVersionError: the file needs a newer sgacodec.
        ModelNotFoundError: its model is not installed.
        OptionError: the crop is no part of the picture, or `strip` names what there is not.
        OSError: a path or an open file cannot be read.
    """
    sink = picture.ImageSink()
    message = decode_into(source, sink, max_pixels=max_pixels, device=device, extract=extract, crop=crop, strip=strip)
    if message is not None:
        sink.image.info["message"] = message
    return sink.image


def decode_into(
    source: Source,
    sink: picture.Sink,
    *,
    max_pixels: int = limits.MAX_PIXELS,
    device: str | None = None,
    extract: bool = False,
    crop: Crop | None = None,
    strip: picture.Strip = (),
) -> Message | None:
    """Decode an .sga file row by row, in memory that hardly grows with the picture; arguments and errors as `decode`.

    The checksum of the picture is known at the end: what the sink has taken is sound when this returns.

    Args:
        source: the file.
        sink: takes the picture.
        max_pixels: see `decode`, as for all that follow.
        device: where g_s runs.
        extract: whether to recover the message.
        crop: left, top, width and height in pixels.
        strip: metadata to leave out.

    Returns:
        The message that was asked for, if there is one.
    """
    parsed = _parsed(source, max_pixels)
    model = store.load_by_id(parsed.model_id)
    latents = _decode_into(parsed, model, sink, _evaluator(device), crop, strip)
    return read_message(parsed, model, latents) if extract else None


def _decode_into(
    parsed: Container,
    model: Model,
    sink: picture.Sink,
    run: RunNetwork = fast.run,
    crop: Crop | None = None,
    strip: picture.Strip = (),
) -> Latents:
    """Decode a parsed file, see `decode_into`; return its latents."""
    region = picture.region_of(crop, parsed.width, parsed.height)
    latents = decode_latents(parsed, model)
    output, crc = picture.Output(parsed, region, strip), 0
    sink.begin(output.frame)
    bands = latents.bands(_rows_needed(model.decoder, region, latents))
    with memory.freed_kept(memory.MUCH):
        for rgb in colours(latents, region, bands, run):
            crc = zlib.crc32(rgb.data, crc)
            sink.write(output.pack(rgb))
    if crc != parsed.pixel_crc and region == picture.region_of(None, parsed.width, parsed.height):
        raise ChecksumError("the decoded picture is not the one that was encoded", section="pixel CRC")
    return latents


def preview(source: Source, *, max_pixels: int = limits.MAX_PIXELS, strip: picture.Strip = ()) -> Image.Image:
    """Decode an .sga file to an eighth of its size, rounded up, from the beginning of what it says of the picture.

    Nearly the means of 8x8 pixels each, in a fraction of a decode's time; not the same to the last bit on all machines.
    Of a model without a context model, of a file whose latents carry a message, and of a drawn picture with an overlay
    it is the decoded picture made smaller.

    Args:
        source: the file: its bytes, its path, or open for reading bytes.
        max_pixels: refuse larger images before allocating anything.
        strip: metadata to leave out.

    Returns:
        Image with the mode and the metadata that `decode` gives; errors are those of `decode`.
    """
    parsed = _parsed(source, max_pixels)
    model = store.load_by_id(parsed.model_id)
    shortcut = shortcut_of(model.decoder)
    if shortcut is None or parsed.carries or parsed.section(SectionType.OVERLAY) is not None:
        sink = picture.ImageSink()
        _decode_into(parsed, model, sink, strip=strip)
        return sink.image.reduce(FACTOR)
    latents = decode_latents(parsed, model)
    with memory.freed_kept(memory.MUCH):
        y_hat = (band.y_hat_q for band in latents.bands(n_passes=shortcut.n_passes))
        rgb = shortcut.pixels(model.decoder, parsed.level_q4, y_hat)
    whole = picture.region_of(None, parsed.width, parsed.height)
    return picture.Output(parsed, whole, strip).reduced(rgb, FACTOR)


def _parsed(source: Source, max_pixels: int) -> Container:
    if isinstance(max_pixels, bool) or not isinstance(max_pixels, Integral) or max_pixels < 1:
        raise LimitError(f"max_pixels is {max_pixels!r}, and must be a positive integer")
    return container.parse(read_bytes(source), int(max_pixels))


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
        parsed: the file.
        model: the model that it names.
        z: int32 [1, N, H/64, W/64].
        carried: z and y with what a message is recovered from, in a file whose latents carry one.
    """

    parsed: Container
    model: Model
    z: Int32Array
    carried: Carried | None = None

    @cached_property
    def symbols(self) -> Symbols:
        """All of z and y.

        Raises:
            FormatError: the streams are damaged.
        """
        return streams.joined(self.z, self.bands()) if self.carried is None else self.carried.symbols

    def bands(self, rows: slice | None = None, n_passes: int | None = None) -> Iterator[Band]:
        """Yield the bands that have any of these rows of y, or all, after all passes or some; nothing is kept of them.

        In a file whose latents carry a message there is one band, and all of it is decoded already.

        Raises:
            FormatError: the streams are damaged.
        """
        if self.carried is not None:
            return iter([self.carried.symbols.as_band])
        decoder, y_streams = self.model.decoder, self.parsed.y_streams
        bands = zip(streams.y_bands(decoder, self.z.shape[2], len(y_streams)), y_streams, strict=True)
        needed = [(band, y) for band, y in bands if rows is None or (band.start < rows.stop and rows.start < band.stop)]
        reader = streams.Reader([y for _, y in needed])
        rows_of = [band for band, _ in needed]
        return streams.walk_bands(decoder, self.parsed.level_q4, self.z, rows_of, reader, n_passes)


def decode_latents(parsed: Container, model: Model) -> Latents:
    """Decode z, and prepare to decode y.

    Args:
        parsed: a parsed file.
        model: the model that it names.

    Raises:
        FormatError: the streams are damaged.
    """
    if parsed.carries:
        from sgacodec.bitsback import extract  # a wing that plain files never enter

        carried = extract.read_carried(parsed, model)
        return Latents(parsed, model, carried.symbols.z, carried)
    if parsed.model_id != model.model_id:
        raise CorruptStreamError("the file names a bits-back model and does not use it", section="model_id")
    return Latents(parsed, model, streams.read_z(model.decoder, parsed.z_stream, parsed.height, parsed.width))


def reconstruct(parsed: Container, model: Model, symbols: Symbols, run: RunNetwork = fast.run) -> Pixels:
    """Return the picture of decoded symbols, its overlay applied, uint8 [H, W, 3]; `run` evaluates g_s.

    Raises:
        CorruptStreamError: the overlay is damaged, or not one of this picture.
    """
    whole = picture.region_of(None, parsed.width, parsed.height)
    return np.concatenate(list(colours(Latents(parsed, model, symbols.z), whole, iter([symbols.as_band]), run)))


def colours(
    latents: Latents, region: picture.Region, bands: Iterator[Band], run: RunNetwork = fast.run
) -> Iterator[Pixels]:
    """Yield the colours of a part of a picture from top to bottom, its overlay applied: uint8 [n, W, 3].

    Args:
        latents: of the whole picture.
        region: the part.
        bands: those that it needs, see `Latents.bands`.
        run: evaluates g_s.

    Raises:
        CorruptStreamError: the overlay is damaged, or not one of this picture.
    """
    parsed, decoder = latents.parsed, latents.model.decoder
    png, stride = parsed.section(SectionType.OVERLAY), decoder.y_stride
    over = None if png is None else overlay.parse(png, parsed.height, parsed.width)
    covering = None if over is None else overlay.read(over)
    places = _places(decoder, region)
    y_hat = map(_first_and_y_hat, bands)
    top, left = places.rows.start * stride, places.columns.start * stride
    for rows in pixel_rows(decoder, parsed.level_q4, _y_size(latents), y_hat, places, run):
        first, end = max(top, region.top), min(top + len(rows), region.bottom)
        rgb = rows[first - top : end - top, region.left - left : region.right - left]
        top += len(rows)
        if covering is not None:
            rgb = overlay.cover(covering, (slice(first, end), slice(region.left, region.right)), rgb)
        yield np.ascontiguousarray(rgb)


def _first_and_y_hat(band: Band) -> tuple[int, Int64Array]:
    return band.rows.start, band.y_hat_q


def _places(decoder: Decoder, region: picture.Region) -> Places:
    stride = decoder.y_stride
    return Places(
        slice(region.top // stride, -(-region.bottom // stride)),
        slice(region.left // stride, -(-region.right // stride)),
    )


def _rows_needed(decoder: Decoder, region: picture.Region, latents: Latents) -> slice:
    """Return the rows of y that reach a region's pixels."""
    rows = _places(decoder, region).rows
    return slice(max(0, rows.start - decoder.halo), min(_y_size(latents)[0], rows.stop + decoder.halo))


def _y_size(latents: Latents) -> tuple[int, int]:
    height, width = streams.y_shape(latents.model.decoder, latents.z)[2:]
    return height, width


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
