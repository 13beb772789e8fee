"""A recurrent network in the kernels' memory: padded, aligned, allocated once.

Weights    parameters, and their copies packed for products
Network    Weights, and what training takes besides
"""

from __future__ import annotations

from functools import partial

import numpy as np

from fastrnn.config import Architecture, Config, state_names
from fastrnn.kernels import entries
from fastrnn.kernels.blocks import BY_USED_ROWS
from fastrnn.kernels.dropout import HASH_BITS, Dropout
from fastrnn.kernels.entries import Record
from fastrnn.kernels.handles import Reference
from fastrnn.kernels.optimizer import ADAGRAD, ADAM, RMSPROP, SGD, Flat, Rule, Step
from fastrnn.kernels.team import SLOT, Team
from fastrnn.layout import (
    TRAINED,
    Layout,
    column_shares,
    model_memory,
    require_memory,
    states_of,
    training_arrays,
    training_memory,
    weights_arrays,
)
from fastrnn.memory import allocate
from fastrnn.parameters import Parameters
from fastrnn.threads import Workers

# A team that waits for nobody, and writes to nothing.
ALONE = Reference(Team(np.zeros((1, SLOT), np.int64), 1, 1))
NO_DROPOUT = Reference(Dropout(0.0, 1.0, np.zeros((1, 1, 2), np.int64)))


class Weights:
    """The parameters of a model and their copies packed for products: all that writing reads.

    Everything outside sees parameters in the shapes of `fastrnn.parameters`; inside, rows and
    columns are padded to whole vectors with zeros, which stay zero (`Layout`).

    Any number of `writing.Writer`s may write at once, while nobody changes them.

    Parameters
    ----------
    architecture : Architecture
    characters : int
        K, the size of the vocabulary.

    Raises
    ------
    FastrnnError
        If they would take more memory than this process may have.
    """

    def __init__(self, architecture: Architecture, characters: int):
        require_memory("the model", partial(model_memory, characters=characters), architecture)
        self.architecture = architecture
        self.characters = characters
        self.layout = Layout(architecture, characters)
        self.dtype = self.layout.dtype
        arrays = allocate(weights_arrays(self.layout))
        self._flat_weight, self._flat_packed = arrays["weight"], arrays["packed"]
        self._weights = Reference(self.layout.weights(self._flat_weight))
        self._packed = Reference(self.layout.packed(self._flat_packed))

    @property
    def parameters(self) -> Parameters:
        """Copies of the current weights."""
        return self.layout.get(self._flat_weight)

    def pack(self) -> None:
        """Bring the packed copies of the weights up to date."""
        entries.pack(self._flat_weight, self._flat_packed, self.layout.blocks)

    def set_parameters(self, parameters: Parameters) -> None:
        """Copy parameters in, in any float dtype."""
        self.layout.set(self._flat_weight, parameters)
        self.pack()


