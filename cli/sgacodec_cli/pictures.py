"""Decoded pictures as image files: what each format holds of them, and a check that it does."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from PIL import Image, ImageOps

from sgacodec.errors import SgacodecError
from sgacodec.picture import kinds
from sgacodec_cli.files import is_stream

Say = Callable[[str], None]

_ANY = ("L", "LA", "RGB", "RGBA")
_ORIENTATION = 274
_EXIF_PREFIX = b"Exif\0\0"
_NAMES = {"icc_profile": "ICC profile", "exif": "EXIF", "xmp": "XMP"}
_ALL_METADATA = frozenset(_NAMES)
_KNOWN = ".png, .tif or .webp"


@dataclass(frozen=True)
class _Format:
    """What a format of image files holds.

    Attributes:
        modes: Pillow modes that it holds, or that Pillow converts without loss.
        max_side: of a picture, in pixels.
        metadata: keys of `Image.info` that it holds.
        save: arguments of Pillow's writer.
        lossy: arguments of Pillow's writer that take the place of those for a given quality, or None where it has none.
        checked: whether the file is read back and must hold the picture exactly.
        loss: what is lost of a picture that does not come back exactly, or None where that is an error.
    """

    modes: tuple[str, ...] = _ANY
    max_side: int = 2**31 - 1
    metadata: frozenset[str] = frozenset()
    save: Mapping[str, Any] = field(default_factory=dict)
    lossy: Mapping[str, Any] | None = None
    checked: bool = True
    loss: str | None = None


_JPEG = _Format(
    ("L", "RGB"), 65500, _ALL_METADATA, {"quality": 95, "subsampling": 0}, {"subsampling": 0}, checked=False
)
_FORMATS = {
    "PNG": _Format(metadata=_ALL_METADATA),
    "TIFF": _Format(metadata=_ALL_METADATA),
    "JPEG": _JPEG,
    "MPO": _JPEG,
    # exact keeps the colours of transparent pixels, which an encoder may change otherwise.
    "WEBP": _Format(("RGB", "RGBA"), 16383, _ALL_METADATA, {"lossless": True, "exact": True}, {"exact": True}),
    "AVIF": _Format(("L", "RGB", "RGBA"), 65535, _ALL_METADATA, {"quality": 95, "subsampling": "4:4:4"},
                    {"subsampling": "4:4:4"}, checked=False),
    "JPEG2000": _Format(),
    "BMP": _Format(("L", "RGB")),
    "DIB": _Format(("L", "RGB")),
    "PPM": _Format(("L", "RGB")),
    "QOI": _Format(("RGB", "RGBA")),
    "SGI": _Format(("L", "RGB", "RGBA"), 65535),
    "TGA": _Format(_ANY, 65535),
    "PCX": _Format(("L", "RGB"), 65535),
    "IM": _Format(),
    "DDS": _Format(),
    "ICO": _Format(_ANY, 256),
    "GIF": _Format(("L", "RGB", "RGBA"), 65535, loss="all but 256 colours"),
    "EPS": _Format(("L", "RGB"), checked=False),
    "PDF": _Format(("L", "RGB"), 14400, save={"quality": 95}, checked=False),
}  # fmt: skip
_BY_SUFFIX: dict[str, Mapping[str, Any]] = {suffix: {"no_jp2": True} for suffix in (".j2k", ".j2c", ".jpc")}
_GRAY_AS_RGB = {"WEBP", "AVIF"}  # nobody expects another way there, so it is not worth a word
_GRAY_ONLY = {".pgm"}
_OF_OTHER_PIXELS = {".pbm", ".pfm"}  # Pillow would write 8-bit pixels under these names

_DESCRIPTIVE = {269, 270, 271, 272, 274, 282, 283, 285, 296, 305, 306, 315, 316, 18246, 18249}
_STRUCTURAL_PRIVATE = {*range(32953, 33000), 33421, 33422, 34675, *range(50706, 53000)}


@dataclass(frozen=True)
class Target:
    """What a picture is written as.

    Attributes:
        format: Pillow's name of the format.
        suffix: of the file's name, in small letters.
        quality: 1 to 100 for lossy compression, or None for the format's own way.
    """

    format: str = "PNG"
    suffix: str = ".png"
    quality: int | None = None


def target(name: str, quality: int | None = None) -> Target:
    """Return what the name of an image file asks for; `-`, a FIFO or a device without a suffix asks for PNG.

    Raises:
        click.UsageError: no such format is written, or it has no quality.
    """
    suffix = Path(name).suffix.lower() or (".png" if is_stream(name) else "")
    image_format = format_of_suffix(suffix)
    known = _FORMATS.get(image_format or "")
    if image_format not in Image.SAVE:
        raise click.UsageError(f"Pillow cannot write {suffix or 'a file without a suffix'}; try {_KNOWN}")
    if image_format is None or known is None or suffix in _OF_OTHER_PIXELS:
        raise click.UsageError(f"{suffix} files cannot hold pictures like this, of 8 bits and any size; try {_KNOWN}")
    if quality is not None and known.lossy is None:
        raise click.UsageError(f"{image_format} has no quality; --output-quality goes with .jpg, .webp and .avif")
    return Target(image_format, suffix, quality)


def format_of_suffix(suffix: str) -> str | None:
    """Return the name of the format that a suffix stands for, Pillow's if it has one, or None."""
    Image.preinit()  # the common formats; to know all takes longer than to read a picture
    if suffix not in Image.EXTENSION:
        Image.init()
    kind = kinds.SUFFIXES.get(suffix)
    return Image.EXTENSION.get(suffix) or (kind and kind.value)


