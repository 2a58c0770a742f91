"""Lets Pillow open and save .sga files: call `register()` once."""

from __future__ import annotations

from typing import IO, Any

from PIL import Image, ImageFile

import sgacodec
from sgacodec.format.container import MAGIC
from sgacodec.options import EncodeOptions

_FORMAT = "SGA"


class SgaImageFile(ImageFile.ImageFile):
    """An .sga file as a Pillow image; pixels are decoded when they are first needed."""

    format = _FORMAT
    format_description = "sgacodec image"

    def _open(self) -> None:
        self._data = self.fp.read() if self.fp else b""
        info = sgacodec.read_info(self._data)
        self._size = (info.width, info.height)
        self._mode = info.mode

    def load(self) -> Any:
        """Decode on first use."""
        if self._data:
            decoded = sgacodec.decode(self._data)
            self._data = b""
            self.im = decoded.im
            self.info.update(decoded.info)
        return super().load()

    def load_prepare(self) -> None:
        """Do nothing: `load` has the pixels."""


def register() -> None:
    """Register the format and the suffix .sga with Pillow."""
    Image.register_open(_FORMAT, SgaImageFile, lambda prefix: prefix[: len(MAGIC)] == MAGIC)
    Image.register_save(_FORMAT, _save)
    Image.register_extension(_FORMAT, ".sga")


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    """Encode with the fields of `EncodeOptions` that were given to `Image.save`."""
    options = {key: value for key, value in image.encoderinfo.items() if key in EncodeOptions.__dataclass_fields__}
    file.write(sgacodec.encode(image, EncodeOptions(**options)))
