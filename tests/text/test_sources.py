"""Sources read in pieces: where the pieces end makes no difference. See test_corpus.py, too."""

import hashlib
import io
import os
import re
import sys
import threading
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastrnn.errors import FastrnnError
from fastrnn.text import sources
from fastrnn.text.corpus import read_corpus
from fastrnn.text.sources import Text

ENCODINGS = [
    *("utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-7", "ascii", "latin-1", "cp1252"),
    *("shift_jis", "euc-jp", "iso2022-jp", "gb18030", "big5hkscs", "hz"),
]

CHARACTERS = st.sampled_from([*"ab \r\n\ufeffé漢字かな😀~+-\\", "\r\n"])


def whole(raw, encoding):
    """The text of `raw`, or what the message about it contains: decoded as a whole."""
    if raw.startswith(sources.OURS):
        return "is a file that fastrnn wrote, not a text;"
    encoding = next(
        (name for mark, name in sources.MARKS.items() if raw.startswith(mark)), encoding
    )
    if not encoding.startswith(("utf-16", "utf-32")) and 0 in raw:
        return f"is a binary file: its byte {raw.index(0)}, counted from 0, is NUL;"
    if encoding == "utf-8-sig" and raw in (b"\xef", b"\xef\xbb"):
        return "is empty; give a text"  # Python's incremental decoder drops half a mark
    try:
        text = raw.decode(encoding).removeprefix("\ufeff")
        text.encode()
    except UnicodeDecodeError as error:
        position = error.start + len(raw) - len(error.object)
        return f"its byte {position}, counted from 0, is 0x{raw[position]:02x} ({error.reason});"
    except UnicodeEncodeError as error:
        return f"can't encode character {text[error.start]!a} in position "
    return text.replace("\r\n", "\n").replace("\r", "\n") or "is empty; give a text"


def in_pieces(raw, encoding, piece):
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr(sources, "PIECE", piece)
        patch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(raw)))
        try:
            return "".join(Text(["-"], encoding, stack).pieces())
        except FastrnnError as error:
            return str(error)


def compare(raw, encoding, piece):
    found, expected = in_pieces(raw, encoding, piece), whole(raw, encoding)
    if found != expected:
        assert found.startswith("standard input is ")
        # Of a lone surrogate and a wrong byte after it, each finds another one first; also of a
        # NUL and what is wrong before it.
        before_nul = "is a binary file" in expected and int(
            re.search(r"(?:byte|position) (\d+)", found)[1]
        ) < raw.index(0)
        surrogate = encoding == "utf-7" and expected.startswith("its byte")
        assert expected in found or before_nul or surrogate


@given(st.sampled_from(ENCODINGS), st.lists(CHARACTERS), st.integers(4, 9), st.data())
def test_where_the_pieces_end_makes_no_difference(encoding, characters, piece, data):
    raw = bytearray("".join(characters).encode(encoding, "ignore"))
    if raw and data.draw(st.booleans()):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    compare(raw, encoding, piece)


@given(st.binary(max_size=40), st.sampled_from(ENCODINGS), st.integers(4, 9))
@example(b"abc\r\ndef\r", "utf-8", 4)
@example(b"abc\xef\xbb\xbfabcd", "utf-8", 4)
@example(b"\xef\xbb\xbfabcdefg\xff", "utf-8-sig", 4)
@example(b"abcdefg\0\0", "utf-8", 4)
@example(b"\x01\x01\x01\xf5\0", "utf-8", 4)
@example(b"\xff\xfe\0\0a", "utf-32", 4)
@example(b"\xef\xbb\xbf", "utf-8", 4)
@example(b"a\0b\0c\0d\0", "utf-16", 4)  # without a byte-order mark
def test_any_bytes(raw, encoding, piece):
    compare(raw, encoding, piece)


def test_the_place_of_a_lone_surrogate(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "PIECE", 4)
    (tmp_path / "text").write_bytes(b"0123456789+2AA-")
    with pytest.raises(FastrnnError, match=r"character '\\ud800' in position 10: surrogates not"):
        read_corpus(tmp_path / "text", "utf-7")


def test_binary_files_of_a_folder_are_skipped_whatever_the_piece(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "PIECE", 4)
    (tmp_path / "a").write_bytes(b"text\n")
    (tmp_path / "b").write_bytes(b"binary\0")
    (tmp_path / "c").write_bytes(b"more text")
    expected = hashlib.sha256(b"text\nmore text").hexdigest()
    assert read_corpus(tmp_path).sha256 == expected


