"""In which order a training reads its text, and what an item is to it."""

from dataclasses import replace

import numpy as np
import pytest

from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.storage.checkpoint import load
from fastrnn.text.corpus import corpus_from_text
from fastrnn.training.loop import train
from fastrnn.training.trainer import Trainer

RNG = np.random.default_rng(6)
WORDS = ["".join(RNG.choice(list("abcde"), RNG.integers(1, 6))) for _ in range(300)]
CORPUS = corpus_from_text("\n".join(WORDS) + "\n")
ORDERS = ({"order": "chunks"}, {"order": "random"}, {"lines": True})
SMALL = Config(
    cell="gru", hidden=9, seq_length=7, batch=3, updates=90, val_fraction=0.1, test_fraction=0.05
)


@pytest.mark.parametrize("order", ORDERS)
def test_division_threads_and_validation_change_nothing(order, tmp_path):
    config = replace(SMALL, **order)
    best = train(CORPUS, config, path=tmp_path / "best.h5", threads=1, sample_every=7, observers=[])
    loaded = load(tmp_path / "best.h5")
    assert loaded.config == config and loaded.updates_per_epoch == best.updates_per_epoch
    corpus = loaded.corpus
    if "lines" in order:  # whole ones are held out
        end = corpus.length - corpus.test - corpus.validation
        assert CORPUS.vocabulary.decode(CORPUS.codes[end - 1 : end]) == "\n"
    assert corpus.validation / corpus.length == pytest.approx(0.1, abs=0.02)
    trainer = Trainer(CORPUS, replace(config, val_every=80), threads=3)
    chunks = trainer.streams.chunks
    assert 90 > chunks == best.updates_per_epoch  # more than an epoch
    for count in (1, 30, chunks - 31, 90 - chunks):
        trainer.advance(count)
        assert trainer.network.state.any() == ("lines" in order and trainer.chunk > 0)
    for name, values in trainer.network.parameters.items():
        assert np.array_equal(values, best.last.parameters[name]), name
    assert best.best.test_loss < np.log(len(CORPUS.vocabulary))


def test_items_do_not_know_each_other():
    """What cannot be learnt within a line is not: the letter that every second line consists of."""
    corpus = corpus_from_text("a\nb\n" * 2000)
    model = {"cell": "gru", "hidden": 8, "learning_rate": 0.02}
    config = Config(**model, seq_length=12, batch=2, updates=400, val_fraction=0.1)
    losses = {
        lines: train(
            corpus, replace(config, lines=lines), sample_every=0, observers=[]
        ).best.validation_loss
        for lines in (False, True)
    }
    assert losses[False] < 0.05
    # One of two, and then the end, which is certain: half of ln 2 a character.
    assert losses[True] == pytest.approx(np.log(2) / 2, abs=0.01)


@pytest.mark.parametrize(
    "text, message",
    [
        ("one line, but a long one", "lines is True, but the text is one line; train without"),
        ("\n\n\n", "the text has 0 lines, of 0 characters with their ends, but batch 3"),
    ],
)
def test_texts_without_items(text, message):
    with pytest.raises(FastrnnError, match=message):
        Trainer(corpus_from_text(text), Config(lines=True, batch=3))
    with pytest.raises(FastrnnError, match="order is random, but with lines the items are shuf"):
        Config(lines=True, order="random")
