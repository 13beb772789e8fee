"""Loss and gradient of a chunk, for any cell and any number of layers.

The B streams are taken G at a time, so that what was computed for them is still in the cache when
the gradients are summed. For each group there are two regions that the threads run in parallel:

    backpropagate_streams   each thread runs the time loops of its streams, forward and backward
    accumulate_gradients    each thread sums its rows of the gradients, over all time steps of all
                            streams

Every element of a gradient is one sum over stream and time, in this order, whatever G and the
number of threads: there is no buffer for each thread, and nothing to add up at the end.
"""

from __future__ import annotations

from fastrnn.kernels import recurrence
from fastrnn.kernels.blocks import rows_of
from fastrnn.kernels.compile import jit, shared
from fastrnn.kernels.dropout import drop_units
from fastrnn.kernels.output import cross_entropy, hidden_gradient, mean_loss, sum_losses
from fastrnn.kernels.simd import advance, at, lanes_of, load, mask_tail, store
from fastrnn.kernels.team import Shard, barrier, share
from fastrnn.kernels.tiles import Matrix, product, rows_from, unpacked

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


@jit
def forward_layers(weights, packed, states, sizes, team, shard, dropout, update, codes, first):
    """states.H and Z of all layers, for the streams of a shard."""
    for layer in range(sizes.L):
        if layer > 0 and shard.column_shares > 1:
            barrier(team, shard.thread)  # the other columns of the layer below
        recurrence.forward(weights, packed, states, sizes, team, shard, layer, codes, first)
        if dropout.threshold > 0.0:
            drop_units(states.H, states.Z, layer, layer, sizes, shard, dropout, update, layer)


@jit
def backward_layers(team, weights, packed, states, sizes, shard, dropout, update, codes, first):
    """states.A of all layers from gates to gradients, for the streams of a shard; D of the last
    layer in."""
    for layer in range(sizes.L - 1, -1, -1):
        if dropout.threshold > 0.0:
            d = layer % states.D.shape[0]
            drop_units(states.D, states.D, d, d, sizes, shard, dropout, update, layer)
        recurrence.backward(weights, packed, states, sizes, team, shard, layer, codes, first)
        if layer > 0:
            if shard.column_shares > 1:
                barrier(team, shard.thread)  # the other columns of A
            recurrence.layer_gradient(packed, states, sizes, shard, layer)


@jit
def backpropagate_streams(
    team, weights, packed, states, sizes, shard, dropout, update, codes, first
):
    """Forward and backward through time: states.H, Z, A, O and nats of a shard's streams."""
    forward_layers(weights, packed, states, sizes, team, shard, dropout, update, codes, first)
    if shard.column_shares > 1:
        barrier(team, shard.thread)  # the other columns of h
    cross_entropy(weights, packed, states, sizes, shard, codes, first)
    hidden_gradient(packed, states, sizes, shard)
    if shard.column_shares > 1:
        barrier(team, shard.thread)  # the other time steps
    backward_layers(team, weights, packed, states, sizes, shard, dropout, update, codes, first)
    sum_losses(states, sizes, shard)


@jit
def add_product(A, B, C, rows, n, columns, add):
    """As tiles.product, for an n that is large, in blocks that stay in the cache."""
    for k in range(0, n, BLOCK):
        a = Matrix(advance(A.first, k * A.column), A.row, A.column)
        product(a, rows_from(B, k), C, rows, min(BLOCK, n - k), columns, add or k > 0)


@jit
def add_rows(A, rows, begin, end, out, add):
    """out[begin:end] = sum over the rows of A, in their order, of these columns; += if `add`.

    A    (rows, columns)  in   Matrix whose rows are contiguous
    out                   out  pointer
    """
    for j in range(begin, end, lanes_of(out)):
        total = load(out, j) if add else mask_tail(load(out, j), 0, 0.0)
        for r in range(rows):
            total = total + load(A.first, r * A.row + j)
        store(out, j, total)


@jit
def input_gradient(states, sizes, thread, start, count, codes, first, dU, begin, end, add):
    """dU[:, begin:end] = sum of the gradients of the pre-activations, each in the row of its
    character; += if `add`.

    Rows of characters that do not occur are zero. `states.used_rows` tells which do, here and in
    the optimizer.

    states   in, out  States: A in; used_rows and is_used in, of the last chunk unless `add`, out
    codes    in       (…, B) int32, characters by time and stream
    dU       out      (K, columns), transposed as Weights.U; in, it is zero but for the last chunk
    """
    A, used_rows, is_used = states.A, states.used_rows[thread], states.is_used[thread]
    width = lanes_of(A)
    row, columns = dU.shape[1], A.shape[3]
    if not add:
        zeros = mask_tail(load(A, 0), 0, 0.0)
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
            at_row, da = code * row, (s * (sizes.T + 1) + t + 1) * columns
            for j in range(begin, end, width):
                store(dU, at_row + j, load(dU, at_row + j) + load(A, da + j))


