"""Trainings are the experiment's, whatever happens around them."""

import io
import math
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastrnn.storage.checkpoint as checkpoints
from fastrnn import reference
from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.parameters import initial_parameters
from fastrnn.storage.checkpoint import Checkpoint, Run
from fastrnn.storage.destination import Destination
from fastrnn.text.corpus import Corpus
from fastrnn.text.vocabulary import Vocabulary
from fastrnn.training.loop import train
from fastrnn.training.observers import Observer
from fastrnn.training.pace import Pace
from fastrnn.training.progress import JsonLog, Progress
from fastrnn.training.trainer import Curve, Trainer
from fastrnn.writing import Writer

# Sizes are all different, so that no swapped axis goes unnoticed: m = 5, T = 4, K = 7, B = 3.
SMALL = Config(hidden=5, seq_length=4, dtype="float64", learning_rate=0.5)


def corpus_of(text: str) -> Corpus:
    vocabulary = Vocabulary.from_text(text)
    return Corpus("text", vocabulary.encode(text), vocabulary, "0" * 64)


# 30 chunks in one stream, 10 in three, with a rest; easy at first, then hard.
CORPUS = corpus_of("ab" * 31 + "".join(np.random.default_rng(1).choice(list("abcdefg"), 61)))


def bits(checkpoint: Checkpoint, folder: Path) -> bytes:
    """All of a checkpoint but the time it took, and how it was run."""
    checkpoints.save(folder / "bits.h5", replace(checkpoint, seconds=0.0, run=Run()))
    return (folder / "bits.h5").read_bytes()


class Recorder(Observer):
    """Keeps what it is told, and calls `act` at every progress."""

    def __init__(self, act=lambda trainer: None):
        self.act = act
        self.updates, self.samples, self.warnings, self.end = [], [], [], None

    def started(self, trainer, updates):
        self.updates.append(0)

    def progressed(self, trainer):
        self.updates.append(trainer.update)
        self.act(trainer)

    def sampled(self, sample):
        self.samples.append(sample)

    def warned(self, message):
        self.warnings.append(message)

    def ended(self, checkpoint, path):
        self.end, self.path = checkpoint, path


def plain_training(config: Config, updates: int):
    """The experiment as a plain loop: smooth losses, then the lowest update and its parameters."""
    T, B = config.seq_length, config.batch
    length = len(CORPUS.codes) // B
    streams = CORPUS.codes[: B * length].reshape(B, length).T
    chunks = (length - 1) // T
    parameters = initial_parameters(config, len(CORPUS.vocabulary))
    optimizer_state = reference.optimizer_state(config, parameters)
    zeros = np.zeros((1, B, config.hidden))
    smooth = reference.forward(parameters, zeros, streams[: T + 1]).loss
    losses, lowest, best = [smooth], 0, {k: v.copy() for k, v in parameters.items()}
    for i in range(updates):
        chunk = i % chunks
        if chunk == 0:
            state = zeros
        codes = streams[chunk * T : (chunk + 1) * T + 1]
        forward = reference.forward(parameters, state, codes)
        gradient = reference.backward(parameters, forward, codes)
        reference.update(config, parameters, gradient, optimizer_state, i)
        state = forward.state
        losses.append(0.999 * losses[-1] + 0.001 * forward.loss)
        if losses[-1] < losses[lowest]:
            lowest, best = i + 1, {k: v.copy() for k, v in parameters.items()}
    return np.array(losses), lowest, best, parameters


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("learning_rate", [0.05, 0.5])
def test_training_is_the_plain_loop(batch: int, learning_rate: float) -> None:
    config = replace(SMALL, batch=batch, learning_rate=learning_rate)
    result = train(CORPUS, config, updates=90)
    losses, lowest, best, last = plain_training(config, 90)
    assert result.last.epoch == (3 if batch == 1 else 9)
    assert result.history.update.tolist() == list(range(1, 91))
    np.testing.assert_allclose(result.history.smooth_loss, losses[1:], rtol=1e-12)
    assert result.last.smooth_loss == result.history.smooth_loss[-1]
    assert result.best.update == lowest
    assert result.best.smooth_loss == pytest.approx(losses.min(), rel=1e-12)
    # One stream ends with the hard half of the text.
    assert (0 < lowest < 85) == (batch == 1)
    for name in best:
        np.testing.assert_allclose(result.best.parameters[name], best[name], atol=1e-10)
        np.testing.assert_allclose(result.last.parameters[name], last[name], atol=1e-10)


