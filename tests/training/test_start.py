"""A training may start from another model's weights."""

from dataclasses import replace

import numpy as np
import pytest

from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.model import Model
from fastrnn.parameters import initial_parameters
from fastrnn.text.corpus import Corpus, corpus_from_text
from fastrnn.text.vocabulary import Vocabulary
from fastrnn.training.loop import train
from fastrnn.training.start import carried_over
from fastrnn.training.trainer import Trainer

OLD = Config(cell="gru", layers=2, hidden=5, seq_length=4, epochs=1)
CONFIG = replace(OLD, seed=7)
KNOWN, TEXT = "abcde", "bd-f" * 9  # - comes before b, f after d


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(OLD, Vocabulary(KNOWN), initial_parameters(OLD, len(KNOWN)))


@pytest.mark.parametrize(("choice", "characters"), [("union", "-abcdef"), ("new", "-bdf")])
def test_rows_of_characters(model, choice, characters):
    vocabulary, parameters = carried_over(corpus_from_text(TEXT), CONFIG, model, choice)
    assert vocabulary.characters == characters
    fresh = initial_parameters(CONFIG, len(characters))
    old = model.parameters
    for i, character in enumerate(characters):
        source, place = (old, KNOWN.find(character)) if character in KNOWN else (fresh, i)
        assert (parameters["U"][:, i] == source["U"][:, place]).all()
        assert (parameters["V"][i] == source["V"][place]).all()
        assert parameters["c"][i] == source["c"][place]
    for name in ("W", "W2", "X2", "b", "b2", "n", "n2"):
        assert (parameters[name] == old[name]).all(), name


def test_text_is_read_in_the_new_codes(model):
    """The same as a text whose vocabulary is the union."""
    corpus = corpus_from_text(TEXT)
    start = carried_over(corpus, CONFIG, model, "union")
    trainer = Trainer(corpus, replace(CONFIG, val_fraction=0.2), start=start)
    whole = Corpus("text", start.vocabulary.encode(TEXT), start.vocabulary, corpus.sha256)
    expected = Trainer(whole, replace(CONFIG, val_fraction=0.2), start=start)
    for one in (trainer, expected):
        one.advance(one.end)
        assert one.validate() is not None
    assert trainer.validations == expected.validations
    for name, array in expected.network.parameters.items():
        assert (array == trainer.network.parameters[name]).all()
    text = trainer.sample(40).text
    assert text == expected.sample(40).text
    assert set(text) <= set(start.vocabulary.characters)


def test_from_a_file(tmp_path):
    corpus = corpus_from_text(TEXT)
    quiet = {"observers": [], "sample_every": 0}
    first = train(corpus, OLD, path=tmp_path / "a.h5", **quiet)
    again = train(corpus, init_from=tmp_path / "a.h5", updates=0, **quiet)
    assert (again.config.cell, again.config.layers, again.config.hidden) == ("gru", 2, 5)
    for name, array in first.best.parameters.items():
        assert (array == again.best.parameters[name]).all()
    same = train(corpus, replace(CONFIG, epochs=3), init_from=first, **quiet)
    assert same.vocabulary == "-bdf"
    assert same.best.smooth_loss < first.best.smooth_loss


def test_what_does_not_fit(model):
    def problem(text="ab", config=CONFIG, choice="union", encoding="utf-8"):
        with pytest.raises(FastrnnError) as error:
            corpus = replace(corpus_from_text(text), encoding=encoding)
            carried_over(corpus, config, model, choice)
        return str(error.value)

    assert problem(config=replace(CONFIG, hidden=6)) == (
        "hidden is 6, but the model to start from has 5; leave it out, or start from another model"
    )
    wanted = "but the model to start from has float32"
    assert wanted in problem(config=replace(CONFIG, dtype="float64"))
    assert problem(choice="both") == "vocabulary is 'both', but must be union or new"
    with pytest.raises(FastrnnError, match="vocabulary is 'new', which is of use only with init_f"):
        train(corpus_from_text(TEXT), vocabulary="new")
    model = Model(OLD, Vocabulary("aü€"), initial_parameters(OLD, 3))
    assert "the text is of bytes, but the model to start from knows '€'" in problem(
        encoding="bytes"
    )
    corpus = replace(corpus_from_text("ab"), encoding="bytes")
    assert carried_over(corpus, CONFIG, model, "new").vocabulary.characters == "ab"


def test_codes_of_a_vocabulary_have_the_kernels_type(model):
    trainer = Trainer(corpus_from_text(TEXT), CONFIG, start=carried_over(
        corpus_from_text(TEXT), CONFIG, model, "union"))  # fmt: skip
    codes = trainer.streams.read(0, 2)
    assert (codes.dtype, codes.flags.c_contiguous) == (np.int32, True)
