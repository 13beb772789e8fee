"""A folder for files that can be made again: compiled kernels, downloaded corpora."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import platformdirs


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
    return Path(tempfile.mkdtemp(prefix="fastrnn-"))


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
