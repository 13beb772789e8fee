"""Where a text comes from: files, folders, standard input, downloads; and its bytes as text.

    sources ──▶ parts ──read──▶ bytes ──decode, line ends to \\n──▶ pieces of text

A text is never held in memory; it is read once for its hash, and again for each use. What can be
read only once, standard input or a pipe, is copied into a temporary file first.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO

from fastrnn.cache import cache_folder, cannot_keep
from fastrnn.errors import FastrnnError

NAMED_CORPORA = {
    "shakespeare": (
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
}
"""Corpora that are downloaded by name: their URL and SHA-256. They are UTF-8."""

DEFAULT_NAME = "Python language reference (pydoc_data.topics)"

MARKS = {
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
}
"""Byte-order marks of encodings whose byte order they decide."""

PIECE = 1 << 20  # bytes read at a time; at least a byte-order mark
IN_MEMORY = 1 << 24  # bytes up to which a text is not worth a file in the cache

AnyPath = str | os.PathLike[str]
Opener = Callable[[], AbstractContextManager[IO[bytes]]]
Progress = Callable[[int, int | None], None]


class BinaryFileError(FastrnnError):
    """A named source must not be binary, but a file in a folder may."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes that are one text, with a byte-order mark and an end of their own."""

    label: str  # for messages
    encoding: str
    open: Opener
    size: int
    digest: bytes  # SHA-256


class Text:
    """The text of all sources, one after the other.

    Parameters
    ----------
    sources, encoding
        As for `read_corpus`.
    stack
        Closes the temporary files.
    progress
        Is called with the bytes done and the bytes to do: while the sources are found and hashed
        the latter is None; then both are of `pieces`, which is expected to be called twice.

    Attributes
    ----------
    name : str
        For people to read.
    size : int
        Bytes.
    key : bytes
        SHA-256 that stands for the text: of all that it is made from, the bytes and encodings.
    """

    def __init__(
        self,
        sources: Sequence[AnyPath],
        encoding: str,
        stack: ExitStack,
        progress: Progress | None = None,
    ) -> None:
        self._stack = stack
        self._progress = progress or (lambda done, total: None)
        self._parts: list[Part] = []
        self._decoded = 0
        self.size = 0
        if sources:
            name = ", ".join([self._add_source(source, encoding) for source in sources])
        else:
            name = DEFAULT_NAME
            self._add(name, "utf-8", partial(io.BytesIO, _default_text().encode()))
        # A path may hold bytes that are no text; the name goes into checkpoints and must be.
        self.name = name.encode("utf-8", "backslashreplace").decode()
        key = hashlib.sha256()
        for part in self._parts:
            key.update(codecs.lookup(part.encoding).name.encode() + b"\0" + part.digest)
        self.key = key.digest()

    def pieces(self) -> Iterator[str]:
        """The text piece by piece, without byte-order marks, and with line ends of one newline.

        Raises
        ------
        FastrnnError
            If a part is empty, is not text in its encoding, or not the one that was found.
        """
        for part in self._parts:
            yield from _decode(part, self._bytes_of(part))

    def _bytes_of(self, part: Part) -> Iterator[bytes]:
        digest = hashlib.sha256()
        left = part.size  # a file may have grown since
        with part.open() as file:
            while piece := _read(file, part.label, min(PIECE, left)):
                left -= len(piece)
                digest.update(piece)
                yield piece
                self._decoded += len(piece)
                self._progress(self._decoded // 2, self.size)
        if digest.digest() != part.digest:
            raise FastrnnError(
                f"{part.label} was changed while it was read; try again when nobody writes to it"
            )

    def _add_source(self, source: AnyPath, encoding: str) -> str:
        """Add what one source has, and return its name."""
        # Never by way of Path, which turns "" into the current folder and "./-" into "-".
        path = os.fspath(source)
        if source == "-":
            if sys.stdin is None:
                raise FastrnnError("cannot read standard input: it is closed")
            path = label = "standard input"
            self._add(label, encoding, self._spool(sys.stdin.buffer, label))
        elif source in NAMED_CORPORA:
            self._add(f"the corpus {path!r}", "utf-8", partial(_open, _download(path)))
        elif os.path.isdir(path):
            self._add_folder(path, encoding)
        else:
            with _open(path) as file:
                regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
                again = partial(_open, path) if regular else self._spool(file, repr(path))
            self._add(repr(path), encoding, again)
        return path

    def _add_folder(self, folder: str, encoding: str) -> None:
        before = len(self._parts)
        for path in _files(folder):
            try:
                self._add(repr(path), encoding, partial(_open, path))
            except BinaryFileError:
                continue
            if self._parts[-1].size == 0:
                self._parts.pop()
        if len(self._parts) == before:
            raise FastrnnError(
                f"the folder {folder!r} has no text file (empty, hidden and binary files do not "
                "count)"
            )

    def _add(self, label: str, encoding: str, open: Opener) -> None:
        wide = codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))
        digest, size = hashlib.sha256(), 0
        with open() as file:
            while piece := _read(file, label, PIECE):
                if not wide and (nul := piece.find(0)) >= 0:
                    raise BinaryFileError(
                        f"{label} is a binary file: its byte {size + nul}, counted from 0, is NUL; "
                        "give a text file, or --encoding utf-16 if it is one in that encoding"
                    )
                digest.update(piece)
                size += len(piece)
                self._progress(self.size + size, None)
        self.size += size
        self._parts.append(Part(label, encoding, open, size, digest.digest()))

    def _spool(self, file: IO[bytes], label: str) -> Opener:
        """Copy what can be read only once."""
        folder = cache_folder()
        spool = SpooledTemporaryFile(IN_MEMORY, dir=str(folder))  # noqa: SIM115 (closed by the stack)
        self._stack.callback(_close, spool)
        size = 0
        try:
            while piece := _read(file, label, PIECE):
                spool.write(piece)
                size += len(piece)
                self._progress(self.size + size, None)
            spool.flush()
        except OSError as error:
            raise cannot_keep(label, folder, error) from error

        def open() -> AbstractContextManager[IO[bytes]]:
            spool.seek(0)
            return nullcontext(spool)

        return open


