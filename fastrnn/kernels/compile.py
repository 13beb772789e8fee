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
from typing import Any

import numba
from numba.core import config, event
from numba.core.codegen import get_host_cpu_features

from fastrnn.cache import cache_folder, is_ours

# error_model: the default adds a branch for ZeroDivisionError to each division, which costs SIMD.
# No fast-math: the order of every sum is part of the result, on all processors alike.
OPTIONS = {"error_model": "numpy", "nogil": True, "no_cfunc_wrapper": True}
# For kernels that only kernels call. Python crashes if it calls one; the code that would let it
# takes a quarter of the time to compile.
INNER = {**OPTIONS, "no_cpython_wrapper": True}


def _hash_of_sources() -> str:
    sources = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        sources.update(path.name.encode() + b"\0" + path.read_bytes())
    return sources.hexdigest()


SOURCES = _hash_of_sources()  # now, not after the modules that import this one were read


def cpu_features() -> set[str]:
    """Features of the processor that code is generated for, such as "+avx512f"."""
    features = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return set(features.split(","))


@cache
def kernel_folder() -> Path:
    """Where kernels are kept that were compiled from exactly these sources for this processor."""
    processor = hashlib.sha256(f"{config.CPU_NAME} {sorted(cpu_features())}".encode()).hexdigest()
    name = f"kernels-{SOURCES[:16]}-{processor[:8]}"
    if config.CACHE_DIR and is_ours(folder := Path(config.CACHE_DIR).absolute() / name):
        return folder
    return cache_folder() / name


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
    """Compile a kernel that others call, but not Python; it becomes part of their machine code."""
    return numba.njit(**INNER)(function)


def inline(function: Callable) -> Callable:
    """As `jit`, for what calls large kernels: it becomes part of its callers before compilation.

    Numba makes machine code of every function together with all that it calls; each level of calls
    above the tiles would compile them once more.
    """
    return numba.njit(inline="always", **INNER)(function)


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


class entry:
    """A kernel that Python calls, compiled for each dtype and kept on disk.

    The dtypes have a folder each: Numba counts the files of a function in an index, and two
    processes that save it at the same moment, one for each dtype, would spoil the other's.

    Its first argument is an array or number of the dtype, or a tuple that starts with one.
    """

    def __init__(self, function: Callable):
        self.versions = {}
        before = config.CACHE_DIR
        for dtype in ("float32", "float64"):
            config.CACHE_DIR = str(kernel_folder() / dtype)
            try:
                self.versions[dtype] = numba.njit(cache=True, **OPTIONS)(function)
            finally:
                config.CACHE_DIR = before

    def __call__(self, first: Any, *rest: Any) -> Any:
        dtype = (first[0] if isinstance(first, tuple) else first).dtype
        return self.versions[dtype.name](first, *rest)
