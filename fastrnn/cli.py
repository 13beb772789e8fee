"""The command line: each command parses, calls one function, and prints.

What a command needs is imported inside it, so that `fastrnn --help` answers at once.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType
from typing import Any

import click

from fastrnn import config as defaults
from fastrnn._version import __version__
from fastrnn.config import DTYPES, Config
from fastrnn.errors import FastrnnError

DEFAULT_CHECKPOINT = "best.h5"

whole = click.IntRange(min=1)
seed_type = click.IntRange(min=0, max=2**31 - 1)
positive = click.FloatRange(min=0, min_open=True)

corpus_option = click.option(
    "--corpus",
    "corpus",
    multiple=True,
    metavar="PATH",
    help="Text file, folder, - for standard input, or 'shakespeare' to download; may be repeated."
    "  [default: the language reference in Python's documentation]",
)
encoding_option = click.option("--encoding", default="utf-8", help="Of the text.")
checkpoint_argument = click.argument("checkpoint", type=click.Path())


def config_option(name: str, kind: click.ParamType, help: str) -> Any:
    """An option for a field of Config, with its default."""
    default = getattr(Config, name.replace("-", "_"))
    return click.option(f"--{name}", type=kind, default=default, help=help)


class Commands(click.Group):
    """Commands whose expected failures are one line on standard error, and exit code 1 or 130."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except FastrnnError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            sys.exit(130)
        except OSError as error:  # of the output: what reads files has errors of its own
            if error.errno == errno.EPIPE:  # the reader had enough; click ends without a word
                raise
            raise click.ClickException(f"cannot write the output: {error.strerror}") from error
        except MemoryError as error:
            raise click.ClickException(
                f"not enough memory ({error}); use fewer hidden units, a shorter sequence length "
                "or a smaller batch"
            ) from error


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(__version__, prog_name="fastrnn", message="%(prog)s %(version)s")
def cli() -> None:
    """Train a recurrent network on any text, character by character, and let it write.

    \b
    Example:
      fastrnn train --epochs 9 --ckpt best.h5
      fastrnn synth best.h5
    """


@cli.command()
@corpus_option
@encoding_option
@config_option("hidden", whole, "Hidden units.")
@config_option("seq-length", whole, "Characters per update, in each stream.")
@config_option("batch", whole, "Cut the text into so many streams that are read in parallel.")
@config_option("learning-rate", positive, "Of AdaGrad.")
@config_option("sigma", click.FloatRange(min=0), "Standard deviation of the initial weights.")
@config_option("clip", positive, "Clip gradients to ± this; inf for no clipping.")
@click.option("--epochs", type=whole, help="Passes over the text.  [default: 9, unless --updates]")
@click.option("--updates", type=whole, help="Stop after so many, or after --epochs if sooner.")
@config_option("seed", seed_type, "Of the initial weights and the samples.")
@config_option("dtype", click.Choice(DTYPES), "Of parameters and arithmetic.")
@click.option(
    "--ckpt",
    "path",
    type=click.Path(),
    default=DEFAULT_CHECKPOINT,
    help="Checkpoint file to write.",
)
@click.option(
    "--ckpt-every", type=positive, default=defaults.CHECKPOINT_EVERY, help="Seconds between writes."
)
@click.option(
    "--sample-every",
    type=click.IntRange(min=0),
    default=defaults.SAMPLE_EVERY,
    help="Write a sample before every so many-th update; 0: none.",
)
@click.option(
    "--sample-length", type=whole, default=defaults.SAMPLE_LENGTH, help="Characters of a sample."
)
@click.option(
    "--threads",
    type=click.IntRange(min=1, max=defaults.MOST_THREADS),
    help="How many work together, at most one for each processor; the results are the same."
    "  [default: one for each physical core available, fewer for a small network]",
)
@click.option("--log", type=click.Path(), help="Write a log there, one JSON object a line.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but warnings.")
def train(
    corpus: tuple[str, ...],
    encoding: str,
    epochs: int | None,
    updates: int | None,
    path: str,
    ckpt_every: float,
    sample_every: int,
    sample_length: int,
    threads: int | None,
    log: str | None,
    quiet: bool,
    **config: Any,
) -> None:
    """Train a network, and keep the model with the lowest smooth loss.

    The checkpoint is written at the end, at intervals, and on Ctrl-C; one that is already there is
    replaced, any other file is not. The defaults are the reference experiment's.

    \b
    Example:
      fastrnn train --epochs 9 --ckpt best.h5
      fastrnn train --corpus book.txt --hidden 512 --seq-length 50 --batch 32 --learning-rate 0.03
      cat *.txt | fastrnn train --corpus -
    """
    try:
        settings = Config(**config)
    except FastrnnError as error:
        raise click.UsageError(f"--{error}") from error

    from fastrnn.corpus import read_corpus
    from fastrnn.kernels.compile import compilation_notice
    from fastrnn.progress import JsonLog, Progress, Warnings, reading
    from fastrnn.training import Observer, train

    with nullcontext() if quiet else reading(corpus) as progress:
        text = read_corpus(corpus, encoding, progress)
    observers: list[Observer] = [Warnings() if quiet else Progress(path)]
    if log is not None:
        _check_output(log, keep=(path, *corpus))
        observers.append(JsonLog(log))
    with _ending_at_once(), nullcontext() if quiet else compilation_notice(_say_compiling):
        train(
            text,
            settings,
            epochs=epochs,
            updates=updates,
            path=path,
            checkpoint_every=ckpt_every,
            sample_every=sample_every,
            sample_length=sample_length,
            threads=threads,
            observers=observers,
        )


