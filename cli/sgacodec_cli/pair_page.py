"""The page of `view` and `compare --html`: the viewer with one picture or two, and what is known of their files."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sgacodec.viewer import page
from sgacodec_cli import info
from sgacodec_cli.batch import printable
from sgacodec_cli.files import title
from sgacodec_cli.loaded import Loaded

_MOST_CHARACTERS = 20_000
"""Of a longer message the page has its start."""


@dataclass(frozen=True, eq=False)
class Side:
    """One of the pictures.

    Attributes:
        name: what the page calls it.
        detail: what it says of it beside its name.
        loaded: the picture.
    """

    name: str
    detail: str
    loaded: Loaded

    def scale(self, most_pixels: int) -> int:
        """Return what its sides are divided by; see `page.scale_of`."""
        return page.scale_of(*self.loaded.image.size, most_pixels)


def psnr(psnr_db: float, reference: Loaded) -> str:
    """Return a PSNR to a reference, see `loaded.psnr_db`, in words."""
    value = "the same colours" if math.isinf(psnr_db) else f"{psnr_db:.2f} dB"
    return value if reference.seen is None else f"{value} where it is not transparent"


def _rows(side: Side) -> list[tuple[str, str]]:
    """Return what there is to say of a file, that of .sga files as `info` says it."""
    loaded = side.loaded
    name = ("name", printable(title(loaded.name)))
    if loaded.info is not None:
        return [name, *info.rows(loaded.info)]
    width, height = loaded.image.size
    bpp = 8 * loaded.n_bytes / (width * height)
    return [
        name,
        ("size", f"{width} x {height}, {loaded.image.mode}"),
        ("file", f"{loaded.n_bytes} bytes, {bpp:.4f} bpp"),
    ]


def make(
    sides: Sequence[Side], sources: Sequence[str], most_pixels: int, facts: Sequence[tuple[str, str]],
    message: str | None = None,
) -> bytes:  # fmt: skip
    """Return the HTML file of one picture or two.

    Args:
        sides: one, or two of which the second is looked at and the first is what it should be.
        sources: their URLs.
        most_pixels: for which `sources` were scaled.
        facts: of both, rows of a name and a text.
        message: what the second file carries.
    """
    looked_at = sides[-1]
    scale = looked_at.scale(most_pixels)
    width, height = (-(-side // scale) for side in looked_at.loaded.image.size)
    shown = [page.Shown(side.name, side.detail, source) for side, source in zip(sides, sources, strict=True)]
    name = printable(Path(title(looked_at.loaded.name)).name)
    notes = [*_scaled(sides, most_pixels), *(_differences(*sides) if len(sides) == 2 else [])]
    body = f"""<main class="pair">
<header><h1>{html.escape(name)}</h1>
{"".join(f'<p class="note">{html.escape(note)}</p>' for note in notes)}
</header>
{page.viewer([page.Scene(name, width, height, shown)], focused=True)}
<aside aria-label="About the files">
{page.facts("Result", facts)}
{"".join(page.facts(side.name, _rows(side)) for side in reversed(sides))}
{"" if message is None else _message(message)}
</aside>
</main>"""
    return page.page(f"{name} - sgacodec", body)


def _scaled(sides: Sequence[Side], most_pixels: int) -> list[str]:
    scales = [(side.name, side.scale(most_pixels)) for side in sides]
    return [f"The {name} picture is shown at 1/{scale} of its width and height. Numbers are of all its pixels."
            for name, scale in scales if scale > 1]  # fmt: skip


def _differences(first: Side, second: Side) -> list[str]:
    """Say what keeps two pictures from being compared pixel by pixel."""
    a, b = first.loaded, second.loaded
    if a.image.size != b.image.size:
        sizes = [f"the {side.name} picture has {side.loaded.image.width} x {side.loaded.image.height} pixels"
                 for side in (first, second)]  # fmt: skip
        return [f"The sizes differ: {sizes[0]}, {sizes[1]}. The first is stretched to the second's."]
    if (a.alpha is None) != (b.alpha is None):
        with_alpha, without = (first, second) if b.alpha is None else (second, first)
        return [f"The {with_alpha.name} picture has an alpha channel, the {without.name} one has none."]
    if a.alpha is not None and b.alpha is not None and not np.array_equal(a.alpha, b.alpha):
        return ["The alpha channels differ."]
    return []


def _message(message: str) -> str:
    left_out = len(message) - _MOST_CHARACTERS
    more = f"<p>{left_out:,} more characters are left out here.</p>" if left_out > 0 else ""
    start = html.escape(message[:_MOST_CHARACTERS])
    return f'<h2>Message</h2><pre class="message" tabindex="0">{start}</pre>{more}'