def _open(path: str) -> IO[bytes]:
    try:
        return open(path, "rb")
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


def _close(spool: IO[bytes]) -> None:
    with suppress(OSError):  # writes once more what did not fit on the disk
        spool.close()


def _read(file: IO[bytes], label: str, size: int) -> bytes:
    try:
        return file.read(size)
    except OSError as error:
        raise FastrnnError(f"cannot read {label}: {error.strerror}") from error


def _files(folder: str) -> Iterator[str]:
    """The paths of all files below a folder that are not hidden, sorted, one name at a time."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise FastrnnError(f"cannot read {folder!r}: {error.strerror}") from error
    for entry in sorted(visible, key=lambda entry: entry.name):
        path = Path(entry.path)
        try:
            below, regular = entry.is_dir(follow_symlinks=False), path.is_file()
        except OSError as error:
            raise FastrnnError(f"cannot read {str(path)!r}: {error.strerror}") from error
        if below:
            yield from _files(str(path))
        elif regular:  # else a broken link, a socket or a pipe, which might never end
            yield str(path)


def _decode(part: Part, pieces: Iterator[bytes]) -> Iterator[str]:
    first = next(pieces, b"")
    decoder = _decoder(part.encoding, first)
    read = length = 0
    mark = True  # may come
    for piece in chain([first] if first else [], pieces, [b""]):
        read += len(piece)
        try:
            text = decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            # The decoder had kept bytes of earlier pieces, or skipped a byte-order mark.
            position = read - len(error.object) + error.start
            raise FastrnnError(
                f"{part.label} is not {part.encoding} text: its byte {position}, counted from 0, "
                f"is 0x{error.object[error.start]:02x} ({error.reason}); name its encoding with "
                "--encoding"
            ) from error
        except UnicodeError as error:
            raise FastrnnError(f"{part.label} is not {part.encoding} text: {error}") from error
        if text and mark:
            text = text.removeprefix("\ufeff")
            mark = False
        try:
            text.encode()  # Some codecs, utf-7 for one, let lone surrogates through.
        except UnicodeEncodeError as error:
            raise FastrnnError(
                f"{part.label} is not {part.encoding} text: 'utf-8' codec can't encode character "
                f"{text[error.start]!a} in position {length + error.start}: {error.reason}"
            ) from error
        length += len(text)
        yield text
    if not length:
        raise FastrnnError(f"{part.label} is empty; give a text")


def _decoder(encoding: str, start: bytes) -> io.IncrementalNewlineDecoder:
    """A decoder for a text that begins with `start`."""
    name = codecs.lookup(encoding).name
    if name in MARKS and not start.startswith(MARKS[name]):
        # In the machine's order, as `bytes.decode` does; an incremental decoder would refuse it.
        name += "-le" if sys.byteorder == "little" else "-be"
    return io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(name)(), translate=True)


def _default_text() -> str:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise FastrnnError(
            "this Python comes without pydoc_data, the default corpus; give a text with --corpus"
        ) from error
    return "\n".join(topics[topic] for topic in sorted(topics))


def _download(name: str) -> str:
    """The path of a named corpus, in the user's cache folder."""
    # Imported here because few need it, and everybody would wait for it.
    import pooch

    url, sha256 = NAMED_CORPORA[name]
    file = f"{name}.txt"
    instead = (
        f"fetch {url} by other means, check that its SHA-256 is {sha256}, and give the file with "
        "--corpus PATH"
    )
    try:
        return pooch.retrieve(url, f"sha256:{sha256}", file, cache_folder())
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
