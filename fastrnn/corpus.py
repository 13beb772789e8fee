"""From text to integer codes: the vocabulary, and the corpus that is read from sources.

    sources ──▶ pieces of text ──▶ Vocabulary
                pieces of text ──encode──▶ codes, in memory or in a file of the cache

A large text is encoded once: its codes are kept in a file, which is mapped into memory.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fastrnn import checks, encoded
from fastrnn.checks import shortened, shown_value
from fastrnn.errors import FastrnnError
from fastrnn.files import shown
from fastrnn.sources import BYTES, IN_MEMORY, LeftOut, Progress, Text, joined, normalised


@dataclass(frozen=True)
class Vocabulary:
    """The K distinct characters of a text; the code of a character is its place among them.

    Parameters
    ----------
    characters
        The characters, sorted by code point, each once.
    """

    characters: str

    def __post_init__(self) -> None:
        checks.text("characters", self.characters)
        if list(self.characters) != sorted(set(self.characters)):
            raise FastrnnError("the characters of a vocabulary must be sorted and distinct")

    def __len__(self) -> int:
        return len(self.characters)

    @classmethod
    def from_text(cls, text: str) -> Vocabulary:
        """The vocabulary of all characters that occur in `text`."""
        return cls.from_pieces([checks.text("the text", text)])

    @classmethod
    def from_pieces(cls, pieces: Iterable[str]) -> Vocabulary:
        """The vocabulary of all characters that occur in the pieces of a text."""
        present = np.zeros(sys.maxunicode + 1, bool)
        for piece in pieces:
            for points in _code_points(piece):
                present[points] = True
        return cls(_text(np.flatnonzero(present)))

    @property
    def dtype(self) -> np.dtype:
        """The smallest unsigned type that holds K - 1, little-endian."""
        return np.min_scalar_type(max(len(self) - 1, 0)).newbyteorder("<")

    def encode(self, text: str) -> np.ndarray:
        """The code of every character, of type `dtype`.

        Raises
        ------
        FastrnnError
            If a character is not in the vocabulary.
        """
        text = checks.text("the text", text)
        codes = np.empty(len(text), self.dtype)
        end = 0
        for points in _code_points(text):
            found = self._table.take(points)
            start, end = end, end + len(found)
            codes[start:end] = found
            if found.min() < 0:
                position = start + int(np.argmin(found >= 0))
                character = text[position]
                raise FastrnnError(
                    f"the character {character!r} (U+{ord(character):04X}) at position {position}, "
                    f"counted from 0, is not among the {len(self)} characters of the vocabulary; "
                    "leave it out, or train on a text that has it"
                )
        return codes

    def decode(self, codes: np.ndarray | Sequence[int]) -> str:
        """The text that `codes` stand for.

        Raises
        ------
        FastrnnError
            If one is no whole number from 0 to K - 1.
        """
        array = np.asarray(codes)
        whole = array.dtype.kind in "iu"
        if array.size and not (whole and array.min() >= 0 and array.max() < len(self)):
            raise FastrnnError(f"codes must be whole numbers from 0 to {len(self) - 1}")
        return _text(self._points()[array.astype(np.intp)])

    @cached_property
    def _table(self) -> np.ndarray:
        """The code of every code point, -1 for those of no character."""
        table = np.full(sys.maxunicode + 1, -1, np.int32)
        table[self._points()] = np.arange(len(self))
        return table

    def _points(self) -> np.ndarray:
        return np.fromiter(map(ord, self.characters), np.uint32)


def _code_points(text: str, piece: int = 1 << 16) -> Iterator[np.ndarray]:
    """The code points of `text`, in pieces because an array of all would need much memory."""
    # Strict UTF-32 has no lone surrogates, but a command line's argument may contain some.
    for start in range(0, len(text), piece):
        utf32 = text[start : start + piece].encode("utf-32-le", "surrogatepass")
        yield np.frombuffer(utf32, "<u4")


def _text(points: np.ndarray) -> str:
    return points.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")


@dataclass(frozen=True, eq=False, repr=False)
class Corpus:
    """A text, ready to train on.

    Attributes
    ----------
    name
        Where the text comes from, for people to read.
    codes
        The code of every character; of a large text mapped from a file, and read-only.
    vocabulary
        What the codes stand for.
    sha256
        Of the text as UTF-8, without byte-order mark and with line ends of one newline.
    encoding
        In which it was read, if no byte-order mark told another; "bytes" if every character stands
        for a byte.
    files
        How many files and other sources it was read from.
    left_out
        What folders have that is not part of it, by reason.
    """

    name: str
    codes: np.ndarray
    vocabulary: Vocabulary
    sha256: str
    encoding: str = "utf-8"
    files: int = 1
    left_out: tuple[LeftOut, ...] = ()

    def __repr__(self) -> str:
        return (
            f"<fastrnn.Corpus: {shortened(self.name)}, {self.length:,} characters, "
            f"{len(self.vocabulary)} distinct>"
        )

    @property
    def length(self) -> int:
        """The number of characters."""
        return len(self.codes)


def read_corpus(
    sources: Sequence[str | os.PathLike[str]] | str | os.PathLike[str] = (),
    encoding: str = "utf-8",
    progress: Progress | None = None,
) -> Corpus:
    """Read a corpus from one source, or from several put together in the order given.

    Byte-order marks are removed, and the line ends ``\\r\\n`` and ``\\r`` become ``\\n``.

    The codes of a text of more than 16 MB are kept in a file in the user's cache folder, and are
    there when the same text is read again.

    Parameters
    ----------
    sources
        Each is the path of a text file, which is decompressed if its name ends in .gz; a folder,
        of which every text file is read, in sorted order; ``"-"`` for standard input; or the name
        of a corpus to download, ``"shakespeare"``. A file of such a name is given as
        ``"./shakespeare"`` or as a `pathlib.Path`. No source at all: the language reference in
        Python's own documentation, which differs between Python versions. Of folders, what
        is hidden, empty, binary, unreadable, behind a link to a folder or written by fastrnn is
        left out; the corpus tells which.
    encoding
        Of files and standard input without a byte-order mark: the name of a Python text codec. Or
        ``"bytes"``: each byte is a character, U+0000 to U+00FF, and nothing is removed or changed.
    progress
        Is called with the bytes done and the bytes to do; the latter is None while the text is
        only read, to find out whether it is there already.

    Raises
    ------
    FastrnnError
        If a source cannot be read, is not text in that encoding, or is empty; or if there is no
        room for the file.
    """
    encoding = checks.text("encoding", encoding)
    if encoding.lower() == BYTES:  # as the names of codecs do not care for case
        encoding = BYTES
    else:
        try:
            "a".encode(encoding)
            encoding = codecs.lookup(encoding).name
        except (LookupError, ValueError) as error:
            raise FastrnnError(
                f"unknown encoding {shown_value(encoding)}; --encoding takes bytes or the name of "
                "a Python text codec, such as utf-8, latin-1 or utf-16"
            ) from error
    sources = checks.sources(sources)
    with ExitStack() as stack:
        text = Text(sources, encoding, stack, progress)
        about = encoding, text.files, text.left_out
        large = text.size > IN_MEMORY
        found = encoded.load(text.key) if large else None
        if found is None:
            digest = hashlib.sha256()
            vocabulary = Vocabulary.from_pieces(_hashed(text.pieces(), digest))
            sha256 = digest.hexdigest()
            pieces = map(vocabulary.encode, text.pieces())
            if not large:
                return Corpus(text.name, np.concatenate(list(pieces)), vocabulary, sha256, *about)
            most = text.size * vocabulary.dtype.itemsize
            encoded.save(text.key, vocabulary.characters, sha256, pieces, most)
            found = encoded.load(text.key)
    if found is None:
        raise FastrnnError(
            f"the encoded text in {shown(encoded.folder())} is gone or damaged as soon as it is "
            "written; try again, or set XDG_CACHE_HOME to another folder"
        )
    codes, characters, sha256 = found
    return Corpus(text.name, codes, Vocabulary(characters), sha256, *about)


def corpus_from_text(text: str, name: str = "text") -> Corpus:
    """A corpus of a text that is in memory.

    As in `read_corpus`, a byte-order mark at its start is removed, and the line ends ``\\r\\n`` and
    ``\\r`` become ``\\n``.

    Parameters
    ----------
    text : str
    name : str
        For people to read.

    Raises
    ------
    FastrnnError
        If it is empty, or has lone surrogates, which are no characters.
    """
    name = joined([checks.text("name", name)], 1)
    text = normalised(checks.text("text", text).removeprefix("\ufeff"))
    if not text:
        raise FastrnnError("the text is empty; give one with at least one character")
    try:
        digest = hashlib.sha256(text.encode())
    except UnicodeEncodeError as error:
        raise FastrnnError(
            f"the text has the lone surrogate {text[error.start]!a} at position {error.start}, "
            "counted from 0, which is no character; remove it"
        ) from error
    vocabulary = Vocabulary.from_text(text)
    return Corpus(name, vocabulary.encode(text), vocabulary, digest.hexdigest())


def _hashed(pieces: Iterable[str], digest: hashlib._Hash) -> Iterator[str]:
    """The pieces, whose bytes in UTF-8 the digest has seen."""
    for piece in pieces:
        digest.update(piece.encode())
        yield piece
