"""The vanilla RNN: h_t = tanh(W h_{t-1} + U[:, x_t] + b)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba.extending import overload

from fastrnn.kernels import cell
from fastrnn.kernels.compile import OPTIONS
from fastrnn.kernels.elementwise import tanh
from fastrnn.kernels.simd import at, lanes_of, load, store
from fastrnn.kernels.tiles import Matrix, product


class RNNWeights(NamedTuple):
    """Weights, their gradients, or the optimizer's memory of them; padded to whole vectors."""

    U: np.ndarray  # (K, m)  transposed: the row of a character is contiguous
    W: np.ndarray  # (m, m)
    V: np.ndarray  # (K, m)
    b: np.ndarray  # (m,)
    c: np.ndarray  # (K,)


@overload(cell.forward, jit_options=OPTIONS)
def _forward(weights, packed, states, sizes, codes, first):
    if weights.instance_class is not RNNWeights:
        return None

    def forward(weights, packed, states, sizes, codes, first):
        H, U, b = states.H, weights.U, weights.b
        width = lanes_of(H)
        row = H.shape[2]
        step = sizes.B * row
        WT = Matrix(at(packed.W, 0), row, 1)
        for t in range(sizes.T):
            now = (t + 1) * step
            for stream in range(sizes.B):
                u = codes[first + t, stream] * row
                for i in range(0, row, width):
                    store(H, now + stream * row + i, load(U, u + i) + load(b, i))
            before, after = Matrix(at(H, now - step), row, 1), Matrix(at(H, now), row, 1)
            product(before, WT, after, sizes.B, sizes.m, row, add=True)
            for i in range(now, now + step, width):
                store(H, i, tanh(load(H, i)))

    return forward


@overload(cell.backward, jit_options=OPTIONS)
def _backward(weights, packed, states, sizes):
    if weights.instance_class is not RNNWeights:
        return None

    def backward(weights, packed, states, sizes):
        H, D = states.H, states.D
        width = lanes_of(H)
        row = H.shape[2]
        step = sizes.B * row
        W = Matrix(at(weights.W, 0), row, 1)
        for t in range(sizes.T - 1, -1, -1):
            now = t * step
            if t + 1 < sizes.T:
                after, before = Matrix(at(D, now + step), row, 1), Matrix(at(D, now), row, 1)
                product(after, W, before, sizes.B, sizes.m, row, add=True)
            for i in range(now, now + step, width):
                h = load(H, step + i)
                store(D, i, load(D, i) * (1.0 - h * h))

    return backward
