"""Memory: arrays before they are allocated, and what this process may have."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from fastrnn.errors import FastrnnError
from fastrnn.kernels.simd import VECTOR_BYTES

UNITS = ("B", "kB", "MB", "GB", "TB")
MOST_SHOWN = 10**30  # bytes; more are told apart by nobody


class Array(NamedTuple):
    """An array that is not allocated yet."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


Arrays = Mapping[str, Array]


def aligned_zeros(shape: int | tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros that start on a vector boundary, so that no vector straddles two cache lines."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    buffer = np.zeros(size + VECTOR_BYTES, np.uint8)
    start = -buffer.ctypes.data % VECTOR_BYTES
    return buffer[start : start + size].view(dtype).reshape(shape)


def allocate(arrays: Arrays) -> dict[str, np.ndarray]:
    """Aligned zeros for each."""
    return {name: aligned_zeros(array.shape, array.dtype) for name, array in arrays.items()}


def total(arrays: Iterable[Array]) -> int:
    """Bytes of all together."""
    return sum(array.bytes for array in arrays)


def allowed() -> int:
    """Bytes that this process may have: of the computer, of its limits, of its container.

    Not what happens to be free: that is another number a moment later.
    """
    limits = [sys.maxsize, *_resource_limits(), *_cgroup_limits()]
    with suppress(AttributeError, ValueError, OSError):  # Windows does not tell it so
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(limit for limit in limits if limit > 0)


def _resource_limits() -> Iterator[int]:
    try:
        import resource
    except ImportError:  # on Windows
        return
    for name in ("RLIMIT_AS", "RLIMIT_DATA"):
        soft, _ = resource.getrlimit(getattr(resource, name))
        if soft != resource.RLIM_INFINITY:
            yield soft


def _cgroup_limits(root: Path = Path("/")) -> Iterator[int]:
    """Of the control groups of Linux, of both versions, that this process is in."""
    groups = []
    with suppress(OSError, UnicodeError):
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if controllers == "":
            top, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        inner = PurePosixPath(path.lstrip("/"))
        for folder in (inner, *inner.parents):  # a limit holds for all groups below
            with suppress(OSError, ValueError):  # "max" is no number
                yield int((top / folder / name).read_text())


def require(need: int, subject: str, what: str, remedy: str) -> None:
    """Raise FastrnnError if this process may not have so many bytes.

    Parameters
    ----------
    need : int
        Bytes.
    subject : str
        The setting to blame and its value: "hidden is 100000".
    what : str
        What would take so much: "the training".
    remedy : str
        How to need less.
    """
    if need > (most := allowed()):
        raise FastrnnError(
            f"{subject}: {what} would take {shown_bytes(need)} of memory, and this process may "
            f"have {shown_bytes(most)}; {remedy}"
        )


@contextmanager
def running_out(what: str, remedy: str) -> Iterator[None]:
    """A MemoryError within it becomes a FastrnnError; also usable as a decorator."""
    try:
        yield
    except MemoryError as error:
        detail = f" ({error})" if str(error) else ""
        raise FastrnnError(f"there is too little memory for {what}{detail}; {remedy}") from error


def shown_bytes(count: int) -> str:
    """A number of bytes for people to read."""
    if count > MOST_SHOWN:
        return f"more than {shown_bytes(MOST_SHOWN)}"
    unit = min((len(str(count)) - 1) // 3, len(UNITS) - 1)
    value = count / 1000**unit
    return f"{value:,.{0 if value >= 10 or unit == 0 else 1}f} {UNITS[unit]}"
