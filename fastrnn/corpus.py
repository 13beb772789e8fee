"""From text to integer codes: the vocabulary, and the sources a corpus is read from.

    sources ──read──▶ bytes ──decode, line ends to \\n──▶ text ──▶ Vocabulary ──encode──▶ codes

A source is a file, a folder, standard input or the name of a corpus that is downloaded once.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastrnn.cache import cache_folder
from fastrnn.errors import FastrnnError

NAMED_CORPORA = {
    "shakespeare": (
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
}
"""Corpora that are downloaded by name: their URL and SHA-256. They are UTF-8."""

DEFAULT_NAME = "Python language reference (pydoc_data.topics)"


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
        if list(self.characters) != sorted(set(self.characters)):
            raise FastrnnError("the characters of a vocabulary must be sorted and distinct")

    def __len__(self) -> int:
        return len(self.characters)

    @classmethod
    def from_text(cls, text: str) -> Vocabulary:
        """The vocabulary of all characters that occur in `text`."""
        present = np.zeros(sys.maxunicode + 1, bool)
        for points in _code_points(text):
            present[points] = True
        return cls(_text(np.flatnonzero(present)))

    def encode(self, text: str) -> np.ndarray:
        """The code of every character, in the smallest unsigned type that holds K - 1.

        Raises
        ------
        FastrnnError
            If a character is not in the vocabulary.
        """
        table = np.full(sys.maxunicode + 1, -1, np.int32)
        table[self._points()] = np.arange(len(self))
        codes = np.empty(len(text), np.min_scalar_type(max(len(self) - 1, 0)))
        end = 0
        for points in _code_points(text):
            found = table[points]
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
        """The text that `codes` stand for."""
        return _text(self._points()[np.asarray(codes, np.intp)])

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


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text, ready to train on.

    Attributes
    ----------
    name
        Where the text comes from, for people to read.
    codes
        The code of every character.
    vocabulary
        What the codes stand for.
    sha256
        Of the text as UTF-8, without byte-order mark and with line ends of one newline.
    """

    name: str
    codes: np.ndarray
    vocabulary: Vocabulary
    sha256: str

    @property
    def length(self) -> int:
        """The number of characters."""
        return len(self.codes)


def read_corpus(
    sources: Sequence[str | os.PathLike[str]] | str | os.PathLike[str] = (),
    encoding: str = "utf-8",
) -> Corpus:
    """Read a corpus from one source, or from several put together in the order given.

    Byte-order marks are removed, and the line ends ``\\r\\n`` and ``\\r`` become ``\\n``.

    Parameters
    ----------
    sources
        Each is the path of a text file; a folder, of which every text file is read, in sorted
        order and without hidden and binary files; ``"-"`` for standard input; or the name of a
        corpus to download, ``"shakespeare"``. A file of such a name is given as
        ``"./shakespeare"`` or as a `pathlib.Path`. No source at all: the language
        reference in Python's own documentation, which differs between Python versions.
    encoding
        Of files and standard input: the name of a Python text codec.

    Raises
    ------
    FastrnnError
        If a source cannot be read, is not text in that encoding, or is empty.
    """
    try:
        "a".encode(encoding)
    except (LookupError, ValueError) as error:
        raise FastrnnError(
            f"unknown encoding {encoding!r}; --encoding takes the name of a Python text codec, "
            "such as utf-8, latin-1 or utf-16"
        ) from error
    if isinstance(sources, (str, os.PathLike)):
        sources = [sources]
    parts = [_read(source, encoding) for source in sources] or [(DEFAULT_NAME, _default_text())]
    # A path may hold bytes that are no text; the name goes into checkpoints and must be.
    name = ", ".join(name for name, _ in parts).encode("utf-8", "backslashreplace").decode()
    text = "".join(text for _, text in parts)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    vocabulary = Vocabulary.from_text(text)
    return Corpus(name, vocabulary.encode(text), vocabulary, sha256)


