"""The optimizers: from the gradient to the next weights, and their packed copies.

The rules are PyTorch's, so that results can be compared step by step; only AdaGrad has the epsilon
inside of the root, as the reference experiment does.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fastrnn.kernels.blocks import (
    BY_ROWS,
    BY_USED_ROWS,
    columns_of,
    panels_of_block,
    rows_of,
)
from fastrnn.kernels.compile import jit, shared
from fastrnn.kernels.elementwise import rsqrt
from fastrnn.kernels.simd import (
    at,
    fma,
    lanes_of,
    load,
    mask_tail,
    maximum,
    minimum,
    round_up,
    sqrt,
    store,
    sum_of_lanes,
)
from fastrnn.kernels.team import barrier
from fastrnn.kernels.tiles import Matrix, pack, register_lanes_of

ADAGRAD, RMSPROP, ADAM, SGD = range(4)
NORM_EPSILON = 1e-6  # of torch.nn.utils.clip_grad_norm_


class Rule(NamedTuple):
    """An optimizer and its constants."""

    kind: int  # ADAGRAD, RMSPROP, ADAM or SGD
    clip: float  # gradients are clipped to ±clip, element by element
    clip_norm: float  # and before that all together to this norm
    weight_decay: float  # is added to the gradient, times the weight
    momentum: float  # or beta1 of Adam
    rho: float  # or beta2 of Adam: how much of the mean of squares stays
    epsilon: float
    nesterov: bool


class Step(NamedTuple):
    """What changes from update to update."""

    eta: float  # learning rate
    decay: float  # AdamW: the weights are multiplied by it
    correction1: float  # Adam: 1 - beta1^t
    correction2: float  # and 1 - beta2^t


class Flat(NamedTuple):
    """Flat buffers of one layout: a number for each parameter; those of no use are empty."""

    weight: np.ndarray
    gradient: np.ndarray
    momentum: np.ndarray  # momentum, or the first moment
    squares: np.ndarray  # sum or mean of the squares of gradients, the second moment
    best: np.ndarray  # the weights of lowest smooth loss
    packed: np.ndarray  # the panels of all matrices
    norms: np.ndarray  # float64: squares of the gradient's rows, or vectors of columns


class Elements(NamedTuple):
    """Pointers (simd.at) to successive elements of the buffers of Flat."""

    weight: Any
    gradient: Any
    momentum: Any
    squares: Any


@jit
def elements_of(flat, first):
    """The elements from `first` on."""
    return Elements(
        at(flat.weight, first),
        at(flat.gradient, first),
        at(flat.momentum, first),
        at(flat.squares, first),
    )


@jit
def clipped(gradient, i, clip):
    """The vector of the gradient at element i, clipped to ±clip."""
    return minimum(maximum(load(gradient, i), -clip), clip)


@jit
def prepare(elements, count, rule, scale):
    """The gradient clipped by norm and by value, with the weight decay added to it.

    Kept apart, as the loops below have no registers left for it.
    """
    weight, gradient, _, _ = elements
    for i in range(0, count, lanes_of(weight)):
        g = minimum(maximum(load(gradient, i) * scale, -rule.clip), rule.clip)
        store(gradient, i, fma(load(weight, i), rule.weight_decay, g))


@jit
def adagrad(elements, count, rule, step, clip):
    """squares += g², θ -= η g / √(squares + ε) (J. Duchi, E. Hazan, Y. Singer: Adaptive Subgradient
    Methods for Online Learning and Stochastic Optimization, JMLR 12, 2011)."""
    weight, gradient, _, squares = elements
    for i in range(0, count, lanes_of(weight)):
        theta = load(weight, i)
        g = clipped(gradient, i, clip)
        total = fma(g, g, load(squares, i))
        store(squares, i, total)
        store(weight, i, fma(g * rsqrt(total + rule.epsilon), -step.eta, theta))


@jit
def rmsprop(elements, count, rule, step, clip):
    """squares = ρ squares + (1 - ρ) g², θ -= η g / (√squares + ε) (Hinton 2012, lecture 6)."""
    weight, gradient, momentum, squares = elements
    for i in range(0, count, lanes_of(weight)):
        theta = load(weight, i)
        g = clipped(gradient, i, clip)
        mean = fma(g * g, 1.0 - rule.rho, load(squares, i) * rule.rho)
        store(squares, i, mean)
        g = g / (sqrt(mean) + rule.epsilon)
        if rule.momentum > 0.0:
            g = fma(load(momentum, i), rule.momentum, g)
            store(momentum, i, g)
        store(weight, i, fma(g, -step.eta, theta))


@jit
def adam(elements, count, rule, step, clip):
    """Of g and g² running means, whose start at zero is corrected (Kingma and Ba 2014); AdamW lets
    the weights decay by themselves (Loshchilov and Hutter 2017)."""
    weight, gradient, momentum, squares = elements
    eta = step.eta / step.correction1
    root = 1.0 / math.sqrt(step.correction2)
    for i in range(0, count, lanes_of(weight)):
        theta = load(weight, i)
        g = clipped(gradient, i, clip)
        before = load(momentum, i)
        mean = fma(g - before, 1.0 - rule.momentum, before)
        square = fma(g * g, 1.0 - rule.rho, load(squares, i) * rule.rho)
        store(momentum, i, mean)
        store(squares, i, square)
        change = mean / fma(sqrt(square), root, rule.epsilon)
        store(weight, i, fma(change, -eta, theta * step.decay))


@jit
def sgd(elements, count, rule, step, clip):
    """θ -= η g, or with momentum v = μ v + g, θ -= η v; Nesterov's looks ahead by g + μ v."""
    weight, gradient, momentum, _ = elements
    for i in range(0, count, lanes_of(weight)):
        theta = load(weight, i)
        g = clipped(gradient, i, clip)
        if rule.momentum > 0.0:
            velocity = fma(load(momentum, i), rule.momentum, g)
            store(momentum, i, velocity)
            g = fma(velocity, rule.momentum, g) if rule.nesterov else velocity
        store(weight, i, fma(g, -step.eta, theta))


