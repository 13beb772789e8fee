"""Where a text comes from: files, folders, standard input, downloads; and its bytes as text.

    sources ──▶ parts ──read, decompress──▶ bytes ──decode, line ends to \\n──▶ pieces of text

A text is never held in memory; it is read once for its hash, and again for each use. What can be
read only once, standard input or a pipe, is copied into a temporary file first.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import os
import platform
import select
import stat
import sys
import sysconfig
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from fastrnn.checks import shown_value
from fastrnn.errors import FastrnnError
from fastrnn.storage import sealed
from fastrnn.storage.cache import cache_folder, cannot_keep
from fastrnn.storage.files import LOG_START, AnyPath, shown
from fastrnn.text import encoded

NAMED_CORPORA = {
    "shakespeare": (
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
}
"""Corpora that are downloaded by name: their URL and SHA-256. They are UTF-8."""

STDLIB = "stdlib"
"""The name of the corpus that every Python has: the sources of its standard library."""

NAMES = (*NAMED_CORPORA, STDLIB, "-")  # of sources that are no paths

NO_MODULES = (
    *("test", "tests", "idle_test"),
    *("site-packages", "dist-packages"),  # of others
    *("encodings", "pydoc_data"),  # tables of characters, and the default corpus
    *("config-*", "_sysconfigdata_*"),  # how this Python was built
)
"""What the standard library's folder has beside modules to learn from, as patterns of names."""

DEFAULT_NAME = "Python language reference (pydoc_data.topics)"

BYTES = "bytes"
"""The encoding in which each byte is a character, U+0000 to U+00FF, and nothing is changed."""

MARKS = {
    # Those of UTF-32 first: one of them starts like one of UTF-16.
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8",
}
"""Byte-order marks, and the encoding that each tells."""

OURS = (sealed.MAGIC, encoded.MAGIC, LOG_START)
"""How files start that fastrnn writes: checkpoints, encoded texts, logs."""

GZIP = b"\x1f\x8b"

PIECE = 1 << 20  # bytes read at a time
IN_MEMORY = 1 << 24  # bytes up to which a text is not worth a file in the cache

NAMED = 2  # of many files, those that are named
LONGEST_NAME = 200  # characters

Opener = Callable[[], AbstractContextManager[IO[bytes]]]
Progress = Callable[[int, int | None], None]


