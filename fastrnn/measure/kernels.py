"""The kernels to be timed: the only place that knows fastrnn.kernels.benchmark's loops."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import numpy as np

from fastrnn.kernels import benchmark, entries
from fastrnn.kernels.benchmark import PARTS
from fastrnn.kernels.entries import SMOOTHING, Record
from fastrnn.measure.methods import Method, Problem, Training, Work
from fastrnn.memory import aligned_zeros
from fastrnn.network import Network
from fastrnn.parameters import Parameters
from fastrnn.threads import Workers

# These leave what all of PARTS read.
READ_BY_PARTS = (benchmark.RECURRENCE, benchmark.SOFTMAX, benchmark.BACKWARD, benchmark.ALL)
FOR_ALL_STREAMS = PARTS[benchmark.ADAGRAD :]  # the others are for a group of streams


class Kernels(Training):
    """Network.train, which fastrnn.training calls; and on one thread its phases and PARTS."""

    def __init__(self, problem: Problem):
        super().__init__(problem)
        self.network = Network(problem.config, problem.K, problem.threads)

    def reset(self, squares: float = 0.0) -> None:
        self.network.hidden[...] = 0
        for view in self.network.memory.values():
            view[...] = squares
        self.network.set_parameters(self.problem.initial)
        self.i = 0

    def train(self, updates: int) -> float:
        problem = self.problem
        while updates:
            start = self.i % problem.chunks
            count = min(updates, problem.chunks - start)
            losses = np.zeros(1 + count)
            codes = problem.codes[start * problem.T : (start + count) * problem.T + 1]
            self.network.train(codes, Record(0.0, np.inf, -1, False), losses[1:])
            self.i += count
            updates -= count
        # Losses are smooth ones that started from 0: take the last out again.
        return (losses[-1] - SMOOTHING * losses[-2]) / (1 - SMOOTHING)

    def parameters(self) -> Parameters:
        return self.network.parameters

    def first_update(self) -> None:
        loaded = sum(entries.train.stats.cache_hits.values())
        super().first_update()
        self.compiled = sum(entries.train.stats.cache_hits.values()) == loaded

    def details(self) -> dict[str, Any]:
        return {**super().details(), "compiled": self.compiled}

    def prepare(self, phase: str) -> None:
        super().prepare(phase)
        if phase == "backward":
            self.phases()["forward"](1)  # leaves what it reads
        if phase in PARTS:
            for number in READ_BY_PARTS:
                self.part(number, 1)

    def phases(self) -> dict[str, Work]:
        n, config, codes = self.network, self.problem.config, self.problem.codes
        inputs = n._weights, n._packed, n._states, n.sizes, n._team, codes
        state = n._weights, n._gradient, n._memory, n._packed, n._states, n.sizes, n._team
        rest = config.learning_rate, config.clip

        def forward(count: int) -> None:
            for start in range(0, count, self.problem.chunks):
                benchmark.forward(*inputs, min(count - start, self.problem.chunks))

        return {
            "forward": forward,
            "backward": lambda count: benchmark.backward(*inputs, n._gradient, count),
            "update": lambda count: benchmark.update(*state, *rest, count),
            **{name: partial(self.part, number) for number, name in enumerate(PARTS)},
        }

    def part(self, number: int, count: int) -> None:
        """One of PARTS, of the first group of streams."""
        n, config = self.network, self.problem.config
        state = n._weights, n._gradient, n._memory, n._packed, n._states, n.sizes, n._team
        rest = number, config.learning_rate, config.clip, count
        benchmark.part(*state, self.problem.codes, self.group, *rest)

    def unit(self, phase: str) -> float:
        of_a_group = phase in PARTS and phase not in FOR_ALL_STREAMS
        return self.group / self.problem.B if of_a_group else 1.0

    @property
    def group(self) -> int:
        """How many streams a thread takes at a time."""
        return self.network._states.H.shape[0]


# --- limits ---------------------------------------------------------------------------------------


class Limit(Method, ABC):
    """Something that no program can do faster, by all threads at once."""

    def __init__(self, problem: Problem):
        self.problem = problem
        self.workers = Workers(problem.threads)

    def work(self, phase: str) -> Work:
        def repeat(count: int) -> None:
            self.workers.run(lambda thread: self.run(thread, count))

        return repeat

    @abstractmethod
    def run(self, thread: int, count: int) -> float:
        """Do it so many times."""


class MultiplyAdds(Limit):
    """Multiply-adds that touch no memory."""

    def run(self, thread: int, count: int) -> float:
        one = self.problem.dtype.type(1)
        return benchmark.multiply_adds(one / 2, one, 1000 * count)

    def unit(self, phase: str) -> float:
        operations = 1000 * benchmark.operations(self.problem.dtype.type(1))
        return self.problem.threads * operations / self.problem.case.operations()


class Reading(Limit):
    """Each thread reads `bytes` of its own over and over."""

    def __init__(self, problem: Problem, bytes: int):
        super().__init__(problem)
        self.bytes = bytes
        size = bytes // problem.dtype.itemsize
        # Filled: all pages of an array that nobody has written to are the same page of zeros.
        self.arrays = [aligned_zeros(size, problem.dtype) for _ in range(problem.threads)]
        for array in self.arrays:
            array[...] = 1

    def run(self, thread: int, count: int) -> float:
        return benchmark.read(self.arrays[thread], count)

    def details(self) -> dict[str, Any]:
        return {"bytes": self.bytes}
