"""AdaGrad: memory += g², θ -= eta · g / √(memory + epsilon), with g clipped to ±clip."""

from __future__ import annotations

from fastrnn.kernels.compile import jit
from fastrnn.kernels.elementwise import rsqrt
from fastrnn.kernels.simd import fma, lanes_of, load, maximum, minimum, store
from fastrnn.kernels.tiles import transpose

EPSILON = 1e-8  # keeps the first step of an element without gradient finite


@jit
def adagrad(weight, gradient, memory, first, count, eta, clip):
    """Update `count` elements from `first` on, whole vectors.

    weight, memory   in, out
    gradient         in
    """
    for i in range(first, first + count, lanes_of(weight)):
        g = minimum(maximum(load(gradient, i), -clip), clip)
        total = fma(g, g, load(memory, i))
        store(memory, i, total)
        store(weight, i, fma(g * rsqrt(total + EPSILON), -eta, load(weight, i)))


@jit
def update_matrix(weight, gradient, memory, rows, transposed, eta, clip):
    """Update a matrix and its transposed copy, by blocks of rows that stay in the cache."""
    width = lanes_of(weight)
    columns = weight.shape[1]
    for r in range(0, rows, width):
        adagrad(weight, gradient, memory, r * columns, min(width, rows - r) * columns, eta, clip)
        transpose(weight, transposed, r, r + width)


@jit
def update(weights, gradient, memory, packed, occurring, sizes, eta, clip):
    """One AdaGrad step of all weights, and their packed copies.

    weights, memory   in, out  named tuples of a cell
    gradient          in
    packed            out
    occurring         in       how many characters occur, then which: only their rows of U have a
                               gradient, and AdaGrad leaves the others as they are
    """
    row = weights.U.shape[1]
    for i in range(1, occurring[0] + 1):
        adagrad(weights.U, gradient.U, memory.U, occurring[i] * row, row, eta, clip)
    update_matrix(weights.W, gradient.W, memory.W, sizes.m, packed.W, eta, clip)
    update_matrix(weights.V, gradient.V, memory.V, sizes.K, packed.V, eta, clip)
    adagrad(weights.b, gradient.b, memory.b, 0, weights.b.size, eta, clip)
    adagrad(weights.c, gradient.c, memory.c, 0, weights.c.size, eta, clip)
