"""How surprised a model is by a text that it reads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastrnn import memory
from fastrnn.kernels import evaluation
from fastrnn.kernels.handles import Reference
from fastrnn.kernels.team import Team
from fastrnn.layout import Layout, column_shares, group_of, states_arrays, states_of
from fastrnn.memory import Array, allocate, total
from fastrnn.network import NO_DROPOUT, Weights
from fastrnn.threads import Workers

CALL_WORK = 2**32  # multiply-adds of a call into compiled code: some tenths of a second at most


def evaluation_arrays(layout: Layout, T: int, B: int, threads: int = 1) -> dict[str, Array]:
    """What `Evaluator` allocates: the states, without what only gradients need."""
    sizes = layout.sizes(T, B)
    arrays = states_arrays(layout, sizes, group_of(B, threads), 1)
    return {
        name: array
        for name, array in arrays.items()
        if name not in ("D", "E", "used_rows", "is_used")
    }


class Evaluator:
    """Reads B streams side by side, and says how surprised the model is by every character.

    The state of each stream is carried from call to call, and there is no dropout. The results do
    not depend on how the text is divided into calls, nor on `seq_length` or `threads`.

    Parameters
    ----------
    weights : Weights
        Are only read; of a `Network` that is not trained meanwhile, for example.
    seq_length : int
        T, how many characters of a stream are taken at a time.
    batch : int
        B, the number of streams.
    threads : int
        How many work together.
    separator : int, optional
        The character around items (kernels/items.py); nothing is lost by their ends.

    Attributes
    ----------
    state : (S·L, B, m) array
        View of the hidden states of all layers before the next character, then of the cell states;
        zeros at the start.

    Raises
    ------
    FastrnnError
        If it would take more memory than this process may have.
    """

    def __init__(
        self,
        weights: Weights,
        seq_length: int,
        batch: int,
        threads: int = 1,
        separator: int | None = None,
    ):
        self._layout = layout = weights.layout
        self._seq_length, self._batch, self._group = seq_length, batch, group_of(batch, threads)
        arrays = evaluation_arrays(layout, seq_length, batch, threads)
        subject = f"batch is {batch}, seq-length {seq_length}"
        remedy = "use a smaller batch, or a shorter sequence length"
        memory.require(total(arrays.values()), subject, "the evaluation", remedy)
        self._arrays = allocate(arrays)
        self._weights = weights
        self._separator = separator
        self.state = self._arrays["before"][:, :, : layout.m]
        self._workers = Workers(threads)
        self._team = Reference(Team(self._workers.arrivals, threads, column_shares(threads, batch)))
        self._inputs: dict[int, tuple[Any, ...]] = {}  # of the kernel, by the length of a chunk
        self._chunks = max(1, CALL_WORK // (layout.size * seq_length * batch))

    def losses(self, codes: np.ndarray) -> np.ndarray:
        """Nats of each character after the first row, given all before it; `state` is advanced.

        The next call begins with the row that is the last of this one.

        Parameters
        ----------
        codes : (rows, B) int32 array
            Characters, each less than K; any number of rows from one on.

        Returns
        -------
        (rows - 1, B) array of the weights' dtype
        """
        out = np.empty((len(codes) - 1, self._batch), self._layout.dtype)
        T = self._seq_length
        whole = len(out) // T * T
        for first in range(0, whole, self._chunks * T):
            last = min(first + self._chunks * T, whole)
            self._read(T, codes[first : last + 1], out[first:last])
        if whole < len(out):
            self._read(len(out) - whole, codes[whole:], out[whole:])
        return out

    def _read(self, T: int, codes: np.ndarray, out: np.ndarray) -> None:
        """Chunks of T characters."""
        if T not in self._inputs:
            self._inputs[T] = self._inputs_of(T)
        codes = np.ascontiguousarray(codes, np.int32)
        inputs, rest = self._inputs[T], (NO_DROPOUT, codes, out)
        self._workers.run(lambda thread: evaluation.losses(*inputs, thread, *rest))

    def _inputs_of(self, T: int) -> tuple[Any, ...]:
        """What the kernel takes for chunks of T characters; to make it takes as long as a hundred
        characters of a small model."""
        sizes = self._layout.sizes(T, self._batch, separator=self._separator)
        arrays = states_arrays(self._layout, sizes, self._group, 1)
        # Shorter chunks lie at the start of the same memory.
        views = {
            name: memory.reshape(-1)[: math.prod(arrays[name].shape)].reshape(arrays[name].shape)
            for name, memory in self._arrays.items()
        }
        states = Reference(states_of(views, arrays))
        return self._weights._weights, self._weights._packed, states, sizes, self._team
