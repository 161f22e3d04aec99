"""textgen completion: the script with which a shell completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from textgen.cli import output
from textgen.cli.command import SectionCommand

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_TEXTGEN_COMPLETE"  # with this environment variable Click prints completions


@click.command(cls=SectionCommand)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    Load it when the shell starts: for bash, put the second line below into ~/.bashrc; for zsh, the third into
    ~/.zshrc, after compinit. Then the Tab key completes commands, options, their values, the names of saved models, and
    files.

    \b
    Example:
      textgen completion bash
      source <(textgen completion bash)
      source <(textgen completion zsh)
      textgen completion fish > ~/.config/fish/completions/textgen.fish
    """
    if kind := get_completion_class(shell):
        output.write(kind(ctx.find_root().command, {}, "textgen", VARIABLE).source())