class UnusableFileError(FastrnnError):
    """An error where a file is named; in a folder such a file is left out, for this reason."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class LeftOut:
    """What was left out of folders, all for the same reason.

    Attributes
    ----------
    reason : str
        Such as "empty", "binary", "damaged", "hidden", or "written by fastrnn".
    count : int
    names : tuple of str
        The first of their paths.
    """

    reason: str
    count: int = 0
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.count:,} {self.reason} ({joined(self.names, self.count)})"


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes that are one text, with a byte-order mark and an end of their own."""

    label: str  # for messages
    encoding: str  # a codec, or BYTES
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
    files : int
        How many files or other sources there are.
    left_out : tuple of LeftOut
        What folders have that is not part of it.
    sources : tuple of str, or None
        The sources, so that this text may be read again from `folder`; None if one is a pipe.
    folder : str
        The current folder.
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
        self._left_out: dict[str, LeftOut] = {}  # by reason
        self.sources: tuple[str, ...] | None = tuple(map(unmistakable, sources))
        self.folder = current_folder()
        if sources:
            names = [self._add_source(source, encoding) for source in sources]
        else:
            names = [DEFAULT_NAME]
            text = _default_text().encode()
            self._add(DEFAULT_NAME, _utf8_or_bytes(encoding), partial(io.BytesIO, text))
        self.name = joined(names, len(names))
        key = hashlib.sha256()
        for part in self._parts:
            key.update(part.encoding.encode() + b"\0" + part.digest)
        self.key = key.digest()

    @property
    def files(self) -> int:
        return len(self._parts)

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        return tuple(self._left_out.values())

    def pieces(self) -> Iterator[str]:
        """The text piece by piece, without byte-order marks, and with line ends of one newline.

        Raises
        ------
        FastrnnError
            If a part is empty, is not text in its encoding, or not the one that was found.
        """
        for part in self._parts:
            yield from _decode(part.label, part.encoding, self._bytes_of(part))

    def _bytes_of(self, part: Part) -> Iterator[bytes]:
        digest = hashlib.sha256()
        left = part.size  # a file may have grown since
        with part.open() as file:
            while piece := _read(file.read, part.label, min(PIECE, left)):
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
        path = os.fsdecode(source)
        if source == "-":
            label = "standard input"
            self._add(label, encoding, self._spool(_standard_input(), label, encoding))
            return label
        if source == STDLIB:
            self._add_stdlib(_utf8_or_bytes(encoding))
            return f"Python {platform.python_version()} standard library"
        if source in NAMED_CORPORA:
            label = f"the corpus {path!r}"
            self._add(label, _utf8_or_bytes(encoding), partial(_open, _download(path)))
            return path
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError as error:
            names = ", ".join((*NAMED_CORPORA, STDLIB))
            raise FastrnnError(
                f"there is no file or folder {path!r}; give a path, - for standard input, or a "
                f"name: {names}"
            ) from error
        except (OSError, ValueError) as error:
            raise _cannot_read(repr(path), error) from error
        if stat.S_ISDIR(mode):
            self._add_folder(path, _files(path), encoding)
        elif stat.S_ISREG(mode):
            self._add(repr(path), encoding, partial(_open, path))
        else:
            with _open(path) as file:
                again = self._spool(file, repr(path), encoding)
            self._add(repr(path), encoding, again)
            self.sources = None
        return path

    def _add_stdlib(self, encoding: str) -> None:
        folder = sysconfig.get_path("stdlib")
        try:
            self._add_folder(folder, _modules(folder), encoding)
        except UnusableFileError as error:  # as of a Python in a zip file
            raise FastrnnError(
                f"this Python comes without the sources of its standard library: {error}; name a "
                "text file"
            ) from error

    def _add_folder(
        self, folder: str, files: Iterator[tuple[str, str | None]], encoding: str
    ) -> None:
        before = len(self._parts)
        for path, reason in files:
            try:
                if reason is None:
                    self._add(repr(path), encoding, partial(_open, path))
            except UnusableFileError as error:
                reason = error.reason
            if reason is not None:
                same = self._left_out.get(reason, LeftOut(reason))
                names = (*same.names, path)[:NAMED]
                self._left_out[reason] = LeftOut(reason, same.count + 1, names)
        if len(self._parts) == before:
            left_out = ", ".join(map(str, self.left_out)) or "nothing"
            message = f"the folder {folder!r} has no text file; left out so far: {left_out}"
            raise UnusableFileError(message, "without text")

    def _add(self, label: str, encoding: str, open: Opener) -> None:
        digest, size = hashlib.sha256(), 0
        with open() as file:
            pieces = iter(lambda: _read(file.read, label, PIECE), b"")
            encoding, pieces = _encoding_of(pieces, encoding)
            for piece in _checked(label, encoding, pieces):
                digest.update(piece)
                size += len(piece)
                self._progress(self.size + size, None)
        self.size += size
        self._parts.append(Part(label, encoding, open, size, digest.digest()))

    def _spool(self, file: Any, label: str, encoding: str) -> Opener:
        """Copy what can be read only once, as far as it is text."""
        folder = cache_folder()
        spool = SpooledTemporaryFile(IN_MEMORY, dir=str(folder))  # noqa: SIM115 (closed by the stack)
        self._stack.callback(_close, spool)

        def kept(pieces: Iterator[bytes]) -> Iterator[bytes]:
            size = 0
            for piece in pieces:
                try:
                    spool.write(piece)
                except OSError as error:
                    raise cannot_keep(label, folder, error) from error
                yield piece
                size += len(piece)
                self._progress(self.size + size, None)

        pieces = iter(lambda: _read(partial(_read_available, file), label, PIECE), b"")
        encoding, pieces = _encoding_of(pieces, encoding)
        for _ in _decode(label, encoding, _checked(label, encoding, kept(pieces))):
            pass  # what is no text is refused at its first bad byte, not when all has been read
        try:
            spool.flush()
        except OSError as error:
            raise cannot_keep(label, folder, error) from error

        def open() -> AbstractContextManager[IO[bytes]]:
            spool.seek(0)
            return nullcontext(spool)

        return open