def test_any_division_gives_the_same_bits(tmp_path: Path) -> None:
    results = set()
    for sizes in ([30], [1] * 30, [7, 1, 13, 9], [29, 1]):
        trainer = Trainer(CORPUS, replace(SMALL, learning_rate=3.0))
        for count in sizes * 3:
            trainer.advance(count)
        assert (trainer.update, trainer.epoch, trainer.chunk) == (90, 3, 0)
        assert not trainer.network.state.any()
        results.add(bits(trainer.checkpoint(), tmp_path))
    assert len(results) == 1


def test_samples_do_not_change_the_training(tmp_path: Path) -> None:
    def trained(**options) -> bytes:
        result = train(CORPUS, SMALL, updates=70, **options)
        last = replace(result.last, generator=np.random.default_rng(0).bit_generator.state)
        history = replace(result.history, samples=[])
        return bits(replace(result, last=last, history=history), tmp_path)

    assert trained(sample_every=0) == trained(sample_every=1) == trained(sample_every=13)


def test_same_seed_same_bits(tmp_path: Path) -> None:
    first, again, other = (
        bits(train(CORPUS, replace(SMALL, seed=seed), updates=40), tmp_path) for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("every", "iterations"),
    [(0, []), (1, [1, 2, 3, 4, 5, 6, 7]), (3, [1, 3, 6]), (7, [1, 7]), (8, [1])],
)
def test_samples_come_before_the_first_and_every_nth_update(every, iterations) -> None:
    recorder = Recorder()
    result = train(
        CORPUS, SMALL, updates=7, sample_every=every, sample_length=9, observers=[recorder]
    )
    assert [sample.update + 1 for sample in recorder.samples] == iterations
    assert recorder.samples == result.history.samples
    assert all(len(sample.text) == 9 for sample in recorder.samples)
    losses = [*plain_training(SMALL, 7)[0]]
    found = [sample.smooth_loss for sample in recorder.samples]
    assert found == pytest.approx([losses[i - 1] for i in iterations], rel=1e-12)


@pytest.mark.parametrize(
    ("limits", "updates"),
    [
        ({}, 270),
        ({"epochs": 2}, 60),
        ({"updates": 45}, 45),
        ({"epochs": 1, "updates": 45}, 30),
        ({"epochs": 2, "updates": 45}, 45),
        ({"updates": 0}, 0),
    ],
)
def test_end(limits: dict, updates: int) -> None:
    recorder = Recorder()
    last = train(CORPUS, SMALL, **limits, observers=[recorder]).last
    assert (last.update, last.epoch, last.chunk) == (updates, updates // 30, updates % 30)
    assert recorder.end.last.update == recorder.updates[-1] == updates


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"corpus": "book.txt"}, "corpus is 'book.txt', but must be a Corpus, from fastrnn.read"),
        ({"corpus": "a text " * 999}, "corpus is 'a text a text a"),
        ({"corpus": Corpus}, "corpus is the class Corpus, but must be a Corpus"),
        ({"config": {}}, "config is of type dict, but must be a Config"),
        ({"config": 0}, "config is 0, but must be a Config"),
        ({"epochs": -1}, "epochs is -1, but must be a whole number from 0 to 2147483647"),
        ({"updates": 2.5}, "updates is 2.5, but must be a whole number from 0 to 922337"),
        (
            {"sample_every": -1},
            f"sample_every is -1, but must be a whole number from 0 to {2**63 - 1}",
        ),
        (
            {"sample_length": True},
            f"sample_length is True, but must be a whole number from 0 to {2**63 - 1}",
        ),
        ({"threads": 0}, "threads is 0, but must be a whole number from 1 to 1024"),
        ({"checkpoint_every": "60"}, "checkpoint_every is '60', but must be zero or a positive"),
        ({"checkpoint_every": math.nan}, "checkpoint_every is nan, but must be zero or a positive"),
        ({"checkpoint_every": -1}, "checkpoint_every is -1, but must be zero or a positive number"),
        ({"path": 3}, "path is 3, but must be a path"),
        ({"path": io.BytesIO()}, "path is of type BytesIO, but must be a path"),
        ({"path": "a\0b"}, r"path is 'a\x00b', but must be a path, and those have no NUL"),
        ({"observers": 3}, "observers is 3, but must be a sequence of observers"),
        ({"observers": [print]}, "an observer is of type builtin_function_or_method, but must be"),
        ({"observers": [Recorder]}, "an observer is the class Recorder, but must be an Observer"),
    ],
)
def test_wrong_arguments(options: dict, refusal: str) -> None:
    with pytest.raises(FastrnnError) as error:
        train(**{"corpus": CORPUS, "config": SMALL} | options)
    message = str(error.value)
    assert message.startswith(refusal) and len(message) < 200 and message.isprintable()


