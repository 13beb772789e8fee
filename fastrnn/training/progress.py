"""What a training tells its user: progress lines, samples, a log of JSON lines."""

from __future__ import annotations

import io
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastrnn.checks import counted
from fastrnn.config import describe_training
from fastrnn.console import ERR, OUT, ModelText, reason_of
from fastrnn.errors import FastrnnError
from fastrnn.layout import saving_memory, training_memory
from fastrnn.memory import shown_bytes
from fastrnn.parameters import describe, loss_in_words, per_character
from fastrnn.storage.checkpoint import Checkpoint, Sample
from fastrnn.storage.files import LOG_START, AnyPath, shown, typed, write_all
from fastrnn.training.observers import Observer
from fastrnn.training.signals import output_that_may_block

if TYPE_CHECKING:
    from fastrnn.text.corpus import Corpus
    from fastrnn.training.trainer import Trainer, Validation

LINE_EVERY = 10.0  # seconds between plain lines, where the output is no terminal
READING_AFTER = 1.0  # seconds of reading a text before that is shown
LOG_EVERY = 1.0  # seconds between progress records of the log


class Lines:
    """A file for tqdm that makes every state of the progress line a line of its own."""

    def write(self, text: str) -> None:
        if line := text.strip("\r\n "):
            ERR.write(line + "\n")

    def flush(self) -> None:
        ERR.flush()


def progress_line(**options: Any) -> Any:
    """A tqdm line on standard error; in a notebook a bar, in a file a plain line now and then."""
    # tqdm.auto knows notebooks, but takes some time to import.
    kind = import_module("tqdm.auto" if "IPython" in sys.modules else "tqdm").tqdm
    terminal = ERR.isatty()
    return kind(
        file=ERR if terminal else Lines(),
        mininterval=0.2 if terminal else LINE_EVERY,
        dynamic_ncols=terminal,
        leave=False,
        **options,
    )


