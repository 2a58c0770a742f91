"""Puts every picture of some folders through the codec, and says what became of each.

SGACODEC_MODELS=tests/golden/v1 python -m sgacodec_bench.fuzz.folders FOLDERS... --out folders.json

A picture that Pillow shows has to come back with its size, its gray or colour, and its alpha; what Pillow does not show has to be
refused with one line.
"""

from __future__ import annotations

import argparse
import collections
import io
import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import sgacodec
from sgacodec import encoding, picture
from sgacodec.errors import SgacodecError
from sgacodec.picture.quiet import in_own_process
from sgacodec.plan import Plan, make_plan

_MAX_PIXELS = 2**21
_EXACT_MODES = {"L", "LA", "RGB", "RGBA"}
"""Of these modes the pixels that are read must be Pillow's, where nothing says that they are not sRGB."""

_ENCODED = {"gamma", "chromaticity", "transparency"}


def main() -> None:
    """Try all files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    plan = make_plan(sgacodec.EncodeOptions(model=arguments.model, preset="none", device="cpu", exact=True))
    rows = []
    for folder in arguments.folders:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            start = time.perf_counter()
            with in_own_process():
                row = {"file": str(path.relative_to(folder)), **tried(path.read_bytes(), plan)}
            rows.append({**row, "seconds": round(time.perf_counter() - start, 3)})
    counts = collections.Counter(row["outcome"] for row in rows)
    arguments.out.write_text(json.dumps({"counts": counts, "rows": rows}, indent=1) + "\n")
    print(dict(counts))


def tried(data: bytes, plan: Plan) -> dict[str, Any]:
    """Return what became of a file: its outcome, what was warned of, and what Pillow makes of it."""
    shown = _by_pillow(data)
    with _Warnings() as told:
        try:
            outcome = _through_the_codec(data, plan, shown)
        except SgacodecError as err:
            outcome = "refused" if shown is None or "over the limit" in str(err) else "refused what Pillow shows"
            told.append(str(err))
        except Exception as err:  # what this program looks for
            outcome = "crash"
            told.append(f"{type(err).__name__}: {err}")
    return {"outcome": outcome, "pillow": None if shown is None else f"{shown.mode} {shown.size}", "told": told}


def _by_pillow(data: bytes) -> Image.Image | None:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.size[0] * image.size[1] > _MAX_PIXELS:
                return None
            image.load()
            return image.copy()
    except Exception:  # Pillow raises anything at all
        return None


def _through_the_codec(data: bytes, plan: Plan, shown: Image.Image | None) -> str:
    found = picture.parse_picture(data, _MAX_PIXELS)
    decoded = sgacodec.decode(encoding.encode_with(plan, found).data)
    height, width = found.rgb.shape[:2]
    if decoded.size != (width, height) or ("A" in decoded.mode) != (found.alpha is not None):
        return "came back as something else"
    if found.alpha is not None and not np.array_equal(np.asarray(decoded)[..., -1], found.alpha):
        return "came back with another alpha"
    if shown is None:
        return "shown, and not by Pillow"
    if sorted(shown.size) != sorted((width, height)):
        return "another size than Pillow's"
    return "same" if _equals(found, shown) else "other pixels than Pillow's"


def _equals(found: picture.Picture, shown: Image.Image) -> bool:
    """Say whether pixels are Pillow's, turned or not; of pictures whose colours have to be converted only size is asked."""
    if shown.mode not in _EXACT_MODES or _ENCODED & set(shown.info):
        return True
    pixels = np.asarray(shown.convert("RGB"))
    turned = (np.rot90(flipped, turns) for flipped in (pixels, pixels[:, ::-1]) for turns in range(4))
    return any(np.array_equal(found.rgb, other) for other in turned)


class _Warnings(list[str]):
    """Collects what the library warns of."""

    def __enter__(self) -> _Warnings:
        self._handler = logging.Handler()
        self._handler.emit = lambda record: self.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger("sgacodec").addHandler(self._handler)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("sgacodec").removeHandler(self._handler)


if __name__ == "__main__":
    main()