def test_numpy_numbers(tmp_path: Path) -> None:
    result = train(
        CORPUS,
        replace(SMALL, hidden=np.int64(5), learning_rate=np.float64(0.5)),
        epochs=np.uint8(1),
        updates=np.int32(20),
        checkpoint_every=np.float32(0.5),
        sample_every=np.int64(10),
        sample_length=np.int16(7),
        threads=np.int64(1),
        path=os.fsencode(tmp_path / "a.h5"),
    )
    plain = train(CORPUS, SMALL, epochs=1, updates=20, sample_every=10, sample_length=7)
    assert bits(result, tmp_path) == bits(plain, tmp_path)
    assert (tmp_path / "a.h5").exists()


@pytest.mark.parametrize("piece", [1, 7, 64])
def test_a_sample_does_not_depend_on_its_pieces(piece: int, monkeypatch) -> None:
    expected = Trainer(CORPUS, SMALL).sample(50)
    monkeypatch.setattr(Writer, "piece", piece)
    asked = []
    assert Trainer(CORPUS, SMALL).sample(50, lambda: bool(asked.append(1))) == expected
    assert len(asked) == -(-50 // piece)


def test_a_sample_that_is_given_up_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Writer, "piece", 7)
    trainer = Trainer(CORPUS, SMALL)
    trainer.advance(9)
    before = bits(trainer.checkpoint(), tmp_path)
    answers = iter([False, False, True])
    assert trainer.sample(50, lambda: next(answers)) is None
    assert bits(trainer.checkpoint(), tmp_path) == before
    other = Trainer(CORPUS, SMALL)
    other.advance(9)
    assert trainer.sample(50) == other.sample(50)


def test_shortest_text() -> None:
    result = train(corpus_of("abcab"), SMALL, updates=3)
    assert (result.last.epoch, result.last.chunk) == (3, 0)
    with pytest.raises(FastrnnError, match="the text has 4 characters"):
        train(corpus_of("abca"), SMALL)


def test_single_character() -> None:
    result = train(corpus_of("a" * 20), SMALL, epochs=2, sample_length=5)
    assert result.best.update == 0  # a loss of 0 is never beaten
    assert result.best.smooth_loss == result.last.smooth_loss == 0.0
    assert result.history.samples[0].text == "aaaaa"


def test_curve_thins_out_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastrnn.training.trainer.HISTORY_POINTS", 8)
    for size in (1, 3, 100):
        curve = Curve()
        for first in range(1, 101, size):
            updates = np.arange(first, min(first + size, 101))
            curve.extend(first, updates / 10)
            assert len(curve.update) <= 8
        assert curve.update.tolist() == [16, 32, 48, 64, 80, 96]
        np.testing.assert_array_equal(curve.smooth_loss, curve.update / 10)