@jit
def add_outer_products(team, thread, sizes, blocks, i, A, B, n, flat, add):
    """A thread's rows of the gradient of matrix i of `blocks`: Aᵀ B, summed over n rows of both.

    A, B   in   Matrix whose rows are contiguous
    flat   out  the flat gradient
    """
    block = blocks[i]
    first, last = rows_of(team, thread, sizes, block, flat)
    if first < last:
        left = Matrix(advance(A.first, first), 1, A.row)
        right = unpacked(B.first, B.row)
        target = Matrix(at(flat, block.start + first * block.stride), block.stride, 1)
        add_product(left, right, target, last - first, n, sizes.m, add)


@shared
def accumulate_gradients(
    team, thread, states, sizes, start, count, codes, first, gradient, flat, blocks, add
):
    """A thread's rows of the gradient of the `count` streams from `start` on; added if `add`.

    Of U and the biases it has columns instead: their rows are sums of few rows of A, or one row.
    """
    H, Z, A, O = states.H, states.Z, states.A, states.O
    width = lanes_of(H)
    hidden, columns, characters = H.shape[3], A.shape[3], O.shape[2]
    steps = sizes.T + 1
    n = count * steps - 1  # without the first row, which is zero
    i = 0  # of `blocks`
    for layer in range(sizes.L):
        h, a = layer * H.shape[1] * steps * hidden, (layer * A.shape[1] * steps + 1) * columns
        z = h + (1 - H.shape[1] * steps) * hidden  # of the layer below
        for gate in range(sizes.gates):
            of_gate = Matrix(at(A, a + sizes.recurrent + gate * sizes.P), columns, 1)
            before = Matrix(at(H, h), hidden, 1)
            add_outer_products(team, thread, sizes, blocks, i, of_gate, before, n, flat, add)
            i += 1
        if layer > 0:
            for gate in range(sizes.gates):
                of_gate = Matrix(at(A, a + gate * sizes.P), columns, 1)
                below = Matrix(at(Z, z), hidden, 1)
                add_outer_products(team, thread, sizes, blocks, i, of_gate, below, n, flat, add)
                i += 1
        begin, end = share(sizes.gates * sizes.P, width, thread, team.threads)
        of_inputs = Matrix(at(A, a), columns, 1)
        add_rows(of_inputs, n, begin, end, at(gradient.b, layer * gradient.b.shape[1]), add)
        if sizes.recurrent > 0:
            begin, end = share(sizes.m, width, thread, team.threads)
            of_q = Matrix(at(A, a + sizes.gates * sizes.P), columns, 1)
            add_rows(of_q, n, begin, end, at(gradient.n, layer * sizes.P), add)
    z = ((sizes.L - 1) * H.shape[1] * steps + 1) * hidden
    of_logits = Matrix(at(O, characters), characters, 1)
    last_layer = Matrix(at(Z, z), hidden, 1)
    add_outer_products(team, thread, sizes, blocks, i, of_logits, last_layer, n, flat, add)
    begin, end = share(sizes.gates * sizes.P, width, thread, team.threads)
    input_gradient(states, sizes, thread, start, count, codes, first, gradient.U, begin, end, add)
    begin, end = share(sizes.K, width, thread, team.threads)
    add_rows(of_logits, n, begin, end, at(gradient.c, 0), add)


@jit
def loss(team, thread, weights, packed, states, sizes, dropout, codes, first):
    """Loss of the chunk of codes[first : first + T + 1]; a team of one."""
    group = states.H.shape[1]
    for start in range(0, sizes.B, group):
        shard = shard_of(team, thread, start, min(group, sizes.B - start))
        forward_layers(weights, packed, states, sizes, team, shard, dropout, 0, codes, first)
        cross_entropy(weights, packed, states, sizes, shard, codes, first)
        sum_losses(states, sizes, shard)
    return mean_loss(states, sizes, codes, first)


@shared
def loss_and_gradient(
    team,
    thread,
    weights,
    packed,
    states,
    sizes,
    dropout,
    update,
    codes,
    first,
    gradient,
    flat,
    blocks,
):
    """Loss of the chunk of codes[first : first + T + 1], and a thread's share of its gradient.

    weights    in       of a cell (rnn.RNN)
    packed     in       Packed, of the same weights
    states     in, out  States: before in; used_rows in, out; the rest out
    dropout    in       Dropout, of which the keys of `update` are used
    codes      in       (…, B) int32, characters by time and stream
    gradient   out      like weights; views of `flat`
    blocks     in       blocks.BLOCK of every matrix and vector
    """
    group = states.H.shape[1]
    for start in range(0, sizes.B, group):
        count = min(group, sizes.B - start)
        if start > 0:
            barrier(team, thread)  # all have read the states of the group before
        shard = shard_of(team, thread, start, count)
        backpropagate_streams(
            team, weights, packed, states, sizes, shard, dropout, update, codes, first
        )
        barrier(team, thread)
        accumulate_gradients(
            team,
            thread,
            states,
            sizes,
            start,
            count,
            codes,
            first,
            gradient,
            flat,
            blocks,
            start > 0,
        )
    return mean_loss(states, sizes, codes, first)
