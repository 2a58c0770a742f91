"""`sgacodec info`."""

from __future__ import annotations

import dataclasses
import json

import click

from sgacodec.decoding import Info, decode, read_info
from sgacodec.head import Carriers
from sgacodec_cli.files import read_input


@click.command("info")
@click.argument("source", metavar="IN")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--extract", is_flag=True, help="Decode, and show what the picture carries.")
def command(source: str, as_json: bool, extract: bool) -> None:
    """Show the header of IN, an .sga file ('-' is standard input). Needs no model and decodes nothing."""
    data = read_input(source)
    info = read_info(data)
    carried = decode(data, extract=True).info.get("side_information") if extract else None
    if as_json:
        extracted = {"side_information": _json(carried)} if extract else {}
        click.echo(json.dumps(dataclasses.asdict(info) | extracted))
    else:
        click.echo("\n".join([_lines(info), *([_side_information(carried, info)] if extract else [])]))


def _json(carried: bytes | str | None) -> dict[str, object] | None:
    if carried is None:
        return None
    return {"kind": "text" if isinstance(carried, str) else "bytes", "n_bytes": _n_bytes(carried)}


def _n_bytes(carried: bytes | str) -> int:
    return len(carried.encode() if isinstance(carried, str) else carried)


def _side_information(carried: bytes | str | None, info: Info) -> str:
    if carried is None:
        return f"{'carries':<18}nothing"
    kind, n_bytes = "text" if isinstance(carried, str) else "data", _n_bytes(carried)
    net = 8 * (info.n_bytes - n_bytes) / (info.width * info.height)
    return (
        f"carries {kind}, {n_bytes} bytes; the picture alone stands for {info.n_bytes - n_bytes} bytes, {net:.4f} bpp"
    )


def _lines(info: Info) -> str:
    rows = [
        ("size", f"{info.width} x {info.height}, {info.mode}"),
        ("file", f"{info.n_bytes} bytes, {info.bpp:.4f} bpp"),
        ("model", f"{info.model_id}, level {info.level:g}"),
        ("y", f"{info.y_bytes} bytes"),
        ("z", f"{info.z_bytes} bytes"),
        ("header", f"{info.header_bytes} bytes, checksums included"),
        *([] if info.carriers is None else [("carried by", _carried(info.carriers))]),
        *((name, f"{n_bytes} bytes") for name, n_bytes in info.sections.items()),
    ]
    return "\n".join(f"{name:<18}{value}" for name, value in rows)


def _carried(carriers: Carriers) -> str:
    return f"{carriers.n} values of z in steps of 1/{2**carriers.exponent}, {carriers.steps} steps to extract"
