"""A recurrent network in the kernels' memory: padded, aligned, allocated once.

    Weights    parameters, and their copies packed for products
    Network    Weights, and what training takes besides

Each knows the arrays it consists of before they are allocated, and so the memory it will take.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from fastrnn import memory
from fastrnn.config import Architecture, Config, state_names
from fastrnn.kernels import cell, entries, gru, lstm, rnn
from fastrnn.kernels.blocks import BLOCK, BY_COLUMNS, BY_ROWS, BY_USED_ROWS
from fastrnn.kernels.cell import Packed, Sizes, States
from fastrnn.kernels.dropout import HASH_BITS, Dropout
from fastrnn.kernels.entries import Record
from fastrnn.kernels.handles import Reference
from fastrnn.kernels.optimizer import ADAGRAD, ADAM, RMSPROP, SGD, Flat, Rule, Step
from fastrnn.kernels.simd import VECTOR_BYTES, padded, row_length
from fastrnn.kernels.team import SLOT, Team
from fastrnn.kernels.tiles import register_lanes
from fastrnn.memory import Array, allocate, total
from fastrnn.parameters import Parameters, parameter_shapes
from fastrnn.threads import Workers

CELLS = {"rnn": rnn, "lstm": lstm, "gru": gru}

# How many streams a thread takes at a time: so many that weights are read for many rows at once,
# so few that their states may still be in a cache when the gradients are summed. Measured from
# m = 100 to 1024: half or twice as many make a few per cent.
STREAMS = 32

# A team that waits for nobody, and writes to nothing.
ALONE = Reference(Team(np.zeros((1, SLOT), np.int64), 1, 1))
NO_DROPOUT = Reference(Dropout(0.0, 1.0, np.zeros((1, 1, 2), np.int64)))

REMEDIES = {
    "hidden": "fewer hidden units",
    "layers": "fewer layers",
    "batch": "a smaller batch",
    "seq_length": "a shorter sequence length",
}
"""The settings that decide how much memory is taken, and how to need less."""


# --- arrays and their memory ----------------------------------------------------------------------


class Layout:
    """Where every parameter lies in a flat buffer, padded to whole vectors.

    The parameters that fastrnn.parameters names are rows and columns of the arrays of
    cell.Weights: W of the second layer is `W[1]`, U is stored as its transpose, and a gate's rows
    start with a whole vector.

    Parameters
    ----------
    architecture : Architecture
    characters : int
        K, the size of the vocabulary.
    """

    def __init__(self, architecture: Architecture, characters: int):
        self.cell = cell = CELLS[architecture.cell]
        self.architecture = architecture
        self.characters = characters
        self.dtype = dtype = np.dtype(architecture.dtype)
        m, K, L = architecture.hidden, characters, architecture.layers
        self.m, self.layers = m, L
        self.P = P = padded(m, dtype)
        self.row = row_length(m, dtype)
        gates = cell.GATES * P
        self.shapes = {
            "U": (padded(K, dtype), row_length(gates, dtype)),
            "X": (L - 1, gates, self.row),
            "W": (L, gates, self.row),
            "V": (padded(K, dtype), self.row),
            "b": (L, gates),
            "n": (L if cell.RECURRENT else 0, P),
            "c": (padded(K, dtype),),
        }
        self.starts, self.size = starts_of(self.shapes)
        lanes = register_lanes(dtype)

        def panels(matrices: int, rows: int, columns: int) -> tuple[int, int, int]:
            panel = row_length(padded(rows, dtype) * lanes, dtype)
            return matrices, padded(columns, dtype) // lanes, panel

        self.panels = {
            "W": panels(L, gates, m),
            "WT": panels(L, m, gates),
            "X": panels(L - 1, gates, m),
            "XT": panels(L - 1, m, gates),
            "V": panels(1, K, m),
            "VT": panels(1, m, K),
        }
        self.panel_starts, self.panels_size = starts_of(self.panels)
        self.rows, self.norms, self._rows = self._blocks()

    @property
    def blocks(self) -> np.recarray:
        """The table of kernels.blocks."""
        return np.array(self._rows, BLOCK).view(np.recarray)

    def _blocks(self) -> tuple[int, int, list[tuple[float, ...]]]:
        """How many rows of matrices there are, how many norms, and the rows of `blocks`."""
        lanes = register_lanes(self.dtype)
        rows: list[tuple[float, ...]] = []
        count = 0

        def matrix(name: str, index: int, gate: int, height: int) -> None:
            nonlocal count
            stride = self.shapes[name][-1]
            start = self.starts[name] + gate * self.P * stride
            if len(self.shapes[name]) == 3:
                start += index * math.prod(self.shapes[name][1:])
            _, panels, panel = self.panels[name]
            _, panels_T, panel_T = self.panels[name + "T"]
            in_panels = index * panels * panel + gate * self.P * lanes
            in_panels_T = (index * panels_T + gate * self.P // lanes) * panel_T
            rows.append(
                (
                    BY_ROWS,
                    start,
                    height,
                    self.m,
                    stride,
                    count,
                    self.panel_starts[name] + in_panels,
                    panel,
                    self.panel_starts[name + "T"] + in_panels_T,
                    panel_T,
                    1.0,
                )
            )
            count += -(-height // lanes) * lanes

        for layer in range(self.layers):
            for name in ("W", "X")[: 2 if layer else 1]:
                for gate in range(self.cell.GATES):
                    matrix(name, layer - (name == "X"), gate, self.m)
        matrix("V", 0, 0, self.characters)
        packed_rows = count

        def columns(name: str, height: int, width: int) -> None:
            nonlocal count
            stride = self.shapes[name][-1]
            block = BY_COLUMNS, self.starts[name], height, width, stride, count, 0, 0, 0, 0, 1.0
            rows.append(block)
            count += padded(width, self.dtype) // (VECTOR_BYTES // self.dtype.itemsize)

        gates = self.cell.GATES * self.P
        columns("U", self.characters, gates)
        columns("b", self.layers, gates)
        if self.cell.RECURRENT:
            columns("n", self.layers, self.P)
        columns("c", 1, self.characters)
        return packed_rows, count, rows

    def sizes(
        self, T: int, B: int, loss: str = "sum", carried: bool = True, separator: int | None = None
    ) -> Sizes:
        """The sizes of chunks of T characters of B streams, over which the loss is the mean of
        sums, or the mean; each chunk goes on the one before if states are carried."""
        m, K, L, P, cell = self.m, self.characters, self.layers, self.P, self.cell
        divisor = B * T if loss == "mean" else B
        stride = T if carried else T + 1
        recurrent = cell.RECURRENT * P
        separator = -1 if separator is None else separator
        return Sizes(m, K, T, B, L, P, cell.GATES, recurrent, self.rows, divisor, stride, separator)

    def weights(self, flat: np.ndarray) -> cell.Weights:
        """A flat buffer as the arrays of cell.Weights."""
        views = {}
        for name, shape in self.shapes.items():
            start = self.starts[name]
            views[name] = flat[start : start + math.prod(shape)].reshape(shape)
        return self.cell.WEIGHTS(**views)

    def packed(self, flat: np.ndarray) -> Packed:
        """A flat buffer of panels as the arrays of cell.Packed."""
        views = {}
        for name, shape in self.panels.items():
            start = self.panel_starts[name]
            views[name] = flat[start : start + math.prod(shape)].reshape(shape)
        return Packed(**views)

    def views(self, flat: np.ndarray) -> dict[str, list[np.ndarray]]:
        """Views of all parameters by their names, one for each gate, without the padding."""
        weights, m, K, P = self.weights(flat), self.m, self.characters, self.P
        cell = self.cell
        views = {"U": [weights.U[:K, g * P : g * P + m].T for g in cell.ORDER]}
        for layer in range(self.layers):
            number = str(layer + 1) if layer else ""
            if layer:
                X = weights.X[layer - 1]
                views[f"X{number}"] = [X[g * P : g * P + m, :m] for g in cell.ORDER]
            W, b = weights.W[layer], weights.b[layer]
            views[f"W{number}"] = [W[g * P : g * P + m, :m] for g in cell.RECURRENT_ORDER]
            views[f"b{number}"] = [b[g * P : g * P + m] for g in cell.ORDER]
            if cell.RECURRENT:
                views[f"n{number}"] = [weights.n[layer, :m]]
        views["V"] = [weights.V[:K, :m]]
        views["c"] = [weights.c[:K]]
        return views

    def get(self, flat: np.ndarray) -> Parameters:
        """Copies of all parameters in the shapes of fastrnn.parameters."""
        views = self.views(flat)
        shapes = parameter_shapes(self.architecture, self.characters)
        return {name: np.concatenate(views[name]) for name in shapes}

    def set(self, flat: np.ndarray, parameters: Parameters) -> None:
        """Copy parameters in, in any float dtype."""
        for name, gates in self.views(flat).items():
            for gate, values in zip(gates, np.split(parameters[name], len(gates)), strict=True):
                gate[...] = values


def starts_of(shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, int], int]:
    """Where each of these arrays begins if one follows the other, and their size together."""
    ends = list(itertools.accumulate(map(math.prod, shapes.values()), initial=0))
    return dict(zip(shapes, ends, strict=False)), ends[-1]


def weights_arrays(layout: Layout) -> dict[str, Array]:
    """What `Weights` allocates: the parameters, and their panels."""
    return {
        "weight": Array((layout.size,), layout.dtype),
        "packed": Array((layout.panels_size,), layout.dtype),
    }


def states_arrays(
    layout: Layout, sizes: Sizes, group: int, threads: int, dropout: bool = False
) -> dict[str, Array]:
    """The arrays of `States`, by their names; Z and D are only there where they are not others."""
    _, K, T, B, L, P, *_ = sizes
    dtype, cell = layout.dtype, layout.cell
    hidden, characters = layout.row, row_length(K, dtype)
    of_units = Array((L, group, T + 1, hidden), dtype)
    columns = row_length(cell.COLUMNS * P, dtype)
    arrays = {
        "H": of_units,
        "A": Array((L, group, T + 1, columns), dtype),
        "C": Array((L if cell.STATES > 1 else 0, group, T + 1, hidden), dtype),
        "E": Array((group if cell.STATES > 1 else 0, hidden), dtype),
        "O": Array((group, T + 1, characters), dtype),
        "before": Array((cell.STATES * L, B, hidden), dtype),
        "after": Array((cell.STATES * L, B, hidden), dtype),
        "loss": Array((group, padded(T, dtype)), dtype),
        "total": Array((group, padded(T, dtype)), dtype),
        "nats": Array((B,), np.dtype(np.float64)),
        "used_rows": Array((threads, K + 1), np.dtype(np.int64)),
        "is_used": Array((threads, K), np.dtype(np.bool_)),
    }
    if dropout:
        arrays["Z"] = of_units
    if cell.COLUMNS > 1:
        arrays["D"] = Array((1, group, T + 1, hidden), dtype)
    return arrays


def states_of(arrays: Mapping[str, np.ndarray], all_arrays: Mapping[str, Array] = {}) -> States:
    """`States` of arrays that were allocated for them; those of `all_arrays` that were not, because
    nobody uses them, are empty."""
    unused = {name: np.empty((0,) * len(a.shape), a.dtype) for name, a in all_arrays.items()}
    shared = {**unused, "Z": arrays["H"], "D": arrays["A"], **arrays}
    return States(**{name: shared[name] for name in States._fields})


def group_of(batch: int, threads: int) -> int:
    """How many streams go through the time loops before their gradients are summed."""
    groups = math.ceil(batch / (STREAMS * threads))
    return math.ceil(batch / groups)


def column_shares(threads: int, batch: int) -> int:
    """Threads that share the columns of the same streams, at the price of a barrier for every
    time step: as few as leave no thread without a stream."""
    divisors = (shares for shares in range(1, threads + 1) if threads % shares == 0)
    return next(shares for shares in divisors if threads // shares <= batch)


def training_arrays(layout: Layout, config: Config, threads: int) -> dict[str, Array]:
    """What `Network` allocates on top of `weights_arrays`."""
    flat = Array((layout.size,), layout.dtype)
    none = Array((0,), layout.dtype)
    sizes = layout.sizes(config.seq_length, config.batch)
    group = group_of(config.batch, threads)
    names = state_names(config)
    return {
        "gradient": flat,
        "momentum": flat if "momentum" in names else none,
        "squares": flat if "squares" in names else none,
        "best": flat,
        "norms": Array((layout.norms,), np.dtype(np.float64)),
        **states_arrays(layout, sizes, group, threads, config.dropout > 0),
    }


TRAINED = ("weight", "momentum", "squares", "best", "before")
"""The arrays that training changes, and that have to be copied to take updates back."""


def model_memory(architecture: Architecture, characters: int) -> int:
    """Bytes that a model takes to write with."""
    return total(weights_arrays(Layout(architecture, characters)).values())


def training_memory(config: Config, characters: int, threads: int = 1) -> int:
    """Bytes that a training takes: its network, and the copy that `copy_state` makes."""
    layout = Layout(config, characters)
    arrays = weights_arrays(layout) | training_arrays(layout, config, threads)
    return total(arrays.values()) + total(arrays[name] for name in TRAINED)


def require_memory(what: str, bytes_of: Callable[..., int], config: Architecture) -> None:
    """Raise FastrnnError, with the setting to blame, if this process may not have so much."""

    def without(name: str) -> int:
        return bytes_of(replace(config, **{name: getattr(Config, name)}))

    blamed = min((name for name in REMEDIES if hasattr(config, name)), key=without)
    subject = f"{blamed.replace('_', '-')} is {getattr(config, blamed)}"
    memory.require(bytes_of(config), subject, what, f"use {REMEDIES[blamed]}")


# --- weights --------------------------------------------------------------------------


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


# --- training -------------------------------------------------------------------------------------


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
