"""Arguments that are wrong are named, in a line that stays short."""

import os
import subprocess
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import fastrnn
from fastrnn import checks
from fastrnn.checks import shown_value
from fastrnn.errors import FastrnnError
from fastrnn.gradcheck import check_gradients
from fastrnn.storage.files import shown, typed
from fastrnn.text.corpus import read_corpus
from fastrnn.text.vocabulary import Vocabulary

POEM = "Shall I compare thee to a summer's day?\n" * 1000


def refusal(work, *arguments, **options) -> str:
    with pytest.raises(FastrnnError) as error:
        work(*arguments, **options)
    message = str(error.value)
    assert len(message) < 600 and message.isprintable()
    return message


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "None"),
        (True, "True"),
        (-5, "-5"),
        (0.1, "0.1"),
        (10**30, "1" + "0" * 30),
        (-(10**30), "-1" + "0" * 30),
        (10**9999, "a number of about 9999 digits"),
        ("a\nb", r"'a\nb'"),
        ("x" * 99, "'" + "x" * 40 + "..." + "x" * 37 + "'"),
        ("start" + "\n" * 10**6 + "end", "'start" + r"\n" * 35 + "..." + r"\n" * 34 + "end'"),
        (b"a\xff", r"'a\udcff'"),
        (Fraction(1, 3), "Fraction(1, 3)"),
        (Decimal(1), "Decimal('1')"),
        ([1] * 1000, "of type list"),
        (np.zeros((50, 50)), "of type ndarray"),
        (Unprintable(), "of type Unprintable"),
        (Path, "the class Path"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_shown_values(value, shown) -> None:
    assert shown_value(value) == shown


def test_long_paths() -> None:
    path = "folder/" * 500 + "name.txt"
    assert len(shown(path)) == 500
    assert shown(path).startswith("folder/folder/") and shown(path).endswith("/name.txt")
    assert shown("x" * 255) == "x" * 255


def test_numbers() -> None:
    assert [checks.whole("n", n, 1, 9) for n in (1, np.int8(9), np.uint64(5))] == [1, 9, 5]
    reals = [checks.real("x", x) for x in (1, 0.5, np.float16(2), np.longdouble(3), Fraction(1, 4))]
    assert reals == [1, 0.5, 2, 3, 0.25] and {type(x) for x in reals} == {float}
    assert checks.real("x", 0, zero=True) == 0
    assert checks.real("x", np.inf, infinity=True) == np.inf
    assert checks.real("x", 0.9, below=1) == 0.9 and checks.real("x", 0, zero=True, below=1) == 0
    for wrong in (1, 1.5, np.inf, -1, np.nan):
        found = refusal(checks.real, "x", wrong, zero=True, below=1)
        assert found.endswith("but must be zero or a positive number below 1")
    for wrong in (10, np.int64(0), 5.0, np.float64(5), True, np.bool_(True), "5", None, 5j):
        assert refusal(checks.whole, "n", wrong, 1, 9).endswith("a whole number from 1 to 9")
    for wrong in (0, -1, np.nan, np.inf, 10**400, True, np.bool_(True), "1", None, 1j):
        assert refusal(checks.real, "x", wrong).endswith("but must be a positive number")


def test_settings() -> None:
    def read(value, bounds):
        return checks.setting("x", value, bounds)

    assert read(np.int8(3), checks.Whole(1, 3)) == 3
    assert read(1, checks.Real(below=2.0)) == 1.0
    assert read(np.inf, checks.Real(infinity=True)) == np.inf
    assert read(np.str_("b"), ("a", "b")) == "b" and type(read(np.str_("b"), ("a", "b"))) is str
    assert read(True, bool) is True
    assert refusal(read, 4, checks.Whole(1, 3)) == "x is 4, but must be a whole number from 1 to 3"
    assert (
        refusal(read, 2, checks.Real(below=2.0)) == "x is 2, but must be a positive number below 2"
    )
    assert refusal(read, None, ("a", "b", "c")) == "x is None, but must be a, b or c"
    assert refusal(read, 1, bool) == "x is 1, but must be True or False"


def test_words_in_a_sentence() -> None:
    assert [checks.listed(list(words)) for words in ("a", "ab", "abc")] == [
        "a",
        "a and b",
        "a, b and c",
    ]
    assert checks.listed(["a", "b"], "or") == "a or b"
    found = [checks.counted(n, noun) for noun in ("unit", "loss") for n in (0, 1, 2000)]
    assert found == ["0 units", "1 unit", "2,000 units", "0 losses", "1 loss", "2,000 losses"]


def test_paths(tmp_path: Path) -> None:
    for given in ("a/b", b"a/b", Path("a/b")):
        assert checks.path("path", given) == "a/b"
    for wrong in (None, 3, 3.0, ["a"], object(), open):
        assert refusal(checks.path, "path", wrong).startswith("path is ")


@pytest.mark.parametrize("load", [fastrnn.load, fastrnn.load_checkpoint])
@pytest.mark.parametrize("wrong", [None, 3, {}, Path, "a\0b"], ids=repr)
def test_what_is_no_path_to_load(load, wrong) -> None:
    assert refusal(load, wrong).startswith(f"path is {shown_value(wrong)}, but must be a path")
    assert refusal(load, POEM).endswith("File name too long; check the path and its permissions")


def test_a_text_where_a_path_belongs_is_told_how_to_be_a_corpus(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in (POEM, "two\nlines", "a word " * 99):
        for sources in (text, [text]):
            assert refusal(read_corpus, sources) == (
                f"there is no file or folder {shown_value(text)}; if that is the text itself, "
                "fastrnn.corpus_from_text makes a corpus of it"
            )
    (tmp_path / "two\nlines").write_text("text")
    assert read_corpus("two\nlines").length == 4
    assert read_corpus(b"two\nlines").length == read_corpus([Path("two\nlines")]).length == 4


def test_what_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    corpus = read_corpus(tmp_path / "a")
    with open(tmp_path / "a") as file:
        for wrong in (None, 3, corpus, file):
            assert refusal(read_corpus, wrong).endswith("must be a path or a sequence of paths")
    for wrong in ([None], [corpus], {3: 4}):
        assert refusal(read_corpus, wrong).startswith("a source is ")
    assert refusal(read_corpus, tmp_path / "a", 8) == "encoding is 8, but must be a str"


def test_what_is_no_vocabulary() -> None:
    for wrong in (None, 3, b"ab", ["a", "b"], ("a",)):
        assert refusal(Vocabulary, wrong).startswith("characters is ")
        assert refusal(Vocabulary.from_text, wrong).startswith("the text is ")
        assert refusal(Vocabulary("ab").encode, wrong).startswith("the text is ")


def test_codes_that_stand_for_nothing() -> None:
    vocabulary = Vocabulary("abc")
    assert vocabulary.decode([2, 0]) == "ca" and vocabulary.decode([]) == ""
    assert vocabulary.decode(np.array([1, 2], np.uint64)) == "bc"
    for wrong in ([3], [-1], [0.0], ["a"], [None], "a", [2**70], [True]):
        assert refusal(vocabulary.decode, wrong) == "codes must be whole numbers from 0 to 2"


def test_gradients_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text " * 10)
    corpus = read_corpus(tmp_path / "a")
    assert refusal(check_gradients, POEM).startswith("corpus is ")
    assert refusal(check_gradients, corpus, seed="1").startswith("seed is '1', but must be a whole")
    assert refusal(check_gradients, corpus, -1).startswith("seed is -1, but must be a whole number")
    (tmp_path / "a").write_text("short")
    assert refusal(check_gradients, read_corpus(tmp_path / "a")).startswith("the text has 5 char")


def test_pictures_of_nothing(tmp_path: Path) -> None:
    made_by = "a Checkpoint, from fastrnn.train or fastrnn.load_checkpoint"
    plot = fastrnn.plot_loss
    assert refusal(plot, "best.h5", "a.png") == f"checkpoint is 'best.h5', but must be {made_by}"
    assert refusal(plot, None, None) == f"checkpoint is None, but must be {made_by}"


def test_repr_of_a_corpus(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("abc" * 1000)
    name = checks.shortened(str(tmp_path / "a"))
    corpus = read_corpus(tmp_path / "a")
    assert repr(corpus) == f"<fastrnn.Corpus: {name}, 3,000 characters, 3 distinct>"


@pytest.mark.parametrize("name", ["best.h5", "a b's.h5", "-x.h5", "a\n\\'\x1b1é.h5", "\udcff.h5"])
def test_a_path_as_it_is_typed(name):
    word = typed(name)
    assert word.isprintable() and not word.startswith("-")
    command = ["bash", "-c", f"printf %s {word}"]
    assert os.path.normpath(os.fsdecode(subprocess.check_output(command))) == name