def test_checkpoint_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    result = train(CORPUS, SMALL, updates=30, path=path)
    assert bits(checkpoints.load(path), tmp_path) == bits(result, tmp_path)


def test_checkpoints_at_intervals(tmp_path: Path, monkeypatch) -> None:
    """All are written while the training goes on, one after the other, each as it was."""
    path, saved = tmp_path / "a.h5", []
    save = Destination.save

    def saving(destination, checkpoint):
        saved.append((checkpoint.last.update, threading.current_thread().name))
        return save(destination, checkpoint)

    monkeypatch.setattr(Destination, "save", saving)
    monkeypatch.setattr(Pace, "took", lambda *arguments: None)  # so all slices are short
    recorder = Recorder(lambda trainer: time.sleep(0.002))
    options = {"checkpoint_every": 0.0, "sample_every": 0, "keep": 99, "observers": [recorder]}
    config = replace(SMALL, epochs=3)
    train(CORPUS, config, path=path, **options)
    updates = [update for update, _ in saved]
    assert updates == sorted(set(updates)) and len(updates) >= 3 and updates[-1] == 90
    assert {name for _, name in saved[:-1]} == {"fastrnn-saver"}
    other = Trainer(CORPUS, config)
    for update in updates[:-1]:
        while other.update < update:
            other.advance(1)
        kept = checkpoints.load(tmp_path / f"a.update-{update}.h5")
        assert bits(kept, tmp_path) == bits(other.checkpoint(), tmp_path)


def test_divergence_leaves_what_was_before(tmp_path: Path) -> None:
    """The last state that is finite, however the updates are divided."""
    # The loss of update 1 is still good, its step is not.
    config = replace(SMALL, dtype="float32", clip=np.inf, learning_rate=1e38)
    before = Trainer(CORPUS, config)
    before.advance(1)
    for counts in ([20], [1, 1], [2]):
        trainer = Trainer(CORPUS, config)
        with pytest.raises(FastrnnError) as error:
            for count in counts:
                trainer.advance(count)
        assert re.fullmatch(
            r"the loss is not finite any more at update 2, with a gradient of norm nan and "
            r"parameters of norm [\d.e+]+; try a lower learning rate than 1e\+38 or a clip-norm",
            str(error.value),
        )
        assert bits(trainer.checkpoint(), tmp_path) == bits(before.checkpoint(), tmp_path)


@pytest.mark.parametrize("updates", [1, 50])
def test_divergence_keeps_a_checkpoint_that_loads(tmp_path: Path, updates: int) -> None:
    path, recorder = tmp_path / "a.h5", Recorder()
    # The first step is infinite.
    config = Config(hidden=5, seq_length=10, optimizer="sgd", learning_rate=3e38, clip=math.inf)
    with pytest.raises(FastrnnError, match="not finite any more at update 2, with"):
        train(CORPUS, config, updates=updates, path=path, observers=[recorder])
    found = checkpoints.load(path)  # which refuses what is not finite
    assert found.last.update == recorder.end.last.update == 0


def test_observers_hear_the_end_when_saving_fails(tmp_path: Path, monkeypatch) -> None:
    class Unprintable(Recorder):
        def ended(self, checkpoint, path):
            raise BrokenPipeError

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    folder = tmp_path / "folder"
    folder.mkdir()
    recorder = Recorder(lambda trainer: shutil.rmtree(folder, ignore_errors=True))
    with pytest.raises(BrokenPipeError) as error:
        train(CORPUS, SMALL, updates=9, path=folder / "a.h5", observers=[recorder, Unprintable()])
    assert isinstance(error.value.__context__, FastrnnError)
    assert recorder.end.last.update == 9 and recorder.path is None


