"""The output layer that all cells share: logits, softmax, cross-entropy and their gradient."""

from __future__ import annotations

import numpy as np

from fastrnn.kernels.compile import jit
from fastrnn.kernels.elementwise import exp, log
from fastrnn.kernels.simd import (
    at,
    keep_first,
    lanes_of,
    load,
    max_of_lanes,
    maximum,
    store,
    sum_of_lanes,
    whole,
)
from fastrnn.kernels.team import deal
from fastrnn.kernels.tiles import Matrix, product


@jit
def logits(weights, packed, states, sizes, stream, first, last):
    """Rows first to last - 1 of states.O[stream] = H[stream] Vᵀ, still without the bias c.

    packed   in       Packed
    states   in, out  States: H in, O out
    """
    H, O = states.H, states.O
    start = stream * (sizes.T + 1) + first
    row = O.shape[2]
    h, VT = Matrix(at(H, start * H.shape[2]), H.shape[2], 1), Matrix(at(packed.V, 0), row, 1)
    o = Matrix(at(O, start * row), row, 1)
    product(h, VT, o, last - first, sizes.m, whole(sizes.K, lanes_of(O)), False)


@jit
def softmax_row(O, start, c, K, inverse_temperature):
    """One row of logits to the numerators of its softmax.

    O   (…, K)  in, out  the row starts at element `start`; c is added to it first
    c   (K,)    in

    Returns the denominator, and what was subtracted from the logits: their maximum.
    """
    width = lanes_of(O)
    highest = keep_first(load(O, start), 0, -np.inf)
    for j in range(0, K, width):
        o = keep_first(load(O, start + j) + load(c, j), K - j, -np.inf)
        store(O, start + j, o)
        highest = maximum(highest, o)
    shift = max_of_lanes(highest)
    total = keep_first(highest, 0, 0.0)
    for j in range(0, K, width):
        e = exp((load(O, start + j) - shift) * inverse_temperature)
        store(O, start + j, e)
        total = total + e
    return sum_of_lanes(total), shift


@jit
def cross_entropy(weights, packed, states, sizes, shard, codes, first):
    """Loss of streams whose hidden states are known, and the gradient of their h_t and logits.

    The loss of a character is its cross-entropy with the next one, codes[first + t], in nats. The
    gradients are those of the loss summed over T and averaged over the B streams.

    weights, packed   in       of a cell (rnn.RNNWeights), and Packed
    states            in, out  States: H in; loss, total, O and D out, D by way of the logits alone
    shard             in       whose streams, and whose share of their time steps
    codes             in       (…, B) int32, characters by time and stream
    """
    O, D, loss, total = states.O, states.D, states.loss, states.total
    width = lanes_of(O)
    row, hidden = O.shape[2], D.shape[2]
    per_stream = O.dtype.type(1.0 / sizes.B)
    V = Matrix(at(weights.V, 0), hidden, 1)
    # In whole vectors, for the logarithms below.
    begin, end = deal(sizes.T, width, shard.part, shard.parts)
    for s in range(shard.first, shard.last if begin < end else shard.first):
        logits(weights, packed, states, sizes, s, begin + 1, end + 1)
        for t in range(begin, end):
            target = codes[first + t + 1, shard.start + s]
            logit = O[s, t + 1, target] + weights.c[target]
            start = (s * (sizes.T + 1) + t + 1) * row
            denominator, shift = softmax_row(O, start, weights.c, sizes.K, 1.0)
            total[s, t] = denominator
            loss[s, t] = shift - logit
            scale = per_stream / denominator
            for j in range(start, start + sizes.K, width):
                store(O, j, load(O, j) * scale)
            O[s, t + 1, target] -= per_stream
        for t in range(begin, end, width):
            i = s * loss.shape[1] + t
            store(loss, i, load(loss, i) + log(load(total, i)))
        start = s * (sizes.T + 1) + begin + 1
        do, dh = Matrix(at(O, start * row), row, 1), Matrix(at(D, start * hidden), hidden, 1)
        product(do, V, dh, end - begin, sizes.K, whole(sizes.m, width), False)


@jit
def sum_losses(states, sizes, shard):
    """states.nats of the streams of a shard, from the losses of their characters."""
    if shard.part == 0:
        for s in range(shard.first, shard.last):
            nats = 0.0
            for t in range(sizes.T):
                nats += states.loss[s, t]
            states.nats[shard.start + s] = nats


@jit
def mean_loss(states, sizes):
    """Loss of a chunk: the mean over the streams."""
    nats = 0.0
    for stream in range(sizes.B):
        nats += states.nats[stream]
    return nats / sizes.B
