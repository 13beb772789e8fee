"""Encoded texts in the cache: compact files, written whole or not at all, and memory-mapped.

    header: magic, format, bytes of a code, K, length, key, SHA-256 of the text
    the K characters as code points, uint32
    SHA-256 of all above
    the codes: uint8, uint16 or uint32

All numbers are little-endian. A file is found by its key, which stands for the bytes and encodings
the text was read from; the vocabulary follows from them. A file that is not as it should be is made
again. The codes themselves are not verified, which would take as long as hashing the text;
`Streams` refuses any that is outside the vocabulary.
"""

from __future__ import annotations

import hashlib
import os
import struct
import weakref
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from fastrnn.errors import FastrnnError
from fastrnn.storage.cache import cache_folder, cannot_keep, new_file, remove_old
from fastrnn.storage.files import shown

MAGIC = b"\x93FRCODES"
FORMAT = 1
HEADER = struct.Struct("<8sIIQQ32s32s")
DIGEST = hashlib.sha256().digest_size

SUFFIX = ".codes"
UNUSED_DAYS = 30  # then a file is removed


def folder() -> Path:
    """Where the files are."""
    return cache_folder() / "encoded"


def load(key: bytes) -> tuple[np.memmap, str, str] | None:
    """Codes, characters and SHA-256 of a text, or None if there is no intact file of it."""
    path = folder() / (key.hex() + SUFFIX)
    # The name is a string so that the array knows it.
    with suppress(OSError, struct.error), open(str(path), "rb") as file:
        head = file.read(HEADER.size)
        magic, version, itemsize, characters, length, owner, sha256 = HEADER.unpack(head)
        if (magic, version, owner) != (MAGIC, FORMAT, key):
            return None
        size = os.fstat(file.fileno()).st_size
        if size != HEADER.size + 4 * characters + DIGEST + length * itemsize:
            return None
        points = file.read(4 * characters)
        if file.read(DIGEST) != hashlib.sha256(head + points).digest():
            return None
        try:
            codes = np.memmap(file, f"<u{itemsize}", "r", file.tell(), (length,))
        except OSError as error:
            raise FastrnnError(
                f"cannot map {shown(path)} into memory: {error.strerror}; let the process have an "
                f"address space that is {size / 1e6:,.0f} MB larger (ulimit -v)"
            ) from error
        with suppress(OSError):
            os.utime(path)  # it is in use
        return codes, points.decode("utf-32-le"), sha256.hex()
    return None


def save(key: bytes, characters: str, sha256: str, pieces: Iterable[np.ndarray], size: int) -> None:
    """Write the codes of a text, which come in pieces of little-endian numbers.

    Raises
    ------
    FastrnnError
        If it cannot be written, because the disk is full for example; `size`, the most bytes that
        the codes may take, is for the message. Then, as after an interruption, no file is left.
    """
    path = folder() / (key.hex() + SUFFIX)
    points = characters.encode("utf-32-le")
    length = itemsize = 0
    remove_old(path.parent, "*" + SUFFIX, UNUSED_DAYS)
    try:
        # Never through a mapping: where the disk is full, that ends in a crash.
        with new_file(path) as file:
            file.seek(HEADER.size + len(points) + DIGEST)
            for codes in pieces:
                file.write(codes.data)
                length, itemsize = length + len(codes), codes.itemsize
            fields = itemsize, len(characters), length, key, bytes.fromhex(sha256)
            head = HEADER.pack(MAGIC, FORMAT, *fields) + points
            file.seek(0)
            file.write(head + hashlib.sha256(head).digest())
    except OSError as error:
        raise cannot_keep("the encoded text", path.parent, error, size) from error


def file_of(codes: np.ndarray) -> MappedFile | None:
    """The file of memory-mapped codes, if it can be read instead of the mapping."""
    if not isinstance(codes, np.memmap) or codes.filename is None or not hasattr(os, "pread"):
        return None
    # Of a copy-on-write mapping the file may be out of date.
    return MappedFile(codes) if codes.mode == "r" and codes.flags.c_contiguous else None


class MappedFile:
    """The file under a memory-mapped array or a slice of one, for reading without the mapping.

    What is read through a mapping counts as memory of the process, and so do the regions around it:
    345 MB for 1024 places at a time, which also took three times as long. And where a file has been
    cut off or a disk fails, a mapping kills the process.
    """

    def __init__(self, codes: np.memmap) -> None:
        whole = codes
        while isinstance(whole.base, np.memmap):
            whole = whole.base
        self._start = whole.offset + codes.ctypes.data - whole.ctypes.data
        self._dtype = codes.dtype
        self._path = str(codes.filename)
        try:
            self._file = os.open(self._path, os.O_RDONLY)
        except OSError as error:
            raise FastrnnError(f"cannot read {self}: {error.strerror}; start again") from error
        weakref.finalize(self, os.close, self._file)

    def __str__(self) -> str:
        return shown(self._path)

    def read(self, first: int, count: int) -> np.ndarray:
        """`count` elements of the array from the `first` on."""
        size = self._dtype.itemsize
        try:
            data = os.pread(self._file, count * size, self._start + first * size)
        except OSError as error:
            raise FastrnnError(f"cannot read {self}: {error.strerror}; start again") from error
        if len(data) != count * size:
            raise FastrnnError(f"cannot read {self}: it has been cut off; start again")
        return np.frombuffer(data, self._dtype)