def read_text(source: AnyPath, encoding: str) -> Iterator[str]:
    """The text of one source, piece by piece, as a corpus would have it.

    Parameters
    ----------
    source, encoding
        As for `read_corpus`.

    Raises
    ------
    FastrnnError
        If it cannot be read, or is not text in that encoding.
    """
    with ExitStack() as stack:
        yield from Text([source], checked_encoding(encoding), stack).pieces()


def checked_encoding(encoding: str) -> str:
    """The name of a codec, or BYTES."""
    if encoding.lower() == BYTES:  # as the names of codecs do not care for case
        return BYTES
    try:
        "a".encode(encoding)
        return codecs.lookup(encoding).name
    except (LookupError, ValueError) as error:
        raise FastrnnError(
            f"unknown encoding {shown_value(encoding)}; --encoding takes bytes or the name of "
            "a Python text codec, such as utf-8, latin-1 or utf-16"
        ) from error


def normalised(text: str) -> str:
    """A text whose line ends are one newline each, as those of a corpus."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def joined(names: Sequence[str], count: int) -> str:
    """The names of `count` things, of which at least the first are given, as far as they fit.

    They stay short and one line, and can be printed and encoded: checkpoints keep them.
    """
    names = [shown(name) for name in names]
    short = [name if len(name) <= LONGEST_NAME else f"{name[:90]}…{name[-90:]}" for name in names]
    together = ", ".join(short)
    if count == len(names) and (count <= NAMED or len(together) <= LONGEST_NAME):
        return together
    rest = count - len(short[:NAMED])
    return ", ".join(short[:NAMED]) + (f" and {rest:,} more" if rest else "")


def unmistakable(source: AnyPath) -> str:
    """A source as a str: a path that reads like the name of something else begins with a folder."""
    path = os.fsdecode(source)
    is_path = not isinstance(source, str)
    return os.path.join(os.curdir, path) if is_path and path in NAMES else path


def current_folder() -> str:
    """Its path, or nothing if it has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def found_again(sources: Sequence[str], folder: str) -> list[str]:
    """Where the sources are that `Text` was given in another current folder.

    Where there is nothing any more, they are looked for in the current folder of today.
    """
    there = [os.path.join(folder, one) for one in sources]
    return [
        path if one not in NAMES and os.path.exists(path) else one
        for one, path in zip(sources, there, strict=True)
    ]


def _utf8_or_bytes(encoding: str) -> str:
    """The encoding of a text that is UTF-8, whatever the encoding of others is."""
    return BYTES if encoding == BYTES else "utf-8"


def _open(path: str) -> Any:
    """A file that may be read; what it holds compressed, decompressed."""
    try:
        file = open(path, "rb")  # noqa: SIM115 (closed by the caller)
    except OSError as error:
        raise _cannot_read(repr(path), error) from error
    regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    if regular and path.endswith(".gz") and file.peek(len(GZIP)).startswith(GZIP):
        file.close()
        return gzip.open(path)
    return file


def _close(spool: IO[bytes]) -> None:
    with suppress(OSError):  # writes once more what did not fit on the disk
        spool.close()


def _standard_input() -> IO[bytes]:
    stream = getattr(sys.stdin, "buffer", None)  # a notebook's has none
    if stream is None or stream.closed:
        raise FastrnnError(
            "cannot read standard input: it is closed, or has no bytes; give a text file"
        )
    return stream


