"""The loop of a training: slices of updates, samples, checkpoints, interruption."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from fastrnn import checks, memory
from fastrnn.config import CHECKPOINT_EVERY, MOST_UPDATES, SAMPLE_EVERY, SAMPLE_LENGTH, Config
from fastrnn.errors import FastrnnError
from fastrnn.kernels.compile import compilation_notice
from fastrnn.layout import REMEDIES, require_memory, saving_memory, training_memory
from fastrnn.model import Model
from fastrnn.storage.checkpoint import Checkpoint, Run, load
from fastrnn.storage.destination import Destination
from fastrnn.storage.files import AnyPath, shown
from fastrnn.storage.lock import only_training
from fastrnn.text.corpus import Corpus
from fastrnn.threads import check as check_threads
from fastrnn.threads import usable_threads, useful_threads
from fastrnn.training.diagnosis import diagnose
from fastrnn.training.observers import Observer, Observers
from fastrnn.training.pace import Pace
from fastrnn.training.progress import JsonLog, Notes
from fastrnn.training.resume import (
    bends_with_the_end,
    command_to_resume,
    complete,
    is_complete,
    same_text,
    text_of,
    unfinished,
    with_end,
)
from fastrnn.training.saver import Saver
from fastrnn.training.signals import Signals, before_the_end
from fastrnn.training.start import VOCABULARIES, architecture_of, carried_over, model_of
from fastrnn.training.trainer import HISTORY_POINTS, Trainer
from fastrnn.writing import TEXT_BYTES

COMPILING = "Compiling the kernels: some ten seconds, the first time only."


@memory.running_out("the training", "use " + " or ".join(REMEDIES.values()))
def train(
    corpus: Corpus,
    config: Config | None = None,
    *,
    epochs: int | None = None,
    updates: int | None = None,
    path: AnyPath | None = None,
    overwrite: bool = False,
    keep: int = 0,
    checkpoint_every: float = CHECKPOINT_EVERY,
    sample_every: int = SAMPLE_EVERY,
    sample_length: int = SAMPLE_LENGTH,
    threads: int | None = None,
    init_from: AnyPath | Checkpoint | Model | None = None,
    vocabulary: str = "union",
    observers: Sequence[Observer] | None = None,
) -> Checkpoint:
    """Train a network on a text.

    Parameters
    ----------
    corpus : Corpus
        The text, from `read_corpus`.
    config : Config, optional
        The model and its training; by default the reference experiment's. If it holds text out for
        validation, the best model is that of the lowest validation loss.
    epochs, updates : int, optional
        In place of those of `config`, both: stop after so many passes over the text, or updates, or
        at whichever comes first if both are given.
    path : str or path-like, optional
        Checkpoint file, written every `checkpoint_every` seconds while the training goes on, at the
        end, on SIGUSR1, and when SIGINT, SIGTERM or SIGHUP stops it; not by a training that ends
        before its first update. A checkpoint that is there is kept under the next free name,
        best.1.h5 for best.h5. While best.h5.lock is there, no other training may save there.
    overwrite : bool
        Replace that checkpoint instead.
    keep : int
        How many of this training's checkpoints to keep beside the newest, each under the name of
        its update, best.update-1200.h5.
    checkpoint_every : float
        Seconds.
    sample_every, sample_length : int
        Before the first update and before every `sample_every`-th, synthesize `sample_length`
        characters; 0 switches samples off.
    threads : int, optional
        How many work together at most, which does not change the results; at most one for each
        logical processor. By default one for each physical core that the process may use, and fewer
        where there is too little work for so many. While fewer are faster, as other processes keep
        cores busy, fewer work.
    init_from : str, path-like, Checkpoint or Model, optional
        Start from these weights, of a checkpoint the best, instead of fresh ones; what belongs to
        characters that are new to them is fresh. The architecture has to be the same; without a
        `config` it is taken from there.
    vocabulary : {"union", "new"}
        Whether characters that the text lacks, but `init_from` has, are kept.
    observers : sequence of Observer, optional
        Are told of progress; an observer has one training at a time. By default notes and warnings
        go to standard error. `Progress` shows more.

    Returns
    -------
    Checkpoint
        With the model of the lowest loss in `best`: the smooth loss, exact to the update, or the
        validation loss where text is held out. A training without a path that Ctrl-C stops returns
        what it has.

    Raises
    ------
    FastrnnError
        If the text is too short, `init_from` is of another architecture, another training saves
        to `path`, the checkpoint cannot be written, or the loss explodes; in the last case the
        checkpoint holds the training as it was shortly before. A failure to write it ends
        no training; and what cannot be written at the end is saved beside it, or in the temporary
        folder, as the message says.
    KeyboardInterrupt, SystemExit
        After SIGINT of a training with a path, or SIGTERM and SIGHUP, with the checkpoint written
        if there was an update.
    """
    corpus = checks.instance("corpus", corpus, Corpus, "fastrnn.read_corpus")
    model = None if init_from is None else model_of(init_from)
    if config is None:
        config = Config(**({} if model is None else architecture_of(model)))
    config = checks.instance("config", config, Config)
    if model is None and checks.choice("vocabulary", vocabulary, VOCABULARIES) != "union":
        raise FastrnnError("vocabulary is 'new', which is of use only with init_from")
    start = None if model is None else carried_over(corpus, config, model, vocabulary)
    if epochs is not None or updates is not None:
        config = replace(config, epochs=epochs, updates=updates)
    path = None if path is None else checks.path("path", path)
    overwrite = checks.instance("overwrite", overwrite, bool)
    keep = checks.whole("keep", keep, highest=MOST_UPDATES)
    every = _seconds(checkpoint_every)
    sample_every = checks.whole("sample_every", sample_every, highest=MOST_UPDATES)
    sample_length = checks.whole("sample_length", sample_length, highest=MOST_UPDATES)
    if threads is not None:
        threads = check_threads(threads)
    tell = Observers([Notes()] if observers is None else observers)
    run = Run(sample_every, sample_length, every, threads, _log_of(tell), keep, _name_of(init_from))
    _require_samples(run)

    def go_on(saver: Saver | None) -> Checkpoint:
        # Can be interrupted: there is nothing to save yet.
        with compilation_notice(lambda: tell.noted(COMPILING)):
            trainer = Trainer(corpus, config, _threads_of(run, config, corpus), start, run)
        return _go_on(trainer, saver, tell)

    if path is None:
        return go_on(None)
    with only_training(path) as turn, before_the_end(turn.remove_file):
        destination = Destination(path, overwrite, keep)
        # A warning if it is not where it was asked to be.
        say = tell.noted if destination.path == path else tell.warned
        for notice in destination.notices:
            say(notice)
        if turn.warning is not None:
            tell.warned(turn.warning)
        if unfinished(path, config, corpus):
            command = command_to_resume(destination.path_before, corpus.sources)
            tell.noted(f"It is of this very training, which is not complete: {command} goes on.")
        _require_memory(run, config, corpus)
        return go_on(Saver(destination, tell))


@memory.running_out("the training", "use " + " or ".join(REMEDIES.values()))
def resume(
    path: AnyPath,
    corpus: Corpus | None = None,
    *,
    epochs: int | None = None,
    updates: int | None = None,
    keep: int | None = None,
    checkpoint_every: float | None = None,
    threads: int | None = None,
    observers: Sequence[Observer] | None = None,
) -> Checkpoint:
    """Go on with a training that was interrupted, as if it had not been.

    The result is the same, bit for bit, but for the seconds. With another end it is that of a
    training which had that end from the start, unless something before it depends on the end: the
    learning rate of a schedule, or a validation at the old one.

    Parameters
    ----------
    path : str or path-like
        Its checkpoint, which is replaced.
    corpus : Corpus, optional
        The same text; by default it is read again from where it was.
    epochs, updates : int, optional
        Another end, in place of both that the training had: see `train`.
    keep, checkpoint_every, threads
        In place of those that the training had.
    observers : sequence of Observer, optional
        By default notes and warnings go to standard error, and the log of the training goes on.

    Returns
    -------
    Checkpoint
        As of `train`; if the training is complete, what is there.

    Raises
    ------
    FastrnnError
        As of `train`; or if the text is another one or cannot be found, or the training is beyond
        its end.
    KeyboardInterrupt, SystemExit
        As of `train`.
    """
    path = checks.path("path", path)
    with only_training(path) as turn, before_the_end(turn.remove_file):
        found = load(path)
        run = found.run
        if keep is not None:
            run = replace(run, keep=checks.whole("keep", keep, highest=MOST_UPDATES))
        if checkpoint_every is not None:
            run = replace(run, checkpoint_every=_seconds(checkpoint_every))
        if threads is not None:
            run = replace(run, threads=check_threads(threads))
        if observers is None:
            observers = [Notes(), *([JsonLog(run.log)] if run.log is not None else [])]
        tell = Observers(observers)
        run = replace(run, log=_log_of(tell) or run.log)
        config = with_end(found, path, epochs, updates)
        checkpoint = replace(found, config=config, run=run)
        if turn.warning is not None:
            tell.warned(turn.warning)
        if is_complete(checkpoint):
            tell.noted(complete(checkpoint, path))
            return found
        _require_samples(run)
        if corpus is None:
            corpus = text_of(checkpoint, path)
        corpus = same_text(checkpoint, path, checks.instance("corpus", corpus, Corpus))
        destination = Destination(path, overwrite=True, keep=run.keep)
        destination.go_on(found)
        if destination.path != path:
            for notice in destination.notices:
                tell.warned(notice)
        _require_memory(run, config, corpus)
        with compilation_notice(lambda: tell.noted(COMPILING)):
            trainer = Trainer.resume(corpus, checkpoint, _threads_of(run, config, corpus))
        tell.noted(f"Resumed after update {trainer.update:,} of {trainer.end:,}.")
        if config != found.config and bends_with_the_end(config):
            tell.noted(
                "The learning rate goes down to another end than before: from here on it is not "
                "what it would have been, nor was it so far what this end asks for."
            )
        return _go_on(trainer, Saver(destination, tell), tell)


def _seconds(checkpoint_every: float) -> float | None:
    every = checks.real("checkpoint_every", checkpoint_every, zero=True, infinity=True)
    return every if every < math.inf else None


def _require_samples(run: Run) -> None:
    if run.sample_every > 0:
        memory.require(
            TEXT_BYTES * run.sample_length,
            f"sample_length is {checks.shown_value(run.sample_length)}",
            "a sample",
            "write shorter samples",
        )


def _require_memory(run: Run, config: Config, corpus: Corpus) -> None:
    """Raise FastrnnError if there is too little memory for a training that saves meanwhile."""
    characters, threads = len(corpus.vocabulary), _threads_of(run, config, corpus)

    def needed(config: Config) -> int:
        return training_memory(config, characters, threads) + saving_memory(config, characters)

    require_memory("the training", needed, config)


def _name_of(init_from: AnyPath | Checkpoint | Model | None) -> str | None:
    """What a training starts from: the path of a checkpoint, or what it is."""
    if init_from is None or isinstance(init_from, (Checkpoint, Model)):
        return None if init_from is None else repr(init_from)
    return shown(init_from)


def _log_of(tell: Observers) -> str | None:
    """The path of the first log among the observers."""
    paths = (one.path for one in tell.observers if isinstance(one, JsonLog))
    return next((os.path.abspath(os.fsdecode(path)) for path in paths), None)


def _threads_of(run: Run, config: Config, corpus: Corpus) -> int:
    """How many threads work together at most, on this machine."""
    if run.threads is None:
        return useful_threads(config, len(corpus.vocabulary))
    return usable_threads(run.threads)


def _go_on(trainer: Trainer, saver: Saver | None, tell: Observers) -> Checkpoint:
    """Train from where a trainer is to its end, or until a signal comes: see `train`."""
    if saver is not None:
        # The curve grows, by so many bytes each.
        saver.destination.check(trainer.checkpoint(), growth=HISTORY_POINTS * 16)
    end, run = trainer.end, trainer.run
    every = math.inf if run.checkpoint_every is None else run.checkpoint_every
    with Signals(can_save=saver is not None) as signals:
        tell.started(trainer, end)
        saved = time.monotonic()
        started = saved - trainer.seconds
        pace = Pace(trainer.threads)
        ends_well = False

        def stop() -> bool:
            return signals.received is not None

        try:
            if trainer.resumed:  # what the interruption prevented
                _validate(trainer, tell, stop)
            while trainer.update < end and not trainer.out_of_patience and not stop():
                if _sample_is_due(trainer):
                    sample = trainer.sample(run.sample_length, stop)
                    if sample is None:
                        break
                    tell.sampled(sample)
                size = min(
                    pace.updates,
                    end - trainer.update,
                    trainer.streams.chunks - trainer.chunk,
                    _next_sample(trainer.update + 1, run.sample_every) - trainer.update,
                    trainer.next_validation - trainer.update,
                )
                trainer.network.use_threads(pace.threads)
                began = time.monotonic()
                went_back = trainer.advance(size)
                pace.took(size, time.monotonic() - began)
                if went_back is not None:
                    tell.warned(went_back)
                _validate(trainer, tell, stop)
                now = time.monotonic()
                trainer.seconds = now - started
                tell.progressed(trainer)
                if saver is not None:
                    saver.look()
                    if signals.save:
                        signals.save = False
                        saver.start(trainer.checkpoint())
                        if saver.wait():
                            tell.noted(f"Saved after update {trainer.update:,}, as SIGUSR1 asked.")
                        saved = now
                    elif trainer.update < end and not saver.is_busy and saved + every <= now:
                        saver.start(trainer.checkpoint())
                        saved = now
            if trainer.out_of_patience and trainer.update < end:
                tell.noted(_stopped_early(trainer))
            if not stop():
                trainer.test(stop)
                trainer.seconds = time.monotonic() - started
            ends_well = True
        finally:
            checkpoint = _finish(trainer, saver, tell, ends_well)
    if stop() and saver is not None and trainer.update > 0:
        path = saver.destination.path
        tell.noted(f"Go on with: {command_to_resume(path, trainer.corpus.sources)}")
    if signals.received == signal.SIGINT and saver is not None:
        raise KeyboardInterrupt
    if signals.received not in (None, signal.SIGINT):
        raise SystemExit(128 + signals.received)
    return checkpoint


def _validate(trainer: Trainer, tell: Observer, stop: Callable[[], bool]) -> None:
    """Validate, if that is due."""
    validation = trainer.validate(stop)
    if validation is not None:
        tell.validated(validation)


def _stopped_early(trainer: Trainer) -> str:
    epoch = trainer.best_update / trainer.streams.chunks
    return (
        f"Stopped early, after update {trainer.update:,}: {trainer.config.patience} validations "
        f"without a lower loss than that of update {trainer.best_update:,} (epoch {epoch:.2f})."
    )


def _finish(trainer: Trainer, saver: Saver | None, tell: Observer, ends_well: bool) -> Checkpoint:
    """Save, and tell of the end, even if saving fails."""
    checkpoint = trainer.checkpoint()
    path = error = None
    try:
        if saver is not None:
            saver.wait()
            # A training that was stopped before its first update replaces no older one.
            if trainer.update > 0 or not os.path.exists(saver.destination.path):
                path, error = saver.finish(checkpoint)
        if error is not None and not ends_well:  # another error is on its way
            tell.warned(str(error))
        for warning in diagnose(checkpoint):
            tell.warned(warning)
        if error is not None and ends_well:
            raise error
    finally:
        tell.ended(checkpoint, path)
    return checkpoint


def _sample_is_due(trainer: Trainer) -> bool:
    """Whether one is due at this update, and has not been written before an interruption."""
    update, samples = trainer.update, trainer.samples
    written = bool(samples) and samples[-1].update == update
    return _next_sample(update, trainer.run.sample_every) == update and not written


def _next_sample(update: int, sample_every: int) -> int:
    """After how many updates, at least `update`, the next sample is due."""
    if sample_every == 0:
        return sys.maxsize
    return update + -(update + 1) % sample_every if update > 0 else 0