class Network(Weights):
    """Weights with the state of their optimizer and of the streams, and the operations on them.

    Parameters
    ----------
    config : Config
    characters : int
        K, the size of the vocabulary.
    threads : int
        How many work together, at most; they do not change the results.
    separator : int, optional
        The character around items, for a training on items (kernels/items.py).

    Attributes
    ----------
    state : (S·L, B, m) array
        View of the hidden states of all layers before the next chunk, then of the cell states.
    workers : Workers
        Its threads.

    Raises
    ------
    FastrnnError
        If a training would take more memory than this process may have.
    """

    def __init__(
        self, config: Config, characters: int, threads: int = 1, separator: int | None = None
    ):
        bytes_of = partial(training_memory, characters=characters, threads=threads)
        require_memory("the training", bytes_of, config)
        super().__init__(config, characters)
        self.config = config
        layout = self.layout
        carried = config.order == "sequential"
        self.sizes = layout.sizes(config.seq_length, config.batch, config.loss, carried, separator)
        arrays = allocate(training_arrays(layout, config, threads))
        arrays |= {"weight": self._flat_weight, "packed": self._flat_packed}
        self._flat = Reference(Flat(*(arrays[name] for name in Flat._fields)))
        self._gradient = Reference(layout.weights(self._flat.gradient))
        states = states_of(arrays)
        self._states = Reference(states)
        # Without dropout the layers above get H itself.
        self._undropped = Reference(states._replace(Z=states.H))
        self.state = self._states.before[:, :, : config.hidden]
        self._trained = [arrays[name] for name in TRAINED]
        self._rule = rule_of(config)
        self._blocks = layout.blocks
        is_U = self._blocks.start == layout.starts["U"]
        self._blocks.rate[is_U] = config.input_rate
        if keeps_rows_without_gradient(config):
            self._blocks.shared[is_U] = BY_USED_ROWS
        self.workers = Workers(threads)
        self._team = Reference(
            Team(self.workers.arrivals, threads, column_shares(threads, config.batch))
        )

    def use_threads(self, threads: int) -> None:
        """Let so many of its threads make the next updates, which does not change the results."""
        if threads == self._team.threads:
            return
        # Each thread only clears the rows that it wrote, and only in the columns it has now.
        self._gradient.U[...] = 0
        self.workers.use(threads)
        shares = column_shares(threads, self.sizes.B)
        self._team = Reference(Team(self.workers.arrivals, threads, shares))

    @property
    def gradient(self) -> Parameters:
        """Copies of the last gradient."""
        return self.layout.get(self._flat.gradient)

    @property
    def best(self) -> Parameters:
        """Copies of the weights with the lowest loss."""
        return self.layout.get(self._flat.best)

    def keep_as_best(self) -> None:
        """Let `best` be the current weights."""
        self._flat.best[...] = self._flat.weight

    @property
    def optimizer_state(self) -> dict[str, Parameters]:
        """Copies of what the optimizer remembers, by the names of `state_names`."""
        return {
            name: self.layout.get(getattr(self._flat, name)) for name in state_names(self.config)
        }

    def set_optimizer_state(self, state: dict[str, Parameters]) -> None:
        """The inverse of `optimizer_state`."""
        for name in state_names(self.config):
            self.layout.set(getattr(self._flat, name), state[name])

    def loss(self, codes: np.ndarray) -> float:
        """Cross-entropy of one chunk in nats, without dropout: the mean over B of the sums over T,
        or of all characters, as `config.loss` says.

        Parameters
        ----------
        codes : (T + 1, B) int32 array
            Read from `state` on, which stays as it is.
        """
        inputs = self._weights, self._packed, self._undropped, self.sizes, ALONE, NO_DROPOUT
        return entries.loss(*inputs, codes)

    def loss_and_gradient(self, codes: np.ndarray, keys: np.ndarray | None = None) -> float:
        """As `loss`; the loss's gradient is left in `gradient`.

        Parameters
        ----------
        codes : (T + 1, B) int32 array
        keys : (1, L, 2) int64 array, optional
            Of schedule.dropout_keys, for a network with dropout; without them nothing is dropped.
        """
        dropout = NO_DROPOUT if keys is None else self._dropout(keys)
        states = self._undropped if keys is None else self._states
        inputs = self._weights, self._gradient, self._packed, states, self.sizes, self._flat
        return self.workers.run(
            lambda thread: entries.loss_and_gradient(
                *inputs, self._blocks, self._team, thread, dropout, codes
            )
        )

    def _dropout(self, keys: np.ndarray) -> Reference:
        share = self.config.dropout
        return Reference(Dropout(float(round(share * 2**HASH_BITS)), 1.0 / (1.0 - share), keys))

    def update(self, step: np.ndarray) -> None:
        """One step of the optimizer from `gradient`, as `loss_and_gradient` left it.

        Parameters
        ----------
        step : (4,) float64 array
            A row of schedule.steps.
        """
        inputs = self._states, self.sizes, self._flat, self._blocks, self._team
        numbers = Step(*map(float, step))
        self.workers.run(lambda thread: entries.update(*inputs, thread, self._rule, numbers))

    def train(
        self,
        codes: np.ndarray,
        steps: np.ndarray,
        keys: np.ndarray,
        record: Record,
        smooth_losses: np.ndarray,
    ) -> Record:
        """One update for each element of `smooth_losses`, on successive chunks.

        Parameters
        ----------
        codes : (rows, B) int32 array
            Characters, each less than K; as `read` of text.streams gives them.
        steps : (updates, 4) float64 array
            Of schedule.steps.
        keys : (updates, L, 2) int64 array
            Of schedule.dropout_keys; without dropout nobody reads them.
        record : Record
            The smooth loss so far.
        smooth_losses : (updates,) float64 array
            Out: the smooth loss after each update.

        Returns
        -------
        Record
            The smooth loss now. If `pending`, its lowest is that of `parameters`, not of `best`.
        """
        state = self._weights, self._gradient, self._packed, self._states, self.sizes
        dropout = self._dropout(keys)
        rest = dropout, codes, self._rule, steps, record, smooth_losses
        return self.workers.run(
            lambda thread: entries.train(
                *state, self._flat, self._blocks, self._team, thread, *rest
            )
        )

    def copy_state(self) -> tuple[np.ndarray, ...]:
        """Copies of everything that training changes, for `restore_state`."""
        return tuple(array.copy() for array in self._trained)

    def restore_state(self, state: tuple[np.ndarray, ...]) -> None:
        """Go back to what `copy_state` gave."""
        for array, copy in zip(self._trained, state, strict=True):
            array[...] = copy
        # Padding is only ever multiplied: a NaN there would stay.
        for array in (self._states.A, self._states.D, self._states.E):
            array[...] = 0
        self.pack()

    def is_finite(self) -> bool:
        """Whether training has not brought NaN or infinity into anything."""
        return all(np.isfinite(array).all() for array in self._trained)


def rule_of(config: Config) -> Rule:
    """The optimizer of a training, for the kernels."""
    kinds = {"adagrad": ADAGRAD, "rmsprop": RMSPROP, "adam": ADAM, "adamw": ADAM, "sgd": SGD}
    is_adam = config.optimizer in ("adam", "adamw")
    return Rule(
        kind=kinds[config.optimizer],
        clip=config.clip,
        clip_norm=config.clip_norm,
        weight_decay=0.0 if config.optimizer == "adamw" else config.weight_decay,
        momentum=float((config.beta1 if is_adam else config.momentum) or 0.0),
        rho=float((config.beta2 if is_adam else config.rho) or 0.0),
        epsilon=float(config.epsilon or 0.0),
        nesterov=bool(config.nesterov),
    )


def keeps_rows_without_gradient(config: Config) -> bool:
    """Whether a weight whose gradient is zero stays exactly as it is."""
    plain = config.optimizer == "adagrad" or (config.optimizer == "sgd" and not config.momentum)
    return plain and not config.weight_decay
