"""A PNG over the decoded picture: its pixels replace those that the network gives. Check, read, cover, write.

Everything about the file is checked here, down to the length of its deflated rows; Pillow only undoes the filters, so
neither its leniency nor its limits matter. Source: format_spec.md, section 7.1; ISO/IEC 15948 (PNG).
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from sgacodec.errors import CorruptStreamError, LimitError, one_line
from sgacodec.format.wire import inflate

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GRAY, _RGB, _PALETTE, _GRAY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_CHANNELS = {_GRAY: 1, _RGB: 3, _PALETTE: 1, _GRAY_ALPHA: 2, _RGBA: 4}
_DEPTHS = {_GRAY: (1, 2, 4, 8), _RGB: (8,), _PALETTE: (1, 2, 4, 8), _GRAY_ALPHA: (8,), _RGBA: (8,)}
_ORDER = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_LAST_FILTER = 4
_MOST_COLOURS = 256

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Overlay:
    """A PNG that was found sound, but for its pixels.

    Attributes:
        png: the whole file.
        height, width: in pixels.
        colour_type: as PNG has it.
        depth: bits of a sample.
        palette: uint8 [n, 3], the colours of indices; empty for other colour types.
        transparency: the content of tRNS, empty where there is none.
    """

    png: bytes
    height: int
    width: int
    colour_type: int
    depth: int
    palette: Pixels
    transparency: bytes


def parse(data: bytes, height: int, width: int) -> Overlay:
    """Check a PNG against a picture before any of its pixels is decoded.

    Args:
        data: the content of the section.
        height: rows of the picture.
        width: pixels per row of the picture.

    Raises:
        CorruptStreamError: it is damaged, has another size, or is a kind of PNG that no overlay is.
    """
    chunks = _join(_read_chunks(data))
    _require(len(chunks[b"IHDR"]) == 13, "a PNG header has 13 bytes")
    png_width, png_height = (int.from_bytes(chunks[b"IHDR"][at : at + 4], "big") for at in (0, 4))
    _require((png_height, png_width) == (height, width), f"it has {png_width}x{png_height} pixels, not the picture's")
    depth, colour_type, *methods = chunks[b"IHDR"][8:]
    _require(depth in _DEPTHS.get(colour_type, ()), f"colour type {colour_type} with {depth} bits is not allowed")
    _require(not any(methods), "it is interlaced, or of an unknown method")
    palette, transparency = chunks.get(b"PLTE", b""), chunks.get(b"tRNS", b"")
    _require((b"PLTE" in chunks) == (colour_type == _PALETTE), "a palette is there without need, or missing")
    _require(b"PLTE" not in chunks or len(palette) >= 3, "the palette is empty")
    _require(len(palette) % 3 == 0 and len(palette) // 3 <= 2**depth, "the palette has a wrong length")
    _check_transparency(transparency, b"tRNS" in chunks, colour_type, depth, len(palette) // 3)
    _check_rows(chunks[b"IDAT"], height, (width * depth * _CHANNELS[colour_type] + 7) // 8)
    colours = np.frombuffer(palette, np.uint8).reshape(-1, 3)
    return Overlay(data, height, width, colour_type, depth, colours, transparency)


def cover(covering: tuple[Pixels, Mask | None], where: tuple[slice, slice], rgb: Pixels) -> Pixels:
    """Return a part of a picture with an overlay's pixels in place of its own.

    Args:
        covering: what `read` gives.
        where: rows and columns of the part.
        rgb: uint8 [H, W, 3], what the network gives there.
    """
    colours, mask = covering
    return colours[where] if mask is None else np.where(mask[where][..., None], colours[where], rgb)


def read(overlay: Overlay) -> tuple[Pixels, Mask | None]:
    """Return an overlay's colours, uint8 [H, W, 3], and where they count, bool [H, W]; None stands for everywhere.

    Raises:
        CorruptStreamError: an index is off the palette, or an alpha is neither 0 nor 255.
    """
    samples = _samples(overlay)
    if overlay.colour_type == _PALETTE:
        return _look_up(overlay, samples[..., 0])
    if overlay.colour_type in (_GRAY_ALPHA, _RGBA):
        return _as_rgb(samples[..., :-1]), _opaque(samples[..., -1])
    return _as_rgb(samples), _unlike_key(overlay, samples) if overlay.transparency else None


def write(rgb: Pixels, mask: Mask | None = None) -> bytes:
    """Return the shortest PNG, of those that Pillow writes, for the pixels of a mask.

    Args:
        rgb: uint8 [H, W, 3].
        mask: bool [H, W], what is replaced, at least one pixel; None stands for everything.
    """
    colours = rgb.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    used = np.unique(colours if mask is None else colours[mask])
    files = [_write_samples(rgb, mask, used)]
    if len(used) + (mask is not None) <= _MOST_COLOURS:
        files.append(_write_palette(colours, mask, used))
    return min(files, key=len)


# --- reading --------------------------------------------------------------------------------------------------------


def _require(holds: bool, what: str) -> None:
    """Refuse the overlay unless a condition holds.

    Raises:
        CorruptStreamError: it does not.
    """
    if not holds:
        raise CorruptStreamError(f"the overlay is not a valid PNG for this picture: {what}", section="overlay")


def _read_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of each chunk; the CRCs and the end of the file are checked."""
    _require(data.startswith(SIGNATURE), "it has no PNG signature")
    at, name = len(SIGNATURE), b""
    while name != b"IEND":
        _require(at + 12 <= len(data), "it ends early")
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        _require(end + 4 <= len(data), "it ends early")
        name = data[at + 4 : at + 8]
        _require(int.from_bytes(data[end : end + 4], "big") == zlib.crc32(data[at + 4 : end]), "a checksum is wrong")
        yield name, data[at + 8 : end]
        at = end + 4
    _require(at == len(data), "bytes follow its end")


