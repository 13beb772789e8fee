"""Files that are written whole or not at all, and that take no other file's place unasked.

A file is written under a temporary name in the folder it is meant for. Then one operation of the
file system puts it in place: a rename over an older file, or a hard link under a name that is free.
So at every moment, a kill or a power cut included, a path holds a complete file.
"""

from __future__ import annotations

import errno
import io
import itertools
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from fastrnn.storage.files import AnyPath, write_all
from fastrnn.storage.sealed import USER_BLOCK, may_begin_sealed

if sys.platform != "win32":
    import fcntl

LONGEST_NAME = 255  # bytes, where the system does not say
LONGEST_EXTENSION = 16  # bytes; what is longer belongs to the name
LOCK_SECONDS = 1.0


# Names


def real_path(path: AnyPath) -> str:
    """The absolute path of the file that `path` leads to over symbolic links."""
    name = os.fsdecode(path)
    if not os.path.basename(name):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return os.path.realpath(name)


def numbered(target: str, number: int | str) -> str:
    """`best.1.h5` for `best.h5`, shortened where the folder allows no name as long as that."""
    folder, name = os.path.split(target)
    stem, extension = os.path.splitext(name)
    if len(os.fsencode(extension)) > LONGEST_EXTENSION:
        stem, extension = name, ""
    return os.path.join(folder, _fitted(folder, stem, f".{number}{extension}"))


def numbered_files(target: str, start: str) -> list[str]:
    """The files there are that `numbered` names by `start` and a number, in order of that."""
    folder, mark = os.path.dirname(target), "0"
    before, after = os.path.basename(numbered(target, start + mark)).rsplit(start + mark, 1)
    names = re.compile(f"{re.escape(before + start)}([0-9]+){re.escape(after)}")
    with suppress(OSError):
        found = {name: names.fullmatch(name) for name in os.listdir(folder)}
        numbers = {name: int(match[1]) for name, match in found.items() if match}
        return [os.path.join(folder, name) for name in sorted(numbers, key=numbers.__getitem__)]
    return []


def lock_name(target: str) -> str:
    """`best.h5.lock` for `best.h5`."""
    folder, name = os.path.split(target)
    return os.path.join(folder, _fitted(folder, name, ".lock"))


def _temporary_name(target: str, token: str) -> str:
    """`best.h5.0123456789abcdef.tmp` for `best.h5`; the token is 16 hexadecimal digits."""
    folder, name = os.path.split(target)
    return os.path.join(folder, _fitted(folder, name, f".{token}.tmp"))


def _fitted(folder: str, stem: str, ending: str) -> str:
    """A file name in `folder`, with so many characters of `stem` as fit before the ending."""
    limit = LONGEST_NAME
    with suppress(AttributeError, OSError, ValueError):  # Windows, or a folder that is not there
        limit = os.pathconf(folder, "PC_NAME_MAX")
    while len(os.fsencode(stem + ending)) > limit and stem:
        stem = stem[:-1]
    return stem + ending


# Writing


@contextmanager
def temporary_file(target: str, *pieces: bytes | memoryview) -> Iterator[str]:
    """The path of a new file beside `target` that holds the pieces, safe on the disk.

    It is removed at the end if it still has this name. Until then it is locked, which shows that
    its process lives.
    """
    path = _temporary_name(target, secrets.token_hex(8))
    try:
        with _create_locked(path) as file:
            for piece in pieces:
                write_all(file, piece)
            os.fsync(file.fileno())
            if sys.platform == "win32":  # which renames no open file
                file.close()
            yield path
    finally:
        with suppress(OSError):
            os.unlink(path)


def _create_locked(path: str) -> io.FileIO:
    while True:
        file = io.FileIO(path, "x")
        with suppress(OSError):  # file systems without locks
            _lock(file.fileno(), wait=True)
        # Before it was locked, it may have been taken for what a killed process left.
        if os.path.lexists(path):
            return file
        file.close()


