"""Threads for the kernels: how many, and how they run a kernel together."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from threading import Barrier, BrokenBarrierError
from typing import Any

import numpy as np

from fastrnn.errors import FastrnnError
from fastrnn.kernels.team import SLOT

MISSING = -(2**62)  # so that kernels.team.barrier does not wait for a thread


@cache
def available_cores() -> int:
    """Physical cores that this process may use, by its affinity and its container's limits."""
    from loky import cpu_count  # here because importing it takes time

    with warnings.catch_warnings():  # where it cannot tell physical cores, it counts all and warns
        warnings.simplefilter("ignore")
        return cpu_count(only_physical_cores=True)


class Workers:
    """Threads that wait for kernels to run, each kernel in all of them at once.

    Parameters
    ----------
    threads : int
        With the calling thread, which runs the kernel too.

    Raises
    ------
    FastrnnError
        If the system does not allow so many.
    """

    def __init__(self, threads: int):
        self.threads = threads
        self.arrivals = np.zeros((threads, SLOT), np.int64)
        if threads == 1:
            return
        self._pool = ThreadPoolExecutor(threads - 1, "fastrnn")
        # Now, as a kernel of which only some threads can be started would wait for the others.
        started = Barrier(threads)
        try:
            for _ in range(threads - 1):
                self._pool.submit(started.wait)
            started.wait()
        except (RuntimeError, MemoryError, BrokenBarrierError) as error:
            started.abort()
            raise FastrnnError(
                f"cannot start {threads} threads ({error}); use fewer, with --threads"
            ) from error

    def run(self, kernel: Callable[[int], Any]) -> Any:
        """Call `kernel` with every number below `threads`, together; returns what number 0 does."""
        others = [self._pool.submit(kernel, number) for number in range(1, self.threads)]
        try:
            return kernel(0)
        except BaseException:  # Ctrl-C before it has begun, above all
            self.arrivals[0] = MISSING
            raise
        finally:
            wait(others)
            self.arrivals[...] = 0
            for other in others:
                other.result()
