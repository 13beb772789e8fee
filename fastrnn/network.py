"""A recurrent network in the kernels' memory: padded, aligned, allocated once.

    Weights    parameters, and their copies packed for products
    Writer     what one text that is being written takes besides
    Network    Weights, and what training takes besides

Each knows the arrays it consists of before they are allocated, and so the memory it will take.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from fastrnn import memory
from fastrnn.config import DTYPES, Config
from fastrnn.kernels import entries
from fastrnn.kernels.cell import Packed, Sizes, States
from fastrnn.kernels.entries import Record
from fastrnn.kernels.rnn import RNNWeights
from fastrnn.kernels.simd import padded, row_length
from fastrnn.kernels.team import SLOT, Team
from fastrnn.kernels.tiles import register_lanes
from fastrnn.memory import Array, allocate, total
from fastrnn.parameters import Parameters, parameter_shapes
from fastrnn.threads import Workers

# How many streams a thread takes at a time: so many that weights are read for many rows at once,
# so few that their states may still be in a cache when the gradients are summed. Measured from
# m = 100 to 1024: half or twice as many make a few per cent.
STREAMS = 32

# How much of a text is written at a time: some hundredths of a second at most, or one character.
PIECE = 64  # characters
PIECE_WORK = 2**25  # multiply-adds
TEXT_BYTES = 8  # of memory that a character takes: its code, and up to four bytes in the text

ALONE = Team(np.zeros((1, SLOT), np.int64), 1, 1)  # waits for nobody, and writes to nothing

REMEDIES = {
    "hidden": "fewer hidden units",
    "batch": "a smaller batch",
    "seq_length": "a shorter sequence length",
}
"""The settings that decide how much memory is taken, and how to need less."""


# --- arrays and their memory ----------------------------------------------------------------------


def stored_shapes(config: Config, characters: int) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter in memory: U transposed, rows and columns in whole vectors."""
    dtype = np.dtype(config.dtype)
    stored = {}
    for name, shape in parameter_shapes(config, characters).items():
        *rows, columns = shape[::-1] if name == "U" else shape
        length = row_length if rows else padded
        stored[name] = *(padded(count, dtype) for count in rows), length(columns, dtype)
    return stored


def flat_array(config: Config, characters: int) -> Array:
    """The buffer of all parameters, or of one number for each."""
    size = sum(map(math.prod, stored_shapes(config, characters).values()))
    return Array((size,), np.dtype(config.dtype))