@cli.command()
@checkpoint_argument
@click.option("--length", type=click.IntRange(min=0), default=1000, help="Characters to write.")
@click.option(
    "--seed", type=seed_type, help="The same seed gives the same text.  [default: random]"
)
@click.option("--prime", default="", help="Text to continue; it is printed first.")
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=1.0,
    help="Below 1 plainer text, above 1 wilder; 0: always the likeliest character.",
)
def synth(checkpoint: str, length: int, seed: int | None, prime: str, temperature: float) -> None:
    """Let the best model of a checkpoint write.

    \b
    Example:
      fastrnn synth best.h5
      fastrnn synth best.h5 --length 300 --seed 1 --prime "The " --temperature 0.7
    """
    from fastrnn.synthesis import load

    pieces = load(checkpoint).stream(length, seed=seed, prime=prime, temperature=temperature)
    click.echo(prime, nl=False)
    for piece in pieces:
        click.echo(piece, nl=False)
    click.echo()


@cli.command()
@click.option("--json", "json_path", type=click.Path(), help="Write all measurements there.")
@click.option("--plot", "plot_path", type=click.Path(), help="Draw the ratios: PNG, SVG or PDF.")
def bench(json_path: str | None, plot_path: str | None) -> None:
    """Measure the kernels' speed against the NumPy baseline, in under a minute.

    \b
    Example:
      fastrnn bench
      fastrnn bench --json bench.json --plot bench.png
    """
    from fastrnn import bench
    from fastrnn.files import check_picture

    if json_path is not None:
        _check_output(json_path)
    if plot_path is not None:
        check_picture(plot_path)
        _check_output(plot_path)
    result = bench.run()
    click.echo(bench.format_table(result))
    if json_path is not None:
        result.save(json_path)
    if plot_path is not None:
        bench.plot(result, plot_path)


