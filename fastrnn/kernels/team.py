"""Threads that run the same kernel together, each on its share of the work.

Every thread calls the kernel with the same arguments but its own number, and works out its share
from that; where one needs what others computed, all wait at a `barrier`. A share never decides in
which order an element is summed, so the number of threads does not change a bit of the results.
"""

from __future__ import annotations

import os
import platform
import sys
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastrnn.kernels.compile import jit
from fastrnn.kernels.simd import address

INT64 = ir.IntType(64)

# What a thread tells the others of its team, and itself: columns of Team.arrivals.
COUNT = 0  # how often it arrived at a barrier
AWAITED = 1  # whether others sleep until it does
HALVINGS = 2  # of its spins, one for each time lately that they were not enough
SLOT = 16  # columns, two cache lines: processors fetch them in pairs

# Some fifty microseconds, about what it takes to fall asleep and wake up again.
SPINS = 20_000
MOST_HALVINGS = 8

# Linux's futex(2), which the C library knows by number only, for the threads of one process.
FUTEX = None
if sys.platform == "linux" and sys.maxsize > 2**32:
    FUTEX = {"x86_64": 202, "aarch64": 98}.get(platform.machine())
FUTEX_WAIT, FUTEX_WAKE = 128, 129
LONGEST_SLEEP = 10_000_000  # nanoseconds: a thread that is missing wakes nobody


class Team(NamedTuple):
    """The threads of a kernel.

    Streams are shared out to groups of `column_shares` threads; the threads of a group share the
    columns of its hidden states, and so the weights, among them.
    """

    arrivals: np.ndarray  # (threads, SLOT) int64: COUNT, AWAITED and HALVINGS of each
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
    """arrivals[thread, COUNT] = count, after all that was written before; wake who sleeps."""

    def codegen(context, builder, signature, args):
        place = slot(context, builder, arrivals, args)
        # In one order for all: either this thread sees that it is awaited, or it is seen in time.
        builder.atomic_rmw("xchg", place, args[2], "seq_cst")
        if FUTEX is not None:
            awaited = builder.gep(place, [INT64(AWAITED)])
            sleepers = builder.load_atomic(awaited, "seq_cst", 8)
            with builder.if_then(builder.icmp_signed("!=", sleepers, INT64(0)), likely=False):
                builder.store_atomic(INT64(0), awaited, "seq_cst", 8)
                everybody = INT64(2**31 - 1)
                call(builder, "syscall", INT64(FUTEX), place, INT64(FUTEX_WAKE), everybody)
        return context.get_dummy_value()

    return types.void(arrivals, types.intp, types.int64), codegen


@intrinsic
def published(typing, arrivals, thread):
    """arrivals[thread, COUNT], before all that is read afterwards."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(slot(context, builder, arrivals, args), "acquire", 8)

    return types.int64(arrivals, types.intp), codegen


@intrinsic
def sleep(typing, arrivals, thread, count):
    """Give the processor to others while arrivals[thread, COUNT] is `count`, for some time."""

    def codegen(context, builder, signature, args):
        place = slot(context, builder, arrivals, args)
        if FUTEX is not None:
            awaited = builder.gep(place, [INT64(AWAITED)])
            builder.atomic_rmw("xchg", awaited, INT64(1), "seq_cst")
            seconds_and_rest = ir.Constant(ir.ArrayType(INT64, 2), [0, LONGEST_SLEEP])
            time = cgutils.alloca_once_value(builder, seconds_and_rest)
            call(builder, "syscall", INT64(FUTEX), place, INT64(FUTEX_WAIT), args[2], time)
        elif os.name == "posix":
            call(builder, "sched_yield")
        return context.get_dummy_value()

    return types.void(arrivals, types.intp, types.int64), codegen


def slot(context, builder, arrivals, args):
    """Pointer to what thread number args[1] tells; COUNT is the first of it."""
    return address(context, builder, arrivals, args[0], builder.mul(args[1], INT64(SLOT)))


def call(builder, name, *args):
    """Call a function of the C library with 64-bit arguments, none of them named."""
    function = ir.FunctionType(INT64, [], var_arg=True)
    known = builder.module.globals.get(name)
    builder.call(known or ir.Function(builder.module, function, name), args)


@jit
def wait(arrivals, thread, other, count):
    """Until `other` has been at `count` barriers, or is missing.

    It spins first: from the last arrival to the first instruction after it pass some tenths of a
    microsecond then, where a sleeping thread takes ten or more to wake up. But where other
    processes keep the cores busy, a thread that spins, or that yields and is not given its turn
    again, holds up the others for whole time slices: it spins the less the more often that was in
    vain, and then sleeps until it is woken up.
    """
    spins, most = 0, SPINS >> arrivals[thread, HALVINGS]
    arrived = published(arrivals, other)
    while 0 <= arrived < count:
        spins += 1
        if spins > most:
            sleep(arrivals, other, arrived)
        arrived = published(arrivals, other)
    if spins > most:
        arrivals[thread, HALVINGS] = min(arrivals[thread, HALVINGS] + 1, MOST_HALVINGS)
    elif spins > 0:
        arrivals[thread, HALVINGS] = max(arrivals[thread, HALVINGS] - 1, 0)


@jit
def barrier(team, thread):
    """Wait until all threads of the team are here.

    For a thread whose count is negative nobody waits: it is missing, and the others should come to
    an end.
    """
    if team.threads > 1:
        count = team.arrivals[thread, COUNT] + 1
        publish(team.arrivals, thread, count)
        for other in range(team.threads):
            wait(team.arrivals, thread, other, count)