def _read(source: str | os.PathLike[str], encoding: str) -> tuple[str, str]:
    """Name and text of one source."""
    # Never by way of Path, which turns "" into the current folder and "./-" into "-".
    path = os.fspath(source)
    if source == "-":
        return "standard input", _decode(_read_stdin(), encoding, "standard input")
    if source in NAMED_CORPORA:
        return path, _decode(_download(path), "utf-8", f"the corpus {path!r}")
    if os.path.isdir(path):
        return path, _read_folder(path, encoding)
    return path, _decode(_read_file(path), encoding, repr(path))


def _read_stdin() -> bytes:
    if sys.stdin is None:
        raise FastrnnError("cannot read standard input: it is closed")
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise FastrnnError(f"cannot read standard input: {error.strerror}") from error


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        names = ", ".join(NAMED_CORPORA)
        raise FastrnnError(
            f"there is no file or folder {path!r}; --corpus takes a path, - for standard input, "
            f"or a name: {names}"
        ) from error
    except OSError as error:
        raise FastrnnError(f"cannot read {path!r}: {error.strerror}") from error
    except ValueError as error:  # a path with a NUL
        raise FastrnnError(f"cannot read {path!r}: {error}") from error


def _read_folder(folder: str, encoding: str) -> str:
    def fail(error: OSError) -> None:
        raise FastrnnError(f"cannot read {error.filename!r}: {error.strerror}") from error

    paths: list[Path] = []
    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(parent, name) for name in files if not name.startswith(".")]
    try:
        # What is no file is a broken link, a socket or a pipe, which might never end.
        paths = sorted(path for path in paths if path.is_file())
    except OSError as error:
        fail(error)
    texts = []
    for path in paths:
        raw = _read_file(str(path))
        if raw and not _is_binary(raw, encoding):
            texts.append(_decode(raw, encoding, repr(str(path))))
    if not texts:
        raise FastrnnError(
            f"the folder {folder!r} has no text file (empty, hidden and binary files do not count)"
        )
    return "".join(texts)


def _is_binary(raw: bytes, encoding: str) -> bool:
    wide = codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))
    return not wide and b"\0" in raw


def _decode(raw: bytes, encoding: str, label: str) -> str:
    """The text in `raw` without byte-order mark and with line ends of one newline."""
    if _is_binary(raw, encoding):
        raise FastrnnError(
            f"{label} is a binary file: its byte {raw.index(0)}, counted from 0, is NUL; give a "
            "text file, or --encoding utf-16 if it is one in that encoding"
        )
    try:
        text = raw.decode(encoding).removeprefix("\ufeff")
        text.encode()  # Some codecs, utf-7 for one, let lone surrogates through.
    except UnicodeDecodeError as error:
        # Codecs that skip a byte-order mark count from behind it.
        position = error.start + len(raw) - len(error.object)
        raise FastrnnError(
            f"{label} is not {encoding} text: its byte {position}, counted from 0, is "
            f"0x{raw[position]:02x} ({error.reason}); name its encoding with --encoding"
        ) from error
    except UnicodeError as error:
        raise FastrnnError(f"{label} is not {encoding} text: {error}") from error
    if not text:
        raise FastrnnError(f"{label} is empty; give a text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _default_text() -> str:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise FastrnnError(
            "this Python comes without pydoc_data, the default corpus; give a text with --corpus"
        ) from error
    return "\n".join(topics[topic] for topic in sorted(topics))


def _download(name: str) -> bytes:
    """A named corpus, from the user's cache folder if it is there."""
    # Imported here because few need it, and everybody would wait for it.
    import pooch

    url, sha256 = NAMED_CORPORA[name]
    file = f"{name}.txt"
    instead = (
        f"fetch {url} by other means, check that its SHA-256 is {sha256}, and give the file with "
        "--corpus PATH"
    )
    try:
        return Path(pooch.retrieve(url, f"sha256:{sha256}", file, cache_folder())).read_bytes()
    except OSError as error:  # every exception of requests is one
        response = getattr(error, "response", None)
        reason = type(error).__name__ if response is None else f"HTTP {response.status_code}"
        raise FastrnnError(
            f"the corpus {name!r} cannot be downloaded ({reason}); {instead}"
        ) from error
    except ValueError as error:
        raise FastrnnError(
            f"the corpus {name!r} was downloaded with a wrong SHA-256 and thrown away; {instead}"
        ) from error
