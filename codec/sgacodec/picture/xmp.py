"""XMP: its orientation, its description, its position, and what it says of parts of a file that are not kept.

Packets are changed by cutting pieces out of their bytes, so that all else stays as it came. They come from anywhere, so
everything here takes a time that grows as their length: texts are searched from left to right, and whatever has to know
elements asks expat.

Source: XMP Specification, part 1; Ultra HDR Image Format 1.1; Motion Photo format 1.0 (Android).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.parsers import expat

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

_POSITION = (
    _Claim("the position", "http://ns.adobe.com/exif/1.0/", ("GPS",)),
    _Claim("the position", "http://www.dji.com/drone-dji/1.0/", ("Gps", "GPS")),
)
_UNTOLD_PREFIXES = {"x", "rdf", "xml"}
"""Of the packet itself."""


@dataclass(frozen=True)
class Facts:
    """What a packet says, in short.

    Attributes:
        is_sound: whether it can be read.
        prefixes: of the namespaces of its properties, such as dc and exif, sorted.
        position: names of the properties that say where the picture was taken.
    """

    is_sound: bool
    prefixes: tuple[str, ...] = ()
    position: tuple[str, ...] = ()

    @property
    def has_position(self) -> bool:
        """Whether it says where the picture was taken."""
        return bool(self.position)


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
    found = _search(xmp, _CLAIMS)
    if found is None:
        return Kept(None, tuple(claim.what for claim in declared))
    if not found.claims:
        return Kept(xmp)
    return Kept(found.rest() or None, tuple(claim.what for claim in found.claims))


def without_position(xmp: bytes) -> bytes | None:
    """Return a packet without its properties of the position: those of EXIF that begin with GPS, and drones' own.

    Returns:
        None if nothing is left, or if the packet names such properties and cannot be read.
    """
    if not any(name.encode() in xmp.replace(b"\0", b"") for claim in _POSITION for name in claim.names):
        return xmp
    found = _search(xmp, _POSITION)
    if found is None:
        return None
    return (found.rest() or None) if found.claims else xmp


def facts(xmp: bytes) -> Facts:
    """Return what a packet says."""
    found = _search(xmp, _POSITION)
    if found is None:
        return Facts(is_sound=False)
    return Facts(True, tuple(sorted(found.prefixes)), tuple(found.names))


def _search(xmp: bytes, claims: tuple[_Claim, ...]) -> _Search | None:
    """Look for claims; return None where a packet is not well-formed."""
    try:
        return _Search(xmp.strip(b"\0"), claims)
    except (expat.ExpatError, _DocumentTypeError):
        return None


class _DocumentTypeError(Exception):
    """A packet has a document type, which none should have, and which could make it expand without end."""


class _Search:
    """One walk through a well-formed packet, for claims and for where they stand.

    Attributes:
        claims: those that were found, in their order; the values mean nothing.
        names: those of the properties, likewise.
        prefixes: of the namespaces that are declared, but for those of the packet itself.

    Raises:
        expat.ExpatError, _DocumentTypeError: the packet is not well-formed, or has a document type.
    """

    def __init__(self, packet: bytes, claims: tuple[_Claim, ...]) -> None:
        self.claims: dict[_Claim, None] = {}
        self.names: dict[str, None] = {}
        self.prefixes: set[str] = set()
        self._by_namespace = {claim.namespace: claim for claim in claims}
        self._namespaces = {name.encode() for name in (*self._by_namespace, *_INSIDE_OF_CLAIMS)}
        self._packet = packet
        self._cuts: list[tuple[int, int]] = []
        self._declarations: list[tuple[str, tuple[int, int]]] = []
        self._used: set[str] = set()
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
        idle = [span for namespace, span in self._declarations if namespace not in self._used]
        kept, at = [], 0
        for start, end in sorted(self._cuts + idle):
            kept.append(self._packet[at:start])
            at = end
        return b"".join((*kept, self._packet[at:]))

    def _declare(self, prefix: str | None, _: str) -> None:
        if prefix is not None and prefix not in _UNTOLD_PREFIXES:
            self.prefixes.add(prefix)

    def _start(self, name: str, attributes: list[str]) -> None:
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
                if value in self._namespaces:
                    self._declarations.append((value.decode(), found.span()))
            elif self._is_claim(next(remaining)):
                self._cuts.append(found.span())

    def _is_claim(self, name: str) -> bool:
        """Whether a name is that of a claim; what it is, is noted down."""
        namespace, _, local = name.rpartition(_SEPARATOR)
        claim = self._by_namespace.get(namespace)
        if claim is None or not local.startswith(claim.names):
            self._used.add(namespace)
            return False
        self.claims[claim] = self.names[local] = None
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
    raise _DocumentTypeError
