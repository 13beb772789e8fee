"""How a training finds its number of threads, on machines that are made up."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.training.pace import GROWTH, SLICE_SECONDS, Pace

MINUTE = 60.0

Machine = Callable[[int, float], float]  # seconds of an update, of so many threads at a time


def quiet(threads: int, now: float) -> float:
    return 1e-3 / threads


def busy(threads: int, now: float) -> float:
    """Two threads lose time slices."""
    return 1e-3 if threads == 1 else 6e-3


def busy_at_times(threads: int, now: float) -> float:
    return busy(threads, now) if now // 20 % 2 else quiet(threads, now)


def seven_of_eight(threads: int, now: float) -> float:
    """On one of eight cores another process runs half of the time, and all wait for the thread
    there."""
    return 1e-3 / threads * (2 if threads == 8 else 1)


def large(threads: int, now: float) -> float:
    """A slice is one update."""
    return 1.0 / threads


def train(machine: Machine, most: int, seconds: float = 5 * MINUTE) -> tuple[float, Counter]:
    """How many times as many updates were possible, and the seconds by number of threads."""
    pace, now, done, possible = Pace(most), 0.0, 0, 0.0
    spent: Counter = Counter()
    while now < seconds:
        updates, threads = pace.updates, pace.threads
        took = updates * machine(threads, now)
        possible += took / min(machine(n, now) for n in range(1, most + 1))
        spent[threads] += took
        now += took
        done += updates
        pace.took(updates, took)
    return possible / done, spent


@pytest.mark.parametrize(
    ("machine", "most", "best", "loss"),
    [
        (quiet, 1, 1, 1.0),
        (quiet, 2, 2, 1.01),
        (quiet, 5, 5, 1.01),
        (quiet, 64, 64, 1.01),
        (busy, 2, 1, 1.03),
        (busy_at_times, 2, 2, 1.1),
        (seven_of_eight, 8, 7, 1.02),
        (large, 2, 2, 1.03),
    ],
)
def test_trials_cost_little(machine: Machine, most: int, best: int, loss: float) -> None:
    times_as_many, spent = train(machine, most)
    assert 1.0 <= times_as_many <= loss
    assert spent.most_common(1)[0][0] == best


def test_noise_costs_little() -> None:
    random = np.random.default_rng(0)
    _, spent = train(lambda *now: quiet(*now) * random.lognormal(0, 0.2), 2)
    assert spent[2] > 0.95 * spent.total()


def test_other_processes_are_noticed_soon() -> None:
    _, spent = train(lambda threads, now: (quiet if now < 30 else busy)(threads, now), 2, 35)
    assert spent[1] > 3


def test_slices() -> None:
    """They grow to their length, and none is much longer."""
    pace, lengths = Pace(2), []
    for _ in range(1000):
        before = pace.updates
        lengths.append(pace.updates * busy(pace.threads, 0.0))
        pace.took(pace.updates, lengths[-1])
        assert pace.updates <= GROWTH * before
    assert np.median(lengths) == pytest.approx(SLICE_SECONDS, rel=0.05)
    assert max(lengths) < 2 * SLICE_SECONDS


@given(st.integers(1, 300), st.lists(st.floats(0.0, 1e3), max_size=60))
def test_any_durations(most: int, durations: list[float]) -> None:
    pace = Pace(most)
    for seconds in durations:
        pace.took(pace.updates, seconds)
        assert 1 <= pace.threads <= most
        assert pace.updates >= 1
