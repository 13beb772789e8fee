"""Errors of exp, tanh, sigmoid, log and 1/√x over their whole ranges, against long double."""

import numba
import numpy as np
import pytest

from fastrnn.kernels import elementwise
from fastrnn.kernels.compile import ENTRY
from fastrnn.kernels.simd import lanes_of, load, store


def compiled(function):
    @numba.njit(**ENTRY)
    def run(x, y):
        for i in range(0, x.size, lanes_of(x)):
            store(y, i, function(load(x, i)))

    return run


EXACT = {
    "exp": np.exp,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "log": np.log,
    "rsqrt": lambda x: 1 / np.sqrt(x),
}
FUNCTIONS = {name: compiled(getattr(elementwise, name)) for name in EXACT}
# In units in the last place; the docstring of elementwise.py quotes them.
BOUNDS = {"exp": 1.1, "tanh": 2.9, "sigmoid": 2.5, "log": 1.0, "rsqrt": 1.3}


def apply(name, x):
    y = np.empty_like(x)
    FUNCTIONS[name](x, y)
    return y


def arguments(name, dtype):
    """Arguments of every size at which the function is neither 0, 1 nor infinite."""
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    count = 1 << 18
    if name == "exp":
        x = rng.uniform(np.log(info.tiny), np.log(info.max), count)
        x[: count // 2] = rng.choice([-1, 1], count // 2) * 10.0 ** rng.uniform(-12, 1, count // 2)
    elif name == "tanh":
        x = rng.choice([-1, 1], count) * 10.0 ** rng.uniform(-30, 1.4, count)
    elif name == "sigmoid":
        x = rng.uniform(elementwise.FORMATS[info.bits].sigmoid_lowest, 40, count)
        x[: count // 2] = rng.uniform(-10, 10, count // 2)
    else:
        largest = np.log2(info.max) - (2 if name == "rsqrt" else 0)
        x = 2.0 ** rng.uniform(np.log2(info.tiny), largest, count)
        x[: count // 2] = rng.uniform(0.5, 2.0, count // 2)
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_in_ulp(name, dtype):
    x = arguments(name, dtype)
    exact = EXACT[name](x.astype(np.longdouble))
    assert np.finfo(np.longdouble).eps < np.finfo(np.float64).eps / 1000
    ulp = np.spacing(np.abs(exact).astype(dtype)).astype(np.longdouble)
    error = float(np.max(np.abs(apply(name, x) - exact) / ulp))
    assert 0.4 < error <= BOUNDS[name]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_values(dtype):
    x = np.zeros(16, dtype)
    x[:6] = np.nan, np.inf, -np.inf, 0.0, -0.0, 1e4
    exp, tanh = apply("exp", x), apply("tanh", x)
    all_ones = np.full(x.nbytes, 255, np.uint8).view(dtype)
    for nan in (x, -x, all_ones):
        assert np.isnan([apply(name, nan)[0] for name in FUNCTIONS]).all()
    assert np.array_equal(exp[1:6], np.array([np.inf, 0, 1, 1, np.inf], dtype))
    assert np.array_equal(tanh[1:6], np.array([1, -1, 0, 0, 1], dtype))
    assert np.signbit(tanh[4]) and not np.signbit(tanh[3])
    assert apply("log", x + 1)[3] == 0 and apply("log", x)[1] == np.inf


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_where_its_results_end(dtype):
    """Around the smallest normal and the largest number, neighbour by neighbour."""
    info = np.finfo(dtype)
    for edge in (np.log(info.tiny), np.log(info.max)):
        x = np.full(4096, edge, dtype)
        integers = x.view(f"i{x.itemsize}")
        integers += np.arange(-2048, 2048, dtype=integers.dtype)
        exact = np.exp(x.astype(np.longdouble))
        got = apply("exp", x)
        normal = (exact >= info.tiny) & (exact <= info.max)
        ulp = np.spacing(exact[normal].astype(dtype)).astype(np.longdouble)
        # At the very edge a rounding decides whether a result still is a number.
        inside = (got[normal] != 0) & np.isfinite(got[normal])
        assert inside.mean() > 0.99
        assert np.max(np.abs(got[normal] - exact[normal])[inside] / ulp[inside]) <= 1.1
        assert set(got[~normal]) <= {0.0, np.inf, info.tiny, info.max}
