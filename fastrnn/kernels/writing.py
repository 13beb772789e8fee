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
from fastrnn.kernels.output import softmax_row
from fastrnn.kernels.simd import at, binary, lanes_of, load, mask_tail, store, sum_of_lanes
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
is_kept = binary(lambda x, least: (x < least).where(0.0, x * 0.0 + 1.0))


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
def sum_of_kept(O, start, K, least):
    """Sum of the numbers from `least` on in a row of O."""
    total = mask_tail(load(O, start), 0, 0.0)
    for j in range(start, start + K, lanes_of(O)):
        total = total + kept(load(O, j), least)
    return sum_of_lanes(total)


@jit
def count_of_kept(O, start, K, least):
    """How many of them there are."""
    total = mask_tail(load(O, start), 0, 0.0)
    for j in range(start, start + K, lanes_of(O)):
        total = total + is_kept(load(O, j), least)
    return sum_of_lanes(total)


@jit
def drop_others(O, start, K, least):
    """Numbers of a row of O below `least` become zero; returns the sum of the others."""
    for j in range(start, start + K, lanes_of(O)):
        store(O, j, kept(load(O, j), least))
    return sum_of_kept(O, start, K, least)


@jit
def truncate(O, start, K, top_k, top_p, total):
    """Drop all but the likeliest characters, first by their number, then by their share.

    O       (…, K)  in, out  numerators of a softmax: the row starts at `start`, its largest is 1
    total           in       their sum

    Both searches halve the bits that the least number kept may have, so no order is needed; those
    that are equal to it are kept, too. Returns the sum of what is left.
    """
    if 0 < top_k < K:
        least, above = 0, bits_of_one(O) + 1
        while above - least > 1:
            middle = (least + above) // 2
            if count_of_kept(O, start, K, number_of(O, middle)) >= top_k:
                least = middle
            else:
                above = middle
        total = drop_others(O, start, K, number_of(O, least))
    if top_p < 1.0:
        share_of_total = top_p * total
        least, above = 0, bits_of_one(O) + 1
        while above - least > 1:
            middle = (least + above) // 2
            if sum_of_kept(O, start, K, number_of(O, middle)) >= share_of_total:
                least = middle
            else:
                above = middle
        total = drop_others(O, start, K, number_of(O, least))
    return total


@jit
def argmax(O, s, c, K):
    """The character with the highest logit."""
    code = 0
    for k in range(1, K):
        if O[s, 1, k] + c[k] > O[s, 1, code] + c[code]:
            code = k
    return code


@jit
def draw(O, s, K, rest):
    """The character in whose part of the cumulated numerators `rest` falls."""
    code = 0
    for k in range(K):
        if O[s, 1, k] > 0.0:
            code = k
            if rest < O[s, 1, k]:
                break
            rest -= O[s, 1, k]
    return code


@jit
def choose(O, s, c, K, choice, uniform):
    """The next character of a text, from its logits without the bias."""
    if choice.temperature == 0.0:
        return argmax(O, s, c, K)
    start = (s * 2 + 1) * O.shape[2]
    total, _ = softmax_row(O, start, c, K, 1.0 / choice.temperature)
    if 0 < choice.top_k < K or choice.top_p < 1.0:
        total = truncate(O, start, K, choice.top_k, choice.top_p, total)
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
