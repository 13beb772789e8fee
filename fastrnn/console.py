"""Standard output and error: that nobody can be told must not end what there is to tell.

A stream may be closed, its disk full, its reader gone or asleep. Then it is silent from there on,
knows why, and the program decides what that means.
"""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

from fastrnn.training.signals import output_that_may_block


class Stream:
    """`sys.stdout` or `sys.stderr`, whichever it is at the moment; writing to it never raises.

    Attributes
    ----------
    problem : OSError or ValueError or None
        Why nothing more is written.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._failed: tuple[TextIO | None, OSError | ValueError] | None = None

    @property
    def _file(self) -> TextIO | None:
        return getattr(sys, self._name)

    @property
    def problem(self) -> OSError | ValueError | None:
        # Not of a stream that is another one now: programs replace theirs, for a while or for good.
        file, problem = self._failed or (None, None)
        return problem if self._failed and file is self._file else None

    def write(self, text: str) -> int:
        self._attempt(lambda file: file.write(text))
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        """Bytes as they are; as UTF-8 where the stream takes nothing but text."""

        def write(file: TextIO) -> None:
            binary = getattr(file, "buffer", None)
            if binary is None:
                file.write(data.decode(errors="backslashreplace"))
            else:
                file.flush()
                binary.write(data)

        self._attempt(write)

    def flush(self) -> None:
        self._attempt(lambda file: file.flush())

    def say(self, line: str) -> None:
        """A line that is to be seen now."""
        self.write(line + "\n")
        self.flush()

    def isatty(self) -> bool:
        file = self._file
        return file is not None and not file.closed and file.isatty()

    def fileno(self) -> int:
        """For whoever asks for the size of the terminal; OSError if there is none."""
        if self._file is None:
            raise OSError("the stream is closed")
        return self._file.fileno()

    @property
    def encoding(self) -> str:
        return getattr(self._file, "encoding", None) or "utf-8"

    def _attempt(self, work: Callable[[TextIO], Any]) -> None:
        if self.problem is not None:
            return
        file = self._file
        try:
            if file is None:
                raise OSError("it is closed")
            with output_that_may_block():
                work(file)
        except (OSError, ValueError) as error:  # ValueError: closed by the program itself
            self._failed = file, error


OUT = Stream("stdout")
ERR = Stream("stderr")

# All of them but line ends and tabs; the second 32 of Latin-1 are what ESC @ to ESC _ are, too.
CONTROLS = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"
}


class ModelText:
    """What a model wrote, piece by piece on standard output.

    Character for character as it was drawn, but for a terminal, which shows control characters as
    escapes instead of obeying them.

    Parameters
    ----------
    encoding : str
        Of the text that the model was trained on. Where that is "bytes", each character stands for
        a byte, and is written as that byte; for a terminal the bytes are taken as UTF-8.
    kept : list of bytes, optional
        Where the text goes instead, for a file.

    Attributes
    ----------
    bytes, terminal : bool
        Whether each character is a byte, and whether the text is shown by a terminal.
    """

    def __init__(self, encoding: str, kept: list[bytes] | None = None) -> None:
        self.bytes = encoding == "bytes"
        self._kept = kept
        self.terminal = kept is None and OUT.isatty()
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def write(self, piece: str, last: bool = False) -> None:
        """`last` says that no other follows, to which an incomplete character could belong."""
        if self._kept is not None:
            code = "latin-1" if self.bytes else "utf-8"
            self._kept.append(piece.encode(code, "backslashreplace"))
        elif self.terminal:
            if self.bytes:
                piece = self._decoder.decode(piece.encode("latin-1"), last)
            OUT.write(piece.translate(CONTROLS))
            OUT.flush()  # a text is read as it is written; a pipe or a file gets it in blocks
        elif self.bytes:
            OUT.write_bytes(piece.encode("latin-1"))
        else:
            OUT.write(piece)

    def end(self, always: bool = False) -> None:
        """End the text, with a line end unless it consists of bytes that have a meaning; `always`
        says that it is a line."""
        self.write("", last=True)
        if always or self.terminal or not self.bytes:
            self.write("\n")
        if self.terminal:
            OUT.flush()


def open_closed_streams() -> None:
    """Give a program something to write to where it was started without.

    Otherwise the first files that it opens get the numbers of the standard streams, and whatever a
    library prints goes into them.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, this one
    if sys.stderr is None:  # only standard output is missed, see Stream._attempt
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (for the rest of the program)


def drop_what_failed() -> None:
    """Let the end of the program not write what is left in a stream that failed."""
    for stream in (OUT, ERR):
        if stream.problem is not None:
            with suppress(OSError, ValueError):  # it has no file, or no number
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)


def reason_of(error: OSError | ValueError) -> str:
    """What went wrong, without the number of the error and the name of the file."""
    return getattr(error, "strerror", None) or str(error)
