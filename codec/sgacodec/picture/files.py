"""From an image file to a `Picture`: the one boundary at which Pillow's errors and limits are dealt with."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from sgacodec import limits
from sgacodec.errors import InvalidImageError, one_line
from sgacodec.picture import bare, opening
from sgacodec.picture.planes import Picture
from sgacodec.picture.taking_apart import take_apart, take_colours

log = logging.getLogger(__name__)


def read_picture(path: Path, max_pixels: int = limits.MAX_PIXELS) -> Picture:
    """Read an image file of any format that Pillow reads, HEIC or JPEG XL.

    Raises:
        InvalidImageError: the file is missing, no image, truncated, or too large; or reading it takes a package that is
            missing, or it is a camera's raw file.
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
    """Read an image from the bytes of an image file; what cannot be kept of it is named in warnings.

    Raises:
        InvalidImageError: see `read_picture`.
    """
    parsed = _parse(data, max_pixels, name, take_apart)
    if parsed.error is not None:
        log.warning("lost: metadata that Pillow cannot read: %s", one_line(parsed.error))
    return parsed.picture


def parse_colours(data: bytes, max_pixels: int = limits.MAX_PIXELS, name: str = "the input") -> npt.NDArray[np.uint8]:
    """Read the colours alone of an image file, uint8 [H, W, 3], upright; what else there is goes without a word.

    Raises:
        InvalidImageError: see `read_picture`.
    """
    return _parse(data, max_pixels, name, take_colours).picture.rgb


class _Take(Protocol):
    """Takes an opened image apart; see `take_apart`."""

    def __call__(self, image: Image.Image, max_pixels: int, data: bytes = b"") -> Picture: ...


@dataclass(frozen=True, eq=False)
class _Parsed:
    """A picture, and the error that metadata were left out for, if any were."""

    picture: Picture
    error: Exception | None = None


def _parse(data: bytes, max_pixels: int, name: str, take: _Take) -> _Parsed:
    """Open and take apart; whatever Pillow raises becomes one line.

    Raises:
        InvalidImageError: see `read_picture`.
    """
    try:
        with _within_pillow(max_pixels):
            return _open(data, max_pixels, take)
    except UnidentifiedImageError as err:
        raise InvalidImageError(f"{name} is not an image that Pillow can read") from err
    except Image.DecompressionBombError as err:
        raise InvalidImageError(f"{name}: {_too_large(err, max_pixels)}") from err
    except InvalidImageError as err:
        raise InvalidImageError(f"{name}: {err}") from err
    except Exception as err:  # Pillow's readers raise whatever damage leads them to
        raise InvalidImageError(f"{name} is damaged, or of a kind that Pillow cannot decode: {one_line(err)}") from err


def _open(data: bytes, max_pixels: int, take: _Take) -> _Parsed:
    found_in = data
    try:
        image, found_in = opening.open_image(data, max_pixels)
        with image:
            return _Parsed(take(image, max_pixels, found_in))
    except (InvalidImageError, Image.DecompressionBombError):
        raise
    except Exception as err:
        pictures = (_open_bare(way, max_pixels, take) for way in bare.ways(found_in))
        picture = next((picture for picture in pictures if picture is not None), None)
        if picture is None:
            raise
        return _Parsed(picture, err)


def _open_bare(way: Callable[[], bare.Opened], max_pixels: int, take: _Take) -> Picture | None:
    """Return the picture with less metadata, or None if that does not help."""
    try:
        image, data = way()
        return take(image, max_pixels, data)
    except (InvalidImageError, Image.DecompressionBombError):
        raise
    except Exception:  # then the first error is the one to tell
        return None


def _too_large(err: Image.DecompressionBombError, max_pixels: int) -> str:
    found = re.search(r"\((\d+) pixels\)", str(err))
    size = f"{found.group(1)} pixels" if found else "a size"
    return f"the image has {size}, over the limit of {max_pixels}; raise it with --max-pixels"


class _Within:
    """Pillow's limit of pixels is a global.

    It is changed when the first of several threads begins to read, and given back when the last one is done.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limits: list[int] = []
        self._before: int | None = None

    @contextmanager
    def __call__(self, max_pixels: int) -> Iterator[None]:
        """Have Pillow refuse pictures, also such as lie inside of other files, of more than `max_pixels`."""
        with self._lock:
            if not self._limits:
                self._before = Image.MAX_IMAGE_PIXELS
            self._limits.append(max_pixels)
            self._set()
        try:
            yield
        finally:
            with self._lock:
                self._limits.remove(max_pixels)
                self._set()

    @property
    def before(self) -> int | None:
        """Pillow's limit as others have set it."""
        with self._lock:
            return self._before if self._limits else Image.MAX_IMAGE_PIXELS

    def _set(self) -> None:
        # Pillow warns above its limit, and refuses above twice its limit.
        Image.MAX_IMAGE_PIXELS = (max(self._limits) + 1) // 2 if self._limits else self._before


_within_pillow = _Within()


def pillow_limit() -> int | None:
    """Return `Image.MAX_IMAGE_PIXELS` as the program has set it, also while other threads parse pictures."""
    return _within_pillow.before
