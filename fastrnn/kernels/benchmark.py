"""Loops around single phases of an update, and around nothing but arithmetic, for fastrnn.measure.

A call from Python costs microseconds, as much as a phase of a small network; repeating inside
compiled code leaves the phase alone on the clock.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastrnn.kernels import gradients, optimizer, output
from fastrnn.kernels.blocks import BY_USED_ROWS
from fastrnn.kernels.compile import cpu_features, entry
from fastrnn.kernels.simd import (
    VECTOR_BYTES,
    at,
    broadcast_element,
    fma_function,
    lanes,
    lanes_of,
    load,
    mask_tail,
    round_up,
    sum_of_lanes,
)
from fastrnn.kernels.tiles import INT64, REGISTER_BYTES, TILE_ROWS, WIDEST, Matrix

# As many independent sums as a tile of a product has: they fill the registers without spilling, and
# are more than the multiply-adds that a core has in flight.
CHAINS = TILE_ROWS * WIDEST[-1] * REGISTER_BYTES // VECTOR_BYTES


@entry
def forward(weights, packed, states, sizes, team, dropout, codes, count):
    """Forward pass of `count` chunks, up to the gradient of the logits; returns the last loss."""
    loss = 0.0
    for i in range(count):
        loss = gradients.loss(team, 0, weights, packed, states, sizes, dropout, codes, i * sizes.T)
    return loss


@entry
def backward(weights, gradient, packed, states, sizes, flat, blocks, team, dropout, codes, count):
    """Gradient of the first chunk, `count` times, after its `forward`; of one group of streams.

    It is not of that chunk from the second time on, as the gates have become their gradients.
    """
    shard = gradients.shard_of(team, 0, 0, sizes.B)
    for _ in range(count):
        output.hidden_gradient(packed, states, sizes, shard)
        gradients.backward_layers(team, weights, packed, states, sizes, shard, dropout, 0, codes, 0)
        gradients.accumulate_gradients(
            team,
            0,
            states,
            sizes,
            0,
            sizes.B,
            codes,
            0,
            gradient,
            flat.gradient,
            blocks,
            False,
        )


@entry
def update(states, sizes, flat, blocks, team, rule, step, count):
    """`count` steps of the optimizer with the same gradient."""
    used_rows = states.used_rows[0]
    for _ in range(count):
        optimizer.update(team, 0, flat, blocks, sizes, used_rows, rule, step)


# What `part` repeats. Some parts change what they read, or cannot be called alone: these are timed
# with others, whose time can be subtracted.
PARTS = (
    "forward recurrence",
    "logits",
    "logits and softmax",
    "hidden gradient",
    "hidden gradient and backward recurrence",
    "vector gradients",
    "all gradients",
    "optimizer",
    "optimizer and packing",
)
(RECURRENCE, LOGITS, SOFTMAX, HIDDEN, BACKWARD, VECTORS, ALL, OPTIMIZER) = range(len(PARTS) - 1)


@entry
def part(
    weights,
    gradient,
    packed,
    states,
    sizes,
    flat,
    blocks,
    team,
    dropout,
    codes,
    count,
    number,
    rule,
    step,
    times,
):
    """One of PARTS, `times` times, by a team of one: of the first chunk and its first `count`
    streams, which are at most a group. Each reads what those before it have left."""
    shard = gradients.shard_of(team, 0, 0, count)
    columns, characters = sizes.gates * sizes.P, round_up(sizes.K, lanes_of(flat.weight))
    n = count * (sizes.T + 1)
    used_rows = states.used_rows[0]
    for _ in range(times):
        if number == RECURRENCE:
            gradients.forward_layers(
                weights, packed, states, sizes, team, shard, dropout, 0, codes, 0
            )
        elif number == LOGITS:
            for s in range(count):
                output.logits(packed, states, sizes, s, 1, sizes.T + 1)
        elif number == SOFTMAX:
            output.cross_entropy(weights, packed, states, sizes, shard, codes, 0)
        elif number in (HIDDEN, BACKWARD):
            output.hidden_gradient(packed, states, sizes, shard)
            if number == BACKWARD:
                gradients.backward_layers(
                    team, weights, packed, states, sizes, shard, dropout, 0, codes, 0
                )
        elif number == VECTORS:
            for layer in range(sizes.L):
                first = (layer * states.A.shape[1] * (sizes.T + 1) + 1) * states.A.shape[3]
                of_inputs = Matrix(at(states.A, first), states.A.shape[3], 1)
                b = at(gradient.b, layer * gradient.b.shape[1])
                gradients.add_rows(of_inputs, n - 1, 0, columns, b, False)
            row = states.O.shape[2]
            of_logits = Matrix(at(states.O, row), row, 1)
            gradients.add_rows(of_logits, n - 1, 0, characters, at(gradient.c, 0), False)
            gradients.input_gradient(
                states, sizes, 0, 0, count, codes, 0, gradient.U, 0, columns, False
            )
        elif number == ALL:
            gradients.accumulate_gradients(
                team, 0, states, sizes, 0, count, codes, 0, gradient, flat.gradient, blocks, False
            )
        elif number == OPTIMIZER:
            for i in range(blocks.size):
                block = blocks[i]
                sparse = block.shared == BY_USED_ROWS
                elements = optimizer.elements_of(flat, block.start)
                count = (used_rows[0] if sparse else block.rows) * block.stride
                optimizer.update_elements(elements, count, rule, step, 1.0)
        else:
            optimizer.update(team, 0, flat, blocks, sizes, used_rows, rule, step)


def operations(factor) -> int:
    """Floating-point operations that `multiply_adds` makes for each of its `count`."""
    return 2 * CHAINS * lanes(factor.dtype)


def instruction_set() -> str:
    """The vector instructions that code is generated for."""
    for name, feature in (("AVX-512", "+avx512f"), ("AVX2", "+avx2"), ("NEON", "+neon")):
        if feature in cpu_features():
            return name
    return "no AVX2 or NEON"


@intrinsic
def chains(typing, factor, term, count):
    """x = x · factor + term, `count` times for each of CHAINS vectors, which stay in registers."""

    def codegen(context, builder, signature, args):
        width = lanes(factor)
        by, plus = (broadcast_element(builder, value, width) for value in args[:2])
        fma = fma_function(builder, by.type)
        entry = builder.block
        loop = builder.function.append_basic_block("chains")
        end = builder.function.append_basic_block("chains.end")
        builder.branch(loop)
        builder.position_at_end(loop)
        i = builder.phi(INT64)
        before = [builder.phi(by.type) for _ in range(CHAINS)]
        after = [builder.call(fma, [x, by, plus]) for x in before]
        next_i = builder.add(i, INT64(1))
        i.add_incoming(INT64(0), entry)
        i.add_incoming(next_i, loop)
        for start, (x, y) in enumerate(zip(before, after, strict=True)):
            # Chains that start alike would be merged.
            x.add_incoming(ir.Constant(by.type, [float(start)] * width), entry)
            x.add_incoming(y, loop)
        builder.cbranch(builder.icmp_signed("<", next_i, args[2]), loop, end)

        builder.position_at_end(end)
        total = after[0]
        for x in after[1:]:
            total = builder.fadd(total, x)
        return builder.extract_element(total, INT64(0))

    return factor(factor, factor, types.intp), codegen


@entry
def multiply_adds(factor, term, count):
    """`count` times CHAINS multiply-adds of vectors, in the type of `factor`; touches no memory."""
    return chains(factor, term, count)


@entry
def read(array, count):
    """Sum of an array of whole blocks of 16 vectors, `count` times: as fast as it can be read.

    Eight chains of sums, each with two vectors at a time: a core begins two loads and two additions
    in a cycle, and an addition takes four.
    """
    width = lanes_of(array)
    zero = mask_tail(load(array, 0), 0, 0.0)
    a, b, c, d, e, f, g, h = zero, zero, zero, zero, zero, zero, zero, zero
    for _ in range(count):
        for i in range(0, array.size, 16 * width):
            a = a + (load(array, i) + load(array, i + width))
            b = b + (load(array, i + 2 * width) + load(array, i + 3 * width))
            c = c + (load(array, i + 4 * width) + load(array, i + 5 * width))
            d = d + (load(array, i + 6 * width) + load(array, i + 7 * width))
            e = e + (load(array, i + 8 * width) + load(array, i + 9 * width))
            f = f + (load(array, i + 10 * width) + load(array, i + 11 * width))
            g = g + (load(array, i + 12 * width) + load(array, i + 13 * width))
            h = h + (load(array, i + 14 * width) + load(array, i + 15 * width))
    return sum_of_lanes(((a + b) + (c + d)) + ((e + f) + (g + h)))
