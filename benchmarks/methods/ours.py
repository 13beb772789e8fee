"""The NumPy baseline and the kernels."""

from __future__ import annotations

import numpy as np

from fastrnn import reference
from fastrnn._version import __version__
from fastrnn.kernels.entries import SMOOTHING, Record
from fastrnn.network import Network
from fastrnn.parameters import Parameters
from methods import Task


def versions() -> dict[str, str]:
    import numba

    return {"fastrnn": __version__, "numpy": np.__version__, "numba": numba.__version__}


class Baseline:
    """fastrnn.reference, as it is."""

    def __init__(self, task: Task):
        self.task = task

    def reset(self, memory: float = 0.0) -> None:
        task = self.task
        self.state = np.zeros((1, task.B, task.config.hidden), task.dtype)
        self.weights = {name: x.copy() for name, x in task.initial.items()}
        self.optimizer_state = reference.optimizer_state(task.config, self.weights)
        for squares in self.optimizer_state["squares"].values():
            squares[...] = memory
        self.i = 0

    def train(self, updates: int) -> float:
        config = self.task.config
        for _ in range(updates):
            read = self.task.chunk(self.i)
            codes = self.task.codes[read.start : read.stop + 1]
            passed = reference.forward(self.weights, self.state, codes)
            gradient = reference.backward(self.weights, passed, codes)
            reference.update(config, self.weights, gradient, self.optimizer_state, self.i)
            self.state = passed.state
            self.i += 1
        return float(passed.loss)

    def parameters(self) -> Parameters:
        return self.weights


class Kernels:
    """Network.train, which fastrnn.training calls."""

    def __init__(self, task: Task):
        self.task = task
        self.network = Network(task.config, task.K, task.threads)

    def reset(self, memory: float = 0.0) -> None:
        self.network.hidden[...] = 0
        for view in self.network.memory.values():
            view[...] = memory
        self.network.set_parameters(self.task.initial)
        self.i = 0

    def train(self, updates: int) -> float:
        task = self.task
        while updates:
            read = task.chunk(self.i)
            count = min(updates, task.chunks - self.i % task.chunks)
            losses = np.zeros(1 + count)
            codes = task.codes[read.start : read.start + count * task.T + 1]
            self.network.train(codes, Record(0.0, np.inf, -1, False), losses[1:])
            self.i += count
            updates -= count
        # Losses are smooth ones that started from 0: take the last out again.
        return (losses[-1] - SMOOTHING * losses[-2]) / (1 - SMOOTHING)

    def parameters(self) -> Parameters:
        return self.network.parameters
