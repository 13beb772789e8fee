"""The arrays of a network: where every parameter lies, what else is allocated, and how much it is.

Each array is described before it is allocated, so the memory that a model or a training takes is
known before.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from fastrnn import memory
from fastrnn.config import Architecture, Config, state_names
from fastrnn.kernels import cell, gru, lstm, rnn
from fastrnn.kernels.blocks import BLOCK, BY_COLUMNS, BY_ROWS
from fastrnn.kernels.cell import Packed, Sizes, States
from fastrnn.kernels.simd import VECTOR_BYTES, padded, row_length
from fastrnn.kernels.tiles import register_lanes
from fastrnn.memory import Array, total
from fastrnn.parameters import Parameters, parameter_shapes, state_shape

CELLS = {"rnn": rnn, "lstm": lstm, "gru": gru}

# How many streams a thread takes at a time: so many that weights are read for many rows at once,
# so few that their states may still be in a cache when the gradients are summed. Measured from
# m = 100 to 1024: half or twice as many make a few per cent.
STREAMS = 32

REMEDIES = {
    "hidden": "fewer hidden units",
    "layers": "fewer layers",
    "batch": "a smaller batch",
    "seq_length": "a shorter sequence length",
}
"""The settings that decide how much memory is taken, and how to need less."""


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
    """Bytes that a training takes: its network, and the copy that `copy_state` makes.

    One that may go back has a copy of an earlier time, too.
    """
    layout = Layout(config, characters)
    arrays = weights_arrays(layout) | training_arrays(layout, config, threads)
    copies = 2 if config.on_divergence == "rollback" else 1
    return total(arrays.values()) + copies * total(arrays[name] for name in TRAINED)


def saving_memory(config: Config, characters: int) -> int:
    """Bytes that a checkpoint takes while it is written: a copy of the best and the last model and
    of the optimizer, and the file, which is built in memory; it has as much again of a training
    that may go back."""
    shapes = parameter_shapes(config, characters).values()
    arrays = (2 + len(state_names(config))) * sum(map(math.prod, shapes))
    arrays += math.prod(state_shape(config, config.batch))
    copies = 3 if config.on_divergence == "rollback" else 2
    return copies * arrays * np.dtype(config.dtype).itemsize


def require_memory(what: str, bytes_of: Callable[..., int], config: Architecture) -> None:
    """Raise FastrnnError, with the setting to blame, if this process may not have so much."""

    def without(name: str) -> int:
        return bytes_of(replace(config, **{name: getattr(Config, name)}))

    blamed = min((name for name in REMEDIES if hasattr(config, name)), key=without)
    subject = f"{blamed.replace('_', '-')} is {getattr(config, blamed)}"
    memory.require(bytes_of(config), subject, what, f"use {REMEDIES[blamed]}")
