"""Schedules: right numbers, and the same ones wherever a training is cut and on every machine."""

import hashlib
from dataclasses import replace
from decimal import Context, Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.config import OPTIMIZERS, Config
from fastrnn.training import schedule
from fastrnn.training.schedule import (
    CORRECTION1,
    CORRECTION2,
    DECAY,
    ETA,
    dropout_keys,
    powers,
    steps,
    total_updates,
)

X = np.linspace(0, 1, 1001)


@pytest.mark.parametrize(
    ("length", "total"),
    [
        ({}, 270),
        ({"epochs": 2}, 60),
        ({"updates": 45}, 45),
        ({"epochs": 1, "updates": 45}, 30),
        ({"epochs": 2, "updates": 45}, 45),
        ({"updates": 0}, 0),
    ],
    ids=str,
)
def test_length(length: dict, total: int) -> None:
    assert total_updates(Config(**length), 30) == total


def test_the_reference_experiment_has_one_learning_rate() -> None:
    assert steps(Config(), 5, 3, 10).tolist() == [[0.1, 1, 1, 1]] * 3


def test_warm_up() -> None:
    config = Config(learning_rate=0.5, warmup=4)
    assert steps(config, 0, 6, 100)[:, ETA].tolist() == [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]
    assert steps(config, 0, 3, 2)[:, ETA].tolist() == [0.125, 0.25, 0.375]  # the training is short


@pytest.mark.parametrize("warmup", [0, 7])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("exponential", lambda final, x: final**x),
        ("cosine", lambda final, x: final + (1 - final) * (1 + np.cos(np.pi * x)) / 2),
    ],
)
def test_shapes(name: str, expected, warmup: int) -> None:
    config = Config(schedule=name, learning_rate=0.3, final_rate=0.1, warmup=warmup)
    eta = steps(config, warmup, 101, warmup + 100)[:, ETA]
    np.testing.assert_allclose(eta, 0.3 * expected(0.1, np.arange(101) / 100), rtol=1e-14)
    assert eta[0] == 0.3 and (np.diff(eta) < 0).all()
    assert steps(config, warmup + 100, 1, warmup + 100)[0, ETA] == pytest.approx(0.03, rel=1e-14)


def test_a_cosine_may_end_at_zero() -> None:
    config = Config(schedule="cosine", final_rate=0)
    eta = steps(config, 0, 102, 100)[:, ETA]
    assert (eta[:100] > 0).all() and eta[100:].tolist() == [0, 0]


@pytest.mark.parametrize("final", [0.001, 0.05, 0.5, 0.999])
def test_errors_are_as_stated(final: float) -> None:
    context = Context(prec=40)
    log = context.ln(Decimal(final))
    exact = [context.exp(context.multiply(log, Decimal(float(x)))) for x in X]
    found = schedule.exponential(final, X)
    errors = [(Decimal(float(f)) - e) / e for f, e in zip(found, exact, strict=True)]
    assert max(map(abs, errors)) < 2**-50
    half_wave = final + (1 - final) * (1 + np.cos(np.pi * X)) / 2
    assert np.abs(schedule.cosine(final, X) - half_wave).max() < 2**-51


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 10**7))
def test_powers(base: float, exponent: int) -> None:
    found = float(powers(base, np.array([exponent]))[0])
    exact = Context(prec=40).power(Decimal(base), exponent) if base or exponent else Decimal(1)
    assert abs(Decimal(found) - exact) <= exact * exponent * Decimal(2) ** -52 + Decimal("2e-308")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_corrections(optimizer: str) -> None:
    config = Config(optimizer=optimizer, schedule="cosine", warmup=2)
    rows = steps(config, 0, 50, 50)
    eta = rows[:, ETA]
    t = np.arange(1, 51)
    adam = optimizer in ("adam", "adamw")
    corrections = [1 - 0.9**t, 1 - 0.999**t] if adam else [1 + 0 * t] * 2
    for column, expected in zip((CORRECTION1, CORRECTION2), corrections, strict=True):
        np.testing.assert_allclose(rows[:, column], expected, rtol=1e-12)
    assert np.array_equal(rows[:, DECAY], 1 - eta * (0.01 if optimizer == "adamw" else 0))


@given(st.data())
def test_any_division_gives_the_same_bits(data: st.DataObject) -> None:
    config = Config(
        optimizer="adamw",
        schedule=data.draw(st.sampled_from(["constant", "exponential", "cosine"])),
        warmup=data.draw(st.integers(0, 30)),
        seed=data.draw(st.integers(0, 2**31 - 1)),
    )
    first = data.draw(st.integers(0, 10**9))
    total = first + data.draw(st.integers(0, 60))
    start = data.draw(st.integers(0, 50))
    count = data.draw(st.integers(0, 50 - start))
    part = steps(config, first + start, count, total)
    assert np.array_equal(part, steps(config, first, 50, total)[start : start + count])
    keys = dropout_keys(config.seed, first, 50, 3)
    part = dropout_keys(config.seed, first + start, count, 2)
    assert np.array_equal(part, keys[start : start + count, :2])


def test_the_same_bits_on_every_machine() -> None:
    """Recorded on one: a training that is moved goes on with the same numbers."""
    digest = hashlib.sha256()
    config = Config(optimizer="adamw", schedule="cosine", warmup=1000)
    for name in ("cosine", "exponential"):
        digest.update(steps(replace(config, schedule=name), 0, 5000, 5000).astype("<f8").tobytes())
    digest.update(dropout_keys(7, 0, 1000, 3).astype("<i8").tobytes())
    assert digest.hexdigest() == "14635c0dfac720adae78fa5a76b47e9619d2d01292579db29c60bae15e31378f"


def test_dropout_keys_are_all_different() -> None:
    keys = np.concatenate([dropout_keys(seed, 0, 500, 3).reshape(-1, 2) for seed in range(4)])
    assert keys.min() >= 0 and keys.max() < 2**32
    assert len(np.unique(keys, axis=0)) == len(keys)
    # Each of the 64 bits is set in half of them: 6000 draws have a standard deviation of 0.0065.
    bits = (keys[:, :, None] >> np.arange(32)) & 1
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.035


def test_settings_of_the_user_for_numpy_do_not_matter() -> None:
    with np.errstate(all="raise"):
        assert powers(0.5, np.array([10**9])).tolist() == [0]


def test_powers_of_nothing() -> None:
    assert powers(0.0, np.array([0, 1, 2])).tolist() == [1, 0, 0]
