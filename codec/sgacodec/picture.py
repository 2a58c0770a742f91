"""Between Pillow images and what the codec codes: 8-bit RGB, a grayscale flag, a lossless alpha plane, metadata.

Both directions. Source: format_spec.md, section 7.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from sgacodec import limits
from sgacodec.errors import CorruptStreamError, InvalidImageError
from sgacodec.format.container import Container, Section, SectionType

log = logging.getLogger(__name__)

_LOSSLESS_TO_RGB = {"RGB", "RGBA", "L", "LA"}
_LOSS = {
    "1": "",
    "P": "the palette itself (its colours are kept)",
    "PA": "the palette itself (its colours are kept)",
    "CMYK": "the CMYK separation",
    "YCbCr": "the YCbCr representation",
    "LAB": "the Lab representation",
    "HSV": "the HSV representation",
    "I": "all but the upper 8 of 16 bits",
    "I;16": "the lower 8 of 16 bits",
    "I;16B": "the lower 8 of 16 bits",
    "I;16L": "the lower 8 of 16 bits",
    "I;16N": "the lower 8 of 16 bits",
    "F": "fractions and values outside 0..255",
    "RGBX": "the padding channel",
    "RGBa": "premultiplication of colours by alpha",
    "La": "premultiplication of gray by alpha",
}
_WITH_ALPHA = {"RGBA", "LA", "PA", "RGBa", "La"}
_GRAY = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}

_XMP_DESCRIPTION = re.compile(r"<dc:description>(?:(?!</dc:description>).)*?<rdf:li[^>]*>(.*?)</rdf:li>", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Picture:
    """What is coded of an image.

    Attributes:
        rgb: uint8 [H, W, 3].
        grayscale: whether the three channels are equal and come back as one.
        alpha: uint8 [H, W], or None.
        icc, exif, xmp: metadata as stored in files, or None.
        description: what the metadata says that the picture shows, or None.
        overlay: a PNG that goes over the decoded colours (see `overlay`), or None.
    """

    rgb: npt.NDArray[np.uint8]
    grayscale: bool = False
    alpha: npt.NDArray[np.uint8] | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    description: str | None = None
    overlay: bytes | None = None

    def sections(self) -> tuple[Section, ...]:
        """Return the optional sections that carry everything but the colours."""
        alpha = None if self.alpha is None else pack_alpha(self.alpha)
        contents = (
            (SectionType.ICC, self.icc, False),
            (SectionType.EXIF, self.exif, False),
            (SectionType.XMP, self.xmp, False),
            (SectionType.ALPHA, alpha, True),
            (SectionType.OVERLAY, self.overlay, True),
        )
        return tuple(Section(kind, data, critical) for kind, data, critical in contents if data)


def read_picture(path: Path, max_pixels: int = limits.MAX_PIXELS) -> Picture:
    """Read an image file of any format that Pillow reads.

    Raises:
        InvalidImageError: the file is missing, no image, truncated, or too large.
    """
    try:
        return parse_picture(path.read_bytes(), max_pixels, str(path))
    except FileNotFoundError as err:
        raise InvalidImageError(f"{path} does not exist") from err
    except IsADirectoryError as err:
        raise InvalidImageError(f"{path} is a folder, not an image") from err
    except OSError as err:
        raise InvalidImageError(f"{path} cannot be read: {err.strerror or err}") from err


def parse_picture(data: bytes, max_pixels: int = limits.MAX_PIXELS, name: str = "the input") -> Picture:
    """Read an image from the bytes of an image file.

    Raises:
        InvalidImageError: see `read_picture`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's size warning; the limit is checked here
            with Image.open(io.BytesIO(data)) as image:
                return picture_from_pillow(image, max_pixels)
    except UnidentifiedImageError as err:
        raise InvalidImageError(f"{name} is not an image that Pillow can read") from err
    except Image.DecompressionBombError as err:
        raise InvalidImageError(f"{name} is too large for Pillow: {err}") from err
    except InvalidImageError as err:
        raise InvalidImageError(f"{name}: {err}") from err
    except (OSError, SyntaxError, ValueError, EOFError) as err:
        raise InvalidImageError(f"{name} is damaged: {err}") from err


def picture_from_pillow(image: Image.Image, max_pixels: int = limits.MAX_PIXELS) -> Picture:
    """Take a Pillow image apart; EXIF orientation is applied, so the picture comes back upright.

    Raises:
        InvalidImageError: it has no pixels, too many, or an unknown mode.
    """
    width, height = image.size
    if width * height == 0:
        raise InvalidImageError("the image has no pixels")
    if width * height > max_pixels:
        raise InvalidImageError(
            f"the image has {width}x{height} pixels, over the limit of {max_pixels}; raise it with --max-pixels"
        )
    from PIL import ImageOps  # decoding does without

    _warn_of_losses(image)
    upright = ImageOps.exif_transpose(image)
    exif = upright.getexif().tobytes() if len(upright.getexif()) else None
    gray = upright.mode in _GRAY
    has_alpha = upright.mode in _WITH_ALPHA or "transparency" in upright.info
    coloured = _to_8_bit(upright).convert("RGBA" if has_alpha else "RGB")
    array = np.asarray(coloured)
    xmp = _bytes(upright.info.get("xmp") or upright.info.get("XML:com.adobe.xmp"))
    return Picture(
        rgb=np.ascontiguousarray(array[:, :, :3]),
        grayscale=gray,
        alpha=np.ascontiguousarray(array[:, :, 3]) if has_alpha else None,
        icc=_bytes(upright.info.get("icc_profile")) if image.mode != "CMYK" else None,
        exif=exif,
        xmp=xmp,
        description=_description(image, xmp),
    )


