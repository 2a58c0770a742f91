"""`sgacodec race`."""

from __future__ import annotations

from pathlib import Path

import click

from sgacodec.errors import TargetNotReachedError
from sgacodec.picture import read_picture
from sgacodec_bench.codecs import Codec
from sgacodec_bench.measure.equal_size import Candidate, at_most
from sgacodec_cli.bench import choose
from sgacodec_cli.files import show


@click.command("race")
@click.argument("source", metavar="IMG", type=click.Path(path_type=Path))
@click.option("--against", default="bpg-444", show_default=True, help="The other codec; see 'sgacodec bench --codecs'.")
@click.option("--bytes", "n_bytes", type=click.IntRange(min=1), required=True, help="Neither file may be larger.")
@click.option("-p", "--preset", default="fast", show_default=True, help="Preset of sgacodec.")
def command(source: Path, against: str, n_bytes: int, preset: str) -> None:
    """Encode IMG with sgacodec and with another codec, each at most BYTES long, and compare the pictures."""
    rgb = read_picture(source).rgb
    ours, theirs = (at_most(_runnable(name), rgb, n_bytes) for name in (f"sgacodec-{preset}", against))
    for each in (ours, theirs):
        similarity = "" if each.ms_ssim is None else f", MS-SSIM {each.ms_ssim:.5f}"
        show(
            f"{each.codec:<18}{len(each.data)} bytes at setting {each.setting:g}: "
            f"PSNR {each.psnr_db:.2f} dB{similarity}"
        )
    show(_verdict(ours, theirs))


def _runnable(name: str) -> Codec:
    (codec,) = choose(name)
    if not isinstance(codec, Codec):
        raise TargetNotReachedError(f"{codec.name} cannot run here: {codec.reason}; to install it: {codec.remedy}")
    return codec


def _verdict(ours: Candidate, theirs: Candidate) -> str:
    difference = ours.psnr_db - theirs.psnr_db
    winner = ours if difference >= 0 else theirs
    return f"{winner.codec} is better by {abs(difference):.2f} dB"