@cli.command()
@corpus_option
@encoding_option
@click.option("--seed", type=seed_type, default=0, help="Of the weights.")
@click.option("--json", "json_path", type=click.Path(), help="Write the figures there.")
def gradcheck(corpus: tuple[str, ...], encoding: str, seed: int, json_path: str | None) -> None:
    """Check the gradient of b, c, U, W, V against numerical derivatives.

    Central differences are compared as the reference experiment does, beside its own figures:
    the largest |ga - gn| over the sum of all |ga| + |gn|. At most the double is allowed; nearly
    all of it is the error of the differences, which depends on the text and the seed.
    Complex-step derivatives of the NumPy reference have no such error: at most 1e-13 by the same
    measure, and 1e-11 element by element, which the rounding of a tiny element can exceed with
    some seeds. Exit code 1 if one is over its bound.

    \b
    Example:
      fastrnn gradcheck
    """
    from dataclasses import asdict
    from itertools import groupby

    from fastrnn.corpus import read_corpus
    from fastrnn.files import write
    from fastrnn.gradcheck import Check, check_gradients, format_table
    from fastrnn.progress import reading

    if json_path is not None:
        _check_output(json_path, keep=corpus)
    checks: list[Check] = []
    with reading(corpus) as progress:
        text = read_corpus(corpus, encoding, progress)
    for _, group in groupby(check_gradients(text, seed), key=lambda check: check.hidden):
        checks += (rows := list(group))
        click.echo(format_table(rows) + "\n")
    if json_path is not None:
        figures = [asdict(check) | {"passed": check.passed} for check in checks]
        write(json_path, json.dumps(figures, indent=1).encode())
    if not all(check.passed for check in checks):
        sys.exit(1)


@cli.command()
@checkpoint_argument
@click.option("--output", "-o", type=click.Path(), default="loss.png", help="PNG, SVG or PDF file.")
def plot(checkpoint: str, output: str) -> None:
    """Draw the smooth loss over the updates of a training.

    \b
    Example:
      fastrnn plot best.h5 -o loss.png
    """
    from fastrnn.checkpoint import load
    from fastrnn.plots import plot_loss

    _check_output(output, keep=(checkpoint,))
    plot_loss(load(checkpoint), output)


@cli.command()
@checkpoint_argument
def info(checkpoint: str) -> None:
    """Print what a checkpoint holds.

    \b
    Example:
      fastrnn info best.h5
    """
    from fastrnn.checkpoint import describe, load

    click.echo(describe(load(checkpoint)))


@cli.command()
def warmup() -> None:
    """Compile the kernels now, so that training, sampling and gradcheck start at once.

    They are kept in your cache folder until fastrnn, its dependencies or the processor change.
    bench compiles some more, which repeat single phases.

    \b
    Example:
      fastrnn warmup
    """
    from fastrnn.kernels.compile import kernel_folder
    from fastrnn.network import compile_all

    click.echo("Compiling the kernels.", err=True)
    with _ending_at_once():
        compile_all()
    click.echo(f"They are in {kernel_folder()}")


@contextmanager
def _ending_at_once() -> Iterator[None]:
    """Within it Ctrl-C ends the process where it is, unless training looks at the signal itself.

    Raised inside the compiler a KeyboardInterrupt may get lost; and while another thread compiles,
    it would be long until this one ends.
    """

    def end(number: int, frame: FrameType | None) -> None:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            click.echo("Interrupted.", err=True)
        os._exit(130)

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, before)


def _say_compiling() -> None:
    click.echo("Compiling the kernels: some seconds, the first time only.", err=True)


def _check_output(path: str, keep: Sequence[str] = ()) -> None:
    """Find out before long work whether a file can be written, and that none is lost by it."""
    from fastrnn.checkpoint import is_checkpoint
    from fastrnn.files import shown

    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    kept = [os.path.realpath(one) for one in keep]
    in_kept_folder = any(target.startswith(one + os.sep) for one in kept)
    if is_checkpoint(path) or target in kept or (in_kept_folder and os.path.exists(target)):
        problem = "it is a checkpoint or a text in use"
    elif os.path.isdir(target):
        problem = "it is a folder"
    elif not os.path.isdir(folder):
        problem = "there is no such folder"
    elif not os.access(target if os.path.exists(target) else folder, os.W_OK):
        problem = "permission denied"
    else:
        return
    raise FastrnnError(f"cannot write {shown(path)}: {problem}; choose another path")


def main() -> None:
    """The `fastrnn` command."""
    # Only the NumPy baseline uses BLAS, on matrices too small for threads, which would wait for
    # each other on a busy machine.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Text may have characters that the terminal's encoding does not: show them somehow.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    cli(prog_name="fastrnn")
