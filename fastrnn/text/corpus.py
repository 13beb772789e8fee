"""From sources to a corpus: integer codes and what they stand for.

    sources ──▶ pieces of text ──▶ Vocabulary
                pieces of text ──encode──▶ codes, in memory or in a file of the cache

A large text is encoded once: its codes are kept in a file, which is mapped into memory.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from fastrnn import checks
from fastrnn.checks import counted, shortened
from fastrnn.errors import FastrnnError
from fastrnn.storage.files import shown
from fastrnn.text import encoded
from fastrnn.text.sources import (
    IN_MEMORY,
    LeftOut,
    Progress,
    Text,
    checked_encoding,
    joined,
    normalised,
)
from fastrnn.text.vocabulary import Vocabulary


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
    sources
        What it was read from, as `read_corpus` was told; None if it was not read, or from a pipe.
    folder
        The current folder then.
    """

    name: str
    codes: np.ndarray
    vocabulary: Vocabulary
    sha256: str
    encoding: str = "utf-8"
    files: int = 1
    left_out: tuple[LeftOut, ...] = ()
    sources: tuple[str, ...] | None = None
    folder: str = ""

    def __repr__(self) -> str:
        return (
            f"<fastrnn.Corpus: {shortened(self.name)}, {counted(self.length, 'character')}, "
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
        of a corpus: ``"shakespeare"``, which is downloaded, or ``"stdlib"``, the sources of
        Python's standard library. A file of such a name is given as ``"./shakespeare"`` or as a
        `pathlib.Path`. No source at all: the language reference in Python's own documentation.
        The latter and ``"stdlib"`` differ between Python versions. Of folders, what is hidden,
        empty, binary, unreadable, behind a link to a folder or written by fastrnn is left out; the
        corpus tells which. Of the standard library also tests, tables of characters, the language
        reference, and modules with other characters than ASCII.
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
    encoding = checked_encoding(checks.text("encoding", encoding))
    sources = checks.sources(sources)
    with ExitStack() as stack:
        text = Text(sources, encoding, stack, progress)
        about = encoding, text.files, text.left_out, text.sources, text.folder
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
