"""Odd image files, made by hand: EXIF with a thumbnail and a maker note, profiles, chunks, fields of TIFF."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

from support.pngs import SIGNATURE, chunk

PREFIX = b"Exif\0\0"
MAKER_NOTE = bytes(range(40))


def saved(image: Image.Image, image_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def ifd(entries, at: int, order: str, following: int = 0) -> bytes:
    """Return an IFD at an offset: entries are tag, type, count and content."""
    out, content = struct.pack(order + "H", len(entries)), b""
    free = at + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in entries:
        out += struct.pack(order + "HHI", tag, kind, count)
        if len(value) <= 4:
            out += value.ljust(4, b"\0")
        else:
            out += struct.pack(order + "I", free + len(content))
            content += value
    return out + struct.pack(order + "I", following) + content


def camera_exif(order: str = "<", orientation: int = 6) -> bytes:
    """Return EXIF as a camera writes it: description, orientation, resolution, maker note, GPS, thumbnail."""
    thumbnail = saved(Image.new("RGB", (6, 4), (200, 30, 90)), "JPEG")

    def short(value):
        return struct.pack(order + "H", value)

    def long(*values):
        return struct.pack(f"{order}{len(values)}I", *values)

    def main(exif_at=0, gps_at=0, second_at=0):
        entries = [
            (0x010E, 2, 7, b"a lake\0"),
            (0x0112, 3, 1, short(orientation)),
            (0x011A, 5, 1, long(72, 1)),
            (0x8769, 4, 1, long(exif_at)),
            (0x8825, 4, 1, long(gps_at)),
        ]
        return ifd(entries, 8, order, second_at)

    exif_at = 8 + len(main())
    exif = ifd([(0x829A, 5, 1, long(1, 50)), (0x927C, 7, len(MAKER_NOTE), MAKER_NOTE)], exif_at, order)
    gps_at = exif_at + len(exif)
    gps = ifd([(1, 2, 2, b"N\0"), (2, 5, 3, long(50, 1, 4, 1, 0, 1))], gps_at, order)
    second_at = gps_at + len(gps)
    second = ifd([(0x0201, 4, 1, long(second_at + 30)), (0x0202, 4, 1, long(len(thumbnail)))], second_at, order)
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + long(8)
    return PREFIX + start + main(exif_at, gps_at, second_at) + exif + gps + second + thumbnail


def with_chunk(png: bytes, name: bytes, content: bytes) -> bytes:
    """Return a PNG with one more chunk behind its header."""
    at = len(SIGNATURE) + 25
    return png[:at] + chunk(name, content) + png[at:]


def with_segment(jpeg: bytes, marker: int, content: bytes) -> bytes:
    """Return a JPEG with one more segment at its start."""
    return jpeg[:2] + b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content + jpeg[2:]


def profile(space: bytes, tags: dict[bytes, bytes], pcs: bytes = b"XYZ ", kind: bytes = b"mntr") -> bytes:
    """Return an ICC profile of these tags, version 2."""
    at, table, content = 128 + 4 + 12 * len(tags), b"", b""
    for name, value in tags.items():
        table += struct.pack(">4sII", name, at + len(content), len(value))
        content += value + bytes(-len(value) % 4)
    d50 = struct.pack(">3i", 63190, 65536, 54061)
    head = struct.pack(
        ">I4sI4s4s4s12s4s28s12s", 0, b"lcms", 0x02100000, kind, space, pcs, bytes(12), b"acsp", bytes(28), d50
    )
    body = head[4:].ljust(124, b"\0") + struct.pack(">I", len(tags)) + table + content
    return struct.pack(">I", len(body) + 4) + body


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def gamma_curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def parametric_curve(kind: int, *values: float) -> bytes:
    return b"para\0\0\0\0" + struct.pack(f">HH{len(values)}i", kind, 0, *(round(value * 65536) for value in values))


def cmyk_profile() -> bytes:
    """Return a profile by which ink of any colour is black: a table of two points a side, Lab."""
    lab = np.zeros((2, 2, 2, 2, 3), np.uint8)
    lab[..., 1:] = 128
    lab[0, 0, 0, 0, 0] = 255
    ramp = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 * (n % 4 == 0) for n in range(9)))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + lab.tobytes() + ramp * 3
    return profile(b"CMYK", {b"A2B0": table}, b"Lab ", b"prtr")


def display_p3() -> bytes:
    """Return the profile of phones' wide-gamut displays."""
    curve = parametric_curve(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return profile(
        b"RGB ",
        {
            b"desc": b"desc\0\0\0\0" + struct.pack(">I", 11) + b"Display P3\0" + bytes(79),
            b"wtpt": xyz(0.9505, 1, 1.089),
            b"rXYZ": xyz(0.51512, 0.2412, -0.00105),
            b"gXYZ": xyz(0.29198, 0.69225, 0.04189),
            b"bXYZ": xyz(0.1571, 0.06657, 0.78407),
            b"rTRC": curve,
            b"gTRC": curve,
            b"bTRC": curve,
        },
    )


GPS_NUMBERS = [struct.pack("<2I", *ratio) for ratio in ((50, 1), (512345, 10000), (14, 1), (254321, 10000), (2125, 10))]
"""What of the position of `phone_exif` is told in fractions: little-endian."""


def phone_exif(orientation: int = 6) -> bytes:
    """Return EXIF as a phone writes it: camera, orientation, date, position."""

    def long(*values):
        return struct.pack(f"<{len(values)}I", *values)

    def main(exif_at=0, gps_at=0):
        entries = [
            (0x010F, 2, 6, b"Apple\0"),
            (0x0110, 2, 10, b"iPhone 15\0"),
            (0x0112, 3, 1, struct.pack("<H", orientation)),
            (0x8769, 4, 1, long(exif_at)),
            (0x8825, 4, 1, long(gps_at)),
        ]
        return ifd(entries, 8, "<")

    exif_at = 8 + len(main())
    exif = ifd([(0x9003, 2, 20, b"2024:05:01 12:33:10\0"), (0x927C, 7, len(MAKER_NOTE), MAKER_NOTE)], exif_at, "<")
    gps_at = exif_at + len(exif)
    numbers = GPS_NUMBERS
    latitude, longitude = numbers[0] + numbers[1] + long(0, 1), numbers[2] + numbers[3] + long(0, 1)
    gps = [(1, 2, 2, b"N\0"), (2, 5, 3, latitude), (3, 2, 2, b"E\0"), (4, 5, 3, longitude), (6, 5, 1, numbers[4])]
    return PREFIX + b"II*\0" + long(8) + main(exif_at, gps_at) + exif + ifd(gps, gps_at, "<")


PHONE_XMP = b"""<x:xmpmeta xmlns:x='adobe:ns:meta/'>
<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description
 xmlns:e='http://ns.adobe.com/exif/1.0/' xmlns:tiff='http://ns.adobe.com/tiff/1.0/'
 xmlns:dc='http://purl.org/dc/elements/1.1/' xmlns:d='http://www.dji.com/drone-dji/1.0/'
 xmlns:i='http://iptc.org/std/Iptc4xmpExt/2008-02-29/'
 tiff:Orientation='6' e:FNumber='2' e:GPSLatitude='50,51.2345N' d:GpsLatitude="50.853908">
<e:GPSLongitude>14,25.4321E</e:GPSLongitude><dc:title>GPS</dc:title>
<i:LocationCreated><rdf:Bag><rdf:li><rdf:Description><e:GPSAltitude>2125/10</e:GPSAltitude><i:City>Decin</i:City>
</rdf:Description></rdf:li></rdf:Bag></i:LocationCreated></rdf:Description></rdf:RDF></x:xmpmeta>"""
"""XMP with a position as attributes and elements, also inside of a structure, and a city in words."""

COORDINATES = (b"51.2345", b"50.853908", b"25.4321", b"2125/10")
"""What of the position of `PHONE_XMP` is told in digits."""
