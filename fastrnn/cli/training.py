"""Commands: train, and what prepares it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from fastrnn import config as defaults
from fastrnn.checks import real
from fastrnn.checks import whole as check_whole
from fastrnn.cli.group import cli, usage_errors
from fastrnn.cli.options import encoding_option, positive, settings, text_options, whole
from fastrnn.cli.outputs import check_output
from fastrnn.config import CELLS
from fastrnn.console import ERR, OUT
from fastrnn.errors import FastrnnError
from fastrnn.presets import PRESETS, preset
from fastrnn.training.signals import ending_at_once

if TYPE_CHECKING:
    from fastrnn.storage.checkpoint import Checkpoint
    from fastrnn.training.observers import Observer

DEFAULT_CHECKPOINT = "best.h5"
BEGAN = time.monotonic()


@cli.command(
    short_help="Train a network, and keep its best model.",
    help="""Train a network on a TEXT, and keep the model with the lowest loss.

    A TEXT is a file, also .gz, a folder, - for standard input, 'shakespeare' to download, or
    'stdlib', the sources of Python's standard library; several are put together. Without one it is
    the language reference in Python's documentation.

    The checkpoint is written at the end, at intervals, and on Ctrl-C. One that is already there is
    kept under the next free name, best.1.h5 for best.h5. The defaults are the reference
    experiment's, and for gated or deep models what trains those. A preset is a set of other
    defaults: see fastrnn presets.

    A training that was interrupted goes on with --resume, exactly as if it had not been, and needs
    no other option; --epochs or --updates give it another end. SIGUSR1 makes a training write its
    checkpoint, and go on.

    With --val-fraction the end of the text is held out, and the best model is that of the lowest
    loss there; without, that of the lowest smooth loss.

    \b
    Example:
      fastrnn train --epochs 9 --ckpt best.h5
      fastrnn train --preset small book.txt
      fastrnn train --preset large stdlib --ckpt python.h5
      fastrnn train book.txt --init-from best.h5 --ckpt book.h5
      fastrnn train book.txt --hidden 200 --learning-rate 0.03
      fastrnn train book.txt --cell lstm --hidden 256 --batch 8
      cat *.txt | fastrnn train -
      fastrnn train --resume best.h5
    """,
)
@text_options
@encoding_option
@click.option(
    "--resume",
    type=click.Path(),
    metavar="CHECKPOINT",
    help="Go on with the training in this file, and replace it. TEXT need only be named if it is "
    "no longer where it was.",
)
@click.option(
    "--preset",
    "preset_name",
    type=click.Choice(tuple(PRESETS)),
    help="Other defaults for all settings below: see fastrnn presets.",
)
@click.option(
    "--init-from",
    type=click.Path(),
    metavar="CHECKPOINT",
    help="Start from its best model, whose cell, hidden units, layers and dtype are then taken.",
)
@click.option(
    "--vocabulary",
    type=click.Choice(("union", "new")),
    default="union",
    help="With --init-from: keep the characters that the new text lacks, or have only its own.",
)
@settings()
@click.option(
    "--ckpt",
    "path",
    type=click.Path(),
    default=DEFAULT_CHECKPOINT,
    help="Checkpoint file to write.",
)
@click.option(
    "--overwrite", is_flag=True, help="Replace a checkpoint that is already there; do not keep it."
)
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Keep the last N checkpoints beside the newest, as best.update-1200.h5.",
)
@click.option(
    "--ckpt-every",
    type=positive,
    default=defaults.CHECKPOINT_EVERY,
    help="Seconds between two writes of the checkpoint.",
)
@click.option(
    "--sample-every",
    type=click.IntRange(min=0),
    default=defaults.SAMPLE_EVERY,
    help="Updates from one sample to the next; 0: none.",
)
@click.option(
    "--sample-length", type=whole, default=defaults.SAMPLE_LENGTH, help="Characters of a sample."
)
@click.option(
    "--threads",
    type=click.IntRange(min=1, max=defaults.MOST_THREADS),
    help="Most threads that work together, up to one for each processor; the results are the same."
    "  [default: one for each physical core available, fewer for a small network]",
)
@click.option("--log", type=click.Path(), help="Write a log there, one JSON object a line.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but warnings.")
def train(
    texts: tuple[str, ...],
    sources: tuple[str, ...],
    encoding: str,
    resume: str | None,
    preset_name: str | None,
    init_from: str | None,
    vocabulary: str,
    path: str,
    overwrite: bool,
    keep: int,
    ckpt_every: float,
    sample_every: int,
    sample_length: int,
    threads: int | None,
    log: str | None,
    quiet: bool,
    **given: Any,
) -> None:
    context = click.get_current_context()
    source = context.get_parameter_source
    named = {
        key: one
        for key, one in context.params.items()
        if source(key) is not ParameterSource.DEFAULT
    }
    if resume is not None:
        _resume(resume, texts + sources, named)
        return
    given = {key: one for key, one in given.items() if key in named}
    settings, model = given, None
    if init_from is not None:
        from fastrnn.model import load
        from fastrnn.training.start import architecture_of, refuse_contradictions

        model = load(init_from)
        with usage_errors():
            refuse_contradictions(model, given)
        settings = given | architecture_of(model)
    with usage_errors():
        _check_run(named)
        config = preset(preset_name or "reference", **settings)
        if init_from is None and vocabulary != "union":
            raise FastrnnError("vocabulary is new, which is of use only with --init-from")

    from fastrnn.presets import fit
    from fastrnn.text.corpus import read_corpus
    from fastrnn.training.loop import train
    from fastrnn.training.progress import reading, report_files

    texts = texts + sources
    if not texts and not quiet:
        ERR.say("No text was named: training on the language reference in Python's documentation.")
    if log is not None:
        check_output(log, keep=(path, *texts))
    with nullcontext() if quiet else reading(texts) as progress:
        corpus = read_corpus(texts, encoding, progress)
    if not quiet:
        report_files(corpus, max(len(texts), 1))
        if preset_name and (advice := fit(config, corpus.length, len(corpus.vocabulary))):
            ERR.say(advice)
    observers = _observers(quiet, log)
    with ending_at_once():
        trained = train(
            corpus,
            config,
            path=path,
            overwrite=overwrite,
            keep=keep,
            checkpoint_every=ckpt_every,
            sample_every=sample_every,
            sample_length=sample_length,
            threads=threads,
            init_from=init_from,
            vocabulary=vocabulary,
            observers=observers,
        )
    _end(trained, observers)


def _resume(path: str, texts: tuple[str, ...], named: dict[str, Any]) -> None:
    """Go on with the training in a file; `named` are the options on the command line."""
    from fastrnn.storage.checkpoint import load
    from fastrnn.text.sources import found_again
    from fastrnn.training.loop import resume
    from fastrnn.training.progress import reading
    from fastrnn.training.resume import refuse_others, text_of, with_end

    checkpoint = load(path)
    quiet, log = bool(named.get("quiet")), named.get("log", checkpoint.run.log)
    end = {name: named.get(name) for name in ("epochs", "updates")}
    every = named.get("ckpt_every")
    with usage_errors():
        _check_run(named)
        preset_name = named.get("preset_name")
        refuse_others(checkpoint, path, (PRESETS[preset_name] if preset_name else {}) | named)
        with_end(checkpoint, path, **end)
    sources = texts or found_again(checkpoint.corpus.sources or (), checkpoint.corpus.folder)
    if log is not None:
        # The log may be within a folder of texts, as it is none: any other file there stays.
        try:
            check_output(log, keep=(path, *filter(os.path.isfile, sources)))
        except FastrnnError as error:
            raise FastrnnError(f"{error} with --log") from error
    with nullcontext() if quiet else reading(sources) as progress:
        corpus = text_of(checkpoint, path, texts, progress)
    observers = _observers(quiet, log)
    with ending_at_once():
        trained = resume(
            path,
            corpus,
            **end,
            keep=named.get("keep"),
            checkpoint_every=every,
            threads=named.get("threads"),
            observers=observers,
        )
    _end(trained, observers)


def _check_run(named: dict[str, Any]) -> None:
    """Check what click does not of the options that say how a training is run."""
    if "ckpt_every" in named:
        real("ckpt-every", named["ckpt_every"], infinity=True)  # NaN is in every range
    for name in {"keep", "sample_every", "sample_length"} & named.keys():
        check_whole(defaults.option_name(name), named[name], highest=defaults.MOST_UPDATES)


def _observers(quiet: bool, log: str | None) -> list[Observer]:
    from fastrnn.training.progress import JsonLog, Progress, Warnings

    shown = Warnings() if quiet else Progress()
    return [shown, *([JsonLog(log, shown.warned, BEGAN)] if log is not None else [])]


def _end(trained: Checkpoint, observers: Sequence[Observer]) -> None:
    """Exit code 1 if the training failed, or its log is not complete."""
    from fastrnn.training import diagnosis
    from fastrnn.training.progress import JsonLog

    lost = any(isinstance(one, JsonLog) and one.problem for one in observers)
    if lost or diagnosis.failed(trained):
        sys.exit(1)


@cli.command(
    short_help="List the presets of train.",
    help="""List the presets of train: their settings, and what they reach on tiny Shakespeare.

    \b
    Example:
      fastrnn presets
    """,
)
def presets() -> None:
    from fastrnn.presets import describe

    OUT.say("\n\n".join(map(describe, PRESETS)))


@cli.command(
    short_help="Compile the kernels ahead of the first training.",
    help="""Compile the kernels now, so that training, sampling and gradcheck start at once.

    They are kept in your cache folder until fastrnn, its dependencies or the processor change.
    bench compiles some more, which repeat single phases.

    \b
    Example:
      fastrnn warmup
      fastrnn warmup --cell lstm
    """,
)
@click.option(
    "--cell",
    "cells",
    type=click.Choice(CELLS),
    multiple=True,
    help="Only the kernels of this cell; may be repeated.  [default: all]",
)
def warmup(cells: tuple[str, ...]) -> None:
    from fastrnn.kernels.compile import kernel_folder, unkept
    from fastrnn.warmup import compile_all

    ERR.say("Compiling the kernels.")
    with ending_at_once():
        compile_all(cells or CELLS)
    if unkept:  # of which a warning told
        sys.exit(1)
    OUT.say(f"They are in {kernel_folder()}")
