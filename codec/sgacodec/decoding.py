"""From bytes to pixels: integer arithmetic from end to end, so every machine gives the same picture.

    bytes -> container.parse -> modelstore -> entropy (z) -> hyper (mu, tables) -> entropy (y) -> g_s -> pixels -> image

Source: format_spec.md, section 1.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sgacodec import limits
from sgacodec.bitsback import embed
from sgacodec.bitsback.distributions import Carriers
from sgacodec.entropy import range_coder
from sgacodec.errors import ChecksumError, CorruptStreamError, LimitError
from sgacodec.exact import fast, layers
from sgacodec.format import container
from sgacodec.format.container import Container, Header, SectionType
from sgacodec.latents import hyperprior
from sgacodec.latents.hyperprior import Symbols
from sgacodec.models import store
from sgacodec.models.model import Decoder, Model

RunNetwork = Callable[[layers.Network, npt.NDArray[Any]], npt.NDArray[np.float64]]

_TILE_PIXELS = 2**20
"""g_s runs on horizontal strips of about this many pixels, which bounds memory; the result does not depend on it."""


@dataclass(frozen=True)
class Info:
    """What an .sga file says of itself; needs no model.

    Attributes:
        width, height: in pixels.
        mode: Pillow mode of the decoded image: L, LA, RGB or RGBA.
        model_id: 16 hexadecimal digits.
        level: rate level of the model.
        n_bytes: length of the file.
        bpp: bits per pixel of the whole file.
        sections: name or number and stored bytes of each optional section.
        z_bytes, y_bytes, header_bytes: where the rest of the bytes go.
        carriers: how z carries side information, where it does and the bytes read so far say it.
    """

    width: int
    height: int
    mode: str
    model_id: str
    level: float
    n_bytes: int
    bpp: float
    sections: dict[str, int]
    z_bytes: int
    y_bytes: int
    header_bytes: int
    carriers: Carriers | None = None


def read_info(data: bytes) -> Info:
    """Read the header of an .sga file.

    Raises:
        FormatError, UnsupportedVersionError: the bytes do not start like an .sga file.
    """
    header = container.parse_header(data)
    names = {int(kind): kind.name.lower() for kind in SectionType}
    sections = {names.get(section.kind, str(section.kind)): section.n_bytes for section in header.sections}
    mode = ("L" if header.grayscale else "RGB") + ("A" if "alpha" in sections else "")
    return Info(
        width=header.width,
        height=header.height,
        mode=mode,
        model_id=header.model_id.hex(),
        level=header.level_q4 / hyperprior.LEVEL_STEPS,
        n_bytes=header.file_bytes,
        bpp=8 * header.file_bytes / (header.width * header.height),
        sections=sections,
        z_bytes=header.z_bytes,
        y_bytes=sum(header.y_bytes),
        header_bytes=header.n_bytes + container.CRC_BYTES,
        carriers=_read_carriers(data, header),
    )


def _read_carriers(data: bytes, header: Header) -> Carriers | None:
    run = header.section_run(SectionType.BITS_BACK)
    return None if run is None or run.stop > len(data) else Carriers.from_bytes(data[run])


def decode(
    data: bytes, *, max_pixels: int = limits.MAX_PIXELS, device: str | None = None, extract: bool = False
) -> Image.Image:
    """Decode an .sga file.

    Args:
        data: the file.
        max_pixels: refuse larger images before allocating anything.
        device: None for numpy; a torch device such as "cuda" to run g_s there. The pixels are the same.
        extract: whether to recover side information, which takes longer.

    Returns:
        Image of mode L, LA, RGB or RGBA with its ICC profile, EXIF and XMP in `info`, and side information that was
        asked for and is there as `info["side_information"]`, bytes or str.

    Raises:
        FormatError: the bytes are not a sound .sga file.
        UnsupportedVersionError: the file needs a newer sgacodec.
        ModelNotFoundError: its model is not installed.
    """
    header = container.parse_header(data)
    if header.width * header.height > max_pixels:
        raise LimitError(
            f"the image has {header.width}x{header.height} pixels, over the limit of {max_pixels}; "
            "raise it with max_pixels (--max-pixels) if you trust the file"
        )
    box = container.parse(data)
    model = store.load_by_id(box.model_id)
    run = fast.run if device is None else lambda network, x: fast.run_torch(network, x, device)
    symbols = decode_symbols(box, model)
    rgb = reconstruct(box, model.decoder, symbols, run)
    if zlib.crc32(rgb.tobytes()) != box.pixel_crc:
        raise ChecksumError("the decoded picture is not the one that was encoded", section="pixel CRC")
    image = _to_image(box, rgb)
    side_information = embed.extract(box, model, symbols) if extract else None
    if side_information is not None:
        image.info["side_information"] = side_information
    return image


def decode_pixels(box: Container, model: Model, run: RunNetwork = fast.run) -> npt.NDArray[np.uint8]:
    """Decode a container's picture, without checking the pixel CRC.

    Args:
        box: a parsed file.
        model: the model that it names.
        run: evaluates g_s; `fast.run` or a call of `fast.run_torch`.

    Returns:
        uint8 [H, W, 3].
    """
    return reconstruct(box, model.decoder, decode_symbols(box, model), run)


def decode_symbols(box: Container, model: Model) -> Symbols:
    """Decode a container's streams: z, then the parameters of y, then y.

    Args:
        box: a parsed file.
        model: the model that it names, with or without its bits-back head.
    """
    if box.model_id != model.model_id:
        return embed.read_symbols(box, model, z_shape(box, model.decoder))
    if embed.is_embedded(box):
        raise CorruptStreamError("the file does not name the bits-back head that it uses", section="model_id")
    z = decode_z(box, model.decoder)
    parameters = hyperprior.y_parameters(model.decoder, z, box.level_q4)
    return Symbols(z, decode_y(box, model.decoder, parameters), parameters)


def reconstruct(
    box: Container, decoder: Decoder, symbols: Symbols, run: RunNetwork = fast.run
) -> npt.NDArray[np.uint8]:
    """Return the picture of decoded symbols, uint8 [H, W, 3]."""
    g_s_input = hyperprior.g_s_input(decoder, symbols.y, symbols.parameters.mu_q, box.level_q4)
    return np.ascontiguousarray(synthesise(decoder, g_s_input, run)[: box.height, : box.width])


def latent_shape(pixels: int, stride: int) -> int:
    """Return how many latent samples cover a side of `pixels` pixels."""
    return -(-pixels // stride)


def z_shape(box: Container, decoder: Decoder) -> tuple[int, int, int]:
    """Return N, H/64, W/64."""
    stride = decoder.z_stride
    return len(decoder.z_tables), latent_shape(box.height, stride), latent_shape(box.width, stride)


def decode_z(box: Container, decoder: Decoder) -> npt.NDArray[np.int32]:
    """Return the z symbols, int32 [1, N, H/64, W/64]."""
    shape = z_shape(box, decoder)
    return range_coder.decode(box.z_stream, z_table_index(shape), decoder.z_tables, "z stream").reshape(1, *shape)


def z_table_index(shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
    """Return each z symbol's table, its channel, in raster order of z, shape [N, H/64, W/64]."""
    return np.repeat(np.arange(shape[0]), shape[1] * shape[2])


