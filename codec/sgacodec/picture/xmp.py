"""XMP: its orientation, its description, its position, and what it says of parts of a file that are not kept.

Packets are changed by cutting pieces out of their bytes, so that all else stays as it came. They come from anywhere, so
everything here takes a time that grows as their length: texts are searched from left to right, and whatever has to know
elements asks expat.

Source: XMP Specification, part 1; Ultra HDR Image Format 1.1; Motion Photo format 1.0 (Android).
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from xml.parsers import expat

from sgacodec.picture import words

PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
"""What comes before a packet in a segment of a JPEG."""

_ORIENTATION = re.compile(rb"""(tiff:Orientation\s*=\s*["']\s*|<tiff:Orientation\s*>\s*)(\d{1,9})(?=\s*["'<])""")
_ATTRIBUTE = re.compile(rb"""\s+([^\s=<>"']+)\s*=\s*("[^"]*"|'[^']*')""")
_NAME_OF_TAG = re.compile(rb"<[^\s/>]+")
_END_OF_EMPTY_TAG = re.compile(rb"\s*/>")
_SEPARATOR = " "
"""What expat puts between the URI of a namespace and a name."""


@dataclass(frozen=True)
class _Claim:
    """Properties that speak of something that the file will not have.

    Attributes:
        what: what it is called.
        namespace: URI of the properties' names.
        names: what the names begin with.
    """

    what: str
    namespace: str
    names: tuple[str, ...]


_CLAIMS = (
    _Claim("the gain map of an HDR picture", "http://ns.adobe.com/hdr-gain-map/1.0/", ("",)),
    _Claim("the video of a motion photo", "http://ns.google.com/photos/1.0/camera/", ("MotionPhoto", "MicroVideo")),
    _Claim("what is appended to the file", "http://ns.google.com/photos/1.0/container/", ("Directory",)),
    _Claim("extended XMP", "http://ns.adobe.com/xmp/note/", ("HasExtendedXMP",)),
)
_INSIDE_OF_CLAIMS = ("http://ns.google.com/photos/1.0/container/item/",)
"""Namespaces of names that occur inside of claims."""

_POSITION_NAMES = re.compile("gps|latitude|longitude", re.IGNORECASE)
"""What names of properties have in them that say where a picture was taken, in the namespace of EXIF and in others."""

_GEO_NAMESPACE, _GEO_NAMES = "http://www.w3.org/2003/01/geo/wgs84_pos#", {"lat", "long", "lat_long", "alt"}
_MOST_PARTS = 100_000
"""So many elements, attributes and declarations of a packet are looked at; what more they say cannot be told."""

_BLANK = b"\0 \t\r\n"
_UNTOLD_PREFIXES = {"x", "rdf", "xml"}
"""Of the packet itself."""


@dataclass(frozen=True)
class Facts:
    """What a packet says, in short.

    Attributes:
        is_sound: whether it can be read; a position cannot be told otherwise.
        has_position: whether it says where the picture was taken; None where that cannot be told.
        prefixes: of the namespaces of its properties, such as dc and exif, sorted.
        position: names of the properties that say where the picture was taken.

    Of prefixes and names the first few are there, and "..." for the rest.
    """

    is_sound: bool
    has_position: bool | None
    prefixes: tuple[str, ...] = ()
    position: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kept:
    """What is left of a packet.

    Attributes:
        xmp: the packet, or None if nothing could be kept.
        lost: what the packet spoke of and the file will not have.
    """

    xmp: bytes | None
    lost: tuple[str, ...] = ()


def orientation(xmp: bytes) -> int | None:
    """Return tiff:Orientation, 1 to 8, or None."""
    values = (int(found.group(2)) for found in _ORIENTATION.finditer(xmp))
    return next((value for value in values if 1 <= value <= 8), None)


def upright(xmp: bytes) -> bytes:
    """Return the same bytes with tiff:Orientation 1, where there is one."""
    return _ORIENTATION.sub(rb"\g<1>1", xmp)


def description(xmp: bytes) -> str | None:
    """Return the first text of dc:description, or None."""
    text = xmp.decode("utf-8", "replace")
    return next((html.unescape(item) for item in _items(text)), None)


def _items(text: str) -> Iterator[str]:
    """Yield the first item of each dc:description that has one."""
    at = text.find("<dc:description>")
    while at >= 0:
        end = text.find("</dc:description>", at) % (len(text) + 1)  # where it has no end, that of the text
        opened = text.find("<rdf:li", at, end)
        begun = text.find(">", opened, end) + 1 if opened >= 0 else 0
        closed = text.find("</rdf:li>", begun, end) if begun else -1
        if closed >= 0:
            yield text[begun:closed]
        at = text.find("<dc:description>", end)


def without_claims(xmp: bytes) -> Kept:
    """Return a packet that no longer speaks of what Pillow does not read: gain maps, videos, further packets."""
    declared = [claim for claim in _CLAIMS if claim.namespace.encode() in xmp]
    if not declared:
        return Kept(xmp)
    found = _search(xmp, _claim)
    if found is None:
        return Kept(None, tuple(claim.what for claim in declared))
    return Kept(found.rest() or None, tuple(found.claims)) if found.claims else Kept(xmp)


def _claim(namespace: str, name: str) -> str | None:
    found = (claim for claim in _CLAIMS if claim.namespace == namespace and name.startswith(claim.names))
    return next((claim.what for claim in found), None)


def without_position(xmp: bytes) -> bytes | None:
    """Return a packet without its properties that say where the picture was taken.

    In whatever namespace, these are the properties with gps, latitude or longitude in their names, such as those of
    EXIF and of drones, and those of the namespace geo.

    Returns:
        Nothing (no bytes) if nothing is left; None if the packet cannot be read, so that its position cannot be told.
    """
    found = _search(xmp, _position)
    if found is None:
        return None
    return found.rest() if found.claims else xmp


def _position(namespace: str, name: str) -> str | None:
    is_geo = namespace == _GEO_NAMESPACE and name in _GEO_NAMES
    return "the position" if is_geo or _POSITION_NAMES.search(name) else None


def facts(xmp: bytes) -> Facts:
    """Return what a packet says."""
    found = _search(xmp, _position)
    if found is None:
        return Facts(is_sound=False, has_position=None)
    return Facts(True, bool(found.names), words.few(sorted(found.prefixes)), words.few(found.names))


def _search(xmp: bytes, claim: Callable[[str, str], str | None]) -> _Search | None:
    """Look for claims; return None where a packet is not well-formed, or too long."""
    try:
        return _Search(xmp.strip(_BLANK), claim)
    except (expat.ExpatError, _RefusedError):
        return None


class _RefusedError(Exception):
    """A packet has too many parts, or a document type, which none should have and which could make it expand."""


class _Search:
    """One walk through a well-formed packet, for claims and for where they stand.

    Attributes:
        claims: what was found, in its order; the values mean nothing.
        names: those of the properties, likewise.
        prefixes: of the namespaces that are declared, but for those of the packet itself.

    Raises:
        expat.ExpatError, _RefusedError: the packet is not well-formed, or is not looked at.
    """

    def __init__(self, packet: bytes, claim: Callable[[str, str], str | None]) -> None:
        """Walk through a packet; `claim` says of a namespace and a name of what it speaks, or None."""
        self.claims: dict[str, None] = {}
        self.names: dict[str, None] = {}
        self.prefixes: set[str] = set()
        self._claim, self._packet, self._n_left = claim, packet, _MOST_PARTS
        self._cuts: list[tuple[int, int]] = []
        self._declarations: list[tuple[str, tuple[int, int]]] = []
        self._used, self._claimed = set[str](), set(_INSIDE_OF_CLAIMS)
        self._cut_start, self._cut_is_empty_tag, self._depth = 0, False, 0
        self._parser = expat.ParserCreate("utf-8", _SEPARATOR)
        self._parser.ordered_attributes = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.StartNamespaceDeclHandler = self._declare
        self._parser.StartDoctypeDeclHandler = _refuse
        self._parser.Parse(packet, True)

    def rest(self) -> bytes:
        """Return the packet without the claims, and without declarations that nothing uses any more."""
        gone = self._claimed - self._used
        idle = [span for namespace, span in self._declarations if namespace in gone]
        kept, at = [], 0
        for start, end in sorted(self._cuts + idle):
            kept.append(self._packet[at:start])
            at = end
        return b"".join((*kept, self._packet[at:]))

    def _count(self, n: int) -> None:
        self._n_left -= n
        if self._n_left < 0:
            raise _RefusedError

    def _declare(self, prefix: str | None, _: str) -> None:
        self._count(1)
        if prefix is not None and prefix not in _UNTOLD_PREFIXES:
            self.prefixes.add(prefix)

    def _start(self, name: str, attributes: list[str]) -> None:
        self._count(1 + len(attributes) // 2)
        at = self._parser.CurrentByteIndex
        if self._depth:
            self._depth += 1
        elif self._is_claim(name):
            self._depth = 1
            self._cut_start = self._before_space(at)
            *_, last = _parts_of_tag(self._packet, at)
            self._cut_is_empty_tag = _END_OF_EMPTY_TAG.match(self._packet, last.end()) is not None
        else:
            self._cut_attributes(at, attributes[::2])

    def _end(self, _: str) -> None:
        if self._depth == 1:
            at = self._parser.CurrentByteIndex  # behind an empty tag, but before an end tag
            end = at if self._cut_is_empty_tag else self._packet.index(b">", at) + 1
            self._cuts.append((self._cut_start, end))
        self._depth = max(self._depth - 1, 0)

    def _cut_attributes(self, at: int, names: list[str]) -> None:
        """Note down which attributes of the tag at a place are claims; the names are those that are no declarations."""
        remaining = iter(names)
        _, *attributes = _parts_of_tag(self._packet, at)
        for found in attributes:
            written, value = found.group(1), found.group(2)[1:-1]
            if written == b"xmlns" or written.startswith(b"xmlns:"):
                self._declarations.append((value.decode(), found.span()))
            elif self._is_claim(next(remaining)):
                self._cuts.append(found.span())

    def _is_claim(self, name: str) -> bool:
        """Whether a name is that of a claim; what it is, is noted down."""
        namespace, _, local = name.rpartition(_SEPARATOR)
        what = self._claim(namespace, local)
        if what is None:
            self._used.add(namespace)
            return False
        self.claims[what] = self.names[local] = None
        self._claimed.add(namespace)
        return True

    def _before_space(self, at: int) -> int:
        while at and self._packet[at - 1 : at].isspace():
            at -= 1
        return at


def _parts_of_tag(packet: bytes, at: int) -> Iterator[re.Match[bytes]]:
    """Yield the name of the tag at a place of a well-formed packet, then its attributes with the space before each."""
    found = _NAME_OF_TAG.match(packet, at)
    while found:
        yield found
        found = _ATTRIBUTE.match(packet, found.end())


def _refuse(*_: object) -> None:
    raise _RefusedError
