"""A training that can be advanced, sampled from, and put into a checkpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace

import numpy as np

from fastrnn._version import __version__
from fastrnn.config import Config, option_name
from fastrnn.errors import FastrnnError
from fastrnn.kernels.entries import SMOOTHING, Record
from fastrnn.kernels.writing import Choice
from fastrnn.network import Network, Weights
from fastrnn.parameters import Parameters
from fastrnn.storage.checkpoint import (
    Best,
    Checkpoint,
    CorpusInfo,
    History,
    Last,
    Run,
    Sample,
    State,
)
from fastrnn.text.corpus import Corpus
from fastrnn.text.streams import EncodedText, Lines, held_out, in_order, next_line
from fastrnn.text.vocabulary import Vocabulary
from fastrnn.training import schedule
from fastrnn.training.diagnosis import EXPLODED, WINDOW, calmer
from fastrnn.training.schedule import total_updates
from fastrnn.training.start import Start, fresh
from fastrnn.training.validation import HeldOut, out_of_patience
from fastrnn.writing import Writer

HISTORY_POINTS = 8192  # at most; then every other one is dropped
GOOD_EVERY = 1000  # updates after which a training that may go back remembers where it is
ROLLBACKS = 3  # at most
SOURCES = 2**15  # bytes of JSON, up to which a checkpoint says what its text was read from
# Validation comes by default when the training has read so many times the characters that are held
# out. Reading takes less than half of the time of training, so it costs less than 5 %.
VALIDATE_AFTER = 10


@dataclass
class Curve:
    """The smooth loss at evenly spaced updates: all of them at first, fewer as they get many."""

    stride: int = 1
    update: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    smooth_loss: np.ndarray = field(default_factory=lambda: np.empty(0))

    @classmethod
    def of(cls, history: History) -> Curve:
        """The curve of a checkpoint. Its first update is the stride, as they count from 1."""
        stride = max(1, int(history.update[0])) if len(history.update) else 1
        return cls(stride, history.update, history.smooth_loss)

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


@dataclass
class Validation:
    """The loss on the text that is held out, in nats per character, after `update`."""

    update: int
    loss: float


def line_end_of(corpus: Corpus) -> int:
    """The code of the line end, between the items of a text."""
    if "\n" not in corpus.vocabulary.characters:
        raise FastrnnError("lines is True, but the text is one line; train without")
    return int(corpus.vocabulary.encode("\n")[0])


def _sources_of(corpus: Corpus) -> tuple[list[str] | None, str]:
    """Where a text can be found again, if that is not too long to be kept."""
    if corpus.sources is None or len(json.dumps([*corpus.sources, corpus.folder])) > SOURCES:
        return None, ""
    return list(corpus.sources), corpus.folder


class Trainer:
    """A training that can be advanced by any number of updates; how it is divided changes nothing.

    The best model is that of the lowest smooth loss, exact to the update, until there is a
    validation: from then on it is that of the lowest validation loss.

    Parameters
    ----------
    corpus : Corpus
    config : Config
    threads : int
        How many work together, at most.
    start : Start, optional
        What it starts from; by default a new model of the text's vocabulary.
    run : Run, optional
        How it is run. Only its checkpoints keep that, for whoever resumes it.

    Attributes
    ----------
    vocabulary : Vocabulary
        The model's.
    resumed : bool
        Whether it goes on from a checkpoint.
    update, epoch, chunk : int
        Updates made; the epoch (from 0) and the chunk within it that come next.
    smooth_loss : float
        Running average of the loss, 0.999 of the old and 0.001 of the new. Before the first update
        it is the loss of the first chunk.
    best_update, best_smooth_loss
        Where the best model is from, and the smooth loss there.
    validations : list of Validation
    best_validation : Validation or None
        The lowest.
    end : int
        After how many updates the training ends.
    rollbacks : list of list of int
        Each time that the loss exploded and the training went back: at which update, and to which.
    """

    def __init__(
        self,
        corpus: Corpus,
        config: Config,
        threads: int = 1,
        start: Start | None = None,
        run: Run | None = None,
    ):
        self.corpus = corpus
        self.config = config
        self.threads = threads
        self.run = run or Run()
        self.resumed = False
        self.vocabulary = corpus.vocabulary if start is None else start.vocabulary
        translation = None
        if self.vocabulary != corpus.vocabulary:
            translation = self.vocabulary.encode(corpus.vocabulary.characters).astype(np.int32)
        characters = len(corpus.vocabulary)
        ends = list(held_out(corpus.length, config.val_fraction, config.test_fraction))
        self.separator: int | None = None
        if config.lines:
            line_end = line_end_of(corpus)
            ends = [next_line(corpus.codes, end, line_end) for end in ends]
            self.separator = line_end if translation is None else int(translation[line_end])

        text = corpus.name, corpus.length, corpus.sha256, corpus.encoding
        parts = ends[1] - ends[0], corpus.length - ends[1]
        self.corpus_info = CorpusInfo(*text, *parts, *_sources_of(corpus))

        # Where each character is a byte, a line may end in \r\n.
        returns = corpus.encoding == "bytes" and "\r" in self.vocabulary.characters
        no_part = int(self.vocabulary.encode("\r")[0]) if returns else -1

        def part(codes: np.ndarray) -> EncodedText | Lines:
            is_part = len(codes) < corpus.length
            text = EncodedText(codes, characters, translation, is_part)
            return text if self.separator is None else Lines(text, self.separator, no_part)

        def held_out_part(setting: str, codes: np.ndarray) -> HeldOut | None:
            if getattr(config, setting) == 0:
                return None
            return HeldOut(part(codes), option_name(setting))

        self.streams = in_order(config, part(corpus.codes[: ends[0]]))
        self._validation = held_out_part("val_fraction", corpus.codes[ends[0] : ends[1]])
        self._test = held_out_part("test_fraction", corpus.codes[ends[1] :])
        self.end = total_updates(config, self.streams.chunks)
        self.network = Network(config, len(self.vocabulary), threads, self.separator)
        self.network.set_parameters((start or fresh(corpus, config)).parameters)
        # Its own stream of random numbers, so that samples do not change the training.
        self.generator = np.random.default_rng([config.seed, 1])
        self.update = self.epoch = self.chunk = 0
        self.rollbacks: list[list[int]] = []
        self.smooth_loss = self._rehearse()
        if not np.isfinite(self.smooth_loss):
            remedy = "another start" if config.sigma is None else f"a sigma below {config.sigma:g}"
            raise FastrnnError(f"the loss is not finite before the first update; try {remedy}")
        self.best_update, self.best_smooth_loss = 0, self.smooth_loss
        self.validations: list[Validation] = []
        self.best_validation: Validation | None = None
        self._test_loss: float | None = None
        self.curve = Curve()
        self.samples: list[Sample] = []
        self.seconds = 0.0
        self.above = 0  # for how many updates more than not the loss has lately been far too high
        self._good: State | None = None  # where a training that may go back goes
        # The best model is the current one; it is copied when the next update makes it worse.
        self._best_is_current = True
        self._remember_if_good()

    @classmethod
    def resume(cls, corpus: Corpus, checkpoint: Checkpoint, threads: int = 1) -> Trainer:
        """The training of a checkpoint, which goes on as if nothing had interrupted it.

        Parameters
        ----------
        corpus : Corpus
            The same text.
        checkpoint : Checkpoint
        threads : int

        Raises
        ------
        FastrnnError
            If the checkpoint says that it is at a place where no training on this text comes.
        """
        # Of the best model it is certain that its loss is finite.
        start = Start(Vocabulary(checkpoint.vocabulary), checkpoint.best.parameters)
        trainer = cls(corpus, checkpoint.config, threads, start, checkpoint.run)
        last, chunks = checkpoint.last, trainer.streams.chunks
        if last.update != last.epoch * chunks + last.chunk or last.chunk >= chunks:
            raise FastrnnError(
                f"the checkpoint is at chunk {last.chunk} of epoch {last.epoch} after update "
                f"{last.update}, which its text of {chunks} chunks does not have; train again"
            )
        trainer.restore(checkpoint)
        trainer.rollbacks = list(checkpoint.history.rollbacks)
        trainer.seconds = checkpoint.seconds
        trainer.resumed = True
        trainer._good = checkpoint.good
        return trainer

    def restore(self, state: State | Checkpoint) -> None:
        """Be what the training was at this time."""
        best, last, history = state.best, state.last, state.history
        network = self.network
        network.set_parameters(best.parameters)
        network.keep_as_best()
        self._best_is_current = False  # it is a copy, whether it is current or not
        network.set_parameters(last.parameters)
        network.set_optimizer_state(last.optimizer)
        network.state[...] = last.state
        self.update, self.epoch, self.chunk = last.update, last.epoch, last.chunk
        self.smooth_loss, self.above = last.smooth_loss, last.above
        self.generator.bit_generator.state = last.generator
        self.best_update, self.best_smooth_loss = best.update, best.smooth_loss
        rows = zip(history.validation_update, history.validation_loss, strict=True)
        self.validations = [Validation(int(update), float(loss)) for update, loss in rows]
        self.best_validation = min(self.validations, key=lambda one: one.loss, default=None)
        self._test_loss = None  # the test comes at the end, for which the training heads anew
        self.curve = Curve.of(history)
        self.samples = list(history.samples)

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
        config, count = self._scheduled, len(smooth_losses)
        numbers = schedule.steps(config, self.update, count, self.end)
        keys = schedule.dropout_keys(config.seed, self.update, count, config.layers)
        return self.network.train(codes, numbers, keys, record, smooth_losses)

    @property
    def _scheduled(self) -> Config:
        """The settings with the learning rate that is left after the rollbacks."""
        rate = self.config.learning_rate / 2 ** len(self.rollbacks)
        return replace(self.config, learning_rate=rate)

    def advance(self, count: int) -> str | None:
        """Make `count` updates within the current epoch, unless the loss explodes.

        That is when it is not finite any more, or has been far above that of an untrained model
        for long.

        Returns
        -------
        str or None
            What happened, if the training went back because the loss exploded.

        Raises
        ------
        FastrnnError
            If it exploded and the training does not go back, or has done so too often. Then the
            training is in the last state that is finite, and not far above for too long.
        """
        goal = self.update + count
        while self.update < goal:
            room = GOOD_EVERY - self.update % GOOD_EVERY
            made, first, failed = min(goal - self.update, room), self.update + 1, None
            # As far as it goes: how updates are divided changes nothing, here as elsewhere.
            while made > 0 and (index := self._attempt(made)) is not None:
                failed = first + index if failed is None else failed
                made = min(index, made - 1)
            if failed is not None:
                return self._go_back(failed)
        return None

    def _attempt(self, count: int) -> int | None:
        """Make `count` updates, or none.

        Returns
        -------
        int or None
            Which of them failed, from 0; `count`, if that is the one after them, as their weights
            are not finite.
        """
        before = self.network.copy_state()
        codes = self.streams.read(self.chunk, count, self.epoch)
        # No smooth loss is below that of a best model which was found by validation.
        lowest = self.best_smooth_loss if self.best_validation is None else -math.inf
        record = Record(self.smooth_loss, lowest, -1, self._best_is_current)
        smooth_losses = np.empty(count)
        record = self._train(codes, record, smooth_losses)
        # Weights that are no longer finite make the loss of the next update so.
        good = np.append(np.isfinite(smooth_losses), self.network.is_finite())
        above = self._far_above(smooth_losses)
        good[:count] &= above < WINDOW
        if not good.all():
            self.network.restore_state(before)
            return int(np.argmin(good))
        self.above = int(above[-1])
        self.smooth_loss = record.smooth_loss
        if record.lowest_index >= 0:
            self.best_update = self.update + 1 + record.lowest_index
            self.best_smooth_loss = record.lowest
        self._best_is_current = record.pending
        self.curve.extend(self.update + 1, smooth_losses)
        self.update += count
        self.chunk += count
        if self.chunk == self.streams.chunks:
            self.epoch, self.chunk = self.epoch + 1, 0
            self.network.state[...] = 0.0
        self._remember_if_good()
        return None

    def _far_above(self, smooth_losses: np.ndarray) -> np.ndarray:
        """By how many updates the losses far above an untrained model's have lately been more than
        the others.

        The smooth loss itself says too little: after a single huge loss it takes some thousand
        updates to come down, however good the model is again. And single losses vary too much for
        all of them to be above. This sum of +1 and -1, never below 0, is that of Page's test.
        """
        before = np.append(self.smooth_loss, smooth_losses[:-1])
        with np.errstate(all="ignore"):  # what is not finite is noticed elsewhere
            losses = (smooth_losses - SMOOTHING * before) / (1 - SMOOTHING)
        walk = self.above + np.cumsum(np.where(losses > EXPLODED * self._untrained, 1, -1))
        return walk - np.minimum(np.minimum.accumulate(walk), 0)

    @property
    def _untrained(self) -> float:
        """The loss of a model that holds all characters for equally likely."""
        return self.config.loss_length * math.log(len(self.vocabulary))

    def _remember_if_good(self) -> None:
        """Keep the state from time to time, if the training may go back and is well."""
        may_go_back = self.config.on_divergence == "rollback"
        well = self.update == 0 or (self.above == 0 and self.smooth_loss <= self._untrained)
        if may_go_back and self.update % GOOD_EVERY == 0 and well:
            now = self.checkpoint()
            self._good = State(now.best, now.last, now.history)

    def _go_back(self, update: int) -> str:
        """Go back from the update that failed to where all was well; what happened, in words."""
        gradient, parameters = self._norms()
        problem = f"the loss is not finite any more at update {update}"
        if self.above + 1 >= WINDOW:
            problem = (
                f"the loss, {self.smooth_loss:.4g} on average, has been far above that of an "
                f"untrained model for {WINDOW:,} updates at update {update}"
            )
        problem += (
            f", with a gradient of norm {gradient:.3g} and parameters of norm {parameters:.3g}"
        )
        if self._good is None or len(self.rollbacks) == ROLLBACKS:
            raise FastrnnError(f"{problem}; {calmer(self._scheduled)}")
        rollbacks = [*self.rollbacks, [update, self._good.last.update]]
        self.restore(self._good)
        self.rollbacks = rollbacks
        return (
            f"{problem}; the training goes back to update {self.update:,}, and on with half of the "
            f"learning rate, {self._scheduled.learning_rate:g}"
        )

    def _norms(self) -> tuple[float, float]:
        """Those of the gradient of the next update, and of all parameters."""
        network, config = self.network, self.config
        before = network.copy_state()
        keys = schedule.dropout_keys(config.seed, self.update, 1, config.layers)
        codes = self.streams.read(self.chunk, 1, self.epoch)
        network.loss_and_gradient(codes, keys if config.dropout else None)
        norms = _norm(network.gradient), _norm(network.parameters)
        network.restore_state(before)
        return norms

    @property
    def next_validation(self) -> int:
        """After how many updates the next validation is due; `end` if nothing is held out."""
        if self._validation is None:
            return self.end
        every = self.config.val_every
        if every is None:
            read = self.config.batch * self.config.seq_length
            every = -(-VALIDATE_AFTER * self._validation.characters // read)
        last = self.validations[-1].update if self.validations else 0
        return min((last // every + 1) * every, self.end)

    def validate(self, stop: Callable[[], bool] = lambda: False) -> Validation | None:
        """The loss of the current model on the validation part, if it is due now.

        Parameters
        ----------
        stop : callable
            Is asked several times a second, and when it says so this is given up.

        Returns
        -------
        Validation or None
            None if it is not due, or was given up.

        Raises
        ------
        FastrnnError
            If it is not finite.
        """
        made = bool(self.validations) and self.validations[-1].update == self.update
        if self._validation is None or made or self.update != self.next_validation:
            return None
        loss = self._validation.loss(self.network, self.threads, stop)
        if loss is None:
            return None
        if not math.isfinite(loss):
            raise FastrnnError(
                f"the validation loss is not finite at update {self.update}; {calmer(self.config)}"
            )
        validation = Validation(self.update, loss)
        self.validations.append(validation)
        if self.best_validation is None or loss < self.best_validation.loss:
            self.best_validation = validation
            self.best_update, self.best_smooth_loss = self.update, self.smooth_loss
            self.network.keep_as_best()
            self._best_is_current = False
        return validation

    @property
    def out_of_patience(self) -> bool:
        """Whether so many validations as `config.patience` says were no lower than the best."""
        return out_of_patience([one.loss for one in self.validations], self.config.patience)

    def test(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Find the loss of the best model on the test part, if there is one."""
        if self._test is not None:
            weights = Weights(self.config, len(self.vocabulary))
            weights.set_parameters(self._best)
            self._test_loss = self._test.loss(weights, self.threads, stop)

    @property
    def _best(self) -> Parameters:
        return self.network.parameters if self._best_is_current else self.network.best

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
        if self.separator is None:
            known = self.streams.read(self.chunk, 1, self.epoch)[:1, 0]
            writer, choice = Writer(self.network, self.network.state[:, 0]), Choice()
        else:  # items, each from its start
            known = np.array([self.separator])
            writer, choice = Writer(self.network), Choice(end=self.separator, longest=length)
        writer.read(known)
        drawn = [np.empty(0, np.int32)]
        for codes in writer.pieces(length, [generator], choice):
            drawn.append(codes[:, 0])
            if stop():
                return None
        text = self.vocabulary.decode(np.concatenate(drawn))
        self.generator = generator
        self.samples.append(Sample(self.update, self.smooth_loss, text))
        return self.samples[-1]

    def checkpoint(self) -> Checkpoint:
        """Copies of all that the training is and was."""
        network = self.network
        lowest = None if self.best_validation is None else self.best_validation.loss
        return Checkpoint(
            config=self.config,
            vocabulary=self.vocabulary.characters,
            corpus=self.corpus_info,
            best=Best(
                update=self.best_update,
                smooth_loss=self.best_smooth_loss,
                parameters=self._best,
                validation_loss=lowest,
                test_loss=self._test_loss,
            ),
            last=Last(
                update=self.update,
                epoch=self.epoch,
                chunk=self.chunk,
                chunks=self.streams.chunks,
                smooth_loss=self.smooth_loss,
                parameters=network.parameters,
                optimizer=network.optimizer_state,
                state=network.state.copy(),
                generator=dict(self.generator.bit_generator.state),
                above=self.above,
            ),
            history=History(
                update=self.curve.update,
                smooth_loss=self.curve.smooth_loss,
                samples=list(self.samples),
                validation_update=np.array([one.update for one in self.validations], np.int64),
                validation_loss=np.array([one.loss for one in self.validations]),
                rollbacks=self.rollbacks,
            ),
            seconds=self.seconds,
            version=__version__,
            run=self.run,
            good=self._good,
        )


def _norm(arrays: Parameters) -> float:
    """The norm of all their elements."""
    norms = (np.linalg.norm(array.astype(np.float64)) for array in arrays.values())
    return math.hypot(*map(float, norms))
