"""The seal of a file: it shows whether anything has changed since the file was written.

HDF5 leaves the first 512 bytes of a file to the application; ours hold the length and the SHA-256
of the rest. They are checked before HDF5 sees a byte, because HDF5 reads many damaged files without
complaint, and hangs or crashes on some.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from fastrnn.checks import listed
from fastrnn.errors import FastrnnError
from fastrnn.storage.files import AnyPath

MAGIC = b"\x93FASTRNN"  # not ASCII, so no text file starts with it
FORMATS = (1, 2, 3, 4, 5)  # that this fastrnn reads; it writes the last
USER_BLOCK = 512  # the smallest that HDF5 allows
MAX_FILE = 2**33  # bytes; far above any model one trains on a CPU
PIECE = 2**20  # bytes read at a time, as a strange file may be large

# Magic, format, size of the user block, size of the file, SHA-256 of all after the user block; then
# SHA-256 of these fields and zeros up to the end of the block. Future formats keep this header.
HEADER = struct.Struct("<8sIIQ32s")

AGAIN = "use a backup or train again"  # the remedy of a damaged file


def require(condition: object, problem: str) -> None:
    """Raise FastrnnError with the problem unless the condition holds."""
    if not condition:
        raise FastrnnError(problem)


def seal(data: memoryview) -> tuple[bytes, memoryview]:
    """The sealed header of an HDF5 file with an empty user block, and the rest, not copied."""
    require(len(data) <= MAX_FILE, f"it would have more than {MAX_FILE} bytes")
    contents = data[USER_BLOCK:]
    return _header(FORMATS[-1], len(data), hashlib.sha256(contents).digest()), contents


def _header(version: int, size: int, digest: bytes) -> bytes:
    head = HEADER.pack(MAGIC, version, USER_BLOCK, size, digest)
    return (head + hashlib.sha256(head).digest()).ljust(USER_BLOCK, b"\0")


def may_begin_sealed(start: bytes) -> bool:
    """Whether these bytes, at most USER_BLOCK, begin a sealed file that may be cut off."""
    if len(start) < USER_BLOCK:
        return start[: len(MAGIC)] == MAGIC[: len(start)]
    _, version, _, size, digest = HEADER.unpack_from(start)
    return start == _header(version, size, digest)


@contextmanager
def unsealed(path: AnyPath) -> Iterator[tuple[BinaryIO, int, int]]:
    """A sealed file that is as it was written, open at its start, its size and its format.

    Raises
    ------
    FastrnnError
        If it is no sealed file, is damaged, or has a format of a newer fastrnn.
    OSError
        If it cannot be read.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    # Opening a named pipe would wait for ever.
    require(stat.S_ISREG(mode), "it is no regular file; choose a file that fastrnn saved")
    with open(path, "rb") as file:
        header = file.read(USER_BLOCK)
        require(header, f"it is empty; {AGAIN}")
        foreign = "it is no fastrnn checkpoint; choose a file that fastrnn saved"
        require(header.startswith(MAGIC), foreign)
        actual = os.fstat(file.fileno()).st_size
        require(len(header) == USER_BLOCK, f"it is damaged, only {actual} bytes are left; {AGAIN}")
        _, version, _, size, digest = HEADER.unpack_from(header)
        require(header == _header(version, size, digest), f"it is damaged in its header; {AGAIN}")
        known = listed([str(one) for one in FORMATS])
        newer = f"it has format {version}, this fastrnn reads formats {known}; upgrade fastrnn"
        require(version in FORMATS, newer)
        wrong = f"it is damaged, it has {actual} bytes instead of {size}; {AGAIN}"
        require(actual == size and USER_BLOCK < size <= MAX_FILE, wrong)
        found = hashlib.sha256()
        while piece := file.read(PIECE):
            found.update(piece)
        good = found.digest() == digest
        require(good, f"it is damaged, its contents do not match their checksum; {AGAIN}")
        file.seek(0)
        yield file, size, version
