"""Between images and what the codec codes: 8-bit RGB, a grayscale flag, a lossless alpha plane, metadata. Both ways.

    bytes -> files (one boundary for Pillow's errors and limits) -> opening (kinds, jxl) -> taking_apart -> Picture
                       metadata: exif (positions, tiff), xmp, profile; pixels: samples, transparency, colour
    Picture -> strip (metadata that are left out) -> sections
    container, decoded colours -> output -> Pillow image, or another sink that takes rows

Whoever needs a `Picture` imports it from here. Source: format_spec.md, section 7.
"""

from sgacodec.picture.alpha import alpha_of, pack_alpha, unpack_alpha
from sgacodec.picture.files import parse_colours, parse_picture, pillow_limit, read_picture
from sgacodec.picture.output import Frame, ImageSink, NoSink, Output, Sink
from sgacodec.picture.planes import Picture, pad, picture_from_array, to_gray
from sgacodec.picture.region import Region, region_of
from sgacodec.picture.strip import Strip, stripped
from sgacodec.picture.taking_apart import picture_from_pillow, to_picture

__all__ = [
    "Frame",
    "ImageSink",
    "NoSink",
    "Output",
    "Picture",
    "Region",
    "Sink",
    "Strip",
    "alpha_of",
    "pack_alpha",
    "pad",
    "parse_colours",
    "parse_picture",
    "picture_from_array",
    "picture_from_pillow",
    "pillow_limit",
    "read_picture",
    "region_of",
    "stripped",
    "to_gray",
    "to_picture",
    "unpack_alpha",
]
