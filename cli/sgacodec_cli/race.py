"""`sgacodec race`; what the extra installs is imported when it runs, so that its help comes without."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sgacodec.errors import SgacodecError, TargetNotReachedError
from sgacodec.options import PRESETS
from sgacodec.picture import read_picture
from sgacodec_cli import completion
from sgacodec_cli.bench import choose
from sgacodec_cli.files import check_input, show
from sgacodec_cli.interrupts import leaving_at_once
from sgacodec_cli.values import size

if TYPE_CHECKING:
    from sgacodec_bench.codecs import Codec
    from sgacodec_bench.codecs.base import Rgb
    from sgacodec_bench.measure.equal_size import Candidate

_OPPONENTS = ("bpg-444", "jxl", "avif", "heic", "webp", "jpeg")
"""The other codec is the first of these that can run here."""


@click.command("race")
@click.argument("source", metavar="IMG", shell_complete=completion.files)
@click.option("--against", default=None, help=f"The other codec; see 'sgacodec bench --codecs'.  [default: the first "
              f"that can, of {', '.join(_OPPONENTS)}]")  # fmt: skip
@click.option("--bytes", "n_bytes", type=size, metavar="SIZE", required=True,
              help="Neither file may be larger; 50k is 50000, 50Ki is 51200.")  # fmt: skip
@click.option("-p", "--preset", type=click.Choice(list(PRESETS)), default="fast", show_default=True,
              help="Preset of sgacodec.")  # fmt: skip
def command(source: str, against: str | None, n_bytes: int, preset: str) -> None:
    """Encode IMG with sgacodec and with another codec, each at most BYTES long, and compare the pictures."""
    check_input(source)
    rgb = read_picture(Path(source)).rgb
    with leaving_at_once():
        opponents = _installed() if against is None else [_runnable(against)]
        own = _runnable(f"sgacodec-{preset}")
    ours, theirs = _best(own, rgb, n_bytes), _best_of_first(opponents, rgb, n_bytes)
    for each in (ours, theirs):
        similarity = "" if each.ms_ssim is None else f", MS-SSIM {each.ms_ssim:.5f}"
        setting = "" if each.setting is None else f" at setting {each.setting:g}"
        show(f"{each.codec:<18}{len(each.data)} bytes{setting}: PSNR {each.psnr_db:.2f} dB{similarity}")
    show(_verdict(ours, theirs))


def _runnable(name: str) -> Codec:
    from sgacodec_bench.codecs import Codec

    chosen = choose(name)
    if len(chosen) != 1:
        raise click.UsageError(f"a race is against one codec, not {len(chosen)}")
    (codec,) = chosen
    if not isinstance(codec, Codec):
        raise TargetNotReachedError(f"{codec.name} cannot run here: {codec.reason}; to install it: {codec.remedy}")
    return codec


def _installed() -> list[Codec]:
    from sgacodec_bench.codecs import Codec

    found = [codec for codec in choose(",".join(_OPPONENTS)) if isinstance(codec, Codec)]
    if not found:
        raise TargetNotReachedError(f"no other codec can run here; install one of {', '.join(_OPPONENTS)}")
    return found


def _best_of_first(codecs: list[Codec], rgb: Rgb, n_bytes: int) -> Candidate:
    """Return the file of the first codec that manages this picture.

    Raises:
        SgacodecError: none does; it says why the last one does not.
    """
    first, *others = codecs
    try:
        return _best(first, rgb, n_bytes)
    except SgacodecError as err:
        if not others:
            raise
        click.echo(f"sgacodec: {err}", err=True)
    return _best_of_first(others, rgb, n_bytes)


def _best(codec: Codec, rgb: Rgb, n_bytes: int) -> Candidate:
    """Return a codec's best file of at most so many bytes.

    Raises:
        SgacodecError: there is none, or the codec fails.
    """
    from sgacodec_bench.measure.equal_size import at_most

    try:
        return at_most(codec, rgb, n_bytes)
    except SgacodecError:
        raise
    except (ModuleNotFoundError, MemoryError):
        raise
    except Exception as err:  # programs and plugins fail as they like
        raise TargetNotReachedError(f"{codec.name} cannot encode this picture: {err}") from err


def _verdict(ours: Candidate, theirs: Candidate) -> str:
    if ours.psnr_db == theirs.psnr_db:
        return "both pictures are equally good"
    winner = ours if ours.psnr_db > theirs.psnr_db else theirs
    return f"{winner.codec} is better by {abs(ours.psnr_db - theirs.psnr_db):.2f} dB"
