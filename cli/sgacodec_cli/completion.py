"""`sgacodec completion`, and what shells complete where click cannot know it."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

from sgacodec_cli.files import show

SHELLS = ("bash", "zsh", "fish")


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Have the shell complete names of files and folders; for parameters that are no `click.Path`."""
    return [CompletionItem(incomplete, type="file")]


def models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete names of installed models, or else of files."""
    from sgacodec.models import store

    names = [entry.name for entry in store.installed() if entry.name.startswith(incomplete)]
    return [CompletionItem(name) for name in names] or files(ctx, param, incomplete)


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print a script that has SHELL complete sgacodec's commands, options, file names and models at a TAB.

    Write it where the shell looks for such scripts, and open a new shell:

    \b
    bash, with the package bash-completion:
      sgacodec completion bash > ~/.local/share/bash-completion/completions/sgacodec
    zsh, in any folder of $fpath:
      sgacodec completion zsh > ~/.zfunc/_sgacodec
    fish:
      sgacodec completion fish > ~/.config/fish/completions/sgacodec.fish
    """  # noqa: D301
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this version of click has no completion for {shell}")
    program = click.get_current_context().find_root()
    show(kind(program.command, {}, "sgacodec", "_SGACODEC_COMPLETE").source())
