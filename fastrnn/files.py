"""Files that commands write besides checkpoints: pictures, logs, measurements."""

from __future__ import annotations

import os
from pathlib import Path

from fastrnn.checks import shortened
from fastrnn.errors import FastrnnError

PICTURES = (".png", ".svg", ".pdf")
LONGEST_SHOWN = 500  # characters of a path in a message

AnyPath = str | os.PathLike[str]


def shown(path: AnyPath) -> str:
    """A path for a message, which stays one line and can be printed whatever the file's name."""
    name = shortened(os.fsdecode(path), LONGEST_SHOWN)
    return name if name.isprintable() and name else ascii(name)


def check_picture(path: AnyPath) -> str:
    """The suffix of a picture's path, which says its format.

    Raises
    ------
    FastrnnError
        If it is none of .png, .svg and .pdf.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in PICTURES:
        raise FastrnnError(
            f"cannot draw {shown(path)}: its name says no format; let it end in .png, .svg or .pdf"
        )
    return suffix


def write(path: AnyPath, content: bytes) -> None:
    """Write a file that is complete in memory.

    Raises
    ------
    FastrnnError
        If it cannot be written.
    """
    try:
        Path(path).write_bytes(content)
    except OSError as error:
        raise FastrnnError(
            f"cannot write {shown(path)}: {error.strerror}; choose another path"
        ) from error
