"""Threads that run the same kernel together, each on its share of the work.

Every thread calls the kernel with the same arguments but its own number, and works out its share
from that; where one needs what others computed, all wait at a `barrier`. A share never decides in
which order an element is summed, so the number of threads does not change a bit of the results.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastrnn.kernels.compile import jit

INT64 = ir.IntType(64)
SPINS = 64  # some ten microseconds: longer waits than that are for a thread that does not run


class Team(NamedTuple):
    """The threads of a kernel.

    Streams are dealt out to groups of `parts` threads; the threads of a group share the columns of
    its hidden states, and so the weights, among them.
    """

    arrivals: np.ndarray  # (1,) int64: how often any thread arrived at a barrier
    threads: int
    parts: int  # a divisor of threads


class Shard(NamedTuple):
    """A thread's share of the time loops: some of the streams, and some of their columns."""

    first: int  # of the streams in the states
    last: int  # behind the last
    start: int  # which stream of the text the first of the states is
    part: int  # of the columns
    parts: int


@jit
def deal(count, unit, i, n):
    """Share i of n of the numbers below `count`, from first to last - 1, in whole units."""
    units = -(-count // unit)
    return min(units * i // n * unit, count), min(units * (i + 1) // n * unit, count)


@intrinsic
def arrive(typing, arrivals):
    """Count one more arrival, and return how many there were before."""

    def codegen(context, builder, signature, args):
        pointer = context.make_array(arrivals)(context, builder, args[0]).data
        return builder.atomic_rmw("add", pointer, INT64(1), "acq_rel")

    return types.int64(arrivals), codegen


@intrinsic
def arrived(typing, arrivals):
    """How many arrivals there have been."""

    def codegen(context, builder, signature, args):
        pointer = context.make_array(arrivals)(context, builder, args[0]).data
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(arrivals), codegen


@intrinsic
def give_way(typing):
    """Let another thread run on this processor."""

    def codegen(context, builder, signature, args):
        if os.name == "posix":
            function = ir.FunctionType(ir.IntType(32), [])
            name = "sched_yield"
            known = builder.module.globals.get(name)
            builder.call(known or ir.Function(builder.module, function, name), [])
        return context.get_dummy_value()

    return types.void(), codegen


@jit
def barrier(team):
    """Wait until all threads of the team are here.

    Waiting threads spin: from the last arrival to the first instruction behind it pass some tenths
    of a microsecond, where sleeping threads would take ten or more to wake up. When `arrivals` is
    negative nobody waits: a thread is missing, and the others should come to an end.
    """
    if team.threads > 1:
        all_here = (arrive(team.arrivals) // team.threads + 1) * team.threads
        spins = 0
        while 0 <= arrived(team.arrivals) < all_here:
            spins += 1
            if spins > SPINS:
                give_way()
