"""A recurrent network in the kernels' memory: padded, aligned, allocated once."""

from __future__ import annotations

import math

import numpy as np

from fastrnn.config import Config
from fastrnn.kernels import entries
from fastrnn.kernels.cell import Packed, Sizes, States
from fastrnn.kernels.entries import Record
from fastrnn.kernels.rnn import RNNWeights
from fastrnn.kernels.simd import VECTOR_BYTES, padded
from fastrnn.model import Parameters, parameter_shapes


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


class Network:
    """Weights, optimizer memory and hidden states of a model, and the operations on them.

    Everything outside sees parameters in the shapes of `fastrnn.model`; inside, U is stored as its
    transpose, and rows and columns are padded to whole vectors with zeros, which stay zero.

    Parameters
    ----------
    config : Config
    characters : int
        K, the size of the vocabulary.

    Attributes
    ----------
    parameters, gradient, memory, best : Parameters
        Views of the current weights, the last gradient, AdaGrad's sums of squares, and the weights
        with the lowest smooth loss. Writing to `parameters` needs a call of `pack` afterwards.
    hidden : (B, m) array
        View of the hidden state before the next chunk.
    """

    def __init__(self, config: Config, characters: int):
        self.config = config
        self.dtype = np.dtype(config.dtype)
        self.sizes = Sizes(config.hidden, characters, config.seq_length, config.batch)
        (self._flat, self._weights, self.parameters) = self._allocate_weights()
        (_, self._gradient, self.gradient) = self._allocate_weights()
        (self._memory_flat, self._memory, self.memory) = self._allocate_weights()
        (self._best, _, self.best) = self._allocate_weights()
        rows, columns = padded(config.hidden, self.dtype), padded(characters, self.dtype)
        self._packed = Packed(
            aligned_zeros((rows, rows), self.dtype), aligned_zeros((rows, columns), self.dtype)
        )
        self._states = self._allocate_states(config.seq_length, config.batch)
        self._sampling = self._allocate_states(1, 1)
        self.hidden = self._states.H[0, :, : config.hidden]

    def _allocate_weights(self) -> tuple[np.ndarray, RNNWeights, Parameters]:
        """A flat buffer, the stored weights that are views into it, and their unpadded views."""
        shapes = {
            name: tuple(
                padded(size, self.dtype) for size in (shape[::-1] if name == "U" else shape)
            )
            for name, shape in parameter_shapes(self.config, self.sizes.K).items()
        }
        flat = aligned_zeros(sum(math.prod(shape) for shape in shapes.values()), self.dtype)
        parts = np.split(flat, np.cumsum([math.prod(shape) for shape in shapes.values()])[:-1])
        weights = RNNWeights(
            *(part.reshape(shape) for part, shape in zip(parts, shapes.values(), strict=True))
        )
        return flat, weights, unpadded(self.config, self.sizes.K, weights)

    def _allocate_states(self, T: int, B: int) -> States:
        rows, columns = padded(self.sizes.m, self.dtype), padded(self.sizes.K, self.dtype)
        return States(
            H=aligned_zeros((T + 1, B, rows), self.dtype),
            D=aligned_zeros((T, B, rows), self.dtype),
            O=aligned_zeros((T, B, columns), self.dtype),
            loss=aligned_zeros(padded(T * B, self.dtype), self.dtype),
            total=aligned_zeros(padded(T * B, self.dtype), self.dtype),
            occurring=np.zeros(self.sizes.K + 1, np.int64),
            seen=np.zeros(self.sizes.K, np.bool_),
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
        return entries.loss(self._weights, self._packed, self._states, self.sizes, codes)

    def loss_and_gradient(self, codes: np.ndarray) -> float:
        """As `loss`; the loss's gradient is left in `gradient`."""
        arguments = self._weights, self._packed, self._states, self.sizes, codes
        return entries.loss_and_gradient(*arguments, self._gradient)

    def update(self) -> None:
        """One AdaGrad step from `gradient`, as `loss_and_gradient` left it."""
        entries.update(
            self._weights,
            self._gradient,
            self._memory,
            self._packed,
            self._states,
            self.sizes,
            self.config.learning_rate,
            self.config.clip,
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
        return entries.train(
            self._weights,
            self._gradient,
            self._memory,
            self._packed,
            self._states,
            self.sizes,
            codes,
            self.config.learning_rate,
            self.config.clip,
            self._flat,
            self._best,
            record,
            smooth_losses,
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
        state = self._sampling.H[0, 0, : self.sizes.m]
        state[...] = hidden
        entries.sample(
            self._weights,
            self._packed,
            self._sampling,
            self.sizes._replace(T=1, B=1),
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
        self.pack()

    def is_finite(self) -> bool:
        """Whether training has not brought NaN or infinity into anything."""
        return all(np.isfinite(array).all() for array in self._trained())

    def _trained(self) -> tuple[np.ndarray, ...]:
        return self._flat, self._memory_flat, self._best, self._states.H[0]
