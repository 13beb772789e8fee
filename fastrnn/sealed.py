"""Files that are sealed, and written whole or not at all.

- The seal: HDF5 leaves the first 512 bytes of a file to the application; ours hold the length and
  the SHA-256 of the rest. They are checked before HDF5 sees a byte, because HDF5 reads many damaged
  files without complaint, and hangs or crashes on some.
- The writing: to a temporary file beside the old one, which is renamed over it, so that at every
  moment the path holds a complete file.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import secrets
import stat
import struct
from contextlib import suppress

from fastrnn.errors import FastrnnError

MAGIC = b"\x93FASTRNN"  # not ASCII, so no text file starts with it
FORMAT = 1
USER_BLOCK = 512  # the smallest that HDF5 allows
MAX_FILE = 2**33  # bytes; far above any model one trains on a CPU

# Magic, format, size of the user block, size of the file, SHA-256 of all after the user block; then
# SHA-256 of these fields and zeros up to the end of the block. Future formats keep this header.
HEADER = struct.Struct("<8sIIQ32s")

AGAIN = "use a backup or train again"  # the mend of a damaged file


def require(condition: object, problem: str) -> None:
    """Raise FastrnnError with the problem unless the condition holds."""
    if not condition:
        raise FastrnnError(problem)


def seal(buffer: io.BytesIO) -> bytes:
    """An HDF5 file with an empty user block, sealed."""
    data = buffer.getvalue()
    require(len(data) <= MAX_FILE, f"it would have more than {MAX_FILE} bytes")
    contents = memoryview(data)[USER_BLOCK:]
    return _header(FORMAT, len(data), hashlib.sha256(contents).digest()) + contents


def _header(version: int, size: int, digest: bytes) -> bytes:
    head = HEADER.pack(MAGIC, version, USER_BLOCK, size, digest)
    return (head + hashlib.sha256(head).digest()).ljust(USER_BLOCK, b"\0")


def unseal(path: str | os.PathLike[str]) -> bytes:
    """All bytes of a sealed file; FastrnnError or OSError if it is none, or damaged."""
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
        newer = f"it has format {version}, this fastrnn reads format {FORMAT}; upgrade fastrnn"
        require(version == FORMAT, newer)
        wrong = f"it is damaged, it has {actual} bytes instead of {size}; {AGAIN}"
        require(actual == size and USER_BLOCK < size <= MAX_FILE, wrong)
        file.seek(0)
        data = file.read(size)
    good = hashlib.sha256(memoryview(data)[USER_BLOCK:]).digest() == digest
    require(good, f"it is damaged, its contents do not match their checksum; {AGAIN}")
    return data


def mode_of_file(target: str) -> int | None:
    """The mode of a file that can be replaced, None if there is none yet."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(code, os.strerror(code))
    return mode


def replace_file(target: str, data: bytes) -> None:
    """Put `data` into the file `target`, in one step that survives a crash of the computer."""
    mode = mode_of_file(target)
    temporary = f"{target}.{secrets.token_hex(8)}.tmp"
    try:
        with open(temporary, "xb", buffering=0) as file:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(temporary, stat.S_IMODE(mode))
        os.replace(temporary, target)
    except BaseException:  # an interruption, too
        with suppress(OSError):
            os.unlink(temporary)
        raise
    # Where folders cannot be synced, the new file is in place and complete all the same.
    with suppress(OSError):
        folder = os.open(os.path.dirname(target), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
