"""The output layer that all cells share: logits, softmax, cross-entropy and their gradient."""

from __future__ import annotations

import numpy as np

from fastrnn.kernels.compile import jit, shared
from fastrnn.kernels.elementwise import exp, log
from fastrnn.kernels.items import divisor_of, ends_item
from fastrnn.kernels.simd import (
    at,
    lanes_of,
    load,
    mask_tail,
    max_of_lanes,
    maximum,
    store,
    sum_of_lanes,
)
from fastrnn.kernels.team import share
from fastrnn.kernels.tiles import Matrix, panels_of, product


@jit
def logits(packed, states, sizes, stream, first, last):
    """Rows first to last - 1 of states.O[stream] = Z Vᵀ, Z of the last layer, without the bias c.

    packed   in       Packed
    states   in, out  States: Z in, O out
    """
    Z, O = states.Z, states.O
    start = stream * (sizes.T + 1) + first
    hidden, row = Z.shape[3], O.shape[2]
    last_layer = (sizes.L - 1) * Z.shape[1] * (sizes.T + 1)
    h = Matrix(at(Z, (last_layer + start) * hidden), hidden, 1)
    o = Matrix(at(O, start * row), row, 1)
    product(h, panels_of(packed.VT, 0), o, last - first, sizes.m, sizes.K, False)


@jit
def add_bias(O, start, c, K):
    """Add c (K,) to one row of logits, which starts at element `start`; returns their maximum."""
    width = lanes_of(O)
    highest = mask_tail(load(O, start), 0, -np.inf)
    for j in range(0, K, width):
        o = mask_tail(load(O, start + j) + load(c, j), K - j, -np.inf)
        store(O, start + j, o)
        highest = maximum(highest, o)
    return max_of_lanes(highest)


@jit
def softmax_row(O, start, c, K, inverse_temperature):
    """One row of logits to the numerators of its softmax.

    O   (…, K)  in, out  the row starts at element `start`; c is added to it first
    c   (K,)    in

    Returns the denominator, and what was subtracted from the logits: their maximum.
    """
    shift = add_bias(O, start, c, K)
    total = mask_tail(load(O, start), 0, 0.0)
    for j in range(0, K, lanes_of(O)):
        e = exp((load(O, start + j) - shift) * inverse_temperature)
        store(O, start + j, e)
        total = total + e
    return sum_of_lanes(total), shift


@shared
def cross_entropy(weights, packed, states, sizes, shard, codes, first):
    """Loss of streams whose hidden states are known, and the gradient of their logits.

    The loss of a character is its cross-entropy with the next one, codes[first + t], in nats; the
    gradient is that of the sum of all losses over `divisor_of` them.

    weights, packed   in       of a cell (rnn.RNN), and Packed
    states            in, out  States: Z in; loss, total and O out
    shard             in       whose streams, and whose share of their time steps
    codes             in       (…, B) int32, characters by time and stream
    """
    O, loss, total = states.O, states.loss, states.total
    width = lanes_of(O)
    row = O.shape[2]
    weight = O.dtype.type(1.0 / divisor_of(sizes, codes, first))
    zeros = mask_tail(load(O, 0), 0, 0.0)
    begin, end = time_steps(sizes, shard, width)
    for s in range(shard.first, shard.last):
        logits(packed, states, sizes, s, begin, end)
        for t in range(begin, end):
            start = (s * (sizes.T + 1) + t) * row
            if ends_item(sizes, codes, first + t - 1, shard.start + s):
                for j in range(start, start + sizes.K, width):
                    store(O, j, zeros)
                loss[s, t - 1], total[s, t - 1] = 0.0, 1.0
                continue
            target = codes[first + t, shard.start + s]
            logit = O[s, t, target] + weights.c[target]
            denominator, shift = softmax_row(O, start, weights.c, sizes.K, 1.0)
            total[s, t - 1] = denominator
            loss[s, t - 1] = shift - logit
            scale = weight / denominator
            for j in range(start, start + sizes.K, width):
                store(O, j, load(O, j) * scale)
            O[s, t, target] -= weight
        from_first = s * loss.shape[1] - 1
        for i in range(from_first + begin, from_first + end, width):
            store(loss, i, load(loss, i) + log(load(total, i)))


@jit
def time_steps(sizes, shard, width):
    """A shard's share of the time steps, from begin to end - 1, in whole vectors of losses."""
    begin, end = share(sizes.T, width, shard.column_share, shard.column_shares)
    return begin + 1, end + 1


@jit
def hidden_gradient(packed, states, sizes, shard):
    """states.D of the last layer from the gradient of the logits in O."""
    O, D = states.O, states.D
    row, hidden = O.shape[2], D.shape[3]
    last_layer = (sizes.L - 1) % D.shape[0] * D.shape[1] * (sizes.T + 1)
    width = lanes_of(O)
    begin, end = time_steps(sizes, shard, width)
    for s in range(shard.first, shard.last):
        start = s * (sizes.T + 1) + begin
        do = Matrix(at(O, start * row), row, 1)
        dh = Matrix(at(D, (last_layer + start) * hidden), hidden, 1)
        product(do, panels_of(packed.V, 0), dh, end - begin, sizes.K, sizes.m, False)


@jit
def sum_losses(states, sizes, shard):
    """states.nats of the streams of a shard, from the losses of their characters."""
    if shard.column_share == 0:
        for s in range(shard.first, shard.last):
            nats = 0.0
            for t in range(sizes.T):
                nats += states.loss[s, t]
            states.nats[shard.start + s] = nats


@jit
def mean_loss(states, sizes, codes, first):
    """Loss of a chunk: the sum over all characters of all streams, over `divisor_of` them."""
    nats = 0.0
    for stream in range(sizes.B):
        nats += states.nats[stream]
    return nats / divisor_of(sizes, codes, first)