def _say(text: str) -> None:
    click.echo(f"sgacodec: {text}", err=True)


def image_bytes(image: Image.Image, wanted: Target, say: Say = _say) -> bytes:
    """Return an image file with the metadata that the image carries.

    Args:
        image: with metadata in its `info`.
        wanted: the format.
        say: is told what is lost; by default it goes to standard error.

    Raises:
        SgacodecError: the format cannot hold the picture, or does not give it back.
    """
    known = _FORMATS[wanted.format]
    _check_size(image, wanted.format, known)
    plain = _in_a_mode_of(image, wanted, known, say)
    options = _options(image, wanted, known)
    kept = _metadata(image, plain, wanted.format, options, say)
    data = _save(plain, wanted.format, options | _arguments(wanted.format, kept))
    if known.checked and wanted.quality is None and not _gives_back(data, plain):
        if known.loss is None:
            raise SgacodecError(f"{wanted.format} does not give this picture back exactly; try {_KNOWN}")
        say(f"{wanted.format} cannot hold this picture; lost: {known.loss}")
    return data


def _check_size(image: Image.Image, name: str, known: _Format) -> None:
    if max(image.size) > known.max_side:
        width, height = image.size
        raise SgacodecError(
            f"{name} holds at most {known.max_side} pixels a side, the picture is {width} x {height}; try .png or .tif"
        )


def _in_a_mode_of(image: Image.Image, wanted: Target, known: _Format, say: Say) -> Image.Image:
    """Return the image, without metadata, in a mode that the format holds."""
    modes = ("L",) if wanted.suffix in _GRAY_ONLY else known.modes
    mode = image.mode
    if mode.endswith("A") and not any(each.endswith("A") for each in modes):
        say(f"{wanted.format} has no alpha channel; it was left out")
        mode = mode[:-1]
    if mode not in modes and mode.startswith("L"):
        mode = mode.replace("L", "RGB")
        if wanted.format not in _GRAY_AS_RGB:
            say(f"{wanted.format} has no gray pictures; the gray values are written as {mode}")
    if mode not in modes:
        raise SgacodecError(f"{wanted.suffix} cannot hold {image.mode} pictures; try {_KNOWN}")
    plain = image.convert(mode) if mode != image.mode else image.copy()
    plain.info = {}  # Pillow's writers take some of it by themselves
    return plain


def _options(image: Image.Image, wanted: Target, known: _Format) -> dict[str, Any]:
    options = {**known.save, **_BY_SUFFIX.get(wanted.suffix, {})}
    if wanted.quality is not None:
        options = {**(known.lossy or {}), "quality": wanted.quality}
    if wanted.format == "ICO":
        options["sizes"] = [image.size]  # else a set of smaller ones
    return options


