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
from fastrnn.parameters import Parameters, initial_parameters, state_shape
from fastrnn.training.schedule import dropout_keys

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

    def optimizer_state(self, squares: float) -> dict[str, Parameters]:
        """The optimizer's buffers, those of squares as `Training.reset` says."""
        state = reference.optimizer_state(self.config, self.initial)
        for buffer in state.get("squares", {}).values():
            buffer[...] = self.first_squares(squares)
        return state

    def first_squares(self, squares: float) -> float:
        """What the optimizer keeps, for it to be this number in the first update."""
        beta2 = self.config.beta2  # Adam divides by 1 - beta2 then
        return squares if beta2 is None else squares * (1 - beta2)

    def keys(self, update: int, count: int) -> np.ndarray:
        """The dropout keys of some updates, (count, L, 2)."""
        return dropout_keys(self.config.seed, update, count, self.config.layers)

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
    """A way to train.

    Attributes
    ----------
    extra : bool
        Whether to train parameters that the reference does not have. `results` says no.
    """

    extra = True

    def __init__(self, problem: Problem):
        self.problem = problem

    @abstractmethod
    def reset(self, squares: float = 0.0) -> None:
        """Weights and state to the start, the squares that the optimizer keeps to this number."""

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
    training.extra = False
    for updates, squares in ((1, 0.0), (CHECKED, 1.0)):
        training.reset(squares)
        found[f"loss {updates}"] = training.train(updates)
        for name, x in training.parameters().items():
            found[f"{name} {updates}"] = x.copy()
    training.extra = True
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
        self.state = np.zeros(state_shape(problem.config, problem.B), problem.dtype)
        self.weights = {name: x.copy() for name, x in problem.initial.items()}
        self.optimizer_state = problem.optimizer_state(squares)
        self.i = 0

    def train(self, updates: int) -> float:
        problem = self.problem
        for _ in range(updates):
            codes, keys = problem.chunk(self.i), problem.keys(self.i, 1)[0]
            passed = reference.forward(
                self.weights, self.state, codes, keys, problem.config.dropout
            )
            self.update(reference.backward(self.weights, passed, codes))
            self.state = passed.state
            self.i += 1
        return float(passed.loss)

    def update(self, gradient: Parameters) -> None:
        reference.update(self.problem.config, self.weights, gradient, self.optimizer_state, self.i)

    def parameters(self) -> Parameters:
        return self.weights

    def phases(self) -> dict[str, Work]:
        first = self.problem.chunk(0)
        passed = reference.forward(self.weights, self.state, first)
        gradient = reference.backward(self.weights, passed, first)
        phases: dict[str, Callable[[int], Any]] = {
            "forward": lambda i: reference.forward(self.weights, self.state, self.problem.chunk(i)),
            "backward": lambda _: reference.backward(self.weights, passed, first),
            "update": lambda _: self.update(gradient),
        }

        def repeated(phase: Callable[[int], Any]) -> Work:
            def repeat(count: int) -> None:
                for i in range(count):
                    phase(i)

            return repeat

        return {name: repeated(phase) for name, phase in phases.items()}
