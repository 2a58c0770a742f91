"""What is fuzzed: files to start from, and what is to hold for every mutation of one."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

import sgacodec
from sgacodec import picture
from sgacodec.errors import SgacodecError
from sgacodec.format import container
from sgacodec.models.file import dump_model, load_model
from sgacodec.synthetic import render
from sgacodec_bench.fuzz.mutate import with_crc

_MAX_PIXELS = 2**18


class SilentCorruptionError(AssertionError):
    """A mutation was read without complaint and gave something else."""


@dataclass(frozen=True)
class Target:
    """Something that reads files.

    Attributes:
        seeds: sound files, by name.
        run: reads a mutation. It may raise SgacodecError; SilentCorruptionError says that it was read and should not
            have been; anything else that it raises is a crash.
    """

    seeds: Mapping[str, bytes]
    run: Callable[[bytes], None]


def targets(golden: Path) -> dict[str, Target]:
    """Return every target by name.

    Args:
        golden: the folder of the golden files and of their models, which `SGACODEC_MODELS` has to name.
    """
    files = {path.parent.name: path.read_bytes() for path in sorted(golden.glob("*/file.sga"))}
    carrying = {name: data for name, data in files.items() if _message(data) is not None}
    models = {path.stem: path.read_bytes() for path in sorted(golden.glob("*.safetensors"))}
    return {
        "container": Target(files, _read_container),
        "decode": Target(files, partial(_decode, known=_colours(files))),
        "message": Target(carrying, partial(_extract, known={_message(data) for data in carrying.values()})),
        "model": Target(models, _read_model),
        "picture": Target(pictures(), _read_picture),
        "exif": Target({"photo": _photograph()}, _read_picture),
    }


def _message(data: bytes) -> bytes | str | None:
    return sgacodec.decode(data, extract=True).info.get("message")  # type: ignore[no-any-return]


def _colours(files: Mapping[str, bytes]) -> frozenset[int]:
    """Return the checksums of the pictures that the seeds hold."""
    return frozenset(container.parse(data).pixel_crc for data in files.values())


def _read_container(data: bytes) -> None:
    parsed = container.parse(with_crc(data))
    if container.parse(container.serialize(parsed)) != parsed:
        raise SilentCorruptionError("a container is another one after it was written and read")


def _decode(data: bytes, known: frozenset[int]) -> None:
    """Decode; a mutation that passes every check shows a picture that a seed has."""
    data = with_crc(data)
    image = sgacodec.decode(data, max_pixels=_MAX_PIXELS)
    parsed = container.parse(data)
    if parsed.pixel_crc not in known:
        raise SilentCorruptionError("a picture that nobody encoded passed its checksum")
    if not parsed.grayscale and zlib.crc32(image.convert("RGB").tobytes()) != parsed.pixel_crc:
        raise SilentCorruptionError("the pixels are not those of the checksum")


def _extract(data: bytes, known: set[bytes | str | None]) -> None:
    message = sgacodec.decode(with_crc(data), max_pixels=_MAX_PIXELS, extract=True).info.get("message")
    if message is not None and message not in known:
        raise SilentCorruptionError("a message that nobody embedded passed its checksum")


def _read_model(data: bytes) -> None:
    model = load_model(data)
    if load_model(dump_model(model)).model_id != model.model_id:
        raise SilentCorruptionError("a model has another id after it was written and read")


def _read_picture(data: bytes) -> None:
    found = picture.parse_picture(data, _MAX_PIXELS)
    if found.rgb.dtype != np.uint8 or found.rgb.ndim != 3:
        raise SilentCorruptionError("what was read is no picture")


def pictures() -> dict[str, bytes]:
    """Return small pictures of the formats that Pillow writes, with metadata where they take it."""
    rgb = Image.fromarray(render(24, 32, np.random.default_rng(0)))
    variants = {
        "gray.png": rgb.convert("L"),
        "alpha.png": rgb.convert("RGBA"),
        "palette.png": rgb.convert("P"),
        "16-bit.png": Image.fromarray(np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 80),
        "a.gif": rgb.convert("P"),
        **{f"a.{suffix}": rgb for suffix in ("png", "bmp", "tiff", "webp", "ppm", "tga", "jp2", "ico")},
    }
    return {"photo.jpg": _photograph(), **{name: _file(image, name) for name, image in variants.items()}}


def _file(image: Image.Image, name: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, Image.registered_extensions()[f".{name.rpartition('.')[2]}"])
    return buffer.getvalue()


def _photograph() -> bytes:
    """Return a JPEG as a camera writes it: EXIF with GPS and orientation, XMP, a profile."""
    from PIL import ImageCms

    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x010E] = 6, "Maker", "A lake"
    exif.get_ifd(0x8769)[0x927C] = bytes(range(64))
    exif.get_ifd(0x8825)[2] = (47.0, 30.0, 1.5)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="6" hdrgm:Version="1.0" '
        b'GCamera:MotionPhoto="1"><dc:description><rdf:Alt><rdf:li xml:lang="x-default">A lake.</rdf:li></rdf:Alt>'
        b"</dc:description></rdf:Description></rdf:RDF></x:xmpmeta>" + b" " * 200
    )
    buffer = io.BytesIO()
    image = Image.fromarray(render(24, 32, np.random.default_rng(1)))
    image.save(buffer, "JPEG", exif=exif.tobytes(), icc_profile=profile, xmp=xmp)
    return buffer.getvalue()


def outcome(target: Target, data: bytes) -> str:
    """Run a target: "read", "refused", or else "silent" or "crash" with what was raised."""
    try:
        target.run(data)
    except SgacodecError:
        return "refused"
    except SilentCorruptionError as err:
        return f"silent: {err}"
    except Exception as err:
        return f"crash: {type(err).__name__}: {err}"
    return "read"
