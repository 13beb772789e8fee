"""What is held out is not trained on, and only says which model is best."""

import math
import threading
from dataclasses import replace

import numpy as np
import pytest

from fastrnn import reference
from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.network import Network
from fastrnn.parameters import initial_parameters, state_shape
from fastrnn.storage.checkpoint import load, save
from fastrnn.text.corpus import corpus_from_text
from fastrnn.text.streams import EncodedText
from fastrnn.training.loop import train
from fastrnn.training.observers import Observer
from fastrnn.training.trainer import Trainer
from fastrnn.training.validation import HeldOut

RNG = np.random.default_rng(5)
CORPUS = corpus_from_text("".join(RNG.choice(list("abcdefg"), 997, p=[0.4, *[0.1] * 6])))
# Sizes are all different, so that no swapped axis goes unnoticed: m = 5, T = 4, K = 7, B = 3.
SMALL = Config(
    hidden=5, seq_length=4, batch=3, dtype="float64", learning_rate=0.5, updates=60,
    val_fraction=0.2, test_fraction=0.1, val_every=7, dropout=0.2,
)  # fmt: skip


class Recorder(Observer):
    def __init__(self, act=lambda validation: None):
        self.validations, self.notes, self.act = [], [], act

    def validated(self, validation):
        self.validations.append(validation)
        self.act(validation)

    def noted(self, message):
        self.notes.append(message)


def trained(config, **options):
    return train(CORPUS, config, sample_every=0, **{"observers": [], "threads": 1} | options)


def weights_of(checkpoint):
    parts = checkpoint.best.parameters, checkpoint.last.parameters
    return [part[name].tobytes() for part in parts for name in part]


