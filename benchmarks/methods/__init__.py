"""The same training in several frameworks: what a process of benchmarks/peers.py does.

A method is a class of one of these modules, made for one Task:

    reset(memory)   weights and hidden state to the start, all of AdaGrad's memory to this number
    train(updates)  so many updates on successive chunks; returns the loss of the last one
    parameters()    the weights as arrays, in the shapes of fastrnn.parameters

One update: forward over T steps, softmax and cross-entropy summed over T and averaged over B,
backward, gradient clipped to ±clip, AdaGrad. The hidden state goes from chunk to chunk. Each method
is the fastest form of its kind that we found; what was tried and lost is said beside it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import math
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastrnn.config import Config
from fastrnn.measure.bench import MARK, Shape
from fastrnn.parameters import initial_parameters

METHODS = {  # what each name runs: a module here, a class in it, and a variant of this
    "numpy": ("ours", "Baseline", ()),
    "torch-rnn": ("pytorch", "Autograd", ("rnn",)),
    "torch-loop": ("pytorch", "Autograd", ("loop",)),
    "torch-compile": ("pytorch", "Autograd", ("compile",)),
    "jax-scan": ("xla", "Jax", ("scan",)),
    "hand-torch": ("pytorch", "ByHand", ()),
    "hand-jax": ("xla", "Jax", ("hand",)),
    "fastrnn": ("ours", "Kernels", ()),
}
CHECKED = 3  # updates before states are compared: the hidden state is carried twice
CHARACTERS = 100_000  # of text, so that it takes no memory to speak of


class LeftOut(Exception):
    """This method cannot run here, and why."""


class Task:
    """What to train on: the same for every method."""

    def __init__(self, shape: Shape, dtype: str, threads: int):
        self.shape, self.threads = shape, threads
        m, self.K, self.T, self.B = shape
        self.config = Config(hidden=m, seq_length=self.T, batch=self.B, dtype=dtype)
        self.dtype = np.dtype(dtype)
        self.initial = initial_parameters(self.config, self.K)
        self.chunks = max(CHARACTERS // (self.T * self.B), CHECKED)
        # Drawn evenly, which leaves no row of U without an update.
        size = self.chunks * self.T + 1, self.B
        self.codes = np.random.default_rng(0).integers(0, self.K, size).astype(np.int32)

    def chunk(self, i: int) -> slice:
        """Of `codes`, the characters read in update i."""
        start = i % self.chunks * self.T
        return slice(start, start + self.T)


def results(method: Any) -> dict[str, Any]:
    """Losses and weights by which methods are compared: after one update, and after CHECKED.

    Training starts with no memory, where AdaGrad divides even the smallest gradient by itself: in
    float32 three such updates bring last bits up to the third digit. So the second comparison
    starts with a memory, and can be strict.
    """
    found: dict[str, Any] = {}
    for updates, memory in ((1, 0.0), (CHECKED, 1.0)):
        method.reset(memory)
        found[f"loss {updates}"] = method.train(updates)
        for name, x in method.parameters().items():
            found[f"{name} {updates}"] = x.copy()
    return found


def expected(task: Task) -> dict[str, Any]:
    """The results of the NumPy reference."""
    from methods.ours import Baseline

    return results(Baseline(task))


class Timing(NamedTuple):
    """How often to repeat an update for a timing long enough to be read well."""

    count: int

    @classmethod
    def calibrated(cls, method: Any, seconds: float) -> Timing:
        count = 1
        while (total := cls(count).total(method)) < seconds / 4:
            count *= 2
        return cls(math.ceil(seconds / total * count))

    def total(self, method: Any) -> float:
        # With a memory, as it is later in a training. Without one AdaGrad's first steps saturate a
        # large network; its gradients vanish to subnormal numbers, which are slow everywhere.
        method.reset(1.0)
        method.train(1)  # another process had the caches
        start = time.perf_counter()
        method.train(self.count)
        return time.perf_counter() - start


def serve(name: str, shape: list[int], dtype: str, threads: int, seconds: float, state: str):
    """Answer benchmarks/peers.py, which asks by lines on standard input, until the last of them."""
    module, variant, arguments = METHODS[name]
    try:
        if hasattr(os, "sched_setaffinity"):
            cores = one_of_each_core(os.sched_getaffinity(0))
            # XLA takes the number of its threads from the cores it may use, and from nothing else.
            os.sched_setaffinity(0, cores[-threads:])
        elif threads == 1 and module == "xla":
            raise LeftOut("cannot be kept to one thread on this system")
        loaded = importlib.import_module(f"methods.{module}")
        imported = peak_memory()
        method = getattr(loaded, variant)(Task(Shape._make(shape), dtype, threads), *arguments)
    except ImportError as error:
        return send(left_out=f"{error.name} is not installed")
    except LeftOut as reason:
        return send(left_out=str(reason))
    method.reset()
    start = time.perf_counter()
    method.train(1)
    first = time.perf_counter() - start
    np.savez(state, **results(method))
    timing = Timing.calibrated(method, seconds)
    gc.collect()
    gc.disable()
    send(first=first, versions=loaded.versions(), pools=thread_pools())
    for _ in sys.stdin:
        send(seconds=timing.total(method) / timing.count)
    send(memory={"imported": imported, "peak": peak_memory()})


def one_of_each_core(processors: Iterable[int]) -> list[int]:
    """One of the logical processors of every physical core; all, where the system does not tell."""
    chosen: dict[str, int] = {}
    for processor in sorted(processors):
        core = str(processor)
        with contextlib.suppress(OSError):
            topology = Path(f"/sys/devices/system/cpu/cpu{processor}/topology")
            core = (topology / "thread_siblings_list").read_text()
        chosen.setdefault(core, processor)
    return list(chosen.values())


def send(**message: Any) -> None:
    """A line to benchmarks/peers.py; the line break before it ends what others printed."""
    print(f"\n{MARK}{json.dumps(message)}", flush=True)


def peak_memory() -> int:
    """The most memory that this process held so far, in bytes."""
    with contextlib.suppress(OSError, StopIteration):
        # getrusage counts what the parent held when it started us.
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def thread_pools() -> list[dict[str, Any]]:
    """Libraries with threads of their own in this process, where threadpoolctl is installed."""
    with contextlib.suppress(ImportError):
        from threadpoolctl import threadpool_info

        keys = "internal_api", "version", "architecture", "num_threads"
        return [{key: pool[key] for key in keys if key in pool} for pool in threadpool_info()]
    return []
