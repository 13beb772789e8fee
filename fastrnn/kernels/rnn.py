"""The vanilla RNN: h_t = tanh(W h_{t-1} + U[:, x_t] + b)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba.extending import overload

from fastrnn.kernels import cell
from fastrnn.kernels.compile import INNER
from fastrnn.kernels.elementwise import tanh
from fastrnn.kernels.simd import at, lanes_of, load, store
from fastrnn.kernels.team import barrier, share
from fastrnn.kernels.tiles import Matrix, columns_from, panels_of, product


class RNNWeights(NamedTuple):
    """Weights, their gradients, or the optimizer's memory of them; padded to whole vectors."""

    U: np.ndarray  # (K, m)  transposed: the row of a character is contiguous
    W: np.ndarray  # (m, m)
    V: np.ndarray  # (K, m)
    b: np.ndarray  # (m,)
    c: np.ndarray  # (K,)


@overload(cell.forward, jit_options=INNER)
def _forward(weights, packed, states, sizes, team, shard, codes, first):
    if weights.instance_class is not RNNWeights:
        return None

    def forward(weights, packed, states, sizes, team, shard, codes, first):
        H, U, b = states.H, weights.U, weights.b
        width = lanes_of(H)
        row = H.shape[2]
        stream = (sizes.T + 1) * row
        streams = shard.last - shard.first
        begin, end = share(sizes.m, width, shard.column_share, shard.column_shares)
        WT = columns_from(panels_of(packed.WT), begin)
        for s in range(shard.first, shard.last):
            for i in range(begin, end, width):
                store(H, s * stream + i, load(states.before, (shard.start + s) * row + i))
        for t in range(1, sizes.T + 1):
            start = shard.first * stream + t * row
            for s in range(streams):
                u = codes[first + t - 1, shard.start + shard.first + s] * row
                for i in range(begin, end, width):
                    store(H, start + s * stream + i, load(U, u + i) + load(b, i))
            if shard.column_shares > 1:
                barrier(team, shard.thread)  # the other columns of h_{t-1}
            h_before = Matrix(at(H, start - row), stream, 1)
            product(
                h_before,
                WT,
                Matrix(at(H, start + begin), stream, 1),
                streams,
                sizes.m,
                end - begin,
                add=True,
                backwards=t % 2 == 0,
            )
            for s in range(streams):
                for i in range(start + s * stream + begin, start + s * stream + end, width):
                    store(H, i, tanh(load(H, i)))
        for s in range(shard.first, shard.last):
            for i in range(begin, end, width):
                h = load(H, s * stream + sizes.T * row + i)
                store(states.after, (shard.start + s) * row + i, h)

    return forward


@overload(cell.backward, jit_options=INNER)
def _backward(weights, packed, states, sizes, team, shard):
    if weights.instance_class is not RNNWeights:
        return None

    def backward(weights, packed, states, sizes, team, shard):
        H, D = states.H, states.D
        width = lanes_of(H)
        row = H.shape[2]
        stream = (sizes.T + 1) * row
        streams = shard.last - shard.first
        begin, end = share(sizes.m, width, shard.column_share, shard.column_shares)
        W = columns_from(panels_of(packed.W), begin)
        for t in range(sizes.T, 0, -1):
            start = shard.first * stream + t * row
            if t < sizes.T:
                if shard.column_shares > 1:
                    barrier(team, shard.thread)  # the other columns of the gradient by a_{t+1}
                da_after = Matrix(at(D, start + row), stream, 1)
                product(
                    da_after,
                    W,
                    Matrix(at(D, start + begin), stream, 1),
                    streams,
                    sizes.m,
                    end - begin,
                    add=True,
                    backwards=t % 2 == 0,
                )
            for s in range(streams):
                for i in range(start + s * stream + begin, start + s * stream + end, width):
                    h = load(H, i)
                    store(D, i, load(D, i) * (1.0 - h * h))

    return backward
