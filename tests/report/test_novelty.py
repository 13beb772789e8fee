"""What a sample has from a text, against a search with plain Python."""

import math

import numpy as np
import pytest

from fastrnn.errors import FastrnnError
from fastrnn.report import novelty as module
from fastrnn.report.novelty import item_novelty, novelty
from fastrnn.report.plots import plot_novelty
from fastrnn.text.corpus import corpus_from_text

rng = np.random.default_rng(0)
TEXT = "".join(rng.choice(list("ab cd\n"), 3000)) + "the end"
SAMPLE = "".join(rng.choice(list("ab cdz"), 400)) + TEXT[1500:1570] + "Ω" + TEXT[-9:]


@pytest.mark.parametrize(("at_once", "table"), [(1 << 20, 1 << 25), (500, 1 << 25), (70, 8)])
def test_shares_and_the_longest_passage(at_once, table, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    monkeypatch.setattr(module, "TABLE", table)  # hashes from short strings on
    monkeypatch.setattr(module, "FILTER_BITS", 6)
    found = novelty(SAMPLE, corpus_from_text(TEXT))
    for n, share in enumerate(found.shares, 1):
        parts = [SAMPLE[i : i + n] for i in range(len(SAMPLE) - n + 1)]
        assert share == pytest.approx(sum(part in TEXT for part in parts) / len(parts))
    assert len(found.shares) == 50 and found.characters == len(SAMPLE)
    copied = found.longest
    assert len(copied.text) >= 70 and TEXT[1500:1570] in copied.text
    assert copied.offset == TEXT.index(copied.text)
    assert copied.offset_in_sample == SAMPLE.index(copied.text)
    assert copied.line == 1 + TEXT[: copied.offset].count("\n")


def test_words(monkeypatch):
    text = "It's a word,\nand o'er another word"
    for at_once in (1, 5, 1000):
        monkeypatch.setattr(module, "AT_ONCE", at_once)
        found = novelty("and it's a sword, a word o'er swords; a sword", corpus_from_text(text))
        assert found.words == 10
        assert found.new_words == ("it's", "sword", "swords")
        assert found.known_words == pytest.approx(0.6)
    assert math.isnan(novelty("..", corpus_from_text(text)).known_words)


def test_nothing_in_common():
    found = novelty("xyz", corpus_from_text("abc"))
    assert (found.shares, found.longest.text) == ((0.0, 0.0, 0.0), "")
    with pytest.raises(FastrnnError, match="the sample is empty"):
        novelty("", corpus_from_text("abc"))


def test_items():
    corpus = corpus_from_text("anna\nbob\n\ncarl")
    items = ["anna", "eve", "eve", "ann", "carl"]
    found = item_novelty(items, corpus, "[a-z]{4,}")
    assert (found.items, found.valid, found.unique, found.novel) == (5, 0.4, 0.8, 0.5)
    assert item_novelty(items, corpus).valid is None
    with pytest.raises(FastrnnError, match="check is no regular expression: unterminated"):
        item_novelty(items, corpus, "[a")


def test_picture(tmp_path):
    found = novelty("abcabd", corpus_from_text("abc"))
    figure = plot_novelty(found, "a model", tmp_path / "novelty.svg")
    (line, longest) = figure.axes[0].lines
    assert np.allclose(line.get_ydata(), 100 * np.array(found.shares))
    assert longest.get_xdata()[0] == 3
    assert "6 characters written" in (tmp_path / "novelty.svg").read_text()
