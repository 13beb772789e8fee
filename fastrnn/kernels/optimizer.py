"""AdaGrad: memory += g², θ -= eta · g / √(memory + epsilon), with g clipped to ±clip.

J. Duchi, E. Hazan, Y. Singer: Adaptive Subgradient Methods for Online Learning and Stochastic
Optimization, Journal of Machine Learning Research 12, 2011; with diagonal matrices.
"""

from __future__ import annotations

from fastrnn.kernels.compile import jit
from fastrnn.kernels.elementwise import rsqrt
from fastrnn.kernels.gradients import gradient_rows
from fastrnn.kernels.simd import fma, lanes_of, load, maximum, minimum, round_up, store
from fastrnn.kernels.team import share
from fastrnn.kernels.tiles import pack, register_lanes_of

EPSILON = 1e-8  # keeps the first step of an element without gradient finite


@jit
def adagrad(weight, gradient, memory, first, last, eta, clip):
    """Update the elements from first to last - 1 in whole vectors.

    weight, memory   in, out
    gradient         in
    """
    for i in range(first, last, lanes_of(weight)):
        g = minimum(maximum(load(gradient, i), -clip), clip)
        total = fma(g, g, load(memory, i))
        store(memory, i, total)
        store(weight, i, fma(g * rsqrt(total + EPSILON), -eta, load(weight, i)))


@jit
def update_matrix(weight, gradient, memory, first, last, columns, packed, transposed, eta, clip):
    """Update rows of a matrix and its packed copies, by blocks of rows that stay in the cache."""
    width = lanes_of(weight)
    row = weight.shape[1]
    for r in range(first, last, width):
        end = min(r + width, last)
        adagrad(weight, gradient, memory, r * row, end * row, eta, clip)
        pack(weight, r, end, columns, packed, transposed)


@jit
def update(team, thread, weights, gradient, memory, packed, used_rows, sizes, eta, clip):
    """A thread's share of one AdaGrad step of all weights, and of their packed copies.

    The shares are those of gradients.accumulate_gradients: each thread updates what it has summed.

    weights, memory   in, out  named tuples of a cell
    gradient          in
    packed            out
    occurring         in       how many characters occur, then which: only their rows of U have a
                               gradient, and AdaGrad leaves the others as they are
    """
    width = lanes_of(weights.b)
    begin, end = share(sizes.m, width, thread, team.threads)
    for i in range(1, used_rows[0] + 1):
        at_row = used_rows[i] * weights.U.shape[1]
        adagrad(weights.U, gradient.U, memory.U, at_row + begin, at_row + end, eta, clip)
    adagrad(weights.b, gradient.b, memory.b, begin, end, eta, clip)
    begin, end = share(sizes.K, width, thread, team.threads)
    adagrad(weights.c, gradient.c, memory.c, begin, end, eta, clip)
    lanes = register_lanes_of(weights.b)
    w_first, w_last, v_first, v_last = gradient_rows(team, thread, sizes, lanes)
    columns = round_up(sizes.m, width)
    update_matrix(
        weights.W, gradient.W, memory.W, w_first, w_last, columns, packed.W, packed.WT, eta, clip
    )
    update_matrix(
        weights.V, gradient.V, memory.V, v_first, v_last, columns, packed.V, packed.VT, eta, clip
    )