def _join(chunks: Iterator[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the content of each chunk by name, those of IDAT joined; other names, orders and repeats are refused."""
    parts: dict[bytes, list[bytes]] = {}
    last = -1
    for name, content in chunks:
        _require(name in _ORDER, "it has a chunk that no overlay has")
        place = _ORDER.index(name)
        _require(place > last or (place == last and name == b"IDAT"), "its chunks are out of order")
        last = place
        parts.setdefault(name, []).append(content)
    _require(b"IHDR" in parts and b"IDAT" in parts, "it lacks a chunk")
    _require(parts[b"IEND"] == [b""], "its end has content")
    return {name: b"".join(contents) for name, contents in parts.items()}


def _check_transparency(content: bytes, present: bool, colour_type: int, depth: int, n_colours: int) -> None:
    if not present:
        return
    if colour_type == _PALETTE:
        _require(1 <= len(content) <= n_colours, "its transparency does not fit the palette")
        return
    _require(colour_type in (_GRAY, _RGB), "it has transparency twice")
    _require(len(content) == 2 * _CHANNELS[colour_type], "its transparency has a wrong length")
    _require(bool((_key(content) < 2**depth).all()), "its transparent colour has too many bits")


def _check_rows(deflated: bytes, height: int, row_bytes: int) -> None:
    """Refuse rows that are too few, too many, damaged, or of an unknown filter; at most their own size is allocated."""
    try:
        rows = inflate(deflated, height * (1 + row_bytes), "overlay")
    except LimitError as err:
        raise CorruptStreamError("the overlay holds more rows than the picture", section="overlay") from err
    _require(len(rows) == height * (1 + row_bytes), "it has too few pixels")
    filters = np.frombuffer(rows, np.uint8).reshape(height, 1 + row_bytes)[:, 0]
    _require(int(filters.max()) <= _LAST_FILTER, "a row has an unknown filter")


def _samples(overlay: Overlay) -> Pixels:
    """Return the samples as stored, gray ones scaled to 8 bits: uint8 [H, W, C].

    The class itself is used, since `Image.open` has a limit of its own; that of the container is what counts.
    """
    try:
        with PngImageFile(io.BytesIO(overlay.png)) as image:
            found = np.asarray(image)
    except MemoryError:
        raise
    except Exception as err:  # Pillow raises whatever damage leads it to
        raise CorruptStreamError(f"the overlay cannot be decoded: {one_line(err)}", section="overlay") from err
    if found.dtype == np.bool_:
        found = found.astype(np.uint8) * 255
    return found.reshape(overlay.height, overlay.width, _CHANNELS[overlay.colour_type])


def _look_up(overlay: Overlay, indices: Pixels) -> tuple[Pixels, Mask | None]:
    _require(int(indices.max()) < len(overlay.palette), "an index is off the palette")
    if not overlay.transparency:
        return overlay.palette[indices], None
    alpha = np.full(len(overlay.palette), 255, np.uint8)
    alpha[: len(overlay.transparency)] = np.frombuffer(overlay.transparency, np.uint8)
    return overlay.palette[indices], _opaque(alpha[indices])


def _opaque(alpha: Pixels) -> Mask:
    _require(bool(np.isin(alpha, (0, 255)).all()), "an alpha is neither 0 nor 255")
    return alpha == 255


def _unlike_key(overlay: Overlay, samples: Pixels) -> Mask:
    key = _key(overlay.transparency) * (255 // (2**overlay.depth - 1))
    return np.asarray((samples != key).any(axis=2))


def _key(transparency: bytes) -> npt.NDArray[np.int64]:
    """Return the colour that tRNS calls transparent, as stored: int64 [C]."""
    return np.frombuffer(transparency, ">u2").astype(np.int64)


def _as_rgb(samples: Pixels) -> Pixels:
    return np.ascontiguousarray(np.broadcast_to(samples, (*samples.shape[:2], 3)))


# --- writing --------------------------------------------------------------------------------------------------------


def _write_palette(colours: npt.NDArray[np.int32], mask: Mask | None, used: npt.NDArray[np.int32]) -> bytes:
    """Return a PNG of indices; where there is a mask, index 0 is transparent.

    Args:
        colours: int32 [H, W], red, green and blue in one number.
        mask: what is replaced.
        used: int32 [n], the different colours of it, ascending.
    """
    indices = np.searchsorted(used, colours)
    if mask is not None:
        used, indices = np.append(0, used), np.where(mask, indices + 1, 0)
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette(np.stack([used >> 16, used >> 8, used], 1).astype(np.uint8).tobytes())
    return _to_bytes(image, None if mask is None else 0)


def _write_samples(rgb: Pixels, mask: Mask | None, used: npt.NDArray[np.int32]) -> bytes:
    """Return a PNG of gray or RGB samples; where there is a mask, an unused colour is transparent."""
    gray = bool((used == (used & 255) * 0x010101).all())
    samples = rgb[..., :1] if gray else rgb
    if mask is None:
        return _to_bytes(_image(samples))
    kept = np.where(mask[..., None], samples, 0)
    free = np.setdiff1d(np.arange(min(len(used) + 1, 256 if gray else 1 << 24)), used & 255 if gray else used)
    if len(free) == 0:
        return _to_bytes(_image(np.dstack([kept, mask * np.uint8(255)])))
    key = int(free[0])
    channels = (key,) if gray else (key >> 16, key >> 8 & 255, key & 255)
    keyed = np.where(mask[..., None], samples, np.array(channels, np.uint8))
    return _to_bytes(_image(keyed), key if gray else channels)


def _image(samples: Pixels) -> Image.Image:
    return Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)


def _to_bytes(image: Image.Image, transparency: int | tuple[int, ...] | None = None) -> bytes:
    buffer = io.BytesIO()
    named = {} if transparency is None else {"transparency": transparency}
    image.save(buffer, "PNG", optimize=True, **named)
    return buffer.getvalue()
