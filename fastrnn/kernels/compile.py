"""How kernels are compiled: one set of options, and a disk cache that notices every change.

Numba's own cache looks at the file of the cached function alone; after an edit in a helper, a
constant or an option that lives in another file it runs the old machine code. Here the name of the
cache directory is a hash of all kernel sources, so a change of any of them compiles afresh.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numba
import platformdirs
from numba.core import config

# error_model: the default adds a branch for ZeroDivisionError to each division, which costs SIMD.
# No fast-math: the order of every sum is part of the result, on all processors alike.
OPTIONS = {"error_model": "numpy", "nogil": True}


@cache
def cache_directory() -> str:
    """A writable directory for compiled kernels that belongs to exactly these sources."""
    sources = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        sources.update(path.name.encode() + b"\0" + path.read_bytes())
    name = f"kernels-{sources.hexdigest()[:16]}"
    user = f"-{os.getuid()}" if hasattr(os, "getuid") else ""
    parents = [
        Path(config.CACHE_DIR or platformdirs.user_cache_dir("fastrnn", appauthor=False)),
        Path(tempfile.gettempdir()) / f"fastrnn{user}",
    ]
    for parent in parents:
        try:
            (parent / name).mkdir(mode=0o700, parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=parent / name).close()  # mkdir succeeds on a read-only one
            return str(parent / name)
        except OSError:
            continue
    return tempfile.mkdtemp(prefix=name)


def jit(function: Callable) -> Callable:
    """Compile a kernel that others call; it becomes part of their machine code."""
    return numba.njit(**OPTIONS)(function)


def entry(function: Callable) -> Callable:
    """Compile a kernel that Python calls, and keep its machine code on disk."""
    before, config.CACHE_DIR = config.CACHE_DIR, cache_directory()
    try:
        return numba.njit(cache=True, **OPTIONS)(function)
    finally:
        config.CACHE_DIR = before
