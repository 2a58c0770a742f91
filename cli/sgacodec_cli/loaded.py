"""Pictures to look at or to compare, from image files and from .sga files alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from sgacodec import limits, metrics
from sgacodec.bitsback.message import Message
from sgacodec.decoding import decode
from sgacodec.drawn.hidden import seen
from sgacodec.format.container import MAGIC
from sgacodec.info import Info, read_info
from sgacodec.picture import Picture, parse_picture, read_picture, to_gray
from sgacodec_cli.files import about, check_input


@dataclass(frozen=True, eq=False)
class Loaded:
    """A picture that was read from a file.

    Attributes:
        name: of the file.
        n_bytes: its length.
        image: of mode L, LA, RGB or RGBA, upright, with its ICC profile in `info`.
        info: what the file says of itself, if it is an .sga file.
    """

    name: str
    n_bytes: int
    image: Image.Image
    info: Info | None = None

    @property
    def rgb(self) -> npt.NDArray[np.uint8]:
        """Its colours, uint8 [H, W, 3], made anew each time."""
        return np.asarray(self.image if self.image.mode == "RGB" else self.image.convert("RGB"))

    @property
    def alpha(self) -> npt.NDArray[np.uint8] | None:
        """Its alpha plane, uint8 [H, W], or None."""
        return np.asarray(self.image.getchannel("A")) if self.image.mode.endswith("A") else None

    @property
    def seen(self) -> npt.NDArray[np.bool_] | None:
        """Where it is not transparent, [H, W], or None where that is everywhere."""
        return seen(Picture(self.rgb, alpha=self.alpha))

    @property
    def message(self) -> Message | None:
        """What the file carries, if that was asked for."""
        return self.image.info.get("message")


def psnr_db(reference: Loaded, picture: Loaded) -> float:
    """Return the PSNR of a picture as `encode` tells it, which counts what is seen of the reference."""
    a, b, mask = reference.rgb, picture.rgb, reference.seen
    return metrics.psnr_db(a, b) if mask is None else metrics.psnr_db(a[mask], b[mask])


def load(name: str, max_pixels: int = limits.MAX_PIXELS) -> Loaded:
    """Read an image or an .sga file.

    Raises:
        SgacodecError: it is neither, or damaged; the error names it.
    """
    check_input(name)
    path = Path(name)
    data = path.read_bytes() if path.is_file() else b""
    if data.startswith(MAGIC):
        return decoded(name, data, max_pixels)
    picture = parse_picture(data, max_pixels, name) if data else read_picture(path, max_pixels)
    return Loaded(name, len(data), _image(picture))


def decoded(name: str, data: bytes, max_pixels: int = limits.MAX_PIXELS, extract: bool = False) -> Loaded:
    """Decode an .sga file, and recover its message if asked to.

    Raises:
        SgacodecError: see `sgacodec.decode`; the error names the file.
    """
    with about(name):
        return Loaded(name, len(data), decode(data, max_pixels=max_pixels, extract=extract), read_info(data))


def _image(picture: Picture) -> Image.Image:
    colours = to_gray(picture.rgb) if picture.grayscale else picture.rgb
    image = Image.fromarray(colours if picture.alpha is None else np.dstack([colours, picture.alpha]))
    if picture.icc is not None:
        image.info["icc_profile"] = picture.icc
    return image
