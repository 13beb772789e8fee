"""Files that commands write besides checkpoints: pictures, logs, measurements."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from fastrnn.errors import FastrnnError

PICTURES = (".png", ".svg", ".pdf")

# What replacing a file can meet where writing in place works.
NOT_REPLACEABLE = (errno.EINVAL, errno.EBUSY, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)

AnyPath = str | os.PathLike[str]


def shown(path: AnyPath) -> str:
    """A path for a message, which stays one line and can be printed whatever the file's name."""
    name = os.fsdecode(path)
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
    """Write a file that is complete in memory; a failure leaves an older file as it was.

    Only a file that cannot be replaced is written in place: a device, a pipe, a mount point, or one
    in a folder that takes no other.

    Raises
    ------
    FastrnnError
        If it cannot be written.
    """
    from fastrnn.sealed import replace_file

    try:
        try:
            replace_file(os.path.realpath(path), content)
        except OSError as error:
            if error.errno not in NOT_REPLACEABLE:
                raise
            Path(path).write_bytes(content)
    except OSError as error:
        raise FastrnnError(
            f"cannot write {shown(path)}: {error.strerror}; choose another path"
        ) from error
