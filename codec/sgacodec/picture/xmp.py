"""XMP as text: its orientation, its description, and what it says of parts of a file that are not kept.

Packets are changed by cutting pieces out of their text, so that all else stays as it came.
Source: XMP Specification, part 1; Ultra HDR Image Format 1.1; Motion Photo format 1.0 (Android).
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

_ORIENTATION = re.compile(rb"""(tiff:Orientation\s*=\s*["']\s*|<tiff:Orientation\s*>\s*)([1-8])(?=\s*["'<])""")
_DESCRIPTION = re.compile(r"<dc:description>(?:(?!</dc:description>).)*?<rdf:li[^>]*>(.*?)</rdf:li>", re.DOTALL)


@dataclass(frozen=True)
class _Claim:
    """Properties that speak of something outside of the packet.

    Attributes:
        what: what it is called.
        namespace: URI of the properties' names.
        names: regular expression of the names.
    """

    what: str
    namespace: str
    names: str


_CLAIMS = (
    _Claim("the gain map of an HDR picture", "http://ns.adobe.com/hdr-gain-map/1.0/", r"\w+"),
    _Claim("the video of a motion photo", "http://ns.google.com/photos/1.0/camera/", r"(?:MotionPhoto|MicroVideo)\w*"),
    _Claim("what is appended to the file", "http://ns.google.com/photos/1.0/container/", "Directory"),
    _Claim("extended XMP", "http://ns.adobe.com/xmp/note/", "HasExtendedXMP"),
)
_DECLARED_ONLY = ("http://ns.google.com/photos/1.0/container/item/",)
"""Namespaces of names that occur inside of claims."""


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
    found = _ORIENTATION.search(xmp)
    return int(found.group(2)) if found else None


def upright(xmp: bytes) -> bytes:
    """Return the same bytes with tiff:Orientation 1, where there is one."""
    return _ORIENTATION.sub(rb"\g<1>1", xmp)


def description(xmp: bytes) -> str | None:
    """Return the first text of dc:description, or None."""
    found = _DESCRIPTION.search(xmp.decode("utf-8", "replace"))
    return html.unescape(found.group(1)) if found else None


def without_claims(xmp: bytes) -> Kept:
    """Return a packet that no longer speaks of what Pillow does not read: gain maps, videos, further packets."""
    text = xmp.decode("utf-8", "replace")
    found = [(claim, prefix) for claim in _CLAIMS for prefix in _prefixes(text, claim.namespace)]
    found = [(claim, prefix) for claim, prefix in found if _search(text, prefix, claim.names)]
    if not found:
        return Kept(xmp)
    lost = tuple(dict.fromkeys(claim.what for claim, _ in found))
    kept = text
    for claim, prefix in found:
        kept = _without_properties(kept, prefix, claim.names)
    kept = _without_idle_declarations(kept)
    clean = "\N{REPLACEMENT CHARACTER}" not in text and _is_well_formed(kept)
    clean = clean and not any(_search(kept, prefix, claim.names) for claim, prefix in found)
    return Kept(kept.encode() if clean else None, lost)


def _prefixes(text: str, namespace: str) -> set[str]:
    return set(re.findall(rf"""\bxmlns:([\w.-]+)\s*=\s*["']{re.escape(namespace)}["']""", text))


def _search(text: str, prefix: str, names: str) -> bool:
    return re.search(rf"[\s<]{re.escape(prefix)}:{names}[\s=/>]", text) is not None


def _without_properties(text: str, prefix: str, names: str) -> str:
    """Cut out the properties of these names, written as attributes or as elements."""
    name = rf"{re.escape(prefix)}:(?:{names})"
    text = re.sub(rf"""\s+{name}\s*=\s*("[^"]*"|'[^']*')""", "", text)
    return re.sub(rf"\s*<({name})(?=[\s/>])[^>]*?(?:/>|>.*?</\1\s*>)", "", text, flags=re.DOTALL)


def _without_idle_declarations(text: str) -> str:
    """Cut out declarations of the claims' namespaces that nothing uses any more."""
    for namespace in (*(claim.namespace for claim in _CLAIMS), *_DECLARED_ONLY):
        for prefix in _prefixes(text, namespace):
            if f"{prefix}:" not in text.replace(f"xmlns:{prefix}", ""):
                pattern = rf"""\s+xmlns:{re.escape(prefix)}\s*=\s*["']{re.escape(namespace)}["']"""
                text = re.sub(pattern, "", text)
    return text


def _is_well_formed(text: str) -> bool:
    if "<!" in text:  # no packet has a document type, and none is expanded here
        return False
    from xml.etree import ElementTree  # few packets need it

    try:
        ElementTree.fromstring(text.strip("\0"))
    except ElementTree.ParseError:
        return False
    return True