@jit
def update_elements(elements, count, rule, step, scale):
    """Update `count` elements, in whole vectors; their gradient is scratch."""
    clip = rule.clip
    if scale != 1.0 or rule.weight_decay != 0.0:
        prepare(elements, count, rule, scale)
        clip = np.inf
    if rule.kind == ADAGRAD:
        adagrad(elements, count, rule, step, clip)
    elif rule.kind == ADAM:
        adam(elements, count, rule, step, clip)
    elif rule.kind == RMSPROP:
        rmsprop(elements, count, rule, step, clip)
    else:
        sgd(elements, count, rule, step, clip)


@jit
def update_rows(flat, block, first, last, rule, step, scale):
    """Update rows of a matrix and their packed copies, by as many as stay in the cache."""
    width = register_lanes_of(flat.weight)
    columns = round_up(block.columns, lanes_of(flat.weight))
    matrix = Matrix(at(flat.weight, block.start), block.stride, 1)
    panels, transposed = panels_of_block(flat.packed, block)
    for r in range(first, last, width):
        end = min(r + width, last)
        elements = elements_of(flat, block.start + r * block.stride)
        update_elements(elements, (end - r) * block.stride, rule, step, scale)
        pack(matrix, r, end, columns, panels, transposed)


@jit
def step_of(step, rate):
    """A step of a block whose learning rate is so many times as high."""
    if rate == 1.0:
        return step
    decay = 1.0 - rate * (1.0 - step.decay)
    return Step(rate * step.eta, decay, step.correction1, step.correction2)


@shared
def update(team, thread, flat, blocks, sizes, used_rows, rule, step):
    """A thread's share of one step of all weights, and of their packed copies.

    flat        in, out  Flat
    blocks      in       blocks.BLOCK of every matrix and vector
    used_rows   in       how many characters occur, then which: only their rows of U have a
                         gradient; where that leaves the others as they are, U is BY_USED_ROWS
    """
    scale = 1.0
    zeros = mask_tail(load(flat.gradient, 0), 0, 0.0)
    if rule.clip_norm < np.inf:
        sum_squares(team, thread, flat, blocks, sizes)
        barrier(team, thread)  # all squares are summed
        scale = clip_scale(flat, rule)
    for i in range(blocks.size):
        block = blocks[i]
        of_block = step_of(step, block.rate)
        if block.shared == BY_ROWS:
            first, last = rows_of(team, thread, sizes, block, flat.weight)
            update_rows(flat, block, first, last, rule, of_block, scale)
            continue
        begin, end = columns_of(team, thread, block, flat.weight)
        sparse = block.shared == BY_USED_ROWS
        for j in range(used_rows[0] if sparse else block.rows):
            row = block.start + (used_rows[j + 1] if sparse else j) * block.stride
            update_elements(elements_of(flat, row + begin), end - begin, rule, of_block, scale)
            if rule.weight_decay != 0.0:  # is in the gradient, also of rows that have none
                for k in range(row + begin, row + end, lanes_of(flat.gradient)):
                    store(flat.gradient, k, zeros)


@jit
def sum_squares(team, thread, flat, blocks, sizes):
    """flat.norms: the squares of a thread's share of the gradient, summed by rows of the matrices
    and by vectors of columns of the others, so that no sum depends on the number of threads."""
    gradient, norms = flat.gradient, flat.norms
    width = lanes_of(gradient)
    zeros = mask_tail(load(gradient, 0), 0, 0.0)
    for i in range(blocks.size):
        block = blocks[i]
        if block.shared == BY_ROWS:
            first, last = rows_of(team, thread, sizes, block, gradient)
            for r in range(first, last):
                start = block.start + r * block.stride
                total = zeros
                for j in range(start, start + block.columns, width):
                    g = load(gradient, j)
                    total = fma(g, g, total)
                norms[block.first + r] = sum_of_lanes(total)
        else:
            begin, end = columns_of(team, thread, block, gradient)
            for j in range(begin, end, width):
                total = zeros
                for r in range(block.rows):
                    g = load(gradient, block.start + r * block.stride + j)
                    total = fma(g, g, total)
                norms[block.first + j // width] = sum_of_lanes(total)


@jit
def clip_scale(flat, rule):
    """By what the gradient has to be multiplied for its norm to be at most clip_norm."""
    squares = 0.0
    for i in range(flat.norms.size):
        squares += flat.norms[i]
    return min(1.0, rule.clip_norm / (math.sqrt(squares) + NORM_EPSILON))
