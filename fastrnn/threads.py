"""Threads: how many for the kernels, how they run one together, and what they may not share."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from threading import Barrier, BrokenBarrierError, Lock
from typing import Any, TypeVar

import numpy as np

from fastrnn import checks
from fastrnn.config import MOST_THREADS, Config
from fastrnn.errors import FastrnnError
from fastrnn.kernels.team import SLOT
from fastrnn.parameters import parameter_shapes

ENOUGH = 2_000_000  # multiply-adds for a thread; measured from m = 32 to 512 with few streams
MISSING = -(2**62)  # so that kernels.team.barrier does not wait for a thread

Item = TypeVar("Item")

_warnings = Lock()  # what is done to warnings is done to those of all threads


@cache
def available_cores() -> int:
    """Physical cores that this process may use, by its affinity and its container's limits."""
    from loky import cpu_count  # here because importing it takes time

    with _warnings, warnings.catch_warnings():
        # Where it cannot tell physical cores, it counts all and warns.
        warnings.simplefilter("ignore")
        return cpu_count(only_physical_cores=True)


def useful_threads(config: Config, characters: int) -> int:
    """One for each available core, but no more than have enough to do in an update.

    Threads that wait for each other longer than they work are slower together than one of them.
    """
    shapes = parameter_shapes(config, characters)
    # Each but U, whose input is an index, is multiplied once forward and twice backward.
    of_character = sum(math.prod(shape) for name, shape in shapes.items() if name[0] in "WXV")
    multiply_adds = 3 * config.seq_length * config.batch * of_character
    return max(1, min(available_cores(), multiply_adds // ENOUGH))


def usable_threads(threads: int) -> int:
    """So many, but no more than one for each logical processor that this process may use.

    More would only wait for each other, for minutes where there are hundreds.

    Raises
    ------
    FastrnnError
        If it is no number of threads.
    """
    threads = check(threads)
    affinity = getattr(os, "sched_getaffinity", None)
    return min(threads, len(affinity(0)) if affinity else os.cpu_count() or 1)


def check(threads: int) -> int:
    """Raise FastrnnError if this is no number of threads."""
    return checks.whole("threads", threads, 1, MOST_THREADS)


class Unshared(Iterator[Item]):
    """What a generator gives, to one thread at a time.

    Parameters
    ----------
    items : generator
    name : str
        What it is, for the message.
    """

    def __init__(self, items: Generator[Item, None, None], name: str):
        self._items, self._name = items, name
        self._lock = Lock()

    def __next__(self) -> Item:
        """The next item.

        Raises
        ------
        FastrnnError
            If another thread is waiting for it.
        """
        if not self._lock.acquire(blocking=False):
            raise FastrnnError(
                f"another thread is reading this {self._name}; let each thread make its own"
            )
        try:
            return next(self._items)
        finally:
            self._lock.release()


class Workers:
    """Threads that wait for kernels to run, each kernel in all of them at once.

    Parameters
    ----------
    threads : int
        With the calling thread, which runs the kernel too.

    Attributes
    ----------
    threads : int
        How many run the next kernel.

    Raises
    ------
    FastrnnError
        If the system does not allow so many.
    """

    def __init__(self, threads: int):
        check(threads)
        self.threads = threads
        self.arrivals = np.zeros((threads, SLOT), np.int64)
        if threads == 1:
            return
        self._pool = ThreadPoolExecutor(threads - 1, "fastrnn")
        # Now, as a kernel of which only some threads can be started would wait for the others.
        started = Barrier(threads)
        try:
            try:
                for _ in range(threads - 1):
                    self._pool.submit(started.wait)
                started.wait()
            except BaseException:  # Ctrl-C among them
                started.abort()
                raise
        except (RuntimeError, MemoryError, BrokenBarrierError) as error:
            raise FastrnnError(
                f"cannot start {threads} threads ({error}); use fewer, with --threads"
            ) from error

    def use(self, threads: int) -> None:
        """Let so many of them run the next kernels; those above wait for others."""
        assert 1 <= threads <= len(self.arrivals)
        self.threads = threads

    def run(self, kernel: Callable[[int], Any]) -> Any:
        """Call `kernel` with every number below `threads`, together; returns what number 0 does."""
        others: list[Future] = []
        try:
            for number in range(1, self.threads):
                others.append(self._pool.submit(self._work, kernel, number))
            return self._work(kernel, 0)
        except BaseException:  # Ctrl-C: nobody is to wait for those that never began
            self.arrivals[[0, *range(1 + len(others), self.threads)]] = MISSING
            raise
        finally:
            wait(others)
            self.arrivals[...] = 0
            for other in others:
                other.result()

    def _work(self, kernel: Callable[[int], Any], number: int) -> Any:
        try:
            return kernel(number)
        except BaseException:  # no memory for its arguments, for example
            self.arrivals[number] = MISSING
            raise
