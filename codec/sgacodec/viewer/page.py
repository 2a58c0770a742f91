"""HTML pages with the viewer in them: everything inline, nothing from the network, and a policy that says so."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files

from PIL import Image

EMBEDDED_PIXELS = 2**23
"""Pictures of more pixels than this are scaled down before they go into a page."""

SERVED_PIXELS = 2**26
"""The same for pictures that a server hands to a browser, which takes 4 bytes a pixel for each."""

_MAX_WEBP_SIDE = 16383


@dataclass(frozen=True)
class Shown:
    """A picture of a scene.

    Attributes:
        name: in a word or two, unlike the others of its scene.
        detail: what else is said of it, such as its size.
        source: its URL, which may be a data URI.
    """

    name: str
    detail: str
    source: str


@dataclass(frozen=True)
class Scene:
    """Pictures of one scene, of one size on the screen.

    Attributes:
        name: of the scene.
        width, height: in pixels; a picture of another size is stretched to it.
        pictures: the original first.
        left, right: which two are shown at first; of a single picture only `left` counts.
    """

    name: str
    width: int
    height: int
    pictures: Sequence[Shown]
    left: int = 0
    right: int = 1


def scale_of(width: int, height: int, most_pixels: int) -> int:
    """Return the whole number by which both sides are divided so that a picture has at most so many pixels."""
    return max(1, math.ceil(math.sqrt(width * height / most_pixels)))


def image_file(image: Image.Image, scale: int = 1) -> bytes:
    """Return a PNG file of an image of mode L, LA, RGB or RGBA, quickly made, with the ICC profile in its `info`."""
    return _saved(image, scale, "PNG", compress_level=1)


def data_uri(image: Image.Image, scale: int = 1) -> str:
    """Return an image, see `image_file`, as a URI that holds all of it without loss."""
    if max(image.size) > _MAX_WEBP_SIDE * scale:
        return _uri("image/png", _saved(image, scale, "PNG"))
    return _uri("image/webp", _saved(image, scale, "WEBP", lossless=True))


def _saved(image: Image.Image, scale: int, image_format: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    shown = image if scale == 1 else image.reduce(scale)
    shown.save(buffer, image_format, icc_profile=image.info.get("icc_profile"), exif=b"", **options)
    return buffer.getvalue()


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def viewer(scenes: Iterable[Scene], focused: bool = False) -> str:
    """Return the element that shows scenes, at least one; a page has one such element.

    Args:
        scenes: to choose from.
        focused: whether keys and the wheel work at once, where the viewer is what the page is for.
    """
    # Inside of a script element "<" alone could end it.
    data = json.dumps([asdict(scene) for scene in scenes]).replace("<", "\\u003c")
    attribute = " focused" if focused else ""
    return f'<picture-viewer{attribute}><script type="application/json">{data}</script></picture-viewer>'


def facts(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """Return a list of names and what is said of each, under a heading."""
    entries = (f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd></div>" for name, text in rows)
    return f'<h2>{html.escape(title)}</h2>\n<dl class="facts">{"".join(entries)}</dl>'


def policy() -> str:
    """Return the Content-Security-Policy of every page: its own style and script, its own and embedded pictures."""
    style, script = (_hash(_asset(name)) for name in ("viewer.css", "viewer.js"))
    return (
        f"default-src 'none'; style-src '{style}'; script-src '{script}'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'"
    )


def page(title: str, body: str) -> bytes:
    """Return an HTML file.

    Args:
        title: plain text.
        body: HTML.
    """
    text = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy()}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{html.escape(title)}</title>
<style>{_asset("viewer.css")}</style>
</head>
<body>
{body}
<script>{_asset("viewer.js")}</script>
</body>
</html>
"""
    return text.encode("utf-8", "backslashreplace")  # the name of a file may be no text


def _asset(name: str) -> str:
    return files("sgacodec.viewer").joinpath(name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
