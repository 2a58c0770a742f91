"""From a container and decoded colours to the image that a file stands for, from top to bottom.

colours of some rows -> Output: gray, alpha -> rows of an image -> Sink: a Pillow image, a file, nothing
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from sgacodec.format.container import Container, SectionType
from sgacodec.picture.alpha import alpha_of
from sgacodec.picture.planes import to_gray
from sgacodec.picture.region import Region
from sgacodec.picture.strip import Stored, Strip, kept, names, to_srgb

Pixels = npt.NDArray[np.uint8]

_SECTIONS = {"icc": SectionType.ICC, "exif": SectionType.EXIF, "xmp": SectionType.XMP}
_KEYS = {"icc": "icc_profile"}
"""What `Image.info` calls metadata differently."""


@dataclass(frozen=True)
class Frame:
    """What is known of an image before its pixels.

    Attributes:
        mode: Pillow's name: L, LA, RGB or RGBA.
        width, height: in pixels.
        info: ICC profile, EXIF and XMP, as `Image.info` names them.
    """

    mode: str
    width: int
    height: int
    info: dict[str, bytes] = field(default_factory=dict)


class Sink(Protocol):
    """Takes an image from top to bottom."""

    def begin(self, frame: Frame) -> None:
        """Get to know the image."""

    def write(self, rows: Pixels) -> None:
        """Take the next rows, uint8 [n, W] in mode L, else [n, W, C]."""


class Output:
    """What a file stands for, or a part of it.

    Attributes:
        frame: of that part.
    """

    def __init__(self, container: Container, region: Region, strip: Strip = ()) -> None:
        """Unpack the alpha plane, all of it; `strip` says which metadata are left out.

        Raises:
            CorruptStreamError: the alpha plane does not fit.
            OptionError: `strip` names something that there is not.
        """
        self._gray, self._region, self._n_done = container.grayscale, region, 0
        self._alpha = alpha_of(container)
        mode = ("L" if self._gray else "RGB") + ("" if self._alpha is None else "A")
        known = Stored(**{name: container.section(kind) for name, kind in _SECTIONS.items()})
        left_out = names(strip)
        self._convert = to_srgb(known, left_out, self._gray)
        contents = vars(kept(known, left_out)).items()
        info = {_KEYS.get(name, name): content for name, content in contents if content is not None}
        self.frame = Frame(mode, region.width, region.height, info)

    def pack(self, rgb: Pixels) -> Pixels:
        """Return the next rows as the image has them, from their colours, uint8 [n, W, 3]."""
        colours, first = self._colours(rgb), self._region.top + self._n_done
        self._n_done += len(rgb)
        if self._n_done == self._region.height:
            self._end()
        if self._alpha is None:
            return colours
        return np.dstack([colours, self._alpha[first : first + len(rgb), self._region.left : self._region.right]])

    def reduced(self, rgb: Pixels, factor: int) -> Image.Image:
        """Return the image made smaller by a factor, sizes rounded up, from its colours there, uint8 [h, w, 3]."""
        width, height = (-(-side // factor) for side in (self.frame.width, self.frame.height))
        image = Image.fromarray(self._colours(rgb[:height, :width]))
        self._end()
        if self._alpha is not None:
            image.putalpha(Image.fromarray(self._alpha).reduce(factor))
        image.info.update(self.frame.info)
        return image

    def _end(self) -> None:
        if self._convert is not None:
            self._convert.end()

    def _colours(self, rgb: Pixels) -> Pixels:
        colours = to_gray(rgb) if self._gray else rgb
        return colours if self._convert is None else self._convert(colours)


class ImageSink:
    """Makes a Pillow image.

    Attributes:
        image: what has been taken so far.
    """

    image: Image.Image

    def begin(self, frame: Frame) -> None:
        """Allocate the image."""
        self.image = Image.new(frame.mode, (frame.width, frame.height))
        self.image.info.update(frame.info)
        self._n_done = 0

    def write(self, rows: Pixels) -> None:
        """Paste the rows below those that are there."""
        self.image.paste(Image.fromarray(rows), (0, self._n_done))
        self._n_done += len(rows)


class NoSink:
    """Forgets the image: the checksums alone are of interest.

    Attributes:
        frame: what was forgotten.
    """

    frame: Frame

    def begin(self, frame: Frame) -> None:
        """Keep the frame."""
        self.frame = frame

    def write(self, rows: Pixels) -> None:
        """Do nothing."""
