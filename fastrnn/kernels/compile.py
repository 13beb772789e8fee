"""How kernels are compiled: one set of options, and a disk cache that notices every change.

Numba's own cache looks at the file of the cached function alone; after an edit in a helper, a
constant or an option that lives in another file it runs the old machine code. Here the name of the
cache directory is a hash of all kernel sources, so a change of any of them compiles afresh.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numba
from numba.core import config, event

from fastrnn.cache import cache_folder

# error_model: the default adds a branch for ZeroDivisionError to each division, which costs SIMD.
# No fast-math: the order of every sum is part of the result, on all processors alike.
OPTIONS = {"error_model": "numpy", "nogil": True}


def _hash_of_sources() -> str:
    sources = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        sources.update(path.name.encode() + b"\0" + path.read_bytes())
    return sources.hexdigest()


SOURCES = _hash_of_sources()  # now, not after the modules that import this one were read


@cache
def kernel_folder() -> str:
    """Where compiled kernels of exactly these sources are kept."""
    folder = Path(config.CACHE_DIR) if config.CACHE_DIR else cache_folder()
    return str(folder / f"kernels-{SOURCES[:16]}")


@contextmanager
def compilation_notice(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` when a kernel is first compiled within this context, instead of being loaded."""

    class Listener(event.Listener):
        told = False

        def on_start(self, event: event.Event) -> None:
            if not self.told:
                self.told = True
                tell()

        def on_end(self, event: event.Event) -> None:
            pass

    with event.install_listener("numba:compile", Listener()):
        yield


def jit(function: Callable) -> Callable:
    """Compile a kernel that others call; it becomes part of their machine code."""
    return numba.njit(**OPTIONS)(function)


def named(name: str) -> Callable[[Callable], Callable]:
    """Give a function made inside another one a name that no second such function has.

    The machine code of two cached kernels may have been made in two processes. Numba tells their
    functions apart by qualified name, argument types, and a number that starts anew in every
    process; where all three agree, one kernel calls into the other's code (Numba issue 10486).
    """

    def rename(function: Callable) -> Callable:
        function.__name__ = function.__qualname__ = name
        return function

    return rename


def entry(function: Callable) -> Callable:
    """Compile a kernel that Python calls, and keep its machine code on disk."""
    before, config.CACHE_DIR = config.CACHE_DIR, kernel_folder()
    try:
        return numba.njit(cache=True, **OPTIONS)(function)
    finally:
        config.CACHE_DIR = before
