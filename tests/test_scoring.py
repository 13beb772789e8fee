"""Scores: those of the reference, whatever the pieces, the batches and the threads."""

import math

import numpy as np
import pytest
from test_writing import MODELS, VOCABULARY, model, parameters_of, probabilities

from fastrnn import scoring
from fastrnn.errors import FastrnnError
from fastrnn.parameters import state_shape
from fastrnn.scoring import Score, lines_of

TEXT = "".join(np.random.default_rng(3).choice(list(VOCABULARY.characters), 300))


def surprises(kind, text):
    """Of the reference, in nats, of every character but the first."""
    config, parameters = parameters_of(kind)
    codes = VOCABULARY.encode(text).astype(int)
    p = probabilities(parameters, np.zeros(state_shape(config, 1)[::2]), codes[:-1])
    return -np.log(p[np.arange(len(codes) - 1), codes[1:]])


@pytest.mark.parametrize("kind", MODELS)
def test_score_and_probabilities(kind):
    reader = model(kind)
    wanted = surprises(kind, TEXT)
    score = reader.score(TEXT)
    assert score.characters == 299 and score.unknown == 0
    assert score.nats == pytest.approx(wanted.sum(), rel=1e-13)
    assert score.bits_per_character == pytest.approx(wanted.mean() / math.log(2), rel=1e-13)
    assert score.perplexity == pytest.approx(math.exp(wanted.mean()), rel=1e-13)
    p = reader.probabilities(TEXT)
    assert math.isnan(p[0]) and np.abs(np.log(p[1:]) + wanted).max() < 1e-12


def test_a_score_depends_on_nothing_but_the_text(monkeypatch):
    reader = model("lstm × 2", dtype="float32")
    expected = reader.score(TEXT)
    for threads, length in ((2, 1), (3, 50), (1, 1000)):
        monkeypatch.setattr(scoring, "threads_for", lambda weights, n=threads: n)
        monkeypatch.setattr(scoring, "SEQ_LENGTH", length)
        in_pieces = reader.reader()
        for first in range(0, len(TEXT), 37):
            in_pieces.read(TEXT[first : first + 37])
        in_pieces.read("")
        assert in_pieces.score == expected
    assert reader.score(TEXT.replace("\n", "\r\n")) == expected


def test_short_texts():
    assert model().score("a") == Score(0, 0.0) == model().score("")
    assert math.isnan(model().score("a").perplexity)
    assert len(model().probabilities("")) == 0


@pytest.mark.parametrize("kind", ["rnn × 1", "gru × 3"])
def test_lines_are_texts_of_their_own(kind, monkeypatch):
    lines = [*(TEXT[i : i + i % 13] for i in range(60)), "", "a" * 90, "é"]
    lines = [line.replace("\n", "!") for line in lines]
    reader = model(kind, dtype="float32")
    found = list(reader.score_lines(lines, unknown="replace"))
    assert [one.line for one in found] == [i for i, line in enumerate(lines, 1) if line]
    for one in found:
        text = VOCABULARY.fit(one.text, "replace")[0]
        alone = reader.score(f"\n{text}\n")
        assert one.text == lines[one.line - 1]
        assert (one.score.nats, one.score.characters) == (alone.nats, alone.characters)
    assert [one.score.unknown for one in found[-2:]] == [0, 1]
    monkeypatch.setattr(scoring, "LINES_AT_ONCE", 2)
    monkeypatch.setattr(scoring, "LINES_SORTED", 3)
    monkeypatch.setattr(scoring, "available_cores", lambda: 3)
    monkeypatch.setattr(scoring, "LONG", 9)
    assert list(reader.score_lines(lines, unknown="replace")) == found


def test_unknown_characters():
    text = TEXT[:50] + "ΩΩ" + TEXT[50:]
    skipped = model().score(text, unknown="skip")
    assert (skipped.nats, skipped.unknown) == (model().score(TEXT).nats, 2)
    replaced = model().score(text, unknown="replace")
    assert (replaced.characters, replaced.unknown) == (301, 2)
    reader = model().reader()
    reader.read(text[:40])
    with pytest.raises(FastrnnError, match=r"the character 'Ω' \(U\+03A9\) at position 50,"):
        reader.read(text[40:])
    with pytest.raises(FastrnnError, match=r"in line 4, the character 'Ω' .* at position 1,"):
        list(model().score_lines(["abc", "", "ab", "aΩ"]))


def test_lines_of_pieces():
    text = "ab\n\ncd\nefg\n"
    for size in range(1, 12):
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        assert list(lines_of(pieces)) == ["ab", "", "cd", "efg"]
        pieces = [text.replace("\n", "\r\n")[i : i + size] for i in range(0, 14, size)]
        assert list(lines_of(pieces)) == ["ab", "", "cd", "efg"]
    assert list(lines_of(["ab\nc"])) == ["ab", "c"]
