"""Threads that run a kernel together: all of them, or nobody waits."""

import os
import subprocess
import sys
import threading

import numba
import numpy as np
import pytest

from fastrnn import threads
from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.kernels.compile import ENTRY
from fastrnn.kernels.team import Team, barrier, share
from fastrnn.threads import Workers, available_cores, usable_threads, useful_threads


@numba.njit(**ENTRY)
def meet(team, thread, rounds, counts):
    """How often a thread was beyond a barrier that another had not reached."""
    early = 0
    for i in range(1, rounds + 1):
        counts[thread, 0] = i
        barrier(team, thread)
        for other in range(team.threads):
            early += counts[other, 0] < i
        barrier(team, thread)
    return early


@numba.njit(**ENTRY)
def share_of(count, unit, i, n):
    return share(count, unit, i, n)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_nobody_passes_a_barrier_before_all_are_there(count):
    workers = Workers(count)
    team, counts = Team(workers.arrivals, count, 1), np.zeros((count, 8), np.int64)
    early = []
    workers.run(lambda thread: early.append(meet(team, thread, 200, counts)))
    assert early == [0] * count


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_others_come_to_an_end_when_a_thread_fails(missing):
    workers = Workers(3)
    team, counts = Team(workers.arrivals, 3, 1), np.zeros((3, 8), np.int64)

    def kernel(thread):
        if thread == missing:
            raise MemoryError
        meet(team, thread, 50, counts)

    with pytest.raises(MemoryError):
        workers.run(kernel)
    early = []
    workers.run(lambda thread: early.append(meet(team, thread, 50, counts)))
    assert early == [0] * 3  # as if nothing had been


def test_an_interruption_while_threads_are_called(monkeypatch):
    """The second of three threads begins, and is not left waiting for the others."""
    workers = Workers(3)
    team, counts = Team(workers.arrivals, 3, 1), np.zeros((3, 8), np.int64)
    submit, calls = workers._pool.submit, []

    def interrupted(*work):
        calls.append(work)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return submit(*work)

    with monkeypatch.context() as patch:
        patch.setattr(workers._pool, "submit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            workers.run(lambda thread: meet(team, thread, 50, counts))
    early = []
    workers.run(lambda thread: early.append(meet(team, thread, 50, counts)))
    assert early == [0] * 3


def test_the_result_is_that_of_the_calling_thread():
    caller = threading.get_ident()
    assert Workers(4).run(lambda thread: (thread, threading.get_ident())) == (0, caller)


def test_shares_cover_everything_once():
    for count in (0, 1, 5, 16, 100):
        for unit in (1, 16):
            for n in (1, 2, 7):
                shares = [share_of(count, unit, i, n) for i in range(n)]
                assert [i for one in shares for i in range(*one)] == list(range(count))
                assert all(first % unit == 0 or first == count for first, _ in shares)


@pytest.mark.parametrize("count", [0, 1025, 2.0, True, "2"])
def test_numbers_that_are_none(count):
    message = f"^threads is {count!r}, but must be a whole number from 1 to 1024$"
    with pytest.raises(FastrnnError, match=message):
        Workers(count)


def test_a_system_that_allows_no_more_threads(monkeypatch):
    start, started = threading.Thread.start, []

    def refuse(self):
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    message = r"^cannot start 5 threads \(can't start new thread\); use fewer, with --threads$"
    with pytest.raises(FastrnnError, match=message):
        Workers(5)
    for thread in started:  # they do not wait for those that never came
        thread.join(10)
        assert not thread.is_alive()


def test_small_networks_have_no_work_for_many(monkeypatch):
    monkeypatch.setattr(threads, "available_cores", lambda: 4)
    assert useful_threads(Config(), 80) == 1
    assert useful_threads(Config(batch=4), 80) == 2
    assert useful_threads(Config(hidden=512, batch=32), 80) == 4


def test_no_more_threads_than_processors(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 5}, raising=False)
    assert [usable_threads(threads) for threads in (1, 3, 4, 1000)] == [1, 3, 3, 3]
    with pytest.raises(FastrnnError, match=r"^threads is 0, but must be"):
        usable_threads(0)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_cores_are_those_of_the_affinity():
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "from fastrnn.threads import available_cores; print(available_cores())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert 1 <= available_cores() <= os.cpu_count()
