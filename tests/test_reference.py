"""The NumPy reference against the definition, written out element by element."""

import itertools
import math

import numpy as np
import pytest

from fastrnn import reference
from fastrnn.config import Config
from fastrnn.gradcheck import complex_step
from fastrnn.parameters import initial_parameters


def defined_loss(parameters, h, codes):
    """h_t = tanh(W h_{t-1} + U[:, x_t] + b), p = softmax(V h + c), loss = -Σ_t ln p_t[x_{t+1}]."""
    U, W, V, b, c = (parameters[name] for name in "UWVbc")
    m, K = U.shape
    loss = 0.0
    for x, target in itertools.pairwise(codes):
        h = [math.tanh(sum(W[i, j] * h[j] for j in range(m)) + U[i, x] + b[i]) for i in range(m)]
        o = [sum(V[k, i] * h[i] for i in range(m)) + c[k] for k in range(K)]
        loss -= o[target] - math.log(sum(map(math.exp, o)))
    return loss


@pytest.fixture
def setting():
    config = Config(hidden=4, seq_length=6, batch=3, sigma=0.5, dtype="float64")
    rng = np.random.default_rng(0)
    parameters = {
        k: v + rng.normal(0, 0.1, v.shape) for k, v in initial_parameters(config, 5).items()
    }
    return parameters, rng.uniform(-1, 1, (3, 4)), rng.integers(0, 5, (7, 3)).astype(np.int32)


def test_loss_is_the_defined_one_averaged_over_streams(setting):
    parameters, h, codes = setting
    losses = [defined_loss(parameters, h[s], codes[:, s]) for s in range(3)]
    assert reference.forward(parameters, h, codes).loss == pytest.approx(np.mean(losses), rel=1e-14)


def test_gradient_is_the_derivative(setting):
    parameters, _, codes = setting
    forward = reference.forward(parameters, np.zeros((3, 4)), codes)
    gradient = reference.backward(parameters, forward, codes)
    for name, exact in ((name, complex_step(parameters, name, codes)) for name in parameters):
        assert np.abs(gradient[name] - exact).max() < 1e-14


def test_update_is_adagrad():
    parameters, memory = {"b": np.array([1.0, 2.0])}, {"b": np.array([3.0, 0.0])}
    reference.update(parameters, {"b": np.array([1.0, -9.0])}, memory, 0.1, 5.0)
    assert memory["b"].tolist() == [4.0, 25.0]
    assert parameters["b"] == pytest.approx([1 - 0.1 / 2, 2 + 0.1], rel=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_everything_stays_in_the_dtype(dtype):
    config = Config(hidden=3, seq_length=2, batch=2, dtype=dtype)
    parameters = initial_parameters(config, 4)
    codes = np.zeros((3, 2), np.int32)
    forward = reference.forward(parameters, np.zeros((2, 3), dtype), codes)
    gradient = reference.backward(parameters, forward, codes)
    memory = {k: np.zeros_like(v) for k, v in parameters.items()}
    reference.update(parameters, gradient, memory, 0.1, 5.0)
    arrays = [forward.h, forward.p, *gradient.values(), *memory.values(), *parameters.values()]
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}
