"""`sgacodec info`."""

from __future__ import annotations

import dataclasses
import json

import click

from sgacodec.decoding import Info, read_info
from sgacodec.head import Carriers
from sgacodec_cli.files import read_input


@click.command("info")
@click.argument("source", metavar="IN")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(source: str, as_json: bool) -> None:
    """Show the header of IN, an .sga file ('-' is standard input). Needs no model and decodes nothing."""
    info = read_info(read_input(source))
    click.echo(json.dumps(dataclasses.asdict(info)) if as_json else _lines(info))


def _lines(info: Info) -> str:
    rows = [
        ("size", f"{info.width} x {info.height}, {info.mode}"),
        ("file", f"{info.n_bytes} bytes, {info.bpp:.4f} bpp"),
        ("model", f"{info.model_id}, level {info.level:g}"),
        ("y", f"{info.y_bytes} bytes"),
        ("z", f"{info.z_bytes} bytes"),
        ("header", f"{info.header_bytes} bytes, checksums included"),
        *([] if info.carriers is None else [("carried", _carried(info.carriers))]),
        *((name, f"{n_bytes} bytes") for name, n_bytes in info.sections.items()),
    ]
    return "\n".join(f"{name:<8}{value}" for name, value in rows)


def _carried(carriers: Carriers) -> str:
    return f"by {carriers.n} values of z in steps of 1/{2**carriers.exponent}, {carriers.steps} steps to extract"
