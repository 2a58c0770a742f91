"""`sgacodec compare`."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from sgacodec import metrics, strict_json
from sgacodec.decoding import decode
from sgacodec.errors import InvalidImageError
from sgacodec.format.container import MAGIC
from sgacodec.picture import read_picture
from sgacodec_cli.files import about, check_input, package, show


@click.command("compare")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(first: str, second: str, as_json: bool) -> None:
    """Compare A and B, each an image or an .sga file, as 8-bit RGB."""
    a, b = load(first), load(second)
    if a.shape != b.shape:
        sizes = " and ".join(f"{rgb.shape[1]}x{rgb.shape[0]}" for rgb in (a, b))
        raise InvalidImageError(f"the images have different sizes: {sizes}")
    facts = {
        "psnr_db": metrics.psnr_db(a, b),
        "ms_ssim": _ms_ssim(a, b),
        "max_error": int(np.abs(a.astype(int) - b).max()),
    }
    show(strict_json.dumps(facts) if as_json else "\n".join(_line(*fact) for fact in facts.items()))


def _ms_ssim(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float | None:
    try:
        return metrics.ms_ssim(a, b)
    except ModuleNotFoundError as err:
        click.echo(f"sgacodec: MS-SSIM needs {package(err)}; install it with: pip install 'sgacodec[bench]'", err=True)
        return None


def _line(key: str, value: float | None) -> str:
    shown = "not available" if value is None else f"{value:g}"
    return f"{key:<10}{shown}"


def load(name: str) -> npt.NDArray[np.uint8]:
    """Return the pixels of an image or an .sga file, uint8 [H, W, 3]."""
    check_input(name)
    path = Path(name)
    data = path.read_bytes() if path.is_file() else b""
    if data.startswith(MAGIC):
        with about(name):
            return np.asarray(decode(data).convert("RGB"))
    return read_picture(path).rgb
