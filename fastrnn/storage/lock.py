"""A lock file beside a checkpoint, best.h5.lock, with which one training keeps the others off.

The system gives the lock and takes it back from a process that ends in whatever way, so none is
ever stale; what a killed one leaves is a file that the next takes over. It only concerns those who
train: reading is never kept waiting.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import NamedTuple

from filelock import FileLock, Timeout

from fastrnn.errors import FastrnnError
from fastrnn.storage.atomic import lock_name, real_path
from fastrnn.storage.checkpoint import save_errors
from fastrnn.storage.files import AnyPath, shown

START = b'{"pid": '  # what a lock file that is not empty begins with
MOST_READ = 4096  # bytes; what a holder says of itself has a hundred or two


class Turn(NamedTuple):
    """The right to save somewhere.

    Attributes
    ----------
    warning : str or None
        If the file system has no locks; then nothing keeps others off.
    remove_file : callable
        Removes the lock file, as the end of the turn does. For whoever ends the process before it.
    """

    warning: str | None
    remove_file: Callable[[], None]


@contextmanager
def only_training(path: AnyPath) -> Iterator[Turn]:
    """Within it no other training may save to `path`.

    Raises
    ------
    FastrnnError
        If another training, here or in another process, saves there.
    """
    with save_errors(path):
        file = lock_name(real_path(path))
        os.stat(os.path.dirname(file))  # the library would make the folder
    held: list[os.stat_result] = []

    def say_who(descriptor: int) -> None:
        there = os.read(descriptor, len(START))
        if not START.startswith(there):
            raise OSError(f"{shown(file)} is there, and no lock of fastrnn")
        held.append(os.fstat(descriptor))
        with suppress(OSError):  # on a full disk the lock is as good without
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, _this_process())

    def remove_file() -> None:
        # While it is held: who has just opened it finds it gone, and makes another.
        with suppress(OSError):
            if held and os.path.samestat(held[0], os.lstat(file)):
                os.unlink(file)

    # A SoftFileLock knows its process by itself, but on a shared disk it outlives a computer that
    # goes down, and somebody has to remove it. Threads of one process share this one, as the thread
    # that takes it may be another than the one that gives it back.
    lock = FileLock(
        file, timeout=0, thread_local=False, preserve_lock_file=True, on_acquired=say_who
    )
    warning = None
    try:
        lock.acquire()
    except Timeout:
        # Where a folder takes no new file there is nothing to wait for; `Destination` says so.
        if os.path.lexists(file):
            raise FastrnnError(
                f"cannot save {shown(path)}: {_holder(file)} trains and saves there; "
                "let it end, or choose another path"
            ) from None
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        warning = (
            f"{shown(path)} cannot be locked ({reason}); let no other training save there meanwhile"
        )
    try:
        yield Turn(warning, remove_file)
    finally:
        remove_file()
        with suppress(OSError):
            lock.release()


def _this_process() -> bytes:
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    who = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    return json.dumps(who).encode()


def _holder(file: str) -> str:
    """The process that has the lock, in words."""
    with suppress(OSError, ValueError, TypeError, KeyError), open(file, "rb") as text:
        who = json.loads(text.read(MOST_READ))
        words = f"process {who['pid']} on {who['host']}, since {who['since']},"
        if words.isprintable():
            return words
    return "another process"
