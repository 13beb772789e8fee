"""Loss and gradient of a chunk, for any cell.

The B streams are taken G at a time, so that what was computed for them is still in the cache when
the gradients are summed. For each group there are two regions that the threads run in parallel:

    streams   each thread runs the time loops of its streams, forward and backward
    rows      each thread sums its rows of the gradients, over all time steps of all streams

Every element of a gradient is one sum over stream and time, in this order, whatever G and the
number of threads: there is no buffer for each thread, and nothing to add up at the end.
"""

from __future__ import annotations

from fastrnn.kernels import cell
from fastrnn.kernels.compile import inline, jit
from fastrnn.kernels.output import cross_entropy, hidden_gradient, mean_loss, sum_losses
from fastrnn.kernels.simd import advance, at, lanes_of, load, mask_tail, round_up, store
from fastrnn.kernels.team import Shard, barrier, share
from fastrnn.kernels.tiles import Matrix, product, register_lanes_of, rows_from, unpacked

# Rows of a product over time and stream that are taken at a time: what a tile's columns and rows
# are made from stays in a first-level cache of 32 kB, while all rows of the gradient take it in.
# Measured from 64 to 340. (Both packed into panels first, it is 8 % faster at m = 1024, and as much
# slower at m = 100.)
BLOCK = 112


