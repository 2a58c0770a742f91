"""The manual pages: `python -m sgacodec_cli.man DIR` writes those of all commands, from their help texts."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from sgacodec_cli.main import COMMANDS, main


def pages() -> dict[str, str]:
    """Return the pages by the names of their files, such as sgacodec-encode.1."""
    return dict(_pages(click.Context(main, info_name="sgacodec", **main.context_settings)))


def _pages(ctx: click.Context) -> Iterator[tuple[str, str]]:
    yield f"{_name(ctx)}.1", _page(ctx)
    for below in _commands(ctx):
        yield from _pages(below)


def _commands(ctx: click.Context) -> list[click.Context]:
    """Return a context for each command of a group that its help lists."""
    group = ctx.command
    if not isinstance(group, click.Group):
        return []
    found = [(name, group.get_command(ctx, name)) for name in group.list_commands(ctx)]
    return [click.Context(each, info_name=name, parent=ctx) for name, each in found if each and not each.hidden]


def _name(ctx: click.Context) -> str:
    return ctx.command_path.replace(" ", "-")


def _page(ctx: click.Context) -> str:
    """Return a page in the macros of man(7)."""
    lines = [
        f'.TH "{_name(ctx).upper()}" "1" "" "sgacodec" "User Commands"',
        ".SH NAME",
        f"{_text(_name(ctx))} \\- {_text(_summary(ctx).rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {_text(ctx.command_path)}",
        _text(" ".join(ctx.command.collect_usage_pieces(ctx))),
        ".SH DESCRIPTION",
        *(
            line
            for paragraph in inspect.cleandoc(ctx.command.help or "").split("\n\n")
            for line in _paragraph(paragraph)
        ),
        ".SH OPTIONS",
        *(
            line
            for each in ctx.command.get_params(ctx)
            if isinstance(each, click.Option)
            for line in _option(ctx, each)
        ),
        *_list_of_commands(ctx),
        *_see_also(ctx),
    ]
    return "\n".join(lines) + "\n"


def _paragraph(text: str) -> list[str]:
    """Return a paragraph; one that begins with click's mark keeps its lines."""
    if text.startswith("\b\n"):
        return [".PP", ".RS 4", ".nf", *map(_text, text.splitlines()[1:]), ".fi", ".RE"]
    return [".PP", *map(_text, text.splitlines())]


def _summary(ctx: click.Context) -> str:
    """Return what the group's help says of a command."""
    if ctx.parent is not None and ctx.parent.command is main:
        return COMMANDS[str(ctx.info_name)].help
    return ctx.command.get_short_help_str(limit=200)


def _option(ctx: click.Context, option: click.Option) -> list[str]:
    record = option.get_help_record(ctx)
    if record is None:
        return []
    names, text = record
    return [".TP", f".B {_text(names)}", *map(_text, text.splitlines())]


def _list_of_commands(ctx: click.Context) -> list[str]:
    found = _commands(ctx)
    entries = [line for each in found for line in (".TP", f"\\fB{_text(_name(each))}\\fP(1)", _text(_summary(each)))]
    return [".SH COMMANDS", *entries] if found else []


def _see_also(ctx: click.Context) -> list[str]:
    return [] if ctx.parent is None else [".SH SEE ALSO", f"\\fB{_text(_name(ctx.parent))}\\fP(1)"]


def _text(line: str) -> str:
    """Escape what would be a request or a special character."""
    escaped = (
        line.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("~", "\\(ti").replace("^", "\\(ha")
    )
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
def write(folder: Path) -> None:
    """Write the manual pages into DIR, in place of all that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("sgacodec*.1"):
        old.unlink()
    for name, page in pages().items():
        (folder / name).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    write()