@contextmanager
def reading(sources: Sequence[str]) -> Iterator[Callable[[int, int | None], None]]:
    """A progress line for `read_corpus`, if that takes longer than a second."""
    names = [shown(os.path.basename(source) or source) for source in sources]
    name = names[0] if len(names) == 1 else f"{len(names)} texts"

    def line(total: int | None) -> Any:
        share = "{n_fmt}B read" if total is None else "{percentage:.0f} % encoded, {remaining} left"
        return progress_line(
            total=total,
            delay=READING_AFTER,
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


def report_files(corpus: Corpus, named: int) -> None:
    """Say how many files a corpus is from, and which were left out, if these are not the named."""
    if corpus.files > named or corpus.left_out:
        left_out = ", ".join(map(str, corpus.left_out))
        read = counted(corpus.files, "file")
        ERR.say(f"{corpus.name}: {read} read" + (f"; left out: {left_out}" if left_out else ""))


class Warnings(Observer):
    """Warnings on standard error, and nothing else."""

    def warned(self, message: str) -> None:
        ERR.say(f"Warning: {message}")


class Notes(Warnings):
    """Warnings and notes on standard error: what `train` tells if it is given no observers."""

    def noted(self, message: str) -> None:
        ERR.say(message)


class Progress(Notes):
    """A progress line on standard error; samples and the result on standard output.

    One object shows one training at a time.
    """

    def __init__(self) -> None:
        self._bar: Any = None

    def started(self, trainer: Trainer, updates: int) -> None:
        if self._bar is not None:
            raise FastrnnError("a Progress shows one training at a time; give each one of its own")
        corpus, config = trainer.corpus, trainer.config
        characters = len(trainer.vocabulary)
        memory = training_memory(config, characters, trainer.network.workers.threads)
        ERR.say(
            f"{corpus.name}: {counted(corpus.length, 'character')}, {len(corpus.vocabulary)} "
            f"distinct; {counted(trainer.streams.chunks, 'update')} an epoch\n"
            f"{describe(config, characters)}; {describe_training(config, trainer.run.init_from)}; "
            f"{shown_bytes(memory)} of memory, "
            f"{shown_bytes(memory + saving_memory(config, characters))} while it is saved"
        )
        self._epochs = -(-updates // trainer.streams.chunks)
        self._text = ModelText(trainer.corpus_info.encoding)
        self._told = OUT.problem
        self._bar = progress_line(
            total=updates,
            initial=trainer.update,
            delay=0.1,  # nothing to show yet
            # What matters most comes first: a narrow terminal cuts off the end.
            bar_format="{percentage:.0f} %, {remaining} left{postfix}",
        )

    def progressed(self, trainer: Trainer) -> None:
        config = trainer.config
        _, bits = per_character(trainer.smooth_loss, config.loss_length)
        _, lowest = per_character(trainer.best_smooth_loss, config.loss_length)
        losses = f"{bits:.3f} bits/char (best {lowest:.3f})"
        if trainer.best_validation is not None:
            _, validation = per_character(trainer.validations[-1].loss, 1)
            _, lowest = per_character(trainer.best_validation.loss, 1)
            losses = f"{bits:.3f} bits/char, validation {validation:.3f} (best {lowest:.3f})"
        read = config.seq_length * config.batch * trainer.update
        epoch = min(trainer.epoch + 1, self._epochs)
        self._bar.set_postfix_str(
            f"epoch {epoch}/{self._epochs}, {losses}, "
            f"{read / max(trainer.seconds, 1e-9):,.0f} chars/s",
            refresh=False,
        )
        self._bar.update(trainer.update - self._bar.n)

    def sampled(self, sample: Sample) -> None:
        with self._above_the_line():
            OUT.write(f"iter = {sample.update + 1}, smooth_loss = {sample.smooth_loss:.4f}\n")
            self._text.write(sample.text)
            self._text.end()
            OUT.say("")
        self._warn_of_lost_output()

    def warned(self, message: str) -> None:
        with self._above_the_line():
            super().warned(message)

    def noted(self, message: str) -> None:
        with self._above_the_line():
            super().noted(message)

    def ended(self, checkpoint: Checkpoint, path: str | None) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        best, updates = checkpoint.best, checkpoint.last.update
        nats, bits = per_character(best.smooth_loss, checkpoint.config.loss_length)
        losses = {
            "min_iter": str(best.update),
            "min_loss": f"{best.smooth_loss:.4f} ({nats:.4f} nats, {bits:.4f} bits per character)",
        }
        if best.validation_loss is not None:
            # What is lowest is the loss on the text that is held out.
            losses["smooth_loss"] = losses.pop("min_loss")
            losses["validation"] = loss_in_words(best.validation_loss)
        if best.test_loss is not None:
            losses["test"] = loss_in_words(best.test_loss)
        OUT.say(
            "".join(f"{name} = {value}\n" for name, value in losses.items())
            + f"{counted(updates, 'update')} in {checkpoint.seconds:.1f} s, "
            f"{updates / max(checkpoint.seconds, 1e-9):,.0f} updates per second"
        )
        if path is not None:
            name, picture = typed(path), typed(os.path.splitext(path)[0] + ".png")
            OUT.say(
                f"The model is in {shown(path)}. Go on with\n"
                f"  fastrnn synth {name}{' --lines 20' * checkpoint.config.lines}\n"
                f"  fastrnn plot {name} -o {picture}\n"
                f"  fastrnn info {name}"
            )
        self._warn_of_lost_output()

    @contextmanager
    def _above_the_line(self) -> Iterator[None]:
        if self._bar is None or not ERR.isatty():
            yield
        else:
            with self._bar.external_write_mode(file=self._bar.fp):
                yield

    def _warn_of_lost_output(self) -> None:
        if OUT.problem is not None and self._told is None:
            self._told = OUT.problem
            self.warned(f"cannot write the output any more: {reason_of(OUT.problem)}")


class JsonLog(Observer):
    """The same as JSON, one object a line, in a file that is made when the training starts.

    A log that cannot be written ends, not the training. A training that is resumed goes on with its
    log: what that tells of later than the checkpoint is cut off, and a line with the event "resume"
    follows.

    Parameters
    ----------
    path : str or path-like
        Replaced if it exists, unless the training is resumed.
    warn : callable
        Is told once if the log cannot be written; by default a warning on standard error.
    began : float, optional
        The `time.monotonic` from which the seconds of validations count; by default it is when this
        is made.

    Attributes
    ----------
    problem : OSError or None
        Why the log is not complete.
    """

    def __init__(
        self,
        path: AnyPath,
        warn: Callable[[str], None] | None = None,
        began: float | None = None,
    ) -> None:
        self.path = path
        self._began = time.monotonic() if began is None else began
        self.problem: OSError | None = None
        self._warn = warn or Warnings().warned
        self._file: io.FileIO | None = None
        self._logged = -math.inf
        self._rollbacks = 0  # that it tells of

    def _attempt(self, work: Callable[[], Any]) -> Any:
        try:
            with output_that_may_block():
                return work()
        except OSError as error:
            self.problem = error
            self._close()
            self._warn(f"cannot write the log {shown(self.path)}: {reason_of(error)}")

    def _write(self, event: str, **values: Any) -> None:
        line = json.dumps({"event": event, **values}) + "\n"  # files.LOG_START knows the first
        if self._file is not None:
            self._attempt(partial(write_all, self._file, line.encode()))

    def _open(self, kept: int) -> io.FileIO:
        """The file for writing, with that many of its bytes."""
        # Without a buffer, whose rest would be written once more when a file that failed is closed.
        file = open(self.path, "r+b" if kept else "wb", buffering=0)  # noqa: SIM115 (see _close)
        if kept:
            file.truncate(kept)
            file.seek(kept)
        return file

    def _kept(self, trainer: Trainer) -> int:
        """How many bytes of the log tell of no later time than the checkpoint of the training."""
        place = kept = rollbacks = 0
        sampled = trainer.samples[-1].update if trainer.samples else -1
        with open(self.path, "rb") as file:
            for line in file:
                if place == 0 and not line.startswith(LOG_START):
                    raise OSError("it is no log of a training, so it stays as it is")
                if not line.endswith(b"\n"):  # it was cut off
                    break
                try:
                    row = json.loads(line)
                    if place == 0 and not _is_of(row, trainer):
                        raise OSError("it is the log of another training, so it stays as it is")
                    place += len(line)
                    told = {"sample": ("iter", sampled + 1)}.get(row["event"])
                    name, latest = told or ("update", trainer.update)
                    rollbacks += row["event"] == "rollback"
                    if row["event"] == "end" or rollbacks > len(trainer.rollbacks):
                        break
                    if row.get(name, 0) > latest:  # later than the checkpoint, or gone back from
                        continue
                except (ValueError, KeyError, TypeError, AttributeError):  # a crash left nonsense
                    break
                # A warning belongs to what follows.
                if name in row or row["event"] in ("start", "rollback"):
                    kept = place
        return kept

    def _close(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None

    def started(self, trainer: Trainer, updates: int) -> None:
        if self._file is not None:
            raise FastrnnError("a JsonLog is of one training at a time; give each one of its own")
        self.problem = None
        self._began -= trainer.seconds
        self._rollbacks = len(trainer.rollbacks)
        kept = 0
        if trainer.resumed and os.path.isfile(self.path):
            kept = self._attempt(partial(self._kept, trainer)) or 0
        if self.problem is None:
            self._file = self._attempt(partial(self._open, kept))
        if kept:
            self._write("resume", update=trainer.update, updates=updates)
            return
        self._write(
            "start",
            updates=updates,
            updates_per_epoch=trainer.streams.chunks,
            corpus=asdict(trainer.corpus_info),
            characters=len(trainer.vocabulary),
            config=trainer.config.to_json(),
        )

    def progressed(self, trainer: Trainer) -> None:
        for update, back_to in trainer.rollbacks[self._rollbacks :]:
            self._write("rollback", exploded=update, back_to=back_to)
        self._rollbacks = len(trainer.rollbacks)
        if time.monotonic() - self._logged < LOG_EVERY:
            return
        self._logged = time.monotonic()
        nats, bits = per_character(trainer.smooth_loss, trainer.config.loss_length)
        self._write(
            "progress",
            update=trainer.update,
            epoch=trainer.epoch,
            smooth_loss=trainer.smooth_loss,
            nats_per_character=nats,
            bits_per_character=bits,
            min_iter=trainer.best_update,
            min_loss=trainer.best_smooth_loss,
            seconds=trainer.seconds,
        )

    def validated(self, validation: Validation) -> None:
        nats, bits = per_character(validation.loss, 1)
        self._write(
            "validation",
            update=validation.update,
            seconds=time.monotonic() - self._began,
            nats_per_character=nats,
            bits_per_character=bits,
        )

    def sampled(self, sample: Sample) -> None:
        self._write(
            "sample", iter=sample.update + 1, smooth_loss=sample.smooth_loss, text=sample.text
        )

    def warned(self, message: str) -> None:
        self._write("warning", message=message)

    def ended(self, checkpoint: Checkpoint, path: str | None) -> None:
        self._write(
            "end",
            update=checkpoint.last.update,
            smooth_loss=checkpoint.last.smooth_loss,
            min_iter=checkpoint.best.update,
            min_loss=checkpoint.best.smooth_loss,
            validation_loss=checkpoint.best.validation_loss,
            test_loss=checkpoint.best.test_loss,
            seconds=checkpoint.seconds,
            saved=path is not None,
            path=path,
        )
        self._close()


def _is_of(start: dict[str, Any], trainer: Trainer) -> bool:
    """Whether the first line of a log is of this training, whatever its end was then."""
    ours = trainer.config.to_json()
    config = {
        name: start["config"][name] for name in start["config"].keys() - {"epochs", "updates"}
    }
    return config.items() <= ours.items() and start["corpus"]["sha256"] == trainer.corpus.sha256
