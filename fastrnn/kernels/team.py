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
from fastrnn.kernels.simd import address

INT64 = ir.IntType(64)
SLOT = 16  # numbers of a thread in Team.arrivals, two cache lines: processors fetch them in pairs
SPINS = 64  # some ten microseconds: longer waits than that are for a thread that does not run


class Team(NamedTuple):
    """The threads of a kernel.

    Streams are shared out to groups of `column_shares` threads; the threads of a group share the
    columns of its hidden states, and so the weights, among them.
    """

    arrivals: np.ndarray  # (threads, SLOT) int64: how often each arrived at a barrier, in column 0
    threads: int
    column_shares: int  # a divisor of threads


class Shard(NamedTuple):
    """A thread's share of the time loops: some of the streams, and some of their columns."""

    thread: int
    first: int  # of the streams in the states
    last: int  # one past the last
    start: int  # which stream of the text the first of the states is
    column_share: int  # which share of the columns
    column_shares: int


@jit
def share(count, unit, i, n):
    """Share i of n of the numbers below `count`, from first to last - 1, in whole units."""
    units = -(-count // unit)
    return min(units * i // n * unit, count), min(units * (i + 1) // n * unit, count)


@intrinsic
def publish(typing, arrivals, thread, count):
    """arrivals[thread, 0] = count, after all that was written before."""

    def codegen(context, builder, signature, args):
        builder.store_atomic(args[2], slot(context, builder, arrivals, args), "release", 8)
        return context.get_dummy_value()

    return types.void(arrivals, types.intp, types.int64), codegen


@intrinsic
def published(typing, arrivals, thread):
    """arrivals[thread, 0], before all that is read afterwards."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(slot(context, builder, arrivals, args), "acquire", 8)

    return types.int64(arrivals, types.intp), codegen


def slot(context, builder, arrivals, args):
    return address(context, builder, arrivals, args[0], builder.mul(args[1], INT64(SLOT)))


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
def barrier(team, thread):
    """Wait until all threads of the team are here.

    Waiting threads spin: from the last arrival to the first instruction after it pass some tenths
    of a microsecond, where sleeping threads would take ten or more to wake up. For a thread whose
    count is negative nobody waits: it is missing, and the others should come to an end.
    """
    if team.threads > 1:
        count = team.arrivals[thread, 0] + 1
        publish(team.arrivals, thread, count)
        for other in range(team.threads):
            spins = 0
            while 0 <= published(team.arrivals, other) < count:
                spins += 1
                if spins > SPINS:
                    give_way()
