"""A recurrent network in the kernels' memory: padded, aligned, allocated once."""

from __future__ import annotations

import math

import numpy as np

from fastrnn.config import DTYPES, Config
from fastrnn.kernels import entries
from fastrnn.kernels.cell import Packed, Sizes, States
from fastrnn.kernels.entries import Record
from fastrnn.kernels.rnn import RNNWeights
from fastrnn.kernels.simd import VECTOR_BYTES, padded, row_length
from fastrnn.kernels.team import Team
from fastrnn.kernels.tiles import register_lanes
from fastrnn.model import Parameters, parameter_shapes
from fastrnn.threads import Workers

# How many streams a thread takes at a time: so many that weights are read for many rows at once,
# so few that their states may still be in a cache when the gradients are summed. Measured from
# m = 100 to 1024: half or twice as many make a few per cent.
STREAMS = 32


def aligned_zeros(shape: int | tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros that start on a vector boundary, so that no vector straddles two cache lines."""
    size = int(np.prod(shape)) * dtype.itemsize
    buffer = np.zeros(size + VECTOR_BYTES, np.uint8)
    start = -buffer.ctypes.data % VECTOR_BYTES
    return buffer[start : start + size].view(dtype).reshape(shape)


def unpadded(config: Config, characters: int, weights: RNNWeights) -> Parameters:
    """Views of stored weights in the shapes of `parameter_shapes`."""
    views = {}
    for name, shape in parameter_shapes(config, characters).items():
        stored = getattr(weights, name)
        stored = stored.T if name == "U" else stored
        views[name] = stored[tuple(slice(size) for size in shape)]
    return views


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
        network.sample(network.hidden[0], codes[0], np.empty(1))


class Network:
    """Weights, optimizer memory and hidden states of a model, and the operations on them.

    Everything outside sees parameters in the shapes of `fastrnn.model`; inside, U is stored as its
    transpose, and rows and columns are padded to whole vectors with zeros, which stay zero.

    Parameters
    ----------
    config : Config
    characters : int
        K, the size of the vocabulary.
    threads : int
        How many work together; they do not change the results.

    Attributes
    ----------
    parameters, gradient, memory, best : Parameters
        Views of the current weights, the last gradient, AdaGrad's sums of squares, and the weights
        with the lowest smooth loss. Writing to `parameters` needs a call of `pack` afterwards.
    hidden : (B, m) array
        View of the hidden state before the next chunk.
    workers : Workers
        Its threads.
    """

    def __init__(self, config: Config, characters: int, threads: int = 1):
        self.config = config
        self.dtype = np.dtype(config.dtype)
        self.sizes = Sizes(config.hidden, characters, config.seq_length, config.batch)
        (self._flat, self._weights, self.parameters) = self._allocate_weights()
        (_, self._gradient, self.gradient) = self._allocate_weights()
        (self._memory_flat, self._memory, self.memory) = self._allocate_weights()
        (self._best, _, self.best) = self._allocate_weights()
        m, K = config.hidden, characters
        self._packed = Packed(
            *(self._allocate_panels(*shape) for shape in ((m, m), (m, m), (K, m), (m, K)))
        )
        self.workers = Workers(threads)
        self._team = Team(self.workers.arrivals, threads, self._parts(threads))
        self._states = self._allocate_states(self.sizes, self._group(threads), threads)
        self.hidden = self._states.before[:, : config.hidden]
        self._alone = Team(self.workers.arrivals, 1, 1)
        self._sampling = self._allocate_states(self.sizes._replace(T=1, B=1), 1, 1)

    def _parts(self, threads: int) -> int:
        """Threads that share the columns of the same streams, at the price of a barrier for every
        time step: as few as leave no thread without a stream."""
        divisors = (parts for parts in range(1, threads + 1) if threads % parts == 0)
        return next(parts for parts in divisors if threads // parts <= self.sizes.B)

    def _group(self, threads: int) -> int:
        """How many streams go through the time loops before their gradients are summed."""
        groups = math.ceil(self.sizes.B / (STREAMS * threads))
        return math.ceil(self.sizes.B / groups)

    def _allocate_weights(self) -> tuple[np.ndarray, RNNWeights, Parameters]:
        """A flat buffer, the stored weights that are views into it, and their unpadded views."""
        shapes = {
            name: self._stored(*(shape[::-1] if name == "U" else shape))
            for name, shape in parameter_shapes(self.config, self.sizes.K).items()
        }
        flat = aligned_zeros(sum(math.prod(shape) for shape in shapes.values()), self.dtype)
        parts = np.split(flat, np.cumsum([math.prod(shape) for shape in shapes.values()])[:-1])
        weights = RNNWeights(
            *(part.reshape(shape) for part, shape in zip(parts, shapes.values(), strict=True))
        )
        return flat, weights, unpadded(self.config, self.sizes.K, weights)

    def _stored(self, *shape: int) -> tuple[int, ...]:
        """The shape of a vector or matrix in memory: whole vectors of rows and columns."""
        *rows, columns = shape
        length = row_length if rows else padded
        return *(padded(count, self.dtype) for count in rows), length(columns, self.dtype)

    def _allocate_panels(self, rows: int, columns: int) -> np.ndarray:
        """Room for the panels of a matrix."""
        lanes = register_lanes(self.dtype)
        panel = row_length(padded(rows, self.dtype) * lanes, self.dtype)
        return aligned_zeros((padded(columns, self.dtype) // lanes, panel), self.dtype)

    def _allocate_states(self, sizes: Sizes, group: int, threads: int) -> States:
        m, K, T, B = sizes
        hidden, characters = row_length(m, self.dtype), row_length(K, self.dtype)
        return States(
            H=aligned_zeros((group, T + 1, hidden), self.dtype),
            D=aligned_zeros((group, T + 1, hidden), self.dtype),
            O=aligned_zeros((group, T + 1, characters), self.dtype),
            before=aligned_zeros((B, hidden), self.dtype),
            after=aligned_zeros((B, hidden), self.dtype),
            loss=aligned_zeros((group, padded(T, self.dtype)), self.dtype),
            total=aligned_zeros((group, padded(T, self.dtype)), self.dtype),
            nats=np.zeros(B),
            occurring=np.zeros((threads, K + 1), np.int64),
            seen=np.zeros((threads, K), np.bool_),
        )

    def pack(self) -> None:
        """Bring the packed copies of the weights up to date after writing to `parameters`."""
        entries.pack(self._weights, self._packed)

    def set_parameters(self, parameters: Parameters) -> None:
        """Copy parameters in, in any float dtype."""
        for name, view in self.parameters.items():
            view[...] = parameters[name]
        self.pack()

    def loss(self, codes: np.ndarray) -> float:
        """Cross-entropy of one chunk in nats, summed over T and averaged over B.

        Parameters
        ----------
        codes : (T + 1, B) int32 array
            Read from `hidden` on, which stays as it is.
        """
        inputs = self._weights, self._packed, self._states, self.sizes
        return entries.loss(*inputs, self._alone, codes)

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

    def sample(
        self, hidden: np.ndarray, known: np.ndarray, uniforms: np.ndarray, temperature: float = 1.0
    ) -> np.ndarray:
        """Read the known characters, and draw another for each of `uniforms`.

        Parameters
        ----------
        hidden : (m,) array
            In and out: the hidden state before the first known character, then that after all but
            the last character drawn.
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
            tiny = float(np.finfo(self.dtype).tiny)
            temperature = min(max(temperature, tiny), 1 / tiny)
        state = self._sampling.before[0, : self.sizes.m]
        state[...] = hidden
        entries.sample(
            self._weights,
            self._packed,
            self._sampling,
            self.sizes._replace(T=1, B=1),
            self._alone,
            codes,
            len(known),
            float(temperature),
            uniforms,
        )
        hidden[...] = state
        return codes[len(known) :, 0]

    def copy_state(self) -> tuple[np.ndarray, ...]:
        """Copies of everything that training changes, for `restore_state`."""
        return tuple(array.copy() for array in self._trained())

    def restore_state(self, state: tuple[np.ndarray, ...]) -> None:
        """Go back to what `copy_state` gave."""
        for array, copy in zip(self._trained(), state, strict=True):
            array[...] = copy
        self._states.D[...] = 0  # its padding is only ever multiplied: a NaN there would stay
        self.pack()

    def is_finite(self) -> bool:
        """Whether training has not brought NaN or infinity into anything."""
        return all(np.isfinite(array).all() for array in self._trained())

    def _trained(self) -> tuple[np.ndarray, ...]:
        return self._flat, self._memory_flat, self._best, self._states.before