def _read_available(file: Any, size: int) -> bytes:
    """What is there, and no more: past the end of what a terminal sends, one would wait again."""
    piece = file.read1(size)
    if not piece and _never_waits(file):
        # Nothing yet, or the end: which of them shows when there is something to be read.
        select.select([file], [], [])
        piece = file.read1(size)
    return piece


def _never_waits(file: Any) -> bool:
    """Whether reading a file gives nothing where others wait: somebody else has set it so."""
    try:
        return os.name == "posix" and not os.get_blocking(file.fileno())
    except OSError:  # no file of the system's
        return False


def _read(read: Callable[[int], bytes], label: str, size: int) -> bytes:
    try:
        return read(size)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        message = f"{label} is a damaged gzip file ({error}); get it again"
        raise UnusableFileError(message, "damaged") from error
    except OSError as error:
        raise _cannot_read(label, error) from error


def _cannot_read(label: str, error: OSError | ValueError) -> UnusableFileError:
    reason = getattr(error, "strerror", None) or error
    kind = "gone" if isinstance(error, FileNotFoundError) else "unreadable"
    return UnusableFileError(f"cannot read {label}: {reason}", kind)


def _files(folder: str, without: Sequence[str] = ()) -> Iterator[tuple[str, str | None]]:
    """The paths below a folder, sorted, one name at a time; and why it is no file to read, if so.

    Names that match a pattern of `without` are passed over.

    Raises
    ------
    UnusableFileError
        If the folder itself cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise _cannot_read(repr(folder), error) from error
    for entry in found:
        path = entry.path
        if any(fnmatch(entry.name, pattern) for pattern in without):
            continue
        try:
            mode = entry.stat().st_mode
        except OSError as error:
            mode, reason = 0, _cannot_read(repr(path), error).reason
        if entry.name.startswith("."):
            yield path, "hidden"
        elif stat.S_ISREG(mode):
            yield path, None
        elif not mode:
            yield path, reason
        elif not stat.S_ISDIR(mode):
            yield path, "special"  # a pipe, for one, might never end
        elif entry.is_symlink():
            yield path, "behind a link"  # which may lead to where it is
        else:
            try:
                yield from _files(path, without)
            except UnusableFileError as error:
                yield path, error.reason


def _modules(folder: str) -> Iterator[tuple[str, str | None]]:
    """The same of the standard library's modules.

    Some have a few characters of alphabets that no other has: they would double the vocabulary,
    and be too rare to be learnt.
    """
    for path, reason in _files(folder, NO_MODULES):
        if path.endswith(".py"):
            try:
                if reason is None and not Path(path).read_bytes().isascii():
                    reason = "not ASCII"
            except OSError as error:
                reason = _cannot_read(repr(path), error).reason
            yield path, reason


def _encoding_of(pieces: Iterator[bytes], encoding: str) -> tuple[str, Iterator[bytes]]:
    """The encoding of a text, which its byte-order mark knows best; and the same pieces again.

    The first is longer than the mark, or what else a file is known by, that it starts with. What
    can no longer become any of these is not kept waiting for more.
    """
    start = b""
    for piece in pieces:
        start += piece
        if not any(known.startswith(start) for known in (*MARKS, *OURS)):
            break
    if encoding != BYTES:
        told = (name for mark, name in MARKS.items() if start.startswith(mark))
        encoding = next(told, encoding)
    only_mark = encoding != BYTES and start in MARKS
    return encoding, chain([] if only_mark or not start else [start], pieces)


def _checked(label: str, encoding: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same pieces, if they are not something else than text.

    Raises
    ------
    UnusableFileError
        If they are empty, binary, or a file of ours.
    """
    size = 0
    any_byte = encoding == BYTES or encoding.startswith(("utf-16", "utf-32"))
    for piece in pieces:
        if size == 0 and piece.startswith(OURS):
            raise UnusableFileError(
                f"{label} is a file that fastrnn wrote, not a text; give a text file",
                "written by fastrnn",
            )
        if not any_byte and (nul := piece.find(0)) >= 0:
            wide = _unmarked(piece) if size == 0 else None
            advice = f", with --encoding {wide} if it is one in that encoding" if wide else ""
            raise UnusableFileError(
                f"{label} is a binary file: its byte {size + nul}, counted from 0, is NUL; "
                f"give a text file{advice}, or --encoding bytes to take each byte for a character",
                f"probably {wide}" if wide else "binary",
            )
        yield piece
        size += len(piece)
    if size == 0:
        raise _empty(label)


