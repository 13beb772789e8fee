"""Epochs of updates over a text: smooth loss, best model, samples, interruption, checkpoints."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np

from fastrnn import checks, memory
from fastrnn._version import __version__
from fastrnn.checkpoint import Best, Checkpoint, CorpusInfo, History, Last, Sample
from fastrnn.config import CHECKPOINT_EVERY, EPOCHS, SAMPLE_EVERY, SAMPLE_LENGTH, Config
from fastrnn.corpus import Corpus
from fastrnn.destination import Destination
from fastrnn.diagnosis import diagnose
from fastrnn.errors import FastrnnError
from fastrnn.files import AnyPath
from fastrnn.kernels.compile import compilation_notice
from fastrnn.kernels.entries import Record
from fastrnn.model import Parameters, initial_parameters
from fastrnn.network import REMEDIES, TEXT_BYTES, Network, Writer
from fastrnn.observers import Observer, Observers
from fastrnn.progress import Notes
from fastrnn.signals import Signals
from fastrnn.streams import Streams
from fastrnn.threads import usable_threads, useful_threads

COMPILING = "Compiling the kernels: some seconds, the first time only."
SLICE_SECONDS = 0.1  # in compiled code at a time; signals and progress are looked at in between
HISTORY_POINTS = 8192  # at most; then every other one is dropped


@dataclass
class Curve:
    """The smooth loss at evenly spaced updates: all of them at first, fewer as they get many."""

    stride: int = 1
    update: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    smooth_loss: np.ndarray = field(default_factory=lambda: np.empty(0))

    def extend(self, first: int, smooth_losses: np.ndarray) -> None:
        """Add the smooth losses after update `first` and the following ones."""
        updates = np.arange(first, first + len(smooth_losses))
        kept = updates % self.stride == 0
        self.update = np.append(self.update, updates[kept])
        self.smooth_loss = np.append(self.smooth_loss, smooth_losses[kept])
        while len(self.update) > HISTORY_POINTS:
            self.stride *= 2
            kept = self.update % self.stride == 0
            self.update, self.smooth_loss = self.update[kept], self.smooth_loss[kept]


class Trainer:
    """A training that can be advanced by any number of updates; how it is divided changes nothing.

    Attributes
    ----------
    update, epoch, chunk : int
        Updates made; the epoch (from 0) and the chunk within it that come next.
    smooth_loss : float
        Running average of the loss, 0.999 of the old and 0.001 of the new. Before the first update
        it is the loss of the first chunk.
    lowest_update, lowest_smooth_loss
        Where it was lowest.
    """

    def __init__(self, corpus: Corpus, config: Config, threads: int = 1):
        self.corpus = corpus
        self.config = config
        self.corpus_info = CorpusInfo(corpus.name, corpus.length, corpus.sha256, corpus.encoding)
        characters = len(corpus.vocabulary)
        self.streams = Streams(corpus.codes, config.batch, config.seq_length, characters)
        self.network = Network(config, characters, threads)
        self.network.set_parameters(initial_parameters(config, characters))
        # Its own stream of random numbers, so that samples do not change the training.
        self.generator = np.random.default_rng([config.seed, 1])
        self.update = self.epoch = self.chunk = 0
        self.smooth_loss = self._rehearse()
        if not np.isfinite(self.smooth_loss):
            raise FastrnnError(
                "the loss is not finite before the first update; "
                f"try a smaller sigma than {config.sigma:g}"
            )
        self.lowest_update, self.lowest_smooth_loss = 0, self.smooth_loss
        self.curve = Curve()
        self.samples: list[Sample] = []
        self.seconds = 0.0
        # The best model is the current one; it is copied when the next update makes it worse.
        self._best_is_current = True

    def _rehearse(self) -> float:
        """Loss of the first chunk, by the first update, which is taken back.

        And no character drawn: so that no measured time contains the compilation of the kernels.
        """
        network = self.network
        before = network.copy_state()
        codes = self.streams.read(0, 1)
        record = network.train(codes, Record(math.nan, math.inf, -1, False), np.empty(1))
        network.restore_state(before)
        Writer(network).sample(codes[:1, 0], np.empty(0))
        return record.smooth_loss

    def advance(self, count: int) -> None:
        """Make `count` updates within the current epoch.

        Raises
        ------
        FastrnnError
            If the loss is no longer finite; then nothing has changed since before the call.
        """
        before = self.network.copy_state()
        codes = self.streams.read(self.chunk, count)
        record = Record(self.smooth_loss, self.lowest_smooth_loss, -1, self._best_is_current)
        smooth_losses = np.empty(count)
        record = self.network.train(codes, record, smooth_losses)
        # Weights that are no longer finite make the loss of the next update so.
        finite = np.append(np.isfinite(smooth_losses), self.network.is_finite())
        if not finite.all():
            self.network.restore_state(before)
            update = self.update + 1 + int(np.argmin(finite))
            raise FastrnnError(
                f"the loss is not finite any more at update {update}; "
                f"try a lower learning rate than {self.config.learning_rate:g}, or a smaller clip"
            )
        self.smooth_loss, self.lowest_smooth_loss = record.smooth_loss, record.lowest
        if record.lowest_index >= 0:
            self.lowest_update = self.update + 1 + record.lowest_index
        self._best_is_current = record.pending
        self.curve.extend(self.update + 1, smooth_losses)
        self.update += count
        self.chunk += count
        if self.chunk == self.streams.chunks:
            self.epoch, self.chunk = self.epoch + 1, 0
            self.network.hidden[...] = 0.0

    def sample(self, length: int, stop: Callable[[], bool] = lambda: False) -> Sample | None:
        """Let the current model write on from where it is in the text, and keep what it wrote.

        Parameters
        ----------
        length : int
            Characters.
        stop : callable
            Is asked several times a second. When it says so the sample is given up, with the random
            numbers it took: a training that goes on from here draws the same one.

        Returns
        -------
        Sample or None
            None if it was given up.
        """
        generator = deepcopy(self.generator)
        next_character = self.streams.read(self.chunk, 1)[:1, 0]
        writer = Writer(self.network, self.network.hidden[0])
        drawn = [np.empty(0, np.int32)]
        for codes in writer.pieces(next_character, length, generator):
            drawn.append(codes)
            if stop():
                return None
        text = self.corpus.vocabulary.decode(np.concatenate(drawn))
        self.generator = generator
        self.samples.append(Sample(self.update, self.smooth_loss, text))
        return self.samples[-1]

    def checkpoint(self) -> Checkpoint:
        """Copies of all that the training is and was."""
        network = self.network
        best = network.parameters if self._best_is_current else network.best
        return Checkpoint(
            config=self.config,
            vocabulary=self.corpus.vocabulary.characters,
            corpus=self.corpus_info,
            best=Best(self.lowest_update, self.lowest_smooth_loss, _copies(best)),
            last=Last(
                update=self.update,
                epoch=self.epoch,
                chunk=self.chunk,
                smooth_loss=self.smooth_loss,
                parameters=_copies(network.parameters),
                memory=_copies(network.memory),
                hidden=network.hidden.copy(),
                generator=dict(self.generator.bit_generator.state),
            ),
            history=History(self.curve.update, self.curve.smooth_loss, list(self.samples)),
            seconds=self.seconds,
            version=__version__,
        )


def _copies(parameters: Parameters) -> Parameters:
    return {name: np.ascontiguousarray(array).copy() for name, array in parameters.items()}


@memory.running_out("the training", "use " + " or ".join(REMEDIES.values()))
def train(
    corpus: Corpus,
    config: Config | None = None,
    *,
    epochs: int | None = None,
    updates: int | None = None,
    path: AnyPath | None = None,
    overwrite: bool = False,
    checkpoint_every: float = CHECKPOINT_EVERY,
    sample_every: int = SAMPLE_EVERY,
    sample_length: int = SAMPLE_LENGTH,
    threads: int | None = None,
    observers: Sequence[Observer] | None = None,
) -> Checkpoint:
    """Train a network on a text.

    Parameters
    ----------
    corpus : Corpus
        The text, from `read_corpus`.
    config : Config, optional
        The model and its training; by default the reference experiment's.
    epochs, updates : int, optional
        Stop after so many passes over the text, or updates, or at whichever comes first if both are
        given. Without either, 9 epochs.
    path : str or path-like, optional
        Checkpoint file, written every `checkpoint_every` seconds, at the end, and when SIGINT,
        SIGTERM or SIGHUP stops the training; not by a training that ends before its first update.
        A checkpoint that is there is kept under the next free name, best.1.h5 for best.h5.
    overwrite : bool
        Replace that checkpoint instead.
    checkpoint_every : float
        Seconds.
    sample_every, sample_length : int
        Before the first update and before every `sample_every`-th, synthesize `sample_length`
        characters; 0 switches samples off.
    threads : int, optional
        How many work together, which does not change the results; at most one for each logical
        processor. By default one for each physical core that the process may use, and fewer where
        there is too little work for so many.
    observers : sequence of Observer, optional
        Are told of progress; an observer has one training at a time. By default notes and warnings
        go to standard error. `Progress` shows more.

    Returns
    -------
    Checkpoint
        With the model of the lowest smooth loss, exact to the update, in `best`. A training without
        a path that Ctrl-C stops returns what it has.

    Raises
    ------
    FastrnnError
        If the text is too short, the checkpoint cannot be written, or the loss is not finite any
        more; in the last case the checkpoint holds the training as it was shortly before.
    KeyboardInterrupt, SystemExit
        After SIGINT of a training with a path, or SIGTERM and SIGHUP, with the checkpoint written
        if there was an update.
    """
    corpus = checks.instance("corpus", corpus, Corpus, "fastrnn.read_corpus")
    config = Config() if config is None else checks.instance("config", config, Config)
    epochs = None if epochs is None else checks.whole("epochs", epochs)
    updates = None if updates is None else checks.whole("updates", updates)
    path = None if path is None else checks.path("path", path)
    overwrite = checks.instance("overwrite", overwrite, bool)
    checkpoint_every = checks.real("checkpoint_every", checkpoint_every, zero=True, infinity=True)
    sample_every = checks.whole("sample_every", sample_every)
    sample_length = checks.whole("sample_length", sample_length)
    if sample_every > 0:
        memory.require(
            TEXT_BYTES * sample_length,
            f"sample_length is {checks.shown_value(sample_length)}",
            "a sample",
            "write shorter samples",
        )
    if threads is None:
        threads = useful_threads(config, len(corpus.vocabulary))
    else:
        threads = usable_threads(threads)
    tell = Observers([Notes()] if observers is None else observers)
    destination = None if path is None else Destination(path, overwrite)
    if destination is not None:
        # A warning if it is not where it was asked to be.
        say = tell.noted if destination.path == path else tell.warned
        for notice in destination.notices:
            say(notice)
    # Can be interrupted: there is nothing to save yet.
    with compilation_notice(lambda: tell.noted(COMPILING)):
        trainer = Trainer(corpus, config, threads)
    if destination is not None:
        destination.check(trainer.checkpoint(), growth=HISTORY_POINTS * 16)  # bytes each
    end = _last_update(trainer.streams.chunks, epochs, updates)
    with Signals() as signals:
        tell.started(trainer, end)
        started = saved = time.monotonic()
        size = 1  # updates in a slice
        try:
            while trainer.update < end and signals.received is None:
                if _next_sample(trainer.update, sample_every) == trainer.update:
                    sample = trainer.sample(sample_length, lambda: signals.received is not None)
                    if sample is None:
                        break
                    tell.sampled(sample)
                size = min(
                    size,
                    end - trainer.update,
                    trainer.streams.chunks - trainer.chunk,
                    _next_sample(trainer.update + 1, sample_every) - trainer.update,
                )
                start = time.monotonic()
                trainer.advance(size)
                now = time.monotonic()
                trainer.seconds = now - started
                # At most fourfold, as a single slice tells little about how long the next takes.
                size = max(1, int(min(4.0, SLICE_SECONDS / max(now - start, 1e-9)) * size))
                tell.progressed(trainer)
                if destination is not None and now - saved >= checkpoint_every:
                    try:
                        _save(destination, trainer.checkpoint(), tell)
                    except FastrnnError as error:
                        tell.warned(f"{error}; the training goes on")
                    saved = time.monotonic()
        finally:
            checkpoint = _finish(trainer, destination, tell)
    if signals.received == signal.SIGINT and path is not None:
        raise KeyboardInterrupt
    if signals.received not in (None, signal.SIGINT):
        raise SystemExit(128 + signals.received)
    return checkpoint


def _save(destination: Destination, checkpoint: Checkpoint, tell: Observer) -> None:
    if warning := destination.save(checkpoint):
        tell.warned(warning)


def _finish(trainer: Trainer, destination: Destination | None, tell: Observer) -> Checkpoint:
    """Save, and tell of the end, even if saving fails."""
    checkpoint = trainer.checkpoint()
    path = None
    try:
        # A training that was stopped before its first update replaces no older one.
        if destination is not None and (trainer.update > 0 or not os.path.exists(destination.path)):
            _save(destination, checkpoint, tell)
            path = destination.path
        for warning in diagnose(checkpoint):
            tell.warned(warning)
    finally:
        tell.ended(checkpoint, path)
    return checkpoint


def _last_update(chunks: int, epochs: int | None, updates: int | None) -> int:
    if epochs is None and updates is None:
        epochs = EPOCHS
    limits = [] if epochs is None else [epochs * chunks]
    return min(limits + ([] if updates is None else [updates]))


def _next_sample(update: int, sample_every: int) -> int:
    """After how many updates, at least `update`, the next sample is due."""
    if sample_every == 0:
        return sys.maxsize
    return update + -(update + 1) % sample_every if update > 0 else 0