def weights_arrays(config: Config, characters: int) -> dict[str, Array]:
    """What `Weights` allocates: the parameters, and their panels by the names of `Packed`."""
    dtype, m, K = np.dtype(config.dtype), config.hidden, characters
    lanes = register_lanes(dtype)

    def panels(rows: int, columns: int) -> Array:
        panel = row_length(padded(rows, dtype) * lanes, dtype)
        return Array((padded(columns, dtype) // lanes, panel), dtype)

    packed = {"W": panels(m, m), "WT": panels(m, m), "V": panels(K, m), "VT": panels(m, K)}
    return {"parameters": flat_array(config, characters), **packed}


def states_arrays(config: Config, sizes: Sizes, group: int, threads: int) -> dict[str, Array]:
    """The arrays of `States`, by their names."""
    m, K, T, B = sizes
    dtype = np.dtype(config.dtype)
    hidden, characters = row_length(m, dtype), row_length(K, dtype)
    return {
        "H": Array((group, T + 1, hidden), dtype),
        "D": Array((group, T + 1, hidden), dtype),
        "O": Array((group, T + 1, characters), dtype),
        "before": Array((B, hidden), dtype),
        "after": Array((B, hidden), dtype),
        "loss": Array((group, padded(T, dtype)), dtype),
        "total": Array((group, padded(T, dtype)), dtype),
        "nats": Array((B,), np.dtype(np.float64)),
        "used_rows": Array((threads, K + 1), np.dtype(np.int64)),
        "is_used": Array((threads, K), np.dtype(np.bool_)),
    }


def training_arrays(config: Config, characters: int, threads: int) -> dict[str, Array]:
    """What `Network` allocates on top of `weights_arrays`."""
    flat = flat_array(config, characters)
    sizes = Sizes(config.hidden, characters, config.seq_length, config.batch)
    # How many streams go through the time loops before their gradients are summed.
    groups = math.ceil(sizes.B / (STREAMS * threads))
    group = math.ceil(sizes.B / groups)
    optimizer = {"gradient": flat, "memory": flat, "best": flat}
    return {**optimizer, **states_arrays(config, sizes, group, threads)}


TRAINED = ("parameters", "memory", "best", "before")
"""The arrays that training changes, and that have to be copied to take updates back."""


def model_memory(config: Config, characters: int) -> int:
    """Bytes that a model takes to write with."""
    return total(weights_arrays(config, characters).values())


def training_memory(config: Config, characters: int, threads: int = 1) -> int:
    """Bytes that a training takes: its network, and the copy that `copy_state` makes."""
    arrays = weights_arrays(config, characters) | training_arrays(config, characters, threads)
    return total(arrays.values()) + total(arrays[name] for name in TRAINED)


def require_memory(what: str, bytes_of: Callable[[Config], int], config: Config) -> None:
    """Raise FastrnnError, with the setting to blame, if this process may not have so much."""

    def without(name: str) -> int:
        return bytes_of(replace(config, **{name: getattr(Config, name)}))

    blamed = min(REMEDIES, key=without)
    subject = f"{blamed.replace('_', '-')} is {getattr(config, blamed)}"
    memory.require(bytes_of(config), subject, what, f"use {REMEDIES[blamed]}")


# --- weights, and a text --------------------------------------------------------------------------


def unpadded(config: Config, characters: int, weights: RNNWeights) -> Parameters:
    """Views of stored weights in the shapes of `parameter_shapes`."""
    views = {}
    for name, shape in parameter_shapes(config, characters).items():
        stored = getattr(weights, name)
        stored = stored.T if name == "U" else stored
        views[name] = stored[tuple(slice(size) for size in shape)]
    return views


class Weights:
    """The parameters of a model and their copies packed for products: all that writing reads.

    Everything outside sees parameters in the shapes of `fastrnn.parameters`; inside, U is stored as
    its transpose, and rows and columns are padded to whole vectors with zeros, which stay zero.

    Any number of texts may be written at once, each by a `Writer`, while nobody changes them.

    Parameters
    ----------
    config : Config
        Only its model matters.
    characters : int
        K, the size of the vocabulary.

    Attributes
    ----------
    parameters : Parameters
        Views of the current weights. Writing to them needs a call of `pack` afterwards.

    Raises
    ------
    FastrnnError
        If they would take more memory than this process may have.
    """

    def __init__(self, config: Config, characters: int):
        require_memory("the model", partial(model_memory, characters=characters), config)
        self.config = config
        self.characters = characters
        self.dtype = np.dtype(config.dtype)
        arrays = allocate(weights_arrays(config, characters))
        self._flat = arrays["parameters"]
        self._weights, self.parameters = self._views(self._flat)
        self._packed = Packed(*(arrays[name] for name in Packed._fields))

    def _views(self, flat: np.ndarray) -> tuple[RNNWeights, Parameters]:
        """The stored weights in a flat buffer, and their unpadded views."""
        shapes = stored_shapes(self.config, self.characters)
        ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
        parts = zip(np.split(flat, ends[:-1]), shapes.values(), strict=True)
        weights = RNNWeights(*(part.reshape(shape) for part, shape in parts))
        return weights, unpadded(self.config, self.characters, weights)

    def pack(self) -> None:
        """Bring the packed copies of the weights up to date after writing to `parameters`."""
        entries.pack(self._weights, self._packed)

    def set_parameters(self, parameters: Parameters) -> None:
        """Copy parameters in, in any float dtype."""
        for name, view in self.parameters.items():
            view[...] = parameters[name]
        self.pack()


class Writer:
    """One text that is being written: its hidden state, and room to compute the next.

    Parameters
    ----------
    weights : Weights
        Are only read.
    hidden : (m,) array, optional
        The hidden state before the first character; zeros by default. It is copied.
    """

    def __init__(self, weights: Weights, hidden: np.ndarray | None = None):
        m, K = weights.config.hidden, weights.characters
        sizes = Sizes(m, K, T=1, B=1)
        arrays = allocate(states_arrays(weights.config, sizes, group=1, threads=1))
        states = States(*(arrays[name] for name in States._fields))
        if hidden is not None:
            states.before[0, :m] = hidden
        self._inputs = weights._weights, weights._packed, states, sizes, ALONE
        self._tiny = float(np.finfo(weights.dtype).tiny)
        self._piece = max(1, min(PIECE, PIECE_WORK // (m * (m + K))))

    def sample(
        self, known: np.ndarray, uniforms: np.ndarray, temperature: float = 1.0
    ) -> np.ndarray:
        """Read the known characters, and draw another for each of `uniforms`.

        Afterwards the hidden state is that after all but the last character.

        Parameters
        ----------
        known : (k,) integer array
            At least one character.
        uniforms : (n,) float64 array
            Random numbers in [0, 1).
        temperature : float
            Logits are divided by it; at 0 the likeliest character is taken.

        Returns
        -------
        (n,) int32 array
            The characters drawn.
        """
        codes = np.empty((len(known) + len(uniforms), 1), np.int32)
        codes[: len(known), 0] = known
        if temperature > 0:  # not so small or large that its reciprocal is infinite or zero
            temperature = min(max(temperature, self._tiny), 1 / self._tiny)
        entries.sample(*self._inputs, codes, len(known), float(temperature), uniforms)
        return codes[len(known) :, 0]

    def pieces(
        self,
        known: np.ndarray,
        length: int,
        generator: np.random.Generator,
        temperature: float = 1.0,
    ) -> Iterator[np.ndarray]:
        """Read the known characters and draw `length` others, of which some are given at a time.

        In between the caller may look at other things; the text does not depend on the division.
        """
        while len(known) > 1:
            part = known[: self._piece + 1]
            self.sample(part, np.empty(0))
            known = known[len(part) - 1 :]
        for first in range(0, length, self._piece):
            uniforms = generator.random(min(self._piece, length - first))
            known = self.sample(known[-1:], uniforms, temperature)
            yield known


# --- training -------------------------------------------------------------------------------------


class Network(Weights):
    """Weights with optimizer memory and hidden states, and the operations on them.

    Parameters
    ----------
    config : Config
    characters : int
        K, the size of the vocabulary.
    threads : int
        How many work together, at most; they do not change the results.

    Attributes
    ----------
    parameters, gradient, memory, best : Parameters
        Views of the current weights, the last gradient, AdaGrad's sums of squares, and the weights
        with the lowest smooth loss. Writing to `parameters` needs a call of `pack` afterwards.
    hidden : (B, m) array
        View of the hidden state before the next chunk.
    workers : Workers
        Its threads.

    Raises
    ------
    FastrnnError
        If a training would take more memory than this process may have.
    """

    def __init__(self, config: Config, characters: int, threads: int = 1):
        bytes_of = partial(training_memory, characters=characters, threads=threads)
        require_memory("the training", bytes_of, config)
        super().__init__(config, characters)
        self.sizes = Sizes(config.hidden, characters, config.seq_length, config.batch)
        arrays = allocate(training_arrays(config, characters, threads))
        self._gradient, self.gradient = self._views(arrays["gradient"])
        self._memory, self.memory = self._views(arrays["memory"])
        self._best = arrays["best"]
        _, self.best = self._views(self._best)
        self._states = States(*(arrays[name] for name in States._fields))
        self.hidden = self._states.before[:, : config.hidden]
        self._trained = [{"parameters": self._flat, **arrays}[name] for name in TRAINED]
        self.workers = Workers(threads)
        self._team = Team(self.workers.arrivals, threads, self._column_shares(threads))

    def use_threads(self, threads: int) -> None:
        """Let so many of its threads make the next updates, which does not change the results."""
        if threads == self._team.threads:
            return
        # Each thread only clears the rows that it wrote, and only in the columns it has now.
        self._gradient.U[...] = 0
        self.workers.use(threads)
        self._team = Team(self.workers.arrivals, threads, self._column_shares(threads))

    def _column_shares(self, threads: int) -> int:
        """Threads that share the columns of the same streams, at the price of a barrier for every
        time step: as few as leave no thread without a stream."""
        divisors = (parts for parts in range(1, threads + 1) if threads % parts == 0)
        return next(parts for parts in divisors if threads // parts <= self.sizes.B)

    def loss(self, codes: np.ndarray) -> float:
        """Cross-entropy of one chunk in nats, summed over T and averaged over B.

        Parameters
        ----------
        codes : (T + 1, B) int32 array
            Read from `hidden` on, which stays as it is.
        """
        inputs = self._weights, self._packed, self._states, self.sizes, ALONE
        return entries.loss(*inputs, codes)

    def loss_and_gradient(self, codes: np.ndarray) -> float:
        """As `loss`; the loss's gradient is left in `gradient`."""
        inputs = self._weights, self._packed, self._states, self.sizes, self._team
        return self.workers.run(
            lambda thread: entries.loss_and_gradient(*inputs, thread, codes, self._gradient)
        )

    def update(self) -> None:
        """One AdaGrad step from `gradient`, as `loss_and_gradient` left it."""
        state = self._weights, self._gradient, self._memory, self._packed, self._states
        eta, clip = self.config.learning_rate, self.config.clip
        self.workers.run(
            lambda thread: entries.update(*state, self.sizes, self._team, thread, eta, clip)
        )

    def train(self, codes: np.ndarray, record: Record, smooth_losses: np.ndarray) -> Record:
        """One update for each element of `smooth_losses`, on successive chunks.

        Parameters
        ----------
        codes : (updates · T + 1, B) int32 array
            Characters, each less than K; as `streams.Streams.read` gives them.
        record : Record
            The smooth loss so far.
        smooth_losses : (updates,) float64 array
            Out: the smooth loss after each update.

        Returns
        -------
        Record
            The smooth loss now. If `pending`, its lowest is that of `parameters`, not of `best`.
        """
        state = self._weights, self._gradient, self._memory, self._packed, self._states
        eta, clip = self.config.learning_rate, self.config.clip
        rest = codes, eta, clip, self._flat, self._best, record, smooth_losses
        return self.workers.run(
            lambda thread: entries.train(*state, self.sizes, self._team, thread, *rest)
        )

    def copy_state(self) -> tuple[np.ndarray, ...]:
        """Copies of everything that training changes, for `restore_state`."""
        return tuple(array.copy() for array in self._trained)

    def restore_state(self, state: tuple[np.ndarray, ...]) -> None:
        """Go back to what `copy_state` gave."""
        for array, copy in zip(self._trained, state, strict=True):
            array[...] = copy
        self._states.D[...] = 0  # its padding is only ever multiplied: a NaN there would stay
        self.pack()

    def is_finite(self) -> bool:
        """Whether training has not brought NaN or infinity into anything."""
        return all(np.isfinite(array).all() for array in self._trained)


def compile_all() -> None:
    """Compile every kernel that a network uses, in every dtype, or load it from the cache."""
    for dtype in DTYPES:
        network = Network(Config(hidden=1, seq_length=1, dtype=dtype), characters=1)
        codes = np.zeros((2, 1), np.int32)
        network.pack()
        network.loss(codes)
        network.loss_and_gradient(codes)
        network.update()
        network.train(codes, Record(0.0, 0.0, -1, False), np.empty(1))
        Writer(network).sample(codes[0], np.empty(1))
