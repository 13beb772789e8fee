"""A folder for files that can be made again: compiled kernels, downloads, encoded texts."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO

import platformdirs

from fastrnn.errors import FastrnnError
from fastrnn.storage.files import shown

TEMPORARY = ".tmp"


def cache_folder() -> Path:
    """A writable folder that lasts, if there is one.

    The user's cache folder; where that cannot be written (a read-only home, none at all), a folder
    of the user's in the temporary directory, or at last a new one there.

    Raises
    ------
    FastrnnError
        If there is none of these: the system is read-only, for example.
    """
    lasting = Path(platformdirs.user_cache_dir("fastrnn", appauthor=False))
    # Without a home directory the path starts with a literal ~.
    if lasting.is_absolute() and is_ours(lasting):
        return lasting
    user = os.getuid() if hasattr(os, "getuid") else "user"
    try:
        temporary = tempfile.gettempdir()
        folder = Path(temporary, f"fastrnn-{user}")
        return folder if is_ours(folder) else _new_folder(temporary)
    except OSError as error:
        raise FastrnnError(
            f"cannot keep files in {shown(lasting)}, nor in any temporary folder: they cannot be "
            "written; set XDG_CACHE_HOME to a folder that can"
        ) from error


@cache
def _new_folder(parent: str) -> Path:
    """The same one for all of a process: what it has put there, it will look for there."""
    return Path(tempfile.mkdtemp(prefix="fastrnn-", dir=parent))


def is_ours(folder: Path) -> bool:
    """Whether files can be made in `folder`, and by nobody else: Python runs what lies in there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        status = folder.stat()
    except OSError:
        return False
    return not hasattr(os, "getuid") or (
        status.st_uid == os.getuid() and not status.st_mode & 0o022
    )


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file of the cache to be written; it takes its name, and the place of an old one, when it is
    complete.

    Raises
    ------
    OSError
        If it cannot be written. Then, as after an interruption, no part of it is left.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_old(path.parent, "*" + TEMPORARY, days=1)  # what killed processes were writing
    temporary = path.with_name(secrets.token_hex(8) + TEMPORARY)
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            os.unlink(temporary)


def remove_old(folder: Path, pattern: str, days: float) -> None:
    """Remove the files that were not changed for so many days."""
    with suppress(OSError):  # the next time, then
        for path in folder.glob(pattern):
            if time.time() - path.stat().st_mtime > days * 24 * 60 * 60:
                path.unlink()


def cannot_keep(what: str, folder: Path, error: OSError, size: int | None = None) -> FastrnnError:
    """What to raise when `what`, of at most `size` bytes, cannot be written into the folder."""
    needed = "as much as the text has" if size is None else f"up to {size / 1e6:,.0f} MB"
    return FastrnnError(
        f"cannot keep {what} in {shown(folder)}: {error.strerror}; free some space there, it needs "
        f"{needed}, or set XDG_CACHE_HOME to a folder on a larger disk"
    )
