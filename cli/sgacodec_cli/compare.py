"""`sgacodec compare`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from sgacodec import metrics, strict_json
from sgacodec.errors import InvalidImageError
from sgacodec.viewer import page
from sgacodec_cli import completion, pair_page
from sgacodec_cli.files import check_distinct, check_output, package, show, write_output
from sgacodec_cli.loaded import Loaded, load, psnr_db
from sgacodec_cli.pair_page import Side


@dataclass(frozen=True)
class Facts:
    """How far two pictures are apart; for JSON."""

    psnr_db: float
    ms_ssim: float | None
    max_error: int


@click.command("compare")
@click.argument("first", metavar="A", shell_complete=completion.files)
@click.argument("second", metavar="B", shell_complete=completion.files)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--html", "target", metavar="PAGE.html", default=None, shell_complete=completion.files,
              help="Write a page that shows both, with a slider and their difference; it needs no server.")  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Overwrite PAGE.html if it exists.")
def command(first: str, second: str, as_json: bool, target: str | None, force: bool) -> None:
    """Compare A and B, each an image or an .sga file, as 8-bit RGB; what is transparent in A does not count.

    \b
    sgacodec compare photo.jpg photo.sga
    sgacodec compare photo.jpg photo.sga --html page.html
    """  # noqa: D301
    if target is not None:
        if target == "-":
            raise click.UsageError("standard output has the numbers; name a file with --html")
        check_output(target, force)
        check_distinct({"the page": target}, {"A": first, "B": second})
    a, b = load(first), load(second)
    if a.image.size != b.image.size:
        sizes = " and ".join(f"{each.image.width}x{each.image.height}" for each in (a, b))
        raise InvalidImageError(f"the images have different sizes: {sizes}")
    facts = _facts(a, b)
    if target is not None:
        write_output(target, _page(a, b, facts), force)
    named = asdict(facts)
    show(strict_json.dumps(named) if as_json else "\n".join(_line(*fact) for fact in named.items()))


def _facts(a: Loaded, b: Loaded) -> Facts:
    mask, reference, shown = a.seen, a.rgb, b.rgb
    if mask is not None:
        shown = np.where(mask[..., None], shown, reference)
    return Facts(psnr_db(a, b), _ms_ssim(reference, shown), int(np.abs(reference.astype(int) - shown).max()))


def _ms_ssim(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float | None:
    try:
        return metrics.ms_ssim(a, b)
    except ModuleNotFoundError as err:
        click.echo(f"sgacodec: MS-SSIM needs {package(err)}; install it with: pip install 'sgacodec[bench]'", err=True)
        return None


def _line(key: str, value: float | None) -> str:
    return f"{key:<10}{_text(value)}"


def _text(value: float | None) -> str:
    return "not available" if value is None else f"{value:g}"


def _page(a: Loaded, b: Loaded, facts: Facts) -> bytes:
    """Return the page that `--html` asks for."""
    names = [Path(each.name).name for each in (a, b)]
    names = names if names[0] != names[1] else ["A", "B"]
    psnr = pair_page.psnr(facts.psnr_db, a)
    details = [f"{a.n_bytes:,} bytes", f"{b.n_bytes:,} bytes, {psnr}"]
    sides = [Side(*each) for each in zip(names, details, (a, b), strict=True)]
    sources = [page.data_uri(side.loaded.image, side.scale(page.EMBEDDED_PIXELS)) for side in sides]
    rows = [("PSNR", psnr), ("MS-SSIM", _text(facts.ms_ssim)),
            ("largest error", _text(facts.max_error))]  # fmt: skip
    return pair_page.make(sides, sources, page.EMBEDDED_PIXELS, rows)