def test_ignored_signals_stay_ignored() -> None:
    class Interrupting(Recorder):
        def progressed(self, trainer):
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert train(CORPUS, SMALL, updates=9, observers=[Interrupting()]).last.update == 9
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_training_that_fails_at_once_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    train(CORPUS, SMALL, updates=5, path=path)
    before = path.read_bytes()
    with pytest.raises(FastrnnError):
        train(CORPUS, replace(SMALL, dtype="float32", learning_rate=1e39), path=path)
    with pytest.raises(FastrnnError):
        train(corpus_of("a"), SMALL, path=path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.h5"]


def test_infinite_weights() -> None:
    with pytest.raises(FastrnnError) as error:
        train(CORPUS, replace(SMALL, dtype="float32", sigma=3e38))
    assert str(error.value) == (
        "the loss is not finite before the first update; try a sigma below 3e+38"
    )


@pytest.mark.parametrize(
    ("number", "exception"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)],
)
def test_signals_end_a_training_with_a_checkpoint(tmp_path: Path, number, exception) -> None:
    path, handler = tmp_path / "a.h5", signal.getsignal(number)
    recorder = Recorder(lambda trainer: os.kill(os.getpid(), number))
    with pytest.raises(exception) as raised:
        train(CORPUS, SMALL, updates=10**9, path=path, observers=[recorder])
    assert number == signal.SIGINT or raised.value.code == 128 + number
    assert checkpoints.load(path).last.update == recorder.end.last.update == recorder.updates[1]
    assert signal.getsignal(number) == handler


def test_interrupted_without_a_path_returns_what_it_has() -> None:
    recorder = Recorder(lambda trainer: os.kill(os.getpid(), signal.SIGINT))
    result = train(CORPUS, SMALL, updates=10**9, observers=[recorder])
    assert result.last.update == recorder.updates[1] > 0


def test_without_observers_notes_and_warnings_are_printed(capsys) -> None:
    train(CORPUS, replace(SMALL, learning_rate=50.0), updates=1000)
    output, errors = capsys.readouterr()
    assert not output
    assert errors.splitlines()[-1].startswith("Warning: the smooth loss ends at ")
    train(CORPUS, replace(SMALL, learning_rate=50.0), updates=1000, observers=[])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [Progress, JsonLog])
def test_observers_of_one_training_at_a_time(kind: type, tmp_path: Path) -> None:
    shared = kind(*([tmp_path / "log"] if kind is JsonLog else []))

    def again(trainer: Trainer) -> None:
        with pytest.raises(FastrnnError, match="give each one of its own"):
            train(CORPUS, SMALL, updates=1, observers=[shared])

    train(CORPUS, SMALL, updates=1, observers=[Recorder(again), shared])
    train(CORPUS, SMALL, updates=1, observers=[shared])


def test_threads_change_nothing(tmp_path: Path) -> None:
    config = replace(SMALL, batch=3)
    first, *others = [
        bits(train(CORPUS, config, updates=200, sample_every=50, threads=threads), tmp_path)
        for threads in (None, 1, 2, 5)
    ]
    assert all(other == first for other in others)


def test_threads_that_change_on_the_way_change_nothing(tmp_path: Path, monkeypatch) -> None:
    seen = []

    class Restless(Pace):
        @property
        def threads(self) -> int:
            seen.append(1 + len(seen) % 3)
            return seen[-1]

    config = replace(SMALL, batch=3)
    lengths = {"updates": 200, "sample_every": 11}
    first = bits(train(CORPUS, config, **lengths, threads=1), tmp_path)
    monkeypatch.setattr("fastrnn.training.loop.usable_threads", lambda threads: threads)
    monkeypatch.setattr("fastrnn.training.loop.Pace", Restless)
    assert bits(train(CORPUS, config, **lengths, threads=3), tmp_path) == first
    assert len(seen) > 6


def test_any_thread(tmp_path: Path) -> None:
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(train(CORPUS, SMALL, updates=200)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = (bits(result, tmp_path) for result in results)
    assert first == second == bits(train(CORPUS, SMALL, updates=200), tmp_path)
