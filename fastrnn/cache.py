"""A folder for files that can be made again: compiled kernels, downloads, encoded texts."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path

import platformdirs

from fastrnn.errors import FastrnnError
from fastrnn.files import shown


def cache_folder() -> Path:
    """A writable folder that lasts, if there is one.

    The user's cache folder; where that cannot be written (a read-only home, none at all), a folder
    of the user's in the temporary directory, or at last a new one there.
    """
    user = os.getuid() if hasattr(os, "getuid") else "user"
    temporary = Path(tempfile.gettempdir()) / f"fastrnn-{user}"
    for folder in (Path(platformdirs.user_cache_dir("fastrnn", appauthor=False)), temporary):
        # Without a home directory the path starts with a literal ~.
        if folder.is_absolute() and is_ours(folder):
            return folder
    return _new_folder(tempfile.gettempdir())


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


def cannot_keep(what: str, folder: Path, error: OSError, size: int | None = None) -> FastrnnError:
    """What to raise when `what`, of at most `size` bytes, cannot be written into the folder."""
    needed = "as much as the text has" if size is None else f"up to {size / 1e6:,.0f} MB"
    return FastrnnError(
        f"cannot keep {what} in {shown(folder)}: {error.strerror}; free some space there, it needs "
        f"{needed}, or set XDG_CACHE_HOME to a folder on a larger disk"
    )