def remove_leftovers(target: str) -> None:
    """Remove the temporary files of `target` that killed processes have left.

    A file is removed only if its name is one that `temporary_file` gives, if it belongs to this
    user, is empty or begins like a sealed file, and if no process holds its lock.
    """
    folder, mark = os.path.dirname(target), "0" * 16
    start, end = map(re.escape, os.path.basename(_temporary_name(target, mark)).rsplit(mark, 1))
    names = re.compile(f"{start}[0-9a-f]{{16}}{end}")
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if names.fullmatch(entry.name):
                with suppress(OSError):
                    _remove_leftover(entry.path)


def _remove_leftover(path: str) -> None:
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode) or _user() not in (None, found.st_uid):
        return
    with open(path, "rb+", buffering=0) as file:
        _lock(file.fileno(), wait=False)
        same = os.path.samestat(os.fstat(file.fileno()), os.lstat(path))
        if not same or not may_begin_sealed(file.read(USER_BLOCK)):
            return
        if sys.platform != "win32":
            os.unlink(path)
    if sys.platform == "win32":  # which removes no open file, a living writer's neither
        os.unlink(path)


def _lock(file: int, wait: bool) -> None:
    """Lock an open file or folder until it is closed; BlockingIOError if another has the lock."""
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


# Putting a file in place


def replace_file(target: str, *pieces: bytes | memoryview) -> None:
    """Put the pieces into the file `target`, in one step, with the permissions of an older file."""
    exists = check_replaceable(target)
    if exists and protection(target):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    with temporary_file(target, *pieces) as temporary:
        if exists:
            copy_mode(target, temporary)
        os.replace(temporary, target)
    sync_folder(target)


def copy_mode(source: str, target: str) -> None:
    """Give `target` the permissions of `source`."""
    os.chmod(target, stat.S_IMODE(os.stat(source).st_mode))


def claim_numbered(source: str, target: str) -> str:
    """Give the file `source` the first numbered name of `target` that is free, and return it."""
    for number in itertools.count(1):
        name = numbered(target, number)
        with suppress(FileExistsError):
            claim(source, name)
            return name
    raise AssertionError


def claim(source: str, target: str) -> None:
    """Give the file `source` the name `target`; FileExistsError if that is taken.

    Where there are hard links, the file keeps its old name, too.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # on FAT and some network file systems
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            os.replace(source, target)
        except OSError:
            os.unlink(target)
            raise


def sync_folder(target: str) -> None:
    """Let the new name of a file survive a power cut."""
    # Where folders cannot be synced, the file is in place and complete all the same.
    with suppress(OSError):
        folder = os.open(os.path.dirname(target), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def locked_folder(target: str) -> Iterator[None]:
    """Keep the others who use this out of the folder of `target`: processes, and threads of ours.

    As some systems lock no folder, and anybody may hold the lock of a folder for reasons of his
    own, it is waited for a second, and then done without.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            folder = os.open(os.path.dirname(target), os.O_RDONLY)
            stack.callback(os.close, folder)
            end = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    _lock(folder, wait=False)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.01)
        yield


# What stands in the way


def check_replaceable(target: str) -> bool:
    """Whether there is a file at `target`; OSError if it is none that a file could replace."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode):
        code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(code, os.strerror(code))
    return True


def protection(path: str) -> str | None:
    """Why a file is not to be replaced, even if its folder may be written; None if it may be."""
    found = os.stat(path)
    if not found.st_mode & 0o222 or not os.access(path, os.W_OK):  # to root, all is accessible
        return "is read-only"
    folder = os.stat(os.path.dirname(path))
    owners = (0, None, found.st_uid, folder.st_uid)
    if folder.st_mode & stat.S_ISVTX and _user() not in owners:
        return "belongs to another user"
    return None


def is_mount_point(path: str) -> bool:
    """Whether a file is mounted by itself, as into a container; then nothing can replace it."""
    probe = _temporary_name(path, secrets.token_hex(8))
    try:
        os.link(path, probe)
    except OSError as error:
        return error.errno == errno.EXDEV
    else:
        return False
    finally:
        with suppress(OSError):
            os.unlink(probe)


def _user() -> int | None:
    return os.geteuid() if hasattr(os, "geteuid") else None
