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
)
from fastrnn.kernels.tiles import Matrix, product


@jit
def logits(weights, packed, states, sizes):
    """states.O = H Vᵀ, still without the bias c.

    packed   in       Packed
    states   in, out  States: H[1:] in, O out
    """
    H, O = states.H, states.O
    step = sizes.B * H.shape[2]
    row = O.shape[2]
    h, VT = Matrix(at(H, step), H.shape[2], 1), Matrix(at(packed.V, 0), row, 1)
    o = Matrix(at(O, 0), row, 1)
    product(h, VT, o, sizes.T * sizes.B, sizes.m, row, add=False)


@jit
def softmax_row(O, start, c, K, inverse_temperature):
    """One row of logits to the numerators of its softmax.

    O   (T, B, K)  in, out  the row starts at element `start`; c is added to it first
    c   (K,)       in

    Returns the denominator, and what was subtracted from the logits: their maximum.
    """
    width = lanes_of(O)
    row = O.shape[2]
    highest = keep_first(load(O, start), 0, -np.inf)
    for j in range(0, row, width):
        o = keep_first(load(O, start + j) + load(c, j), K - j, -np.inf)
        store(O, start + j, o)
        highest = maximum(highest, o)
    shift = max_of_lanes(highest)
    total = keep_first(highest, 0, 0.0)
    for j in range(0, row, width):
        e = exp((load(O, start + j) - shift) * inverse_temperature)
        store(O, start + j, e)
        total = total + e
    return sum_of_lanes(total), shift


@jit
def cross_entropy(weights, packed, states, sizes, codes, first):
    """Loss of a chunk whose hidden states are known, and the gradient of its logits.

    The loss is the cross-entropy with the characters codes[first + 1 : first + T + 1], in nats,
    summed over the T characters and averaged over the B streams.

    weights, packed   in       of a cell (rnn.RNNWeights), and Packed
    states            in, out  States: H[1:] in; O out, the loss's gradient by the logits
    codes             in       (…, B) int32, characters by time and stream
    """
    logits(weights, packed, states, sizes)
    O, loss, total = states.O, states.loss, states.total
    width = lanes_of(O)
    row = O.shape[2]
    per_stream = O.dtype.type(1.0 / sizes.B)
    for t in range(sizes.T):
        for stream in range(sizes.B):
            r = t * sizes.B + stream
            target = codes[first + t + 1, stream]
            logit = O[t, stream, target] + weights.c[target]
            denominator, shift = softmax_row(O, r * row, weights.c, sizes.K, 1.0)
            total[r] = denominator
            loss[r] = shift - logit
            scale = per_stream / denominator
            for j in range(r * row, (r + 1) * row, width):
                store(O, j, load(O, j) * scale)
            O[t, stream, target] -= per_stream
    rows = sizes.T * sizes.B
    for r in range(0, rows, width):
        store(loss, r, load(loss, r) + log(load(total, r)))
    nats = 0.0
    for r in range(rows):
        nats += loss[r]
    return nats / sizes.B
