"""Sources read in pieces: where the pieces end makes no difference. See test_corpus.py, too."""

import hashlib
import io
import os
import sys
import threading
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastrnn import sources
from fastrnn.corpus import read_corpus
from fastrnn.errors import FastrnnError
from fastrnn.sources import Text

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
        # Of a lone surrogate and a wrong byte behind it, each finds another one first.
        assert expected in found or (encoding == "utf-7" and expected.startswith("its byte"))


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


def test_progress(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "PIECE", 4)
    (tmp_path / "a").write_bytes(b"012345")
    (tmp_path / "b").write_bytes(b"01")
    calls = []
    read_corpus([tmp_path / "a", tmp_path / "b"], progress=lambda *call: calls.append(call))
    shares = [(2, 8), (3, 8), (4, 8), (6, 8), (7, 8), (8, 8)]
    assert calls == [(6, None), (8, None), *shares]  # the first piece is to hold a mark