def test_loss_is_that_of_the_text_read_once():
    """As plain NumPy has it, of all characters but the first of each stream."""
    config = replace(SMALL, cell="lstm", layers=2)
    network = Network(config, 7)
    parameters = initial_parameters(replace(config, init="torch", sigma=None), 7)
    network.set_parameters(parameters)
    for length, batch in ((2, 1), (1500, 1), (2500, 2), (40_000, 16)):
        codes = np.random.default_rng(length).integers(0, 7, length).astype(np.uint8)
        streams = codes[: length // batch * batch].reshape(batch, -1).T
        state = np.zeros(state_shape(config, batch))
        nats = reference.forward(parameters, state, streams).loss / (len(streams) - 1)
        held_out = HeldOut(EncodedText(codes, 7), "val-fraction")
        assert held_out.loss(network) == pytest.approx(nats, rel=1e-12)
        assert held_out.loss(network) == held_out.loss(network, threads=2)
    assert held_out.loss(network, stop=lambda: True) is None


def test_parts_of_the_text():
    """Training ends where validation begins, and that where the test does; K is of all of it."""
    found = trained(SMALL)
    alone = corpus_from_text(CORPUS.vocabulary.decode(CORPUS.codes[: int(997 * (1 - 0.2 - 0.1))]))
    without = replace(SMALL, val_fraction=0.0, test_fraction=0.0, val_every=None)
    expected = train(alone, without, sample_every=0, observers=[])
    for name, array in expected.last.parameters.items():
        assert (array == found.last.parameters[name]).all(), name
    network = Network(SMALL, 7)
    network.set_parameters(found.best.parameters)
    parts = CORPUS.codes[697:897], CORPUS.codes[897:]
    losses = [HeldOut(EncodedText(codes, 7), "").loss(network) for codes in parts]
    assert losses == [found.best.validation_loss, found.best.test_loss]


def test_best_is_that_of_the_lowest_validation():
    recorder = Recorder()
    found = trained(SMALL, observers=[recorder])
    updates = [7, 14, 21, 28, 35, 42, 49, 56, 60]  # the last is at the end
    assert found.history.validation_update.tolist() == updates
    losses = found.history.validation_loss.tolist()
    assert [(one.update, one.loss) for one in recorder.validations] == [*zip(updates, losses)]  # noqa: B905
    best = int(np.argmin(losses))
    assert 0 < best < len(updates) - 1, "the example has its lowest in between"
    assert (found.best.update, found.best.validation_loss) == (updates[best], losses[best])
    # It is the model that was there after that update, and so is its smooth loss.
    until = trained(replace(SMALL, updates=updates[best]))
    for name, array in until.last.parameters.items():
        assert (array == found.best.parameters[name]).all()
    assert found.best.smooth_loss == until.last.smooth_loss


def test_validation_changes_nothing_else():
    """However often it comes, and whoever makes it."""
    last = weights_of(trained(SMALL))[-5:]
    for every in (1, 13, 1000):
        assert weights_of(trained(replace(SMALL, val_every=every)))[-5:] == last
    assert weights_of(trained(SMALL, threads=2)) == weights_of(trained(SMALL))
    # Until the first validation the best model is that of the lowest smooth loss.
    late = replace(SMALL, val_every=1000)
    trainers = [Trainer(CORPUS, config) for config in (late, replace(late, val_every=31))]
    for trainer in trainers:
        trainer.advance(30)
        trainer.advance(1)
    assert trainers[1].validate() is not None
    assert trainers[0].validate() is None
    early, validated = (trainer.checkpoint().best for trainer in trainers)
    assert early.validation_loss is None
    assert early.update < validated.update == 31


def test_default_interval():
    """Ten characters are read in training for each in a validation."""
    found = trained(replace(SMALL, val_every=None, updates=None, epochs=4))
    assert found.history.validation_update.tolist() == [167, 228]  # 10 · 200 / (3 · 4), and the end


def test_patience():
    recorder = Recorder()
    found = trained(replace(SMALL, patience=2, updates=600), observers=[recorder])
    losses = found.history.validation_loss.tolist()
    best = int(np.argmin(losses))
    assert len(losses) == best + 3
    assert found.last.update == 7 * len(losses) < 600
    epoch = found.best.update / found.updates_per_epoch
    assert recorder.notes[-1] == (
        f"Stopped early, after update {found.last.update}: 2 validations without a lower loss than "
        f"that of update {found.best.update} (epoch {epoch:.2f})."
    )
    assert found.best.test_loss is not None


def test_an_interrupted_training_is_not_tested(tmp_path):
    def interrupt(validation):
        if validation.update == 14:
            signal_me()

    def signal_me():
        import os
        import signal

        os.kill(os.getpid(), signal.SIGINT)

    assert threading.current_thread() is threading.main_thread()
    found = trained(SMALL, observers=[Recorder(interrupt)])
    assert (found.last.update, found.best.test_loss) == (14, None)
    assert found.history.validation_update.tolist() == [7, 14]
    save(tmp_path / "a.h5", found)
    assert load(tmp_path / "a.h5").best.validation_loss == found.best.validation_loss


def test_wrong_loss_ends_the_training(monkeypatch):
    monkeypatch.setattr(HeldOut, "loss", lambda *_: math.inf)
    with pytest.raises(FastrnnError, match="validation loss is not finite at update 7; try a low"):
        trained(SMALL)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            {"val_fraction": 0.001},
            "val-fraction holds out 1 of the text's characters, but at least",
        ),
        ({"test_fraction": 0.001}, "test-fraction holds out 1 of the text's characters"),
        (
            {"val_fraction": 0.99},
            "the part of the text to train on has 9 characters, but batch 1 and sequence length 25 "
            "need at least 26; give a longer text, or a smaller batch or sequence length, or hold "
            "out less of it (val-fraction, test-fraction)",
        ),
    ],
    ids=str,
)
def test_texts_that_are_too_short(options, problem):
    with pytest.raises(FastrnnError) as error:
        trained(Config(hidden=5, **options))
    assert problem in str(error.value)


def test_no_lines_are_held_out():
    """The characters of the last line are none that can be held out alone."""
    corpus = corpus_from_text("abc\n" * 50 + "d" * 100)
    with pytest.raises(FastrnnError, match="test-fraction holds out 0 of the text's lines, but at"):
        Trainer(corpus, Config(hidden=5, lines=True, test_fraction=0.2))
