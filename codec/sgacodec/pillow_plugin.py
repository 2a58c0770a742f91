"""Lets Pillow open and save .sga files: call `register()` once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from PIL import Image, ImageFile

import sgacodec
from sgacodec import limits
from sgacodec.errors import FormatError, OptionError, SgacodecError
from sgacodec.format import container
from sgacodec.format.container import MAGIC, Container, SectionType
from sgacodec.latents.preview import FACTOR
from sgacodec.options import EncodeOptions
from sgacodec.picture import pillow_limit

_FORMAT = "SGA"
_METADATA = {"icc_profile": SectionType.ICC, "exif": SectionType.EXIF, "xmp": SectionType.XMP}


class SgaPluginError(SgacodecError, OSError):
    """What goes wrong here, for those who expect sgacodec's errors and for those who expect Pillow's."""


class SgaImageFile(ImageFile.ImageFile):
    """An .sga file as a Pillow image; pixels are decoded when they are first needed.

    `info` has the metadata from the start, and says in `carries_message` whether there is a message for
    `sgacodec.decode` to extract.
    """

    format = _FORMAT
    format_description = "sgacodec image"

    def _open(self) -> None:
        self._data = self.fp.read() if self.fp else b""
        try:
            info = sgacodec.read_info(self._data)
        except FormatError as err:
            raise SyntaxError(str(err)) from err  # by this, Pillow knows that the file is none of this format
        except SgacodecError as err:
            raise SgaPluginError(str(err)) from err
        self._size = (info.width, info.height)
        self._mode = info.mode
        self._drafted = False
        self.info["carries_message"] = bool({"message", "bits_back"} & info.sections.keys())
        try:
            self.info.update(_metadata(container.parse(self._data, _max_pixels())))
        except (
            SgacodecError
        ):  # a damaged file can be opened, as others can; what is wrong is for load and verify to say
            return

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> tuple[str, tuple[int, int, float, float]] | None:
        """Have `load` decode a preview, if its sides are at least as long as `size`; `thumbnail` asks for it.

        Args:
            mode: ignored: the mode stays.
            size: width and height in pixels.

        Returns:
            The mode, and where the picture lies in the preview, as for Pillow's own formats; None if nothing changes.
        """
        width, height = self.size
        if self._drafted or not self._data or size is None or FACTOR * size[0] > width or FACTOR * size[1] > height:
            return None
        self._drafted = True
        self._size = (-(-width // FACTOR), -(-height // FACTOR))
        return self.mode, (0, 0, width / FACTOR, height / FACTOR)

    def verify(self) -> None:
        """Check the file's checksum, without decoding pixels.

        Raises:
            OSError: the file is damaged.
        """
        with _errors_of_pillow():
            container.parse(self._data, _max_pixels())
        self._data = b""
        super().verify()

    def load(self) -> Any:
        """Decode on first use.

        Raises:
            OSError: the file is damaged, or its model is not installed.
        """
        if self._data:
            with _errors_of_pillow():
                decode = sgacodec.preview if self._drafted else sgacodec.decode
                decoded = decode(self._data, max_pixels=_max_pixels())
            self._data = b""
            self.im = decoded.im
            self.info.update(decoded.info)
            self._close()
        return super().load()

    def _close(self) -> None:
        if self._exclusive_fp and self.fp is not None:
            self.fp.close()
        self.fp = None

    def load_prepare(self) -> None:
        """Do nothing: `load` has the pixels."""


def _max_pixels() -> int:
    """Return Pillow's limit, which its users know and set; above half of it, Pillow warns."""
    limit = pillow_limit()
    return limits.MAX_SIDE**2 if limit is None else 2 * limit


def _metadata(parsed: Container) -> dict[str, bytes]:
    found = {key: parsed.section(kind) for key, kind in _METADATA.items()}
    return {key: content for key, content in found.items() if content is not None}


@contextmanager
def _errors_of_pillow() -> Iterator[None]:
    """Turn the library's errors into such as Pillow's users catch; bad options are a ValueError already."""
    try:
        yield
    except OptionError:
        raise
    except SgacodecError as err:
        raise SgaPluginError(str(err)) from err


def register() -> None:
    """Register the format, the suffix .sga and the MIME type image/x-sga with Pillow."""
    Image.register_open(_FORMAT, SgaImageFile, lambda prefix: prefix[: len(MAGIC)] == MAGIC)
    Image.register_save(_FORMAT, _save)
    Image.register_extension(_FORMAT, ".sga")
    Image.register_mime(_FORMAT, "image/x-sga")


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    """Encode with what was given to `Image.save`.

    That is fields of `EncodeOptions`, `message`, and as for Pillow's own writers `exif`, `icc_profile`, `xmp` in place
    of the image's own; None or nothing leaves them out.
    """
    given = image.encoderinfo
    options = {key: value for key, value in given.items() if key in EncodeOptions.__dataclass_fields__}
    metadata = {key: given[key] for key in _METADATA if key in given}
    with _errors_of_pillow():
        source = _with_metadata(image, metadata) if metadata else image
        file.write(sgacodec.encode(source, EncodeOptions(**options), message=given.get("message")))


def _with_metadata(image: Image.Image, metadata: dict[str, Any]) -> Image.Image:
    """Return a copy of an image with other metadata; an orientation in its EXIF applies to it as its own would."""
    image = image.copy()
    for key, value in metadata.items():
        content = value.tobytes() if isinstance(value, Image.Exif) else value
        image.info.pop(key, None)
        if content:
            image.info[key] = content.encode() if isinstance(content, str) else bytes(content)
    if "xmp" in metadata:
        image.info.pop("XML:com.adobe.xmp", None)
    return image