def picture_from_array(array: npt.NDArray[Any]) -> Picture:
    """Take an array for an image: uint8 [H, W], [H, W, 1], [H, W, 3] or [H, W, 4].

    Raises:
        InvalidImageError: another dtype or shape.
    """
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.size == 0:
        raise InvalidImageError(f"expected uint8 [H, W], [H, W, 3] or [H, W, 4], got {array.dtype} {array.shape}")
    channels = 1 if array.ndim == 2 else array.shape[2]
    if channels not in (1, 3, 4):
        raise InvalidImageError(f"expected 1, 3 or 4 channels, got {channels}")
    planes = array.reshape(*array.shape[:2], channels)
    return Picture(
        rgb=np.ascontiguousarray(np.broadcast_to(planes[:, :, :3], (*array.shape[:2], 3))),
        grayscale=channels == 1,
        alpha=np.ascontiguousarray(planes[:, :, 3]) if channels == 4 else None,
    )


def pack_alpha(alpha: npt.NDArray[np.uint8]) -> bytes:
    """Return the alpha plane as differences along rows, which deflate well (format_spec.md, section 7)."""
    return np.diff(alpha, axis=1, prepend=np.uint8(0)).astype(np.uint8).tobytes()


def _warn_of_losses(image: Image.Image) -> None:
    loss = _LOSS.get(image.mode)
    if loss:
        log.warning("%s images are coded as 8 bits per channel; lost: %s", image.mode, loss)
    elif loss is None and image.mode not in _LOSSLESS_TO_RGB:
        log.warning("%s images are converted to RGB by Pillow", image.mode)
    elif any("16" in str(tile[3]) for tile in getattr(image, "tile", ())):
        log.warning("16-bit images are coded as 8 bits per channel; lost: the lower 8 bits")
    if getattr(image, "n_frames", 1) > 1:
        log.warning("the image has %d frames; lost: all but the first", image.n_frames)  # type: ignore[attr-defined]
    if image.mode == "CMYK" and "icc_profile" in image.info:
        log.warning("lost: the CMYK profile, which does not fit RGB pixels")


def _to_8_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return Image.fromarray((np.clip(np.asarray(image), 0, 65535).astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode == "F":
        finite = np.nan_to_num(np.asarray(image, np.float64))
        return Image.fromarray(np.rint(np.clip(finite, 0, 255)).astype(np.uint8))
    if image.mode in ("La", "RGBa"):
        return image.convert(image.mode[:-1] + "A")
    return image


def _description(image: Image.Image, xmp: bytes | None) -> str | None:
    """Return a PNG's text called Description, XMP's dc:description, or EXIF's ImageDescription, in this order."""
    import html

    from PIL import ExifTags

    in_xmp = _XMP_DESCRIPTION.search((xmp or b"").decode("utf-8", "replace"))
    candidates = (
        getattr(image, "text", {}).get("Description"),
        html.unescape(in_xmp.group(1)) if in_xmp else None,
        _text(image.getexif().get(ExifTags.Base.ImageDescription)),
    )
    return next((text.strip() for text in candidates if isinstance(text, str) and text.strip()), None)


def _text(value: Any) -> str | None:
    """Return an EXIF text, which cameras and programs write in UTF-8 and Pillow takes for Latin-1."""
    if not isinstance(value, str):
        return None
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _bytes(value: Any) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


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


def to_pillow(container: Container, rgb: npt.NDArray[np.uint8]) -> Image.Image:
    """Return the image that a file stands for.

    Args:
        container: gray or not, alpha and metadata.
        rgb: the decoded colours, uint8 [H, W, 3].

    Raises:
        CorruptStreamError: the alpha plane does not fit.
    """
    image = Image.fromarray(to_gray(rgb) if container.grayscale else rgb)
    alpha = container.section(SectionType.ALPHA)
    if alpha is not None:
        image.putalpha(Image.fromarray(unpack_alpha(alpha, container.height, container.width)))
    for kind, key in ((SectionType.ICC, "icc_profile"), (SectionType.EXIF, "exif"), (SectionType.XMP, "xmp")):
        content = container.section(kind)
        if content is not None:
            image.info[key] = content
    return image


def to_picture(source: Any) -> Picture:
    """Return a Pillow image, a uint8 array [H, W], [H, W, 3] or [H, W, 4], or a Picture as a Picture.

    Raises:
        InvalidImageError: it is none of these, or cannot be coded.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, Image.Image):
        return picture_from_pillow(source)
    if isinstance(source, np.ndarray):
        return picture_from_array(source)
    raise InvalidImageError(f"expected a Pillow image or a numpy array, got {type(source).__name__}")


def pad(rgb: npt.NDArray[np.uint8], stride: int) -> npt.NDArray[np.uint8]:
    """Repeat the last row and column of [H, W, 3] until both sides are multiples of `stride` (section 7)."""
    return np.pad(rgb, ((0, -rgb.shape[0] % stride), (0, -rgb.shape[1] % stride), (0, 0)), mode="edge")
