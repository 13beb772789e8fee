"""Dropout on the way from a layer to the one above, and to the output (Srivastava and others 2014).

A unit's fate is a hash of where it is, so backward computes the same again: it takes no memory, and
does not depend on the number of threads. The hash is a variant, with two keys, of the mixing
functions that Wellons searched for (nullprogram.com/blog/2018/07/31): multiplications by odd
numbers between shifts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastrnn.kernels.compile import jit
from fastrnn.kernels.recurrence import units_of
from fastrnn.kernels.simd import Lanes, broadcast_element, lanes, lanes_of, load, store

HASH_BITS = 24  # all of them in the mantissa of a float32


class Dropout(NamedTuple):
    """What decides which hidden states are dropped."""

    threshold: float  # the share of them, times 2^24; 0: none
    scale: float  # of the others
    keys: np.ndarray  # (updates, L, 2) int64, each below 2^32


def _hash(x: Lanes, key1: Any, key2: Any) -> Lanes:
    """24 bits of each number below 2^32 and the keys; arithmetic modulo 2^32."""

    def low(x: Lanes) -> Lanes:
        return x & 0xFFFFFFFF if x.bitwidth == 64 else x

    def times(x: Lanes, factor: int) -> Lanes:
        signed = factor - 2**32 if x.bitwidth == 32 and factor >= 2**31 else factor
        return low(x * signed)

    x = low(times(x, 0x9E3779B1) + key1)
    x = times(x ^ (x >> 16), 0x21F0AAAD) ^ key2
    x = times(x ^ (x >> 15), 0x735A2D97)
    return (x ^ (x >> 15)) >> (32 - HASH_BITS)


@intrinsic
def drop(typing, x, index, key1, key2, threshold, scale):
    """x · scale where the hash of the lane's index is at least the threshold, else 0.

    The first lane has the index `index`, the others the next ones.
    """
    i, f = types.int64, types.float64

    def codegen(context, builder, signature, args):
        value, index, key1, key2, threshold, scale = args
        width = lanes(x.dtype)
        element = ir.IntType(x.dtype.bitwidth)

        def spread(number):
            low = builder.and_(number, ir.Constant(number.type, 0xFFFFFFFF))
            short = low if element.width == 64 else builder.trunc(low, element)
            return Lanes(builder, broadcast_element(builder, short, width))

        def spread_float(number):
            cast = context.cast(builder, number, types.float64, x.dtype)
            return Lanes(builder, broadcast_element(builder, cast, width))

        offsets = ir.Constant(ir.VectorType(element, width), list(range(width)))
        indices = spread(index) + Lanes(builder, offsets)
        bits = _hash(indices, spread(key1), spread(key2))
        dropped = bits.to_floats() < spread_float(threshold)
        return dropped.where(0.0, Lanes(builder, value) * spread_float(scale)).value

    return x(x, i, i, i, f, f), codegen


@jit
def drop_units(source, target, source_layer, target_layer, sizes, shard, dropout, update, layer):
    """target = source, with the units dropped that are after layer `layer` in this update, for the
    streams and columns of a shard.

    source, target   (·, G, T + 1, m)  in, out; may be the same
    """
    width = lanes_of(source)
    row = source.shape[3]
    begin, end = units_of(sizes, shard, width)
    key1, key2 = dropout.keys[update, layer, 0], dropout.keys[update, layer, 1]
    for s in range(shard.first, shard.last):
        for t in range(sizes.T):
            index = ((shard.start + s) * sizes.T + t) * sizes.m
            step = s * (sizes.T + 1) + t + 1
            x = (source_layer * source.shape[1] * (sizes.T + 1) + step) * row
            y = (target_layer * target.shape[1] * (sizes.T + 1) + step) * row
            for j in range(begin, end, width):
                kept = drop(
                    load(source, x + j), index + j, key1, key2, dropout.threshold, dropout.scale
                )
                store(target, y + j, kept)