def _metadata(
    image: Image.Image, plain: Image.Image, name: str, options: Mapping[str, Any], say: Say
) -> dict[str, bytes]:
    """Return the metadata that the format holds; name the rest."""
    given = {key: image.info[key] for key in _NAMES if image.info.get(key)}
    sample = plain.crop((0, 0, 16, 16))
    fixed = {key: value for key, value in options.items() if key != "sizes"}
    kept = {
        key: value
        for key, value in given.items()
        if key in _FORMATS[name].metadata and _suits(key, value, plain) and _takes(sample, name, fixed, key, value)
    }
    lost = [_NAMES[key] for key in given if key not in kept]
    if lost:
        say(f"{name} cannot hold this picture's {' and '.join(lost)}; left out")
    return kept


def _suits(key: str, value: bytes, plain: Image.Image) -> bool:
    """Say whether a piece of metadata is true of the picture as it is written: a profile of grays is not of RGB."""
    return not (key == "icc_profile" and value[16:20] == b"GRAY" and plain.mode.startswith("RGB"))


def _takes(sample: Image.Image, name: str, options: Mapping[str, Any], key: str, value: bytes) -> bool:
    """Say whether a small image is written well with a piece of metadata, which may be too long, or damaged."""
    try:
        data = _save(sample, name, {**options, **_arguments(name, {key: value})})
        return not _FORMATS[name].checked or "quality" in options or _gives_back(data, sample)
    except SgacodecError:
        return False


def _arguments(name: str, metadata: Mapping[str, bytes]) -> dict[str, Any]:
    """Return metadata as the arguments that Pillow's writer takes it by.

    Raises:
        SgacodecError: it is damaged.
    """
    arguments: dict[str, Any] = dict(metadata)
    if name in ("JPEG", "MPO") and "exif" in metadata:
        arguments["exif"] = _EXIF_PREFIX + metadata["exif"].removeprefix(_EXIF_PREFIX)
    if name == "TIFF":
        arguments = {"exif": _tiff_tags(metadata)}
        if "icc_profile" in metadata:
            arguments["icc_profile"] = metadata["icc_profile"]
    if name == "PNG" and "xmp" in metadata:
        from PIL.PngImagePlugin import PngInfo

        chunks = PngInfo()
        chunks.add_itxt("XML:com.adobe.xmp", arguments.pop("xmp").decode("utf-8", "replace"))
        arguments["pnginfo"] = chunks
    return arguments


def _tiff_tags(metadata: Mapping[str, bytes]) -> Image.Exif:
    """Return EXIF and XMP as tags that a TIFF file's directory takes.

    EXIF is a TIFF directory too. Those of its tags that say how pixels are stored would say it of this file's pixels,
    so of the numbers below 32768, which are TIFF's own, only what describes the picture passes.
    """
    tags = Image.Exif()
    with _one_error("the EXIF data are damaged"):
        tags.load(metadata.get("exif", b""))
        for tag in list(tags):
            if (tag < 32768 and tag not in _DESCRIPTIVE) or tag in _STRUCTURAL_PRIVATE:
                del tags[tag]
    if "xmp" in metadata:
        tags[700] = metadata["xmp"]
    return tags


def _save(image: Image.Image, name: str, arguments: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with _one_error(f"Pillow cannot write this picture as {name}"):
        image.save(buffer, name, **arguments)
    return buffer.getvalue()


def _gives_back(data: bytes, image: Image.Image) -> bool:
    """Say whether an image file holds an image's pixels."""
    with _one_error("the file that was made cannot be read back"), _without_limit():
        again = Image.open(io.BytesIO(data))
        mode = "RGBA" if image.mode.endswith("A") or again.mode in ("P", "PA") else "RGB"
        expected = _turned(image, again.getexif().get(_ORIENTATION, 1)) if again.format == "TIFF" else image
        return _bytes(again, mode) == _bytes(expected, mode) and again.size == expected.size


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    """Return an image as Pillow shows one with an orientation in its tags, which it does for TIFF files alone."""
    turned = image.copy()
    turned.getexif()[_ORIENTATION] = orientation
    return ImageOps.exif_transpose(turned)


def _bytes(image: Image.Image, mode: str) -> bytes:
    return (image if image.mode == mode else image.convert(mode)).tobytes()


@contextmanager
def _without_limit() -> Iterator[None]:
    """Lift Pillow's limit on sizes: the picture is there already."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def _one_error(what: str) -> Iterator[None]:
    """Turn whatever a plugin of Pillow's stumbles over into one kind of error, and keep its warnings to ourselves."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MemoryError:
        raise
    except Exception as err:
        raise SgacodecError(f"{what}: {err or type(err).__name__}; try {_KNOWN}") from err