def _unmarked(start: bytes) -> str | None:
    """The encoding of a text with NULs and no byte-order mark, as far as its start shows it."""
    start = start[:64]
    nuls = {place % 4 for place, byte in enumerate(start) if byte == 0}
    # Few bytes are UTF-32, but nearly all are UTF-16 in either order: there Latin letters or
    # spaces decide, at both places of a character in four bytes.
    wide = {"utf-32-le": True, "utf-32-be": True}
    wide |= {"utf-16-le": nuls == {1, 3}, "utf-16-be": nuls == {0, 2}}
    for name in (name for name, possible in wide.items() if possible):
        with suppress(UnicodeDecodeError):
            text = codecs.getincrementaldecoder(name)().decode(start)
            if text and all(letter.isprintable() or letter.isspace() for letter in text):
                return name
    return None


def _empty(label: str) -> UnusableFileError:
    return UnusableFileError(f"{label} is empty; give a text", "empty")


def _decode(label: str, encoding: str, pieces: Iterator[bytes]) -> Iterator[str]:
    if encoding == BYTES:
        yield from (piece.decode("latin-1") for piece in pieces)
        return
    first = next(pieces, b"")
    decoder = _decoder(encoding, first)
    read = length = 0
    mark = True  # may come
    for piece in chain([first] if first else [], pieces, [b""]):
        read += len(piece)
        try:
            text = decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            # The decoder had kept bytes of earlier pieces, or skipped a byte-order mark.
            position = read - len(error.object) + error.start
            remedy = "name its encoding with --encoding"
            if first.startswith(tuple(MARKS)):
                remedy = "its byte-order mark says that encoding: correct the file or its mark"
            raise FastrnnError(
                f"{label} is not {encoding} text: its byte {position}, counted from 0, "
                f"is 0x{error.object[error.start]:02x} ({error.reason}); {remedy}"
            ) from error
        except UnicodeError as error:
            raise FastrnnError(f"{label} is not {encoding} text: {error}") from error
        if text and mark:
            text = text.removeprefix("\ufeff")
            mark = False
        try:
            text.encode()  # Some codecs, utf-7 for one, let lone surrogates through.
        except UnicodeEncodeError as error:
            raise FastrnnError(
                f"{label} is not {encoding} text: 'utf-8' codec can't encode character "
                f"{text[error.start]!a} in position {length + error.start}: {error.reason}"
            ) from error
        length += len(text)
        yield text
    if not length:
        raise _empty(label)


def _decoder(encoding: str, start: bytes) -> io.IncrementalNewlineDecoder:
    """A decoder for a text that begins with `start`."""
    if encoding in ("utf-16", "utf-32") and not start.startswith(tuple(MARKS)):
        # In the machine's order, as `bytes.decode` does; an incremental decoder would refuse it.
        encoding += "-le" if sys.byteorder == "little" else "-be"
    return io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)


def _default_text() -> str:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise FastrnnError(
            "this Python comes without pydoc_data, the default corpus; name a text file"
        ) from error
    return "\n".join(topics[topic] for topic in sorted(topics))


def _download(name: str) -> str:
    """The path of a named corpus, in the user's cache folder."""
    # Imported here because few need it, and everybody would wait for it.
    import pooch

    url, sha256 = NAMED_CORPORA[name]
    file = f"{name}.txt"
    instead = f"fetch {url} by other means, check that its SHA-256 is {sha256}, and name that file"
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
