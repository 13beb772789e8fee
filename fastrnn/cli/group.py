"""The command `fastrnn`: what all its commands have in common, and how they end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from fastrnn._version import __version__
from fastrnn.console import ERR, OUT, drop_what_failed, open_closed_streams, reason_of
from fastrnn.errors import FastrnnError
from fastrnn.training.signals import ending_at_once, interrupting_once, say_interrupted


class Commands(click.Group):
    """Commands whose expected failures are one line on standard error, and exit code 1 or 130."""

    def invoke(self, context: click.Context) -> Any:
        _show_logged_warnings()
        code: Any = 0
        try:
            with interrupting_once():
                super().invoke(context)
        except SystemExit as end:
            code = end.code
        except FastrnnError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            say_interrupted()
            code = 130
        except MemoryError as error:
            raise click.ClickException(
                f"not enough memory ({error}); use fewer hidden units, a shorter sequence length "
                "or a smaller batch"
            ) from error
        if OUT.problem is not None:
            _say_lost(OUT.problem)
            code = code or 1
        if code:
            sys.exit(code)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    help="""Train a recurrent network on any text, character by character, and let it write.

    \b
    Example:
      fastrnn train --epochs 9 --ckpt best.h5
      fastrnn synth best.h5
    """,
)
@click.version_option(__version__, prog_name="fastrnn", message="%(prog)s %(version)s")
def cli() -> None: ...


@contextmanager
def usage_errors() -> Iterator[None]:
    """Wrong values of options are errors of usage."""
    try:
        yield
    except FastrnnError as error:
        raise click.UsageError(f"--{error}") from error


def _show_logged_warnings() -> None:
    """Print what the package logs, such as damage to its cache, as the other warnings."""
    import logging

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            ERR.say(f"Warning: {record.getMessage()}")

    logger = logging.getLogger("fastrnn")
    logger.propagate = False
    logger.addHandler(Handler())


def _say_lost(problem: OSError | ValueError) -> None:
    """A word of output that is lost, unless its reader had enough."""
    if not isinstance(problem, BrokenPipeError):
        ERR.say(f"Error: cannot write the output: {reason_of(problem)}")


def main() -> None:
    """The `fastrnn` command."""
    open_closed_streams()
    # Only the NumPy baseline uses BLAS, on matrices too small for threads, which would wait for
    # each other on a busy machine.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Text may have characters that the terminal's encoding does not: show them somehow.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        with ending_at_once():
            cli(prog_name="fastrnn")
    except OSError as error:  # of click, which prints the help
        _say_lost(error)
        sys.exit(1)
    finally:
        drop_what_failed()
