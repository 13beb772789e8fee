"""The table of all parameters: where each lies, and which thread sums, updates and packs it.

A matrix here is one gate's part of a weight matrix, so it has no padding rows. The rows of all
matrices that are packed are shared out to the threads together, in whole vectors of the tiles; of U
and the biases each thread has some columns. Who has summed a gradient also updates the weights and
packs them, so there is nothing to wait for in between.
"""

from __future__ import annotations

import numpy as np

from fastrnn.kernels.compile import jit
from fastrnn.kernels.simd import at, lanes_of
from fastrnn.kernels.team import share
from fastrnn.kernels.tiles import Panels, register_lanes_of

BY_ROWS, BY_COLUMNS, BY_USED_ROWS = range(3)  # how a block is shared; the last is U, if sparse

BLOCK = np.dtype(
    [
        ("shared", np.int64),  # one of the three
        ("start", np.int64),  # its first element in the flat buffers
        ("rows", np.int64),
        ("columns", np.int64),
        ("stride", np.int64),  # from a row to the next
        ("first", np.int64),  # which of all rows, or vectors of columns, its first one is
        ("panels", np.int64),  # its first element in the flat buffer of panels
        ("panel", np.int64),  # from a panel to the next
        ("transposed", np.int64),  # the same of its transpose
        ("transposed_panel", np.int64),
        ("rate", np.float64),  # its learning rate, as a multiple of that of the update
    ]
)
"""A row of the table. Its order: for each layer W of all gates, then X of all gates; V; then what
is not packed."""


@jit
def rows_of(team, thread, sizes, block, flat):
    """A thread's rows of a matrix, from first to last - 1."""
    first, last = share(sizes.rows, register_lanes_of(flat), thread, team.threads)
    return (
        min(max(first - block.first, 0), block.rows),
        min(max(last - block.first, 0), block.rows),
    )


@jit
def columns_of(team, thread, block, flat):
    """A thread's columns of U or a bias, from begin to end - 1, in whole vectors."""
    return share(block.columns, lanes_of(flat), thread, team.threads)


@jit
def panels_of_block(packed, block):
    """The panels of a matrix and of its transpose in the flat buffer of panels."""
    width = register_lanes_of(packed)
    return (
        Panels(at(packed, block.panels), width, block.panel),
        Panels(at(packed, block.transposed), width, block.transposed_panel),
    )
