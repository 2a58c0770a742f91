"""The alpha plane, without loss: the shortest of one number, a lossless WebP stream, and differences along rows.

Source: format_spec.md, section 7.2; RFC 9649 (WebP), section 3.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, features
from PIL.WebPImagePlugin import WebPImageFile

from sgacodec.errors import CorruptStreamError, SgacodecError, one_line
from sgacodec.format.container import Section, SectionType, stored_bytes

if TYPE_CHECKING:
    from sgacodec.format.container import Container

Plane = npt.NDArray[np.uint8]

_WEBP_HEAD = 20
"""Bytes of a WebP file before its stream: RIFF and a length, WEBP, VP8L and a length."""

_SIGNATURE = 0x2F
_STREAM_HEAD = 5
"""Bytes of a stream before its pixels: the signature; 14 bits each of width - 1 and height - 1, a hint, and 3 bits of
version, which is 0."""

_MAX_WEBP_SIDE = 2**14 - 1
_EFFORT = {"method": 4, "quality": 90}
"""Arguments of libwebp. More effort takes up to four hundred times as long and makes no plane shorter."""


def section_of(alpha: Plane) -> Section:
    """Return the shortest section for an alpha plane, uint8 [H, W]; of equal ones that which old decoders read."""
    if (alpha == alpha.flat[0]).all():
        return Section(SectionType.CODED_ALPHA, bytes([alpha.flat[0]]), critical=True)
    plain = Section(SectionType.ALPHA, pack_alpha(alpha), critical=True)
    if max(alpha.shape) > _MAX_WEBP_SIDE or not features.check("webp"):
        return plain
    coded = Section(SectionType.CODED_ALPHA, _to_stream(alpha), critical=True)
    return min(plain, coded, key=stored_bytes)


def alpha_of(container: Container) -> Plane | None:
    """Return the alpha plane of a file, uint8 [H, W], or None where there is none.

    Raises:
        CorruptStreamError: it does not fit the picture, is damaged, or is there twice.
        SgacodecError: Pillow was built without WebP.
    """
    plain, coded = container.section(SectionType.ALPHA), container.section(SectionType.CODED_ALPHA)
    if plain is not None and coded is not None:
        raise CorruptStreamError("there are two alpha planes", section="alpha")
    if plain is not None:
        return unpack_alpha(plain, container.height, container.width)
    if coded is None:
        return None
    if len(coded) == 1:
        return np.broadcast_to(np.uint8(coded[0]), (container.height, container.width))
    return _from_stream(coded, container.height, container.width)


def pack_alpha(alpha: Plane) -> bytes:
    """Return the alpha plane as differences along rows, which deflate well (format_spec.md, section 7.2)."""
    return np.diff(alpha, axis=1, prepend=np.uint8(0)).astype(np.uint8).tobytes()


def unpack_alpha(data: bytes, height: int, width: int) -> Plane:
    """Return the alpha plane, uint8 [H, W], from its differences along rows (format_spec.md, section 7.2).

    Raises:
        CorruptStreamError: the length does not fit.
    """
    if len(data) != height * width:
        raise CorruptStreamError("the alpha plane does not have the picture's size", section="alpha")
    return np.cumsum(np.frombuffer(data, np.uint8).reshape(height, width), axis=1, dtype=np.uint8)


def _to_stream(alpha: Plane) -> bytes:
    """Return a plane as the gray pixels of a lossless WebP stream, without the file around it."""
    buffer = io.BytesIO()
    gray = Image.fromarray(alpha).convert("RGB")
    gray.save(buffer, "WEBP", lossless=True, **_EFFORT)
    data = buffer.getvalue()  # no metadata were given, so the stream is all that is in it
    n_bytes = int.from_bytes(data[_WEBP_HEAD - 4 : _WEBP_HEAD], "little")
    return data[_WEBP_HEAD : _WEBP_HEAD + n_bytes]


def _from_stream(stream: bytes, height: int, width: int) -> Plane:
    """Return the green samples of a lossless WebP stream, uint8 [H, W]; its size is looked at before its pixels."""
    head = int.from_bytes(stream[1:_STREAM_HEAD], "little")
    found = (head >> 29, (head >> 14 & 0x3FFF) + 1, (head & 0x3FFF) + 1)
    if len(stream) <= _STREAM_HEAD or stream[0] != _SIGNATURE or found != (0, height, width):
        raise CorruptStreamError("the alpha plane is no lossless WebP stream of the picture's size", section="alpha")
    if not features.check("webp"):
        raise SgacodecError("the alpha plane needs a Pillow with WebP; install it with: pip install --upgrade pillow")
    return _green(_as_file(stream))


def _as_file(stream: bytes) -> bytes:
    body = b"WEBPVP8L" + len(stream).to_bytes(4, "little") + stream + bytes(len(stream) % 2)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _green(file: bytes) -> Plane:
    """Return the green samples of a WebP file, uint8 [H, W]."""
    try:
        with WebPImageFile(_WithoutLimit(file)) as image:
            return np.array(image.convert("RGB"))[:, :, 1]
    except MemoryError:
        raise
    except Image.DecompressionBombError as err:
        raise SgacodecError(f"{one_line(err)}; raise PIL.Image.MAX_IMAGE_PIXELS to decode the alpha plane") from err
    except Exception as err:  # Pillow and libwebp raise whatever damage leads them to
        raise CorruptStreamError(f"the alpha plane cannot be decoded: {one_line(err)}", section="alpha") from err


class _WithoutLimit(io.BytesIO):
    """A WebP file that Pillow's limit of pixels is not held against; that of the container is what counts.

    The limit is a global that anyone may set. `Image.open` compares it with the size, so the format's class is used
    instead. In newer versions of Pillow the class compares them too, if its first read is long enough to tell the size.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        """Return all that is left, or as many bytes as are asked for, but no more than come before the stream."""
        return super().read(size if size is None or size < 0 else min(size, _WEBP_HEAD))