def decode_y(box: Container, decoder: Decoder, parameters: hyperprior.YParameters) -> npt.NDArray[np.int32]:
    """Return the y symbols, int32 [1, M, H/16, W/16], band by band."""
    index = parameters.table_index
    symbols = np.empty(index.shape, np.int32)
    for stream, rows in zip(box.y_streams, y_bands(box, decoder), strict=True):
        band = index[:, :, rows]
        symbols[:, :, rows] = range_coder.decode(stream, band.ravel(), decoder.y_tables, "y band").reshape(band.shape)
    return symbols


def y_bands(box: Container, decoder: Decoder) -> list[slice]:
    """Return the y rows of each band."""
    z_rows = latent_shape(box.height, decoder.z_stride)
    y_per_z = decoder.z_stride // decoder.y_stride
    return [slice(first * y_per_z, end * y_per_z) for first, end in container.band_rows(z_rows, len(box.y_streams))]


def synthesise(decoder: Decoder, g_s_input: npt.NDArray[np.int64], run: RunNetwork) -> npt.NDArray[np.uint8]:
    """Run g_s in horizontal strips with a halo, which gives the same pixels as running it at once.

    Args:
        decoder: the model's integer part.
        g_s_input: int64 [1, M, H/16, W/16].
        run: evaluates a network.

    Returns:
        uint8 [H, W, 3] at the padded size.
    """
    _, _, height, width = g_s_input.shape
    stride, halo = decoder.y_stride, layers.halo(decoder.g_s)
    rows = max(4, _TILE_PIXELS // (width * stride**2))
    pixels = np.empty((height * stride, width * stride, 3), np.uint8)
    for first in range(0, height, rows):
        end = min(first + rows, height)
        top, bottom = max(0, first - halo), min(height, end + halo)
        strip = run(decoder.g_s, g_s_input[:, :, top:bottom])[0]
        inner = strip[:, (first - top) * stride : (end - top) * stride]
        pixels[first * stride : end * stride] = inner.transpose(1, 2, 0)
    return pixels


def to_gray(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the rounded mean of the three channels, uint8 [H, W] (format_spec.md, section 7)."""
    return ((rgb.sum(axis=2, dtype=np.uint16) + 1) // 3).astype(np.uint8)


def unpack_alpha(data: bytes, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Return the alpha plane, uint8 [H, W], from its differences along rows (format_spec.md, section 7).

    Raises:
        CorruptStreamError: the length does not fit.
    """
    if len(data) != height * width:
        raise CorruptStreamError("the alpha plane does not have the picture's size", section="alpha")
    return np.cumsum(np.frombuffer(data, np.uint8).reshape(height, width), axis=1, dtype=np.uint8)


def _to_image(box: Container, rgb: npt.NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(to_gray(rgb) if box.grayscale else rgb)
    alpha = box.section(SectionType.ALPHA)
    if alpha is not None:
        image.putalpha(Image.fromarray(unpack_alpha(alpha, box.height, box.width)))
    for kind, key in ((SectionType.ICC, "icc_profile"), (SectionType.EXIF, "exif"), (SectionType.XMP, "xmp")):
        content = box.section(kind)
        if content is not None:
            image.info[key] = content
    return image
