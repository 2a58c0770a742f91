"""`sgacodec info`."""

from __future__ import annotations

import dataclasses

import click

from sgacodec import strict_json
from sgacodec.bitsback import message
from sgacodec.bitsback.carriers import Carriers
from sgacodec.bitsback.message import Message
from sgacodec.decoding import decode
from sgacodec.info import Info, read_info
from sgacodec.picture import exif, xmp
from sgacodec_cli import completion
from sgacodec_cli.files import about, read_input, show

_SECTIONS = {
    "message": "a message, or the rest of one",
    "overlay": "a PNG over parts of the picture",
    "alpha": "the alpha plane",
    "coded_alpha": "the alpha plane",
}
"""What sections are that are not read here."""


_POSITION = "  GPS position"
_UNTOLD_IN_EXIF = "cannot be told; --strip gps leaves out whatever of the EXIF may have one"
_UNTOLD_IN_XMP = "cannot be told; --strip gps leaves out the whole XMP"


@click.command("info")
@click.argument("source", metavar="IN", shell_complete=completion.files)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--extract", is_flag=True, help="Decode, and show what IN carries.")
def command(source: str, as_json: bool, extract: bool) -> None:
    """Show the header of IN, an .sga file ('-' is standard input).

    Without --extract it needs no model and decodes nothing. Of a file that is cut it still tells what the header says.
    """
    data = read_input(source)
    with about(source):
        info = read_info(data)
        carried = decode(data, extract=True).info.get("message") if extract else None
    found = None if carried is None else _Found.of(carried, info)
    if as_json:
        extracted = {"message": found and dataclasses.asdict(found)} if extract else {}
        present = {} if len(data) == info.n_bytes else {"present_bytes": len(data)}
        show(strict_json.dumps(dataclasses.asdict(info) | present | extracted))
    else:
        shown = rows(info) + _present(len(data), info) + (_extracted(found) if extract else [])
        show("\n".join(f"{name:<18}{value}" for name, value in shown))


def _present(n_bytes: int, info: Info) -> list[tuple[str, str]]:
    """Say of a file that it has another length than its header says."""
    if n_bytes == info.n_bytes:
        return []
    fault = "the file is cut; fetch it again" if n_bytes < info.n_bytes else "others follow the end of the file"
    return [("present", f"{n_bytes} bytes of {info.n_bytes}: {fault}")]


@dataclasses.dataclass(frozen=True)
class _Found:
    """What a file carries.

    Attributes:
        kind: "text" or "bytes".
        n_bytes: its length.
        packed_bytes: its length as a section of a file: deflated where that is shorter, with its own header.
        net_bytes: what is left of the file for the picture.
        net_bpp: the same in bits per pixel.
    """

    kind: str
    n_bytes: int
    packed_bytes: int
    net_bytes: int
    net_bpp: float

    @staticmethod
    def of(carried: Message, info: Info) -> _Found:
        """Measure it."""
        is_text = isinstance(carried, str)
        packed = len(message.frame(carried))
        net = info.n_bytes - packed
        return _Found(
            kind="text" if is_text else "bytes",
            n_bytes=len(carried.encode() if isinstance(carried, str) else carried),
            packed_bytes=packed,
            net_bytes=net,
            net_bpp=8 * net / (info.width * info.height),
        )


def _extracted(found: _Found | None) -> list[tuple[str, str]]:
    if found is None:
        return [("carries", "nothing")]
    return [
        ("carries", f"{found.kind}, {found.n_bytes} bytes, {found.packed_bytes} packed"),
        ("net of that", f"{found.net_bytes} bytes, {found.net_bpp:.4f} bpp"),
    ]


def rows(info: Info) -> list[tuple[str, str]]:
    """Return what a header says, in words."""
    return [
        ("size", f"{info.width} x {info.height}, {info.mode}"),
        ("file", f"{info.n_bytes} bytes, {info.bpp:.4f} bpp"),
        ("model", f"{info.model_id}, level {info.level:g}"),
        ("y", f"{info.y_bytes} bytes"),
        ("z", f"{info.z_bytes} bytes"),
        ("header", f"{info.header_bytes} bytes, checksums included"),
        *([] if info.carriers is None else [("carried by", _carried(info.carriers))]),
        *(row for name, n_bytes in info.sections.items() for row in _section(name, n_bytes, info)),
    ]


def _section(name: str, n_bytes: int, info: Info) -> list[tuple[str, str]]:
    """Say what a section has in it, as far as it can be read without decoding."""
    size = f"{n_bytes} bytes"
    if name == "exif":
        return [(name, size), *([_unread("EXIF")] if info.exif is None else _exif(info.exif))]
    if name == "xmp":
        return [(name, size), _unread("XMP")] if info.xmp is None else _xmp(size, info.xmp)
    if name == "icc" and info.icc is not None:
        return [(name, f"{size}, {info.icc}")]
    return [(name, f"{size}, {_SECTIONS[name]}" if name in _SECTIONS else size)]


def _unread(what: str) -> tuple[str, str]:
    return _POSITION, f"not known: the {what} is damaged, or missing in what there is of the file"


def _exif(found: exif.Facts) -> list[tuple[str, str]]:
    told = [("  camera", found.camera), ("  taken", found.taken), ("  orientation", _orientation(found))]
    return [*((name, text) for name, text in told if text), (_POSITION, _position(found, _UNTOLD_IN_EXIF))]


def _xmp(size: str, found: xmp.Facts) -> list[tuple[str, str]]:
    prefixes = ", ".join(found.prefixes) or "no properties"
    return [
        ("xmp", f"{size}, {prefixes if found.is_sound else 'not well-formed, or too long to look at'}"),
        (_POSITION, _position(found, _UNTOLD_IN_XMP, " in XMP")),
    ]


def _orientation(found: exif.Facts) -> str | None:
    if found.orientation is None:
        return None
    return f"{found.orientation}, upright" if found.orientation == 1 else f"{found.orientation}, not upright"


def _position(found: exif.Facts | xmp.Facts, untold: str, where: str = "") -> str:
    """Say plainly whether there is a position; `--strip gps` takes it out."""
    things = f" ({', '.join(found.position)})" if found.position else ""
    return untold if found.has_position is None else ("yes" if found.has_position else "no") + where + things


def _carried(carriers: Carriers) -> str:
    step = f"1/{2**carriers.exponent}" if carriers.exponent else "1"
    return f"{carriers.n} values of z on a lattice of step {step}, {carriers.steps} refinement steps"