@jit
def shard_of(team, thread, start, count):
    """A thread's share of the `count` streams from `start` on."""
    group = thread // team.column_shares
    first, last = share(count, 1, group, team.threads // team.column_shares)
    return Shard(thread, first, last, start, thread % team.column_shares, team.column_shares)


@inline
def backpropagate_streams(team, weights, packed, states, sizes, shard, codes, first):
    """Forward and backward through time: states.H, O, D and nats of a shard's streams."""
    cell.forward(weights, packed, states, sizes, team, shard, codes, first)
    if shard.column_shares > 1:
        barrier(team, shard.thread)  # the other columns of h
    cross_entropy(weights, packed, states, sizes, shard, codes, first)
    hidden_gradient(packed, states, sizes, shard)
    if shard.column_shares > 1:
        barrier(team, shard.thread)  # the other time steps
    cell.backward(weights, packed, states, sizes, team, shard)
    sum_losses(states, sizes, shard)


@inline
def add_product(A, B, C, rows, n, columns, add):
    """As tiles.product, for an n that is large, in blocks that stay in the cache."""
    for k in range(0, n, BLOCK):
        a = Matrix(advance(A.first, k * A.column), A.row, A.column)
        product(a, rows_from(B, k), C, rows, min(BLOCK, n - k), columns, add or k > 0)


@jit
def gradient_rows(team, thread, sizes, width):
    """A thread's rows of W, from first to last - 1, and of V; they are shared out together.

    In whole vectors of the tiles, as tiles.pack takes them.
    """
    hidden, characters = round_up(sizes.m, width), round_up(sizes.K, width)
    first, last = share(hidden + characters, width, thread, team.threads)
    return (
        min(first, sizes.m),
        min(last, sizes.m),
        min(max(first - hidden, 0), sizes.K),
        min(max(last - hidden, 0), sizes.K),
    )


@jit
def sum_of_rows(A, first, last, begin, end, out, add):
    """out[begin:end] = sum over the rows first to last - 1 of A, in their order; += if `add`."""
    width, row = lanes_of(A), A.shape[2]
    for j in range(begin, end, width):
        total = load(out, j) if add else mask_tail(load(out, j), 0, 0.0)
        for r in range(first, last):
            total = total + load(A, r * row + j)
        store(out, j, total)


@jit
def input_gradient(states, sizes, thread, start, count, codes, first, dU, begin, end, add):
    """dU[:, begin:end] = sum of the gradients of the pre-activations, each in the row of its
    character; += if `add`.

    Rows of characters that do not occur are zero. `states.used_rows` tells which do, here and in
    the optimizer.

    states   in, out  States: D in; occurring and seen in, of the last chunk unless `add`, and out
    codes    in       (…, B) int32, characters by time and stream
    dU       out      (K, m), transposed as RNNWeights.U; in, it is zero but for the last chunk
    """
    D, used_rows, is_used = states.D, states.used_rows[thread], states.is_used[thread]
    width = lanes_of(D)
    row = D.shape[2]
    if not add:
        zeros = mask_tail(load(D, 0), 0, 0.0)
        for i in range(1, used_rows[0] + 1):
            is_used[used_rows[i]] = False
            at_row = used_rows[i] * row
            for j in range(at_row + begin, at_row + end, width):
                store(dU, j, zeros)
        used_rows[0] = 0
    for s in range(count):
        for t in range(sizes.T):
            code = codes[first + t, start + s]
            if not is_used[code]:
                is_used[code] = True
                used_rows[0] += 1
                used_rows[used_rows[0]] = code
            at_row, da = code * row, (s * (sizes.T + 1) + t + 1) * row
            for j in range(begin, end, width):
                store(dU, at_row + j, load(dU, at_row + j) + load(D, da + j))


@inline
def accumulate_gradients(team, thread, states, sizes, start, count, codes, first, gradient, add):
    """A thread's rows of the gradient of the `count` streams from `start` on; added if `add`.

    Of U, b and c it has columns instead: their rows are sums of few rows of D, or one row.
    """
    H, D, O = states.H, states.D, states.O
    width = lanes_of(H)
    hidden, output = H.shape[2], O.shape[2]
    n = count * (sizes.T + 1) - 1  # without the first row, which is zero
    w_first, w_last, v_first, v_last = gradient_rows(team, thread, sizes, register_lanes_of(H))
    if w_first < w_last:
        daT, h_before = Matrix(at(D, hidden + w_first), 1, hidden), unpacked(at(H, 0), hidden)
        dW = Matrix(at(gradient.W, w_first * hidden), hidden, 1)
        add_product(daT, h_before, dW, w_last - w_first, n, sizes.m, add)
    if v_first < v_last:
        doT, h = Matrix(at(O, output + v_first), 1, output), unpacked(at(H, hidden), hidden)
        dV = Matrix(at(gradient.V, v_first * hidden), hidden, 1)
        add_product(doT, h, dV, v_last - v_first, n, sizes.m, add)
    begin, end = share(sizes.m, width, thread, team.threads)
    sum_of_rows(D, 1, n + 1, begin, end, gradient.b, add)
    input_gradient(states, sizes, thread, start, count, codes, first, gradient.U, begin, end, add)
    begin, end = share(sizes.K, width, thread, team.threads)
    sum_of_rows(O, 1, n + 1, begin, end, gradient.c, add)


@inline
def loss(team, thread, weights, packed, states, sizes, codes, first):
    """Loss of the chunk of codes[first : first + T + 1]; a team of one."""
    group = states.H.shape[0]
    for start in range(0, sizes.B, group):
        shard = shard_of(team, thread, start, min(group, sizes.B - start))
        cell.forward(weights, packed, states, sizes, team, shard, codes, first)
        cross_entropy(weights, packed, states, sizes, shard, codes, first)
        sum_losses(states, sizes, shard)
    return mean_loss(states, sizes)


@inline
def loss_and_gradient(team, thread, weights, packed, states, sizes, codes, first, gradient):
    """Loss of the chunk of codes[first : first + T + 1], and a thread's share of its gradient.

    weights    in       named tuple of a cell (rnn.RNNWeights)
    packed     in       Packed, of the same weights
    states     in, out  States: before in; occurring in, out; the rest out
    codes      in       (…, B) int32, characters by time and stream
    gradient   out      like weights
    """
    group = states.H.shape[0]
    for start in range(0, sizes.B, group):
        count = min(group, sizes.B - start)
        if start > 0:
            barrier(team, thread)  # all have read the states of the group before
        shard = shard_of(team, thread, start, count)
        backpropagate_streams(team, weights, packed, states, sizes, shard, codes, first)
        barrier(team, thread)
        accumulate_gradients(
            team, thread, states, sizes, start, count, codes, first, gradient, start > 0
        )
    return mean_loss(states, sizes)
