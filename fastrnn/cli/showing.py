"""Commands: what a checkpoint holds, and whether it is sound."""

from __future__ import annotations

import sys

import click

from fastrnn.checks import counted
from fastrnn.cli.group import cli
from fastrnn.cli.options import checkpoint_argument
from fastrnn.cli.outputs import check_output, say_what_was_written
from fastrnn.console import ERR, OUT
from fastrnn.errors import FastrnnError


@cli.command(
    short_help="Draw the loss of a training.",
    help="""Draw the smooth loss over the updates of a training, and the validation loss.

    \b
    Example:
      fastrnn plot best.h5 -o loss.png
    """,
)
@checkpoint_argument
@click.option("--output", "-o", type=click.Path(), default="loss.png", help="PNG, SVG or PDF file.")
def plot(checkpoint: str, output: str) -> None:
    from fastrnn.report.plots import plot_loss
    from fastrnn.storage.checkpoint import load

    check_output(output, keep=(checkpoint,))
    plot_loss(load(checkpoint), output)
    say_what_was_written(output)


@cli.command(
    short_help="Print what a checkpoint holds.",
    help="""Print what a checkpoint holds.

    \b
    Example:
      fastrnn info best.h5
    """,
)
@checkpoint_argument
def info(checkpoint: str) -> None:
    from fastrnn.report.summary import describe
    from fastrnn.storage.checkpoint import load

    OUT.say(describe(load(checkpoint)))


@cli.command(
    short_help="Tell whether checkpoints are sound.",
    help="""Read checkpoints whole, and tell of each whether it is sound or what is wrong with it.

    \b
    Example:
      fastrnn verify best.h5
      fastrnn verify *.h5
    """,
)
@click.argument("checkpoints", type=click.Path(), nargs=-1, required=True)
def verify(checkpoints: tuple[str, ...]) -> None:
    from fastrnn.storage.checkpoint import load
    from fastrnn.storage.files import shown

    code = 0
    for path in checkpoints:
        try:
            found = load(path)
        except FastrnnError as error:
            ERR.say(f"Error: {error}")
            code = 1
        else:
            OUT.say(f"{shown(path)}: sound, after {counted(found.last.update, 'update')}")
    sys.exit(code)