@pytest.mark.parametrize("in_memory", [1, sources.IN_MEMORY])
def test_what_can_be_read_only_once(monkeypatch, tmp_path, in_memory):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sources, "IN_MEMORY", in_memory)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"one ")))
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"two",))
    writer.start()
    corpus = read_corpus(["-", tmp_path / "pipe"])
    writer.join()
    assert corpus.sha256 == hashlib.sha256(b"one two").hexdigest()
    assert list((tmp_path / "fastrnn").iterdir()) == []


def test_a_file_that_changes_while_it_is_read(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"0123")
    with ExitStack() as stack:
        text = Text([path], "utf-8", stack)
        path.write_bytes(b"01234")  # it may grow
        assert list(text.pieces()) == ["0123", ""]
        for changed in (b"012", b"0124"):
            path.write_bytes(changed)
            with pytest.raises(FastrnnError) as caught:
                list(text.pieces())
            assert str(caught.value) == (
                f"{str(path)!r} was changed while it was read; try again when nobody writes to it"
            )


def test_a_file_that_vanishes(tmp_path):
    (tmp_path / "text").write_bytes(b"text")
    with ExitStack() as stack:
        text = Text([tmp_path / "text"], "utf-8", stack)
        (tmp_path / "text").unlink()
        with pytest.raises(FastrnnError, match=r"^cannot read .*text': No such file or directory$"):
            list(text.pieces())


def test_a_file_of_a_folder_that_vanishes_is_left_out(monkeypatch, tmp_path):
    for name in "ab":
        (tmp_path / name).write_bytes(b"text")

    def vanish(path):
        if path.endswith("b"):
            (tmp_path / "b").unlink(missing_ok=True)
        return unpatched(path)

    unpatched = sources._open
    monkeypatch.setattr(sources, "_open", vanish)
    corpus = read_corpus(tmp_path)
    assert (corpus.length, str(*corpus.left_out)) == (4, f"1 gone ({tmp_path / 'b'})")


def test_left_out_files_are_counted_over_all_folders(tmp_path):
    for number in range(5):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "a").write_bytes(b"text")
        (tmp_path / str(number) / "b").touch()
    (left_out,) = read_corpus([tmp_path / str(number) for number in range(5)]).left_out
    first, second = tmp_path / "0" / "b", tmp_path / "1" / "b"
    assert str(left_out) == f"5 empty ({first}, {second} and 3 more)"


@pytest.mark.parametrize("encoding", ["utf-8", "bytes"])
def test_what_fastrnn_wrote_is_no_text_in_any_encoding(tmp_path, encoding):
    (tmp_path / "text").write_bytes(b"text")
    (tmp_path / "best.h5").write_bytes(sources.OURS[0] + b"more")
    theirs = b'{"event": "start", "user": "Ada"}\n'  # a log, but not ours
    (tmp_path / "log").write_bytes(theirs)
    corpus = read_corpus(tmp_path, encoding)
    assert (corpus.files, corpus.length) == (2, 4 + len(theirs))
    assert [one.reason for one in corpus.left_out] == ["written by fastrnn"]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        *((text.encode(name), name)
          for text in ("Some text.", "Привет, мир и все", "漢字 a 漢字 b")
          for name in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")),
        ("漢字".encode("utf-32-le"), "utf-32-le"),
        ("𐎀𐎁".encode("utf-32-be"), "utf-32-be"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", None),
        (b"one\0NUL", None),
        (bytes(64), None),
        (b"\0", None),
    ],
)  # fmt: skip
def test_wide_characters_are_known_by_their_nuls(tmp_path, raw, expected):
    assert sources._unmarked(raw) == expected
    (tmp_path / "a").write_bytes(b"text")
    (tmp_path / "b").write_bytes(raw)
    (left_out,) = read_corpus(tmp_path).left_out
    assert left_out.reason == (f"probably {expected}" if expected else "binary")


def test_progress(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "PIECE", 4)
    (tmp_path / "a").write_bytes(b"012345")
    (tmp_path / "b").write_bytes(b"01")
    calls = []
    read_corpus([tmp_path / "a", tmp_path / "b"], progress=lambda *call: calls.append(call))
    shares = [(2, 8), (3, 8), (4, 8), (6, 8), (7, 8), (8, 8)]
    assert calls == [(4, None), (6, None), (8, None), *shares]
