"""Files that commands write besides checkpoints: pictures, logs, measurements."""

from __future__ import annotations

import errno
import io
import os
import shlex
from pathlib import Path

from fastrnn.checks import shortened
from fastrnn.errors import FastrnnError

PICTURES = (".png", ".svg", ".pdf")
LOG_START = b'{"event": "start", "updates": '  # no log of another program starts so
LONGEST_SHOWN = 500  # characters of a path in a message

# What replacing a file can meet where writing in place works.
NOT_REPLACEABLE = (errno.EINVAL, errno.EBUSY, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)

AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def shown(path: AnyPath) -> str:
    """A path for a message, which stays one line and can be printed whatever the file's name."""
    name = shortened(os.fsdecode(path), LONGEST_SHOWN)
    return name if name.isprintable() and name else ascii(name)


def typed(path: AnyPath) -> str:
    """A path as it is typed in a shell, on one line and so that it is not taken for an option."""
    name = os.fsdecode(path)
    if name.startswith("-"):
        name = os.path.join(os.curdir, name)
    if name.isprintable():
        return shlex.quote(name)
    # Control characters, and bytes that are none: by their numbers, as the usual shells read them.
    codes = os.fsencode(name)
    plain = (chr(one) if 32 <= one < 127 and one not in b"\\'" else f"\\{one:03o}" for one in codes)
    return f"$'{''.join(plain)}'"


def check_picture(path: AnyPath) -> str:
    """The suffix of a picture's path, which says its format.

    Raises
    ------
    FastrnnError
        If it is none of .png, .svg and .pdf.
    """
    suffix = Path(os.fsdecode(path)).suffix.lower()
    if suffix not in PICTURES:
        raise FastrnnError(
            f"cannot draw {shown(path)}: its name says no format; let it end in .png, .svg or .pdf"
        )
    return suffix


def write_all(file: io.RawIOBase, data: bytes | memoryview) -> None:
    """Write to a file without a buffer, which may take only a part at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def write(path: AnyPath, content: bytes) -> None:
    """Write a file that is complete in memory; a failure leaves an older file as it was.

    Only a file that cannot be replaced is written in place: a device, a pipe, a mount point, or one
    in a folder that takes no other.

    Raises
    ------
    FastrnnError
        If it cannot be written.
    """
    from fastrnn.storage.atomic import real_path, replace_file  # which needs this module

    try:
        try:
            replace_file(real_path(path), content)
        except OSError as error:
            if error.errno not in NOT_REPLACEABLE:
                raise
            Path(os.fsdecode(path)).write_bytes(content)
    except OSError as error:
        raise FastrnnError(
            f"cannot write {shown(path)}: {error.strerror}; choose another path"
        ) from error
