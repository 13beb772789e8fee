"""What a training tells its user: progress lines, samples, a log of JSON lines."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, TextIO

import click
from tqdm import tqdm

from fastrnn.checkpoint import Checkpoint, Sample
from fastrnn.files import shown
from fastrnn.model import describe, per_character
from fastrnn.training import Trainer

LINE_EVERY = 10.0  # seconds between plain lines, where the output is no terminal
READING_AFTER = 1.0  # seconds of reading a text before that is shown
LOG_EVERY = 1.0  # seconds between progress records of the log


class Lines:
    """A file for tqdm that gets every state of the progress line as a line of its own."""

    def __init__(self, file: TextIO):
        self.file = file

    def write(self, text: str) -> None:
        if line := text.strip("\r\n "):
            self.file.write(line + "\n")

    def flush(self) -> None:
        self.file.flush()


@contextmanager
def reading(sources: Sequence[str]) -> Iterator[Callable[[int, int | None], None]]:
    """A progress line on standard error for `read_corpus`, if that takes longer than a second."""
    terminal = sys.stderr.isatty()
    names = [shown(os.path.basename(source) or source) for source in sources]
    name = names[0] if len(names) == 1 else f"{len(names)} texts"

    def line(total: int | None) -> tqdm:
        share = "{n_fmt}B read" if total is None else "{percentage:.0f} % encoded, {remaining} left"
        return tqdm(
            total=total,
            file=sys.stderr if terminal else Lines(sys.stderr),
            mininterval=0.2 if terminal else LINE_EVERY,
            delay=READING_AFTER,
            dynamic_ncols=terminal,
            leave=False,
            unit_scale=True,
            desc=name,
            bar_format="{desc}: " + share,
        )

    bar = line(None)

    def progress(done: int, total: int | None) -> None:
        nonlocal bar
        if total != bar.total:
            bar.close()
            bar = line(total)
        bar.update(done - bar.n)

    try:
        yield progress
    finally:
        bar.close()


class Warnings:
    """Warnings on standard error, and nothing else."""

    def started(self, trainer: Trainer, updates: int) -> None: ...
    def progressed(self, trainer: Trainer) -> None: ...
    def sampled(self, sample: Sample) -> None: ...
    def ended(self, checkpoint: Checkpoint, saved: bool) -> None: ...

    def warned(self, message: str) -> None:
        click.echo(f"Warning: {message}", err=True)


class Progress(Warnings):
    """A progress line on standard error; samples and the result on standard output."""

    def __init__(self, path: str):
        self.path = path

    def started(self, trainer: Trainer, updates: int) -> None:
        corpus = trainer.corpus
        self.epochs = -(-updates // trainer.streams.chunks)
        click.echo(
            f"{corpus.name}: {corpus.length:,} characters, {len(corpus.vocabulary)} distinct; "
            f"{trainer.streams.chunks:,} updates an epoch\n"
            f"{describe(trainer.config, len(corpus.vocabulary))}",
            err=True,
        )
        terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=updates,
            file=sys.stderr if terminal else Lines(sys.stderr),
            mininterval=0.2 if terminal else LINE_EVERY,
            delay=0.1,  # nothing to show yet
            dynamic_ncols=terminal,
            leave=False,
            # A narrow terminal cuts off the end.
            bar_format="{n:,}/{total:,}, {remaining} left{postfix}",
        )

    def progressed(self, trainer: Trainer) -> None:
        nats, bits = per_character(trainer.smooth_loss, trainer.config.seq_length)
        rate = trainer.update / max(trainer.seconds, 1e-9)
        characters = rate * trainer.config.seq_length * trainer.config.batch
        epoch = min(trainer.epoch + 1, self.epochs)
        self.bar.set_postfix_str(
            f"epoch {epoch}/{self.epochs}, smooth loss {trainer.smooth_loss:.2f} "
            f"({nats:.3f} nats, {bits:.3f} bits/char), lowest {trainer.lowest_smooth_loss:.2f}, "
            f"{rate:,.0f} updates/s, {characters:,.0f} chars/s",
            refresh=False,
        )
        self.bar.update(trainer.update - self.bar.n)

    def sampled(self, sample: Sample) -> None:
        with self.bar.external_write_mode(file=sys.stdout):
            click.echo(f"iter = {sample.update + 1}, smooth_loss = {sample.smooth_loss:.4f}")
            click.echo(sample.text + "\n")

    def warned(self, message: str) -> None:
        with self.bar.external_write_mode(file=sys.stderr):
            super().warned(message)

    def ended(self, checkpoint: Checkpoint, saved: bool) -> None:
        self.bar.close()
        best = checkpoint.best
        nats, bits = per_character(best.smooth_loss, checkpoint.config.seq_length)
        click.echo(
            f"min_iter = {best.update}\n"
            f"min_loss = {best.smooth_loss:.4f} ({nats:.4f} nats, {bits:.4f} bits per character)\n"
            f"{checkpoint.last.update:,} updates in {checkpoint.seconds:.1f} s, "
            f"{checkpoint.last.update / max(checkpoint.seconds, 1e-9):,.0f} updates per second"
        )
        if saved:
            click.echo(f"the model is in {self.path}")


class JsonLog:
    """The same as JSON, one object a line, in a file that is made when the training starts."""

    def __init__(self, path: str):
        self.path = path
        self.logged = -math.inf

    def _write(self, event: str, **values: Any) -> None:
        print(json.dumps({"event": event, **values}), file=self.file, flush=True)

    def started(self, trainer: Trainer, updates: int) -> None:
        self.file = open(self.path, "w", encoding="utf-8")  # noqa: SIM115 (closed by `ended`)
        self._write(
            "start",
            updates=updates,
            updates_per_epoch=trainer.streams.chunks,
            corpus=asdict(trainer.corpus_info),
            characters=len(trainer.corpus.vocabulary),
            config=trainer.config.to_json(),
        )

    def progressed(self, trainer: Trainer) -> None:
        if time.monotonic() - self.logged < LOG_EVERY:
            return
        self.logged = time.monotonic()
        nats, bits = per_character(trainer.smooth_loss, trainer.config.seq_length)
        self._write(
            "progress",
            update=trainer.update,
            epoch=trainer.epoch,
            smooth_loss=trainer.smooth_loss,
            nats_per_character=nats,
            bits_per_character=bits,
            min_iter=trainer.lowest_update,
            min_loss=trainer.lowest_smooth_loss,
            seconds=trainer.seconds,
        )

    def sampled(self, sample: Sample) -> None:
        self._write(
            "sample", iter=sample.update + 1, smooth_loss=sample.smooth_loss, text=sample.text
        )

    def warned(self, message: str) -> None:
        self._write("warning", message=message)

    def ended(self, checkpoint: Checkpoint, saved: bool) -> None:
        self._write(
            "end",
            update=checkpoint.last.update,
            smooth_loss=checkpoint.last.smooth_loss,
            min_iter=checkpoint.best.update,
            min_loss=checkpoint.best.smooth_loss,
            seconds=checkpoint.seconds,
            saved=saved,
        )
        self.file.close()
