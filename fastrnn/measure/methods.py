"""The same training in several programs, and when their results are the same.

One update: forward over T steps, softmax and cross-entropy summed over T and averaged over B,
backward, gradient clipped, optimizer. The state goes from chunk to chunk.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastrnn import reference
from fastrnn.measure.results import Case
from fastrnn.parameters import Parameters, initial_parameters

CHECKED = 3  # updates before states are compared: the hidden state is carried twice
CHARACTERS = 100_000  # of text, so that it takes no memory to speak of
TOLERANCE = {"float32": 1e-3, "float64": 1e-10}  # relative to the largest entry

Work = Callable[[int], Any]  # does its work so many times


class LeftOut(Exception):
    """A method cannot run here, and why."""


class Problem:
    """What to train on: the same for every method.

    Attributes
    ----------
    initial : Parameters
        The weights at the start.
    chunks : int
        After so many the text begins again.
    """

    def __init__(self, case: Case, threads: int = 1):
        self.case, self.config, self.K, self.threads = case, case.config, case.characters, threads
        self.T, self.B = self.config.seq_length, self.config.batch
        self.dtype = np.dtype(self.config.dtype)
        self.initial = initial_parameters(self.config, self.K)
        self.chunks = max(CHARACTERS // (self.T * self.B), CHECKED)
        # Drawn evenly. Text repeats its frequent characters, and would leave the kernels fewer rows
        # of U to update.
        size = self.chunks * self.T + 1, self.B
        self.codes = np.random.default_rng(0).integers(0, self.K, size).astype(np.int32)

    def start(self, update: int) -> int:
        """Where in `codes` an update begins to read."""
        return update % self.chunks * self.T

    def chunk(self, update: int) -> np.ndarray:
        """The codes of an update, (T + 1, B)."""
        start = self.start(update)
        return self.codes[start : start + self.T + 1]


class Method:
    """Something to be timed."""

    most = 2**62  # times that `work` can be repeated

    def prepare(self, phase: str) -> None:
        """Whatever has to be before `work`; it is not timed."""

    def work(self, phase: str) -> Work:
        """What to time."""
        raise NotImplementedError

    def unit(self, phase: str) -> float:
        """How many updates one repetition of `work` counts for."""
        return 1.0

    def details(self) -> dict[str, Any]:
        """What else there is to tell, when all is prepared."""
        return {}


class Training(Method, ABC):
    """A way to train."""

    def __init__(self, problem: Problem):
        self.problem = problem

    @abstractmethod
    def reset(self, squares: float = 0.0) -> None:
        """Weights and state to the start, all squares that the optimizer keeps to this number."""

    @abstractmethod
    def train(self, updates: int) -> float:
        """So many updates on successive chunks; the loss of the last one."""

    @abstractmethod
    def parameters(self) -> Parameters:
        """The weights, in the shapes of fastrnn.parameters."""

    def first_update(self) -> None:
        """The first of the process, which compiles; how long it takes is told."""
        self.reset()
        start = time.perf_counter()
        self.train(1)
        self.first = time.perf_counter() - start

    def details(self) -> dict[str, Any]:
        return {"first": self.first}

    def prepare(self, phase: str) -> None:
        # With squares, as later in a training. Without, the first steps of AdaGrad saturate a large
        # network, whose gradients vanish to subnormal numbers, which are slow everywhere.
        self.reset(1.0)
        self.train(1)  # another method had the caches

    def work(self, phase: str) -> Work:
        return {"step": self.train, **self.phases()}[phase]

    def phases(self) -> dict[str, Work]:
        """What can be timed besides whole updates."""
        return {}


def results(training: Training) -> dict[str, Any]:
    """Losses and weights to compare: after one update from the start, and after CHECKED.

    From the start AdaGrad and Adam divide even the smallest gradient by itself: in float32 three
    such updates bring last bits up to the third digit. So the second comparison starts with
    squares, and can be strict.
    """
    found: dict[str, Any] = {}
    for updates, squares in ((1, 0.0), (CHECKED, 1.0)):
        training.reset(squares)
        found[f"loss {updates}"] = training.train(updates)
        for name, x in training.parameters().items():
            found[f"{name} {updates}"] = x.copy()
    return found


def difference(dtype: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> str | None:
    """In words, what differs by more than rounding can; None if nothing does."""
    for what, reference_value in expected.items():
        name, updates = what.split()
        # See `results`. To forget the hidden state makes 5e-4, rounding 2e-6.
        tolerance = TOLERANCE[dtype] * (10 if updates == "1" else 1 / 50)
        error = np.max(np.abs(found[what] - reference_value)) / np.max(np.abs(reference_value))
        if not error <= tolerance:
            return f"{name} differs by {error:.1e} of the largest entry (updates: {updates})"
    return None


class Baseline(Training):
    """fastrnn.reference, as it is."""

    def reset(self, squares: float = 0.0) -> None:
        problem = self.problem
        self.h = np.zeros((problem.B, problem.config.hidden), problem.dtype)
        self.weights = {name: x.copy() for name, x in problem.initial.items()}
        self.memory = {name: np.full_like(x, squares) for name, x in problem.initial.items()}
        self.i = 0

    def train(self, updates: int) -> float:
        for _ in range(updates):
            codes = self.problem.chunk(self.i)
            passed = reference.forward(self.weights, self.h, codes)
            self.update(reference.backward(self.weights, passed, codes))
            self.h = passed.h[-1]
            self.i += 1
        return float(passed.loss)

    def update(self, gradient: Parameters) -> None:
        config = self.problem.config
        reference.update(self.weights, gradient, self.memory, config.learning_rate, config.clip)

    def parameters(self) -> Parameters:
        return self.weights

    def phases(self) -> dict[str, Work]:
        first = self.problem.chunk(0)
        passed = reference.forward(self.weights, self.h, first)
        gradient = reference.backward(self.weights, passed, first)
        phases: dict[str, Callable[[int], Any]] = {
            "forward": lambda i: reference.forward(self.weights, self.h, self.problem.chunk(i)),
            "backward": lambda _: reference.backward(self.weights, passed, first),
            "update": lambda _: self.update(gradient),
        }

        def repeated(phase: Callable[[int], Any]) -> Work:
            def repeat(count: int) -> None:
                for i in range(count):
                    phase(i)

            return repeat

        return {name: repeated(phase) for name, phase in phases.items()}
