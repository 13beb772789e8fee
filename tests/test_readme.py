"""Figures and lists of the README."""

import re
from pathlib import Path

import pytest

import fastrnn

HOME = Path(__file__).parents[1]
README = (HOME / "README.md").read_text(encoding="utf-8")
# Python's documentation, the default corpus, differs from version to version.
CORPUS_OF_3_11_7 = "2a95af4ac93f5b719944030ce3769070ddf827d847cba42192afa8da989e5dc4"


def test_figures_on_the_default_corpus() -> None:
    corpus = fastrnn.read_corpus()
    if corpus.sha256 != CORPUS_OF_3_11_7:
        pytest.skip("the documentation of this Python is another text than that of 3.11.7")
    (length,) = re.findall(r"\(([\d,]+)\s+characters\s+in\s+Python\s+3\.11\.7\)", README)
    assert length == f"{corpus.length:,}"
    corpus_of = r"On the default corpus of Python 3\.11\.7, "
    figures = corpus_of + r"nine epochs end at ([\d.]+) after update ([\d,]+)"
    ((loss, update),) = re.findall(figures, README)
    best = fastrnn.train(corpus, sample_every=0, observers=[]).best
    assert (loss, update) == (f"{best.smooth_loss:.4f}", f"{best.update:,}")


def test_tree_is_complete() -> None:
    tree = README.split("```\nfastrnn/\n")[1].split("```")[0]
    named, folder = [], ""
    for line in tree.splitlines():
        if found := re.match(r"  (\w+/)", line):
            folder = found[1]
        elif re.match(r"  \w", line):
            folder = ""
        named += [folder + module for module in re.findall(r"\w+\.py", line)]
    home = HOME / "fastrnn"
    modules = [path for path in home.rglob("*.py") if path.name[0] != "_"]
    assert sorted(named) == sorted(str(path.relative_to(home)) for path in modules)
