"""The kernels that Python calls. They check nothing and allocate nothing: network.py does.

weights, gradient, memory   named tuples of a cell (rnn.RNNWeights)
packed, states, sizes       Packed, States and Sizes of cell.py
team, thread                Team of team.py, all of which call the kernel, and which of them this is
codes                       (…, B) int32, characters by time and stream
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastrnn.kernels import cell, gradients, optimizer, output, tiles
from fastrnn.kernels.compile import entry, jit
from fastrnn.kernels.simd import lanes_of, load, store
from fastrnn.kernels.team import barrier, share

SMOOTHING = 0.999  # smooth_loss = 0.999 · smooth_loss + 0.001 · loss


class Record(NamedTuple):
    """The smooth loss and its lowest value, before and after some updates."""

    smooth_loss: float  # NaN if there is none: it starts from the loss of the first chunk
    lowest: float  # of all updates ever
    lowest_index: int  # of the update in this call that reached it, or -1
    pending: bool  # whether the weights of the lowest are still the current ones, not copied


@entry
def pack(weights, packed):
    """Fill the packed copies from the weights."""
    hidden, characters = weights.W.shape[0], weights.V.shape[0]
    tiles.pack(weights.W, 0, hidden, hidden, packed.W, packed.WT)
    tiles.pack(weights.V, 0, characters, hidden, packed.V, packed.VT)


@entry
def loss(weights, packed, states, sizes, team, codes):
    """Loss of the chunk codes[: T + 1], by a team of one."""
    return gradients.loss(team, 0, weights, packed, states, sizes, codes, 0)


@entry
def loss_and_gradient(weights, packed, states, sizes, team, thread, codes, gradient):
    """Loss of the chunk codes[: T + 1]; its gradient is left in `gradient`."""
    return gradients.loss_and_gradient(
        team, thread, weights, packed, states, sizes, codes, 0, gradient
    )


@entry
def update(weights, gradient, memory, packed, states, sizes, team, thread, eta, clip):
    """One step of the optimizer after `loss_and_gradient`."""
    used_rows = states.used_rows[thread]
    optimizer.update(team, thread, weights, gradient, memory, packed, used_rows, sizes, eta, clip)


@jit
def carry(states, sizes, shard):
    """The hidden states after a chunk become those before the next one."""
    before, after = states.before, states.after
    width, row = lanes_of(before), before.shape[1]
    begin, end = share(sizes.m, width, shard.column_share, shard.column_shares)
    for s in range(shard.start + shard.first, shard.start + shard.last):
        for i in range(s * row + begin, s * row + end, width):
            store(before, i, load(after, i))


@entry
def train(
    weights,
    gradient,
    memory,
    packed,
    states,
    sizes,
    team,
    thread,
    codes,
    eta,
    clip,
    flat,
    best,
    record,
    smooth_losses,
):
    """One update for each element of `smooth_losses`, on successive chunks.

    weights, memory, packed   in, out
    gradient        scratch  like weights
    states          in, out  before is the hidden state before the first chunk, then after the last
    codes           in       (updates · T + 1, B) int32, characters by time and stream
    flat            in       (P,) the buffer that all weights are views of
    best            in, out  (P,) copy of `flat` after the update of lowest smooth loss
    record          in       Record, of the updates before; returned with these
    smooth_losses   out      (updates,) float64, after each update
    """
    smooth, lowest, _, pending = record
    lowest_index = -1
    used_rows = states.used_rows[thread]
    width = lanes_of(flat)
    first_of_flat, last_of_flat = share(flat.size, width, thread, team.threads)
    for i in range(smooth_losses.size):
        nats = gradients.loss_and_gradient(
            team, thread, weights, packed, states, sizes, codes, i * sizes.T, gradient
        )
        # Every thread follows the smooth loss by itself, so all come to the same decisions.
        smooth = nats if np.isnan(smooth) else SMOOTHING * smooth + (1.0 - SMOOTHING) * nats
        # While the smooth loss falls, the best model is the current one: it is copied only when the
        # next update would not improve it.
        if pending and not smooth < lowest:
            for j in range(first_of_flat, last_of_flat, width):
                store(best, j, load(flat, j))
            pending = False
            barrier(team, thread)  # the weights are copied
        optimizer.update(
            team, thread, weights, gradient, memory, packed, used_rows, sizes, eta, clip
        )
        if smooth < lowest:
            lowest, lowest_index, pending = smooth, i, True
        if thread == 0:
            smooth_losses[i] = smooth
        # The group of streams does not matter here: each thread carries what it will read.
        group = states.H.shape[0]
        for start in range(0, sizes.B, group):
            shard = gradients.shard_of(team, thread, start, min(group, sizes.B - start))
            carry(states, sizes, shard)
        barrier(team, thread)  # the weights are updated
    return Record(smooth, lowest, lowest_index, pending)


@jit
def argmax(O, c, K):
    """The character with the highest logit."""
    code = 0
    for k in range(1, K):
        if O[0, 1, k] + c[k] > O[0, 1, code] + c[code]:
            code = k
    return code


@jit
def draw(O, c, K, temperature, uniform):
    """The character in whose part of the cumulated softmax `uniform` falls."""
    total, _ = output.softmax_row(O, O.shape[2], c, K, 1.0 / temperature)
    rest = uniform * total
    code = 0
    while code < K - 1 and rest >= O[0, 1, code]:
        rest -= O[0, 1, code]
        code += 1
    return code


@entry
def sample(weights, packed, states, sizes, team, codes, known, temperature, uniforms):
    """Read the known characters, then draw others one by one, each given all before it.

    states      in, out  States for T = B = 1; before is the hidden state before codes[0] is read,
                         then that after all but the last character
    team        in       of one thread
    codes       in, out  (known + n, 1) int32; the first `known` ≥ 1 are read, the others drawn
    uniforms    in       (n,) float64 in [0, 1), one for each draw
    """
    O = states.O
    shard = gradients.shard_of(team, 0, 0, 1)
    for i in range(codes.shape[0] - 1):
        cell.forward(weights, packed, states, sizes, team, shard, codes, i)
        carry(states, sizes, shard)
        if i + 1 < known:
            continue
        output.logits(packed, states, sizes, 0, 1, 2)
        if temperature > 0.0:
            codes[i + 1, 0] = draw(O, weights.c, sizes.K, temperature, uniforms[i + 1 - known])
        else:
            codes[i + 1, 0] = argmax(O, weights.c, sizes.K)
