"""Texts that a model writes, any number of them side by side, a character of each at a time.

Of the arrays of States only H, A, C and O are used, for T = 1: row 0 of a text is its state before
a character is read, and row 1 that after it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastrnn.kernels import cell
from fastrnn.kernels.compile import entry, jit
from fastrnn.kernels.elementwise import FORMATS
from fastrnn.kernels.output import add_bias, softmax_row
from fastrnn.kernels.simd import (
    NOWHERE,
    at,
    binary,
    bit_count,
    lanes_of,
    less,
    less_equal,
    load,
    lowest_bit,
    mask_tail,
    prefix_sums,
    spread_last,
    store,
    sum_of_lanes,
)
from fastrnn.kernels.team import share
from fastrnn.kernels.tiles import Matrix, panels_of, product


class Choice(NamedTuple):
    """How a character is drawn, and what happens then."""

    temperature: float = 1.0  # 0: the likeliest character
    top_k: int = 0  # only so many of the likeliest; 0: any number
    top_p: float = 1.0  # only as many of the likeliest as have this share of the probability
    end: int = -1  # after this character a text starts afresh; -1: none does
    longest: int = 0  # after so many others it ends by itself


kept = binary(lambda x, least: (x < least).where(0.0, x))


@intrinsic
def number_of(typing, array, bits):
    """The number with these bits, in the type of an array."""

    def codegen(context, builder, signature, args):
        integer = builder.trunc(args[1], ir.IntType(array.dtype.bitwidth))
        return builder.bitcast(integer, context.get_value_type(array.dtype))

    return array.dtype(array, types.int64), codegen


@intrinsic
def bits_of_one(typing, array):
    """The bits of 1.0 in the type of an array. Those of positive numbers are in their order."""
    f = FORMATS[array.dtype.bitwidth]

    def codegen(context, builder, signature, args):
        return context.get_constant(types.int64, f.bias << f.mantissa_bits)

    return types.int64(array), codegen


@jit
def read(weights, packed, states, sizes, first, last, inputs, backwards):
    """Read a character in each of the texts first to last - 1: row 1 of H and C from row 0.

    All texts together are the rows of one product with each matrix.
    """
    H, Z, A, C, U, b = states.H, states.Z, states.A, states.C, weights.U, weights.b
    width = lanes_of(H)
    row, columns = H.shape[3], A.shape[3]
    n = (sizes.gates - 1) * sizes.P + sizes.m
    for layer in range(sizes.L):
        of_layer = layer * H.shape[1]
        bias = layer * b.shape[1]
        for s in range(first, last):
            a = ((of_layer + s) * 2 + 1) * columns
            u = inputs[s] * U.shape[1]
            for j in range(0, n, width):
                x = load(b, bias + j)
                store(A, a + j, load(U, u + j) + x if layer == 0 else x)
            if sizes.recurrent > 0:
                for j in range(0, sizes.m, width):
                    q = a + sizes.gates * sizes.P + j
                    store(A, q, load(weights.n, layer * sizes.P + j))
        texts = (of_layer + first) * 2
        a = (texts + 1) * columns
        if layer > 0:
            z = Matrix(at(Z, (texts - H.shape[1] * 2 + 1) * row), 2 * row, 1)
            XT = panels_of(packed.XT, layer - 1)
            product(z, XT, Matrix(at(A, a), 2 * columns, 1), last - first, sizes.m, n, True)
        h = Matrix(at(H, texts * row), 2 * row, 1)
        target = Matrix(at(A, a + sizes.recurrent), 2 * columns, 1)
        WT = panels_of(packed.WT, layer)
        product(h, WT, target, last - first, sizes.m, n, True, backwards)
        for s in range(first, last):
            cell.activate(weights, states, sizes, layer, s, 1, 0, sizes.m)
            before = (of_layer + s) * 2 * row
            for j in range(before, before + sizes.m, width):
                store(H, j, load(H, j + row))
            if C.shape[0] > 0:
                for j in range(before, before + sizes.m, width):
                    store(C, j, load(C, j + row))


@jit
def start_afresh(states, sizes, fresh, s):
    """Row 0 of a text from a state.

    fresh   (S·L, m)  in  the hidden, then the cell states of all layers
    """
    H, C = states.H, states.C
    width = lanes_of(H)
    row = fresh.shape[1]
    for layer in range(sizes.L):
        before = (layer * H.shape[1] + s) * 2 * row
        for j in range(0, sizes.m, width):
            store(H, before + j, load(fresh, layer * row + j))
            if C.shape[0] > 0:
                store(C, before + j, load(fresh, (sizes.L + layer) * row + j))


@jit
def keep_likeliest(O, start, K, number, amount):
    """Drop all but the likeliest characters: as few as are `number` and have the sum `amount`.

    O       (…, K)  in, out  numerators of a softmax: the row starts at `start`, its largest is 1
    number          in       less than K
    amount          in       less than the sum of all

    The bits that the least number kept may have are halved until only one character is between
    them, so no order is needed; those that are equal to it are kept, too. Returns the sum of what
    is left.
    """
    width = lanes_of(O)
    zeros = mask_tail(load(O, start), 0, 0.0)
    least, above = 0, bits_of_one(O) + 1
    more, fewer = K, 0  # characters from `least` on, and from `above`
    while more - fewer > 1 and above - least > 1:
        middle = (least + above) // 2
        bound = number_of(O, middle)
        count, total = 0, zeros
        for j in range(start, start + K, width):
            e = load(O, j)
            count += bit_count(less_equal(bound, e))
            total = total + kept(e, bound)
        if count >= number and sum_of_lanes(total) >= amount:
            least, more = middle, count
        else:
            above, fewer = middle, count
    bound, total = number_of(O, least), zeros
    for j in range(start, start + K, width):
        e = kept(load(O, j), bound)
        store(O, j, e)
        total = total + e
    return sum_of_lanes(total)


@jit
def argmax(O, start, c, K):
    """The first character with the highest logit; the row starts at `start`, and gets its bias."""
    highest = add_bias(O, start, c, K)
    code = NOWHERE
    for j in range(0, K, lanes_of(O)):
        code = min(code, j + lowest_bit(less_equal(highest, load(O, start + j))))
    return code if code < K else 0  # all are NaN


@jit
def draw(O, s, K, rest):
    """The character in whose part of the cumulated numerators `rest` falls."""
    start = (s * 2 + 1) * O.shape[2]
    before = mask_tail(load(O, start), 0, 0.0)
    code = NOWHERE
    for j in range(0, K, lanes_of(O)):
        e = load(O, start + j)
        sums = prefix_sums(e)
        # Rounded sums may fall from one to the next, so a dropped one might seem to be reached.
        reached = less(rest, before + sums) & less(0.0, e)
        code = min(code, j + lowest_bit(reached))
        before = before + spread_last(sums)
    if code < K:
        return code
    # `rest` is the sum of all, up to rounding.
    code = K - 1
    while code > 0 and not O[s, 1, code] > 0.0:
        code -= 1
    return code


@jit
def choose(O, s, c, K, choice, uniform):
    """The next character of a text, from its logits without the bias."""
    start = (s * 2 + 1) * O.shape[2]
    if choice.temperature == 0.0:
        return argmax(O, start, c, K)
    total, _ = softmax_row(O, start, c, K, 1.0 / choice.temperature)
    if 0 < choice.top_k < K:
        total = keep_likeliest(O, start, K, choice.top_k, 0.0)
    if choice.top_p < 1.0:
        total = keep_likeliest(O, start, K, 0, choice.top_p * total)
    return draw(O, s, K, uniform * total)


@entry
def write(
    weights,
    packed,
    states,
    sizes,
    team,
    thread,
    choice,
    fresh,
    fresh_input,
    inputs,
    lengths,
    codes,
    known,
    uniforms,
):
    """Read the known characters, then draw others one by one, in a thread's share of the texts.

    states        in, out  States for T = 1 and at least as many texts
    choice        in       Choice
    fresh         in       (S·L, m), the state that a text has when it starts afresh
    fresh_input   in       the character that it reads then
    inputs        in, out  (texts,) int64, the character that each text reads next
    lengths       in, out  (texts,) int64, characters that each has drawn since it started
    codes         in, out  (known + n, texts) int32; the first `known` are given, the others drawn
    uniforms      in       (n, texts) float64 in [0, 1), one for each draw
    """
    O, c = states.O, weights.c
    texts, row = codes.shape[1], states.H.shape[3]
    first, last = share(texts, 1, thread, team.threads)
    if first == last:
        return
    last_layer = (sizes.L - 1) * states.H.shape[1]
    for i in range(codes.shape[0]):
        read(weights, packed, states, sizes, first, last, inputs, i % 2 == 1)
        if i < known:
            for s in range(first, last):
                inputs[s] = codes[i, s]
            continue
        z = Matrix(at(states.Z, ((last_layer + first) * 2 + 1) * row), 2 * row, 1)
        o = Matrix(at(O, (first * 2 + 1) * O.shape[2]), 2 * O.shape[2], 1)
        product(z, panels_of(packed.VT, 0), o, last - first, sizes.m, sizes.K, False)
        for s in range(first, last):
            code = choose(O, s, c, sizes.K, choice, uniforms[i - known, s])
            lengths[s] += 1
            if choice.end >= 0 and lengths[s] > choice.longest:
                code = choice.end
            codes[i, s] = np.int32(code)
            inputs[s] = code
            if code == choice.end:
                start_afresh(states, sizes, fresh, s)
                inputs[s] = fresh_input
                lengths[s] = 0
