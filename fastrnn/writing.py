"""Texts that are being written: their states, and room to compute the next characters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fastrnn import memory
from fastrnn.kernels import writing
from fastrnn.kernels.handles import Reference
from fastrnn.kernels.team import Team
from fastrnn.kernels.writing import Choice
from fastrnn.layout import Layout, states_arrays, states_of
from fastrnn.memory import Array, allocate, total
from fastrnn.network import Weights
from fastrnn.threads import Workers

TEXT_BYTES = 8  # of memory that a character takes: its code, and up to four bytes in the text

# How much is written at a time: some hundredths of a second, or one character of each text.
PIECE_WORK = 2**29  # multiply-adds

PLAIN = Choice()


def writing_arrays(layout: Layout, texts: int) -> dict[str, Array]:
    """What `Writer` allocates: some of the states, and that of a text that starts."""
    arrays = states_arrays(layout, layout.sizes(T=1, B=texts), texts, 1)
    fresh = Array((layout.cell.STATES * layout.layers, layout.row), layout.dtype)
    return {name: arrays[name] for name in ("H", "A", "C", "O")} | {"fresh": fresh}


class Writer:
    """Texts that are written side by side; what each will be does not depend on the others.

    Parameters
    ----------
    weights : Weights
        Are only read, and may not change meanwhile.
    state : (S·L, m) array, optional
        The state of every text before its first character; zeros by default. It is copied.
    texts : int
        How many there are.
    threads : int
        How many share them out, which does not change them.

    Raises
    ------
    FastrnnError
        If it would take more memory than this process may have.
    """

    def __init__(
        self,
        weights: Weights,
        state: np.ndarray | None = None,
        texts: int = 1,
        threads: int = 1,
    ):
        layout = weights.layout
        needed = writing_arrays(layout, texts)
        subject = f"the number of texts at a time is {texts}"
        memory.require(total(needed.values()), subject, "writing", "use fewer hidden units")
        arrays = allocate(needed)
        self._fresh = arrays.pop("fresh")
        self._arrays = arrays
        L, m = layout.layers, layout.m
        if state is not None:
            self._fresh[:, :m] = state
            arrays["H"][:, :, 0] = self._fresh[:L, None]
            arrays["C"][:, :, 0] = self._fresh[len(self._fresh) - len(arrays["C"]) :, None]
        self._fresh_input = 0
        self._inputs = np.zeros(texts, np.int64)
        self._lengths = np.zeros(texts, np.int64)
        self._started = False
        self._kept: list[np.ndarray] = []  # since the last piece
        self.texts = texts
        self._weights = weights
        sizes = layout.sizes(T=1, B=texts)
        states = Reference(states_of(arrays, states_arrays(layout, sizes, texts, 1)))
        self._model = weights._weights, weights._packed, states, sizes
        self._workers = Workers(threads)
        self._team = Reference(Team(self._workers.arrivals, threads, 1))
        self._tiny = float(np.finfo(weights.dtype).tiny)

    @property
    def piece(self) -> int:
        """How many characters of each text are written at a time."""
        return max(1, PIECE_WORK // (self._weights.layout.size * self.texts))

    def read(self, known: np.ndarray) -> None:
        """Let all texts begin, or go on, with the same characters.

        Parameters
        ----------
        known : (k,) integer array
        """
        if len(known) and not self._started:
            # A character is read when the next one is wanted.
            self._inputs[...] = self._fresh_input = int(known[0])
            self._started = True
            known = known[1:]
        for first in range(0, len(known), self.piece):
            part = np.asarray(known[first : first + self.piece], np.int32)
            codes = np.repeat(part[:, None], self.texts, axis=1)
            self._run(codes, len(codes), np.empty((0, self.texts)), PLAIN)

    def copies(self, texts: int, threads: int = 1) -> Writer:
        """So many texts that all go on as the first one of this writer would.

        To where it is now they also return when they start afresh (`Choice.end`).
        """
        other = Writer(self._weights, self.state[:, 0], texts, threads)
        other.read(self._inputs[:1])
        return other

    @property
    def state(self) -> np.ndarray:
        """(S·L, texts, m) copy of the states before the last character of each text is read."""
        hidden, cells = (self._arrays[name][:, :, 0] for name in ("H", "C"))
        return np.concatenate([hidden, cells])[:, : self.texts, : self._weights.layout.m]

    def write(self, uniforms: np.ndarray, choice: Choice = PLAIN) -> np.ndarray:
        """Draw a character of each text for each row of random numbers.

        Parameters
        ----------
        uniforms : (n, texts) float64 array
            Random numbers in [0, 1).
        choice : Choice
            How to draw.

        Returns
        -------
        (n, texts) int32 array
            The characters drawn.
        """
        assert self._started
        codes = np.empty(uniforms.shape, np.int32)
        if choice.temperature > 0:  # its reciprocal is neither infinite nor zero
            temperature = min(max(choice.temperature, self._tiny), 1 / self._tiny)
            choice = choice._replace(temperature=temperature)
        self._run(codes, 0, uniforms, choice)
        return codes

    def pieces(
        self, length: int, generators: Sequence[np.random.Generator], choice: Choice = PLAIN
    ) -> Iterator[np.ndarray]:
        """Draw `length` characters of each text, of which some are given at a time.

        In between the caller may look at other things, or `keep` some of the texts only; the texts
        do not depend on the division.

        Parameters
        ----------
        length : int
        generators : sequence of Generator
            Of each text.
        choice : Choice

        Yields
        ------
        (n, texts) int32 array
        """
        generators = list(generators)
        left = length
        while left > 0 and self.texts > 0:
            n = min(self.piece, left)
            uniforms = np.empty((self.texts, n))
            for generator, row in zip(generators, uniforms, strict=True):
                generator.random(out=row)
            self._kept.clear()
            yield self.write(np.ascontiguousarray(uniforms.T), choice)
            for which in self._kept:
                generators = [generators[i] for i in which]
            left -= n

    def keep(self, which: np.ndarray) -> None:
        """Go on with these texts only, by their numbers in ascending order."""
        for name in ("H", "C"):
            array = self._arrays[name]
            array[:, : len(which), 0] = array[:, which, 0]
        self._inputs, self._lengths = self._inputs[which], self._lengths[which]
        self.texts = len(which)
        self._kept.append(which)

    def _run(self, codes: np.ndarray, known: int, uniforms: np.ndarray, choice: Choice) -> None:
        rest = choice, self._fresh, self._fresh_input, self._inputs, self._lengths, codes, known
        self._workers.run(
            lambda thread: writing.write(*self._model, self._team, thread, *rest, uniforms)
        )
