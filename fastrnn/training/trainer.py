"""A training that can be advanced, sampled from, and put into a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np

from fastrnn._version import __version__
from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.kernels.entries import Record
from fastrnn.network import Network
from fastrnn.parameters import initial_parameters
from fastrnn.storage.checkpoint import Best, Checkpoint, CorpusInfo, History, Last, Sample
from fastrnn.text.corpus import Corpus
from fastrnn.text.streams import Streams
from fastrnn.training import schedule
from fastrnn.training.diagnosis import smaller_clip
from fastrnn.training.schedule import total_updates
from fastrnn.writing import Writer

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
    end : int
        After how many updates the training ends.
    """

    def __init__(self, corpus: Corpus, config: Config, threads: int = 1):
        self.corpus = corpus
        self.config = config
        self.corpus_info = CorpusInfo(corpus.name, corpus.length, corpus.sha256, corpus.encoding)
        characters = len(corpus.vocabulary)
        self.streams = Streams(corpus.codes, config.batch, config.seq_length, characters)
        self.end = total_updates(config, self.streams.chunks)
        self.network = Network(config, characters, threads)
        self.network.set_parameters(initial_parameters(config, characters))
        # Its own stream of random numbers, so that samples do not change the training.
        self.generator = np.random.default_rng([config.seed, 1])
        self.update = self.epoch = self.chunk = 0
        self.smooth_loss = self._rehearse()
        if not np.isfinite(self.smooth_loss):
            remedy = "another start" if config.sigma is None else f"a sigma below {config.sigma:g}"
            raise FastrnnError(f"the loss is not finite before the first update; try {remedy}")
        self.lowest_update, self.lowest_smooth_loss = 0, self.smooth_loss
        self.curve = Curve()
        self.samples: list[Sample] = []
        self.seconds = 0.0
        # The best model is the current one; it is copied when the next update makes it worse.
        self._best_is_current = True

    def _rehearse(self) -> float:
        """Loss of the first chunk, by the first update, which is taken back.

        And a character is read as for a sample, so that no measured time contains the compilation
        of the kernels.
        """
        network = self.network
        before = network.copy_state()
        codes = self.streams.read(0, 1)
        record = self._train(codes, Record(math.nan, math.inf, -1, False), np.empty(1))
        network.restore_state(before)
        Writer(network).read(codes[:2, 0])
        return record.smooth_loss

    def _train(self, codes: np.ndarray, record: Record, smooth_losses: np.ndarray) -> Record:
        config, count = self.config, len(smooth_losses)
        numbers = schedule.steps(config, self.update, count, self.end)
        keys = schedule.dropout_keys(config.seed, self.update, count, config.layers)
        return self.network.train(codes, numbers, keys, record, smooth_losses)

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
        record = self._train(codes, record, smooth_losses)
        # Weights that are no longer finite make the loss of the next update so.
        finite = np.append(np.isfinite(smooth_losses), self.network.is_finite())
        if not finite.all():
            self.network.restore_state(before)
            update = self.update + 1 + int(np.argmin(finite))
            raise FastrnnError(
                f"the loss is not finite any more at update {update}; "
                f"try a lower learning rate than {self.config.learning_rate:g}, or "
                f"{smaller_clip(self.config)}"
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
            self.network.state[...] = 0.0

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
        writer = Writer(self.network, self.network.state[:, 0])
        writer.read(next_character)
        drawn = [np.empty(0, np.int32)]
        for codes in writer.pieces(length, [generator]):
            drawn.append(codes[:, 0])
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
            best=Best(self.lowest_update, self.lowest_smooth_loss, best),
            last=Last(
                update=self.update,
                epoch=self.epoch,
                chunk=self.chunk,
                smooth_loss=self.smooth_loss,
                parameters=network.parameters,
                optimizer=network.optimizer_state,
                state=network.state.copy(),
                generator=dict(self.generator.bit_generator.state),
            ),
            history=History(self.curve.update, self.curve.smooth_loss, list(self.samples)),
            seconds=self.seconds,
            version=__version__,
        )
