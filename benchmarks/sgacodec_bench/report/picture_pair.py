"""Draws the README's picture pair: the same number of bytes as JPEG and as sgacodec.

python -m sgacodec_bench.report.picture_pair tests/data/lake.png --preset fast --quality 12.3 --out benchmarks/results/VERSION/lake-pair.png
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image

import sgacodec
from sgacodec import encoding, metrics
from sgacodec.picture import read_picture
from sgacodec.plan import make_plan
from sgacodec_bench.codecs.base import Rgb
from sgacodec_bench.report.pages import fill

README = Path(__file__).parents[3] / "README.md"


def main() -> None:
    """Encode twice, draw, and write the caption into the README."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quality", type=float, default=0)
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--crop", type=int, nargs=4, default=(300, 180, 684, 436), help="left, top, right, bottom")
    arguments = parser.parse_args()
    picture = read_picture(arguments.source)
    encoded = encoding.encode_with(
        make_plan(sgacodec.EncodeOptions(quality=arguments.quality, preset=arguments.preset)), picture
    )
    ours = np.asarray(sgacodec.decode(encoded.data))
    jpeg_bytes, quality = jpeg_of_size(picture.rgb, len(encoded.data))
    theirs = np.asarray(Image.open(io.BytesIO(jpeg_bytes)).convert("RGB"))
    draw(theirs, ours, arguments.crop).save(arguments.out, optimize=True)
    height, width = ours.shape[:2]
    text = (
        f"A crop of [the picture in this repository](tests/data/lake.png) ({width}x{height}). Left: JPEG at quality {quality} (Pillow, optimised, progressive), "
        f"{len(jpeg_bytes):,} bytes, {metrics.psnr_db(picture.rgb, theirs):.2f} dB. Right: sgacodec `{arguments.preset}`, "
        f"{len(encoded.data):,} bytes, {encoded.psnr_db:.2f} dB.\n"
    )
    README.write_text(fill(README.read_text(encoding="utf-8"), "pair", text), encoding="utf-8")


def jpeg_of_size(rgb: Rgb, n_bytes: int) -> tuple[bytes, int]:
    """Return the first JPEG, by falling quality, of at most `n_bytes` bytes, or the smallest there is."""
    for quality in range(95, -1, -1):
        buffer = io.BytesIO()
        Image.fromarray(rgb).save(buffer, "JPEG", quality=quality, optimize=True, progressive=True)
        if buffer.tell() <= n_bytes:
            break
    return buffer.getvalue(), quality


def draw(left: Rgb, right: Rgb, box: list[int]) -> Image.Image:
    """Return both crops side by side with a white line between them."""
    first, top, last, bottom = box
    crops = [picture[top:bottom, first:last] for picture in (left, right)]
    return Image.fromarray(np.hstack([crops[0], np.full((bottom - top, 6, 3), 255, np.uint8), crops[1]]))


if __name__ == "__main__":
    main()
