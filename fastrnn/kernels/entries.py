"""The kernels that Python calls. They check nothing and allocate nothing: network.py does. Named
tuples of arrays come as handles.Reference.

weights, gradient           of a cell (rnn.RNN)
packed, states, sizes       Packed, States and Sizes of cell.py
flat, blocks                optimizer.Flat, the buffers that these are views of, and blocks.BLOCK
team, thread                Team of team.py, all of which call the kernel, and which of them this is
dropout                     Dropout of dropout.py
codes                       (…, B) int32, characters by time and stream
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastrnn.kernels import gradients, optimizer, tiles
from fastrnn.kernels.blocks import BY_ROWS, panels_of_block
from fastrnn.kernels.compile import entry, jit
from fastrnn.kernels.optimizer import Step
from fastrnn.kernels.simd import at, lanes_of, load, round_up, store
from fastrnn.kernels.team import barrier, share
from fastrnn.kernels.tiles import Matrix

SMOOTHING = 0.999  # smooth_loss = 0.999 · smooth_loss + 0.001 · loss


class Record(NamedTuple):
    """The smooth loss and its lowest value, before and after some updates."""

    smooth_loss: float  # NaN if there is none: it starts from the loss of the first chunk
    lowest: float  # of all updates ever
    lowest_index: int  # of the update in this call that reached it, or -1
    pending: bool  # whether the weights of the lowest are still the current ones, not copied


@entry
def pack(flat_weight, flat_packed, blocks):
    """Fill the packed copies from the weights."""
    for i in range(blocks.size):
        block = blocks[i]
        if block.shared == BY_ROWS:
            matrix = Matrix(at(flat_weight, block.start), block.stride, 1)
            columns = round_up(block.columns, lanes_of(flat_weight))
            panels, transposed = panels_of_block(flat_packed, block)
            tiles.pack(matrix, 0, block.rows, columns, panels, transposed)


@entry
def loss(weights, packed, states, sizes, team, dropout, codes):
    """Loss of the chunk codes[: T + 1], by a team of one."""
    return gradients.loss(team, 0, weights, packed, states, sizes, dropout, codes, 0)


@entry
def loss_and_gradient(
    weights, gradient, packed, states, sizes, flat, blocks, team, thread, dropout, codes
):
    """Loss of the chunk codes[: T + 1]; its gradient is left in `gradient`."""
    return gradients.loss_and_gradient(
        team,
        thread,
        weights,
        packed,
        states,
        sizes,
        dropout,
        0,
        codes,
        0,
        gradient,
        flat.gradient,
        blocks,
    )


@entry
def update(states, sizes, flat, blocks, team, thread, rule, step):
    """One step of the optimizer after `loss_and_gradient`."""
    used_rows = states.used_rows[thread]
    optimizer.update(team, thread, flat, blocks, sizes, used_rows, rule, step)


@jit
def carry(states, sizes, shard):
    """The states after a chunk become those before the next one."""
    before, after = states.before, states.after
    width, row = lanes_of(before), before.shape[2]
    begin, end = share(sizes.m, width, shard.column_share, shard.column_shares)
    for layer in range(before.shape[0]):
        for s in range(shard.start + shard.first, shard.start + shard.last):
            at_row = (layer * sizes.B + s) * row
            for i in range(at_row + begin, at_row + end, width):
                store(before, i, load(after, i))


@entry
def train(
    weights,
    gradient,
    packed,
    states,
    sizes,
    flat,
    blocks,
    team,
    thread,
    dropout,
    codes,
    rule,
    steps,
    record,
    smooth_losses,
):
    """One update for each element of `smooth_losses`, on successive chunks.

    weights, packed, flat   in, out; the gradient is scratch, flat.best the weights after the update
                            of lowest smooth loss
    states          in, out  before is the state before the first chunk, then after the last
    dropout         in       its keys are those of these updates
    codes           in       (rows, B) int32, characters by time and stream; the T + 1 rows of a
                             chunk begin sizes.stride after those of the one before
    rule            in       optimizer.Rule
    steps           in       (updates, 4) float64, the fields of optimizer.Step
    record          in       Record, of the updates before; returned with these
    smooth_losses   out      (updates,) float64, after each update
    """
    smooth, lowest, _, pending = record
    lowest_index = -1
    used_rows = states.used_rows[thread]
    width = lanes_of(flat.weight)
    first_of_flat, last_of_flat = share(flat.weight.size, width, thread, team.threads)
    for i in range(smooth_losses.size):
        nats = gradients.loss_and_gradient(
            team,
            thread,
            weights,
            packed,
            states,
            sizes,
            dropout,
            i,
            codes,
            i * sizes.stride,
            gradient,
            flat.gradient,
            blocks,
        )
        # Every thread follows the smooth loss by itself, so all come to the same decisions.
        smooth = nats if np.isnan(smooth) else SMOOTHING * smooth + (1.0 - SMOOTHING) * nats
        # While the smooth loss falls, the best model is the current one: it is copied only when the
        # next update would not improve it.
        if pending and not smooth < lowest:
            for j in range(first_of_flat, last_of_flat, width):
                store(flat.best, j, load(flat.weight, j))
            pending = False
            barrier(team, thread)  # the weights are copied
        step = Step(steps[i, 0], steps[i, 1], steps[i, 2], steps[i, 3])
        optimizer.update(team, thread, flat, blocks, sizes, used_rows, rule, step)
        if smooth < lowest:
            lowest, lowest_index, pending = smooth, i, True
        if thread == 0:
            smooth_losses[i] = smooth
        if sizes.stride == sizes.T:
            # The group of streams does not matter here: each thread carries what it will read.
            group = states.H.shape[1]
            for start in range(0, sizes.B, group):
                shard = gradients.shard_of(team, thread, start, min(group, sizes.B - start))
                carry(states, sizes, shard)
        barrier(team, thread)  # the weights are updated
    return Record(smooth, lowest, lowest_index, pending)
