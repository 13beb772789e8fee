"""The kernels to be timed: the only place that knows fastrnn.kernels.benchmark's loops."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import numpy as np

from fastrnn.kernels import benchmark, entries
from fastrnn.kernels.benchmark import PARTS
from fastrnn.kernels.entries import SMOOTHING, Record
from fastrnn.kernels.optimizer import Step
from fastrnn.measure.methods import Method, Problem, Training, Work
from fastrnn.memory import aligned_zeros
from fastrnn.network import NO_DROPOUT, Network
from fastrnn.parameters import Parameters
from fastrnn.threads import Workers
from fastrnn.training.schedule import steps

# These leave what all of PARTS read.
READ_BY_PARTS = (benchmark.RECURRENCE, benchmark.SOFTMAX, benchmark.BACKWARD, benchmark.ALL)
FOR_ALL_STREAMS = PARTS[benchmark.OPTIMIZER :]  # the others are for a group of streams


class Kernels(Training):
    """Network.train, which fastrnn.training calls; and on one thread its phases and PARTS."""

    def __init__(self, problem: Problem):
        super().__init__(problem)
        self.network = Network(problem.config, problem.K, problem.threads)

    def reset(self, squares: float = 0.0) -> None:
        self.network.state[...] = 0
        self.network.set_optimizer_state(self.problem.optimizer_state(squares))
        self.network.set_parameters(self.problem.initial)
        self.i = 0

    def train(self, updates: int) -> float:
        problem = self.problem
        while updates:
            start = self.i % problem.chunks
            count = min(updates, problem.chunks - start)
            losses = np.zeros(1 + count)
            codes = problem.codes[start * problem.T : (start + count) * problem.T + 1]
            numbers = steps(problem.config, self.i, count, 0), problem.keys(self.i, count)
            self.network.train(codes, *numbers, Record(0.0, np.inf, -1, False), losses[1:])
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
        n, codes = self.network, self.problem.codes
        state = n._weights, n._packed, n._states, n.sizes, n._team, NO_DROPOUT, codes

        def forward(count: int) -> None:
            for start in range(0, count, self.problem.chunks):
                benchmark.forward(*state, min(count - start, self.problem.chunks))

        def backward(count: int) -> None:
            benchmark.backward(*self.inputs, n._team, NO_DROPOUT, codes, count)

        def update(count: int) -> None:
            rest = n._flat, n._blocks, n._team, n._rule, self.step
            benchmark.update(n._states, n.sizes, *rest, count)

        parts = {name: partial(self.part, number) for number, name in enumerate(PARTS)}
        return {"forward": forward, "backward": backward, "update": update, **parts}

    @property
    def inputs(self) -> tuple[Any, ...]:
        n = self.network
        weights = n._weights, n._gradient, n._packed, n._states, n.sizes
        return *weights, n._flat, n._blocks

    @property
    def step(self) -> Step:
        """Of the first update."""
        return Step(*map(float, steps(self.problem.config, 0, 1, 0)[0]))

    def part(self, number: int, count: int) -> None:
        """One of PARTS, of the first group of streams."""
        n, codes = self.network, self.problem.codes
        rest = self.group, number, n._rule, self.step, count
        benchmark.part(*self.inputs, n._team, NO_DROPOUT, codes, *rest)

    def unit(self, phase: str) -> float:
        of_a_group = phase in PARTS and phase not in FOR_ALL_STREAMS
        return self.group / self.problem.B if of_a_group else 1.0

    @property
    def group(self) -> int:
        """How many streams a thread takes at a time."""
        return self.network._states.H.shape[1]


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
