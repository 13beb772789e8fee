"""The NumPy reference against the definition, against PyTorch and against exact derivatives."""

import itertools
import math

import numpy as np
import pytest
from recorded import (
    CODES,
    MODELS,
    OPTIMIZED,
    OPTIMIZERS,
    TORCH,
    UPDATES,
    T,
    recorded_config,
    recorded_parameters,
)

from fastrnn import reference
from fastrnn.config import Config
from fastrnn.gradcheck import complex_step, largest_difference
from fastrnn.parameters import initial_parameters, parameter_shapes, state_shape
from fastrnn.training.schedule import dropout_keys

CELLS = ("rnn", "lstm", "gru")
KEYS = dropout_keys(seed=0, first_update=0, updates=1, layers=3)[0]


def setting(config, K, seed=0):
    """Parameters, state and characters as they may be in a training."""
    rng = np.random.default_rng(seed)
    shapes = parameter_shapes(config, K)
    parameters = {k: rng.normal(0, 0.6, s).astype(config.dtype) for k, s in shapes.items()}
    state = rng.uniform(-1, 1, state_shape(config, config.batch)).astype(config.dtype)
    codes = rng.integers(0, K, (config.seq_length + 1, config.batch)).astype(np.int32)
    return parameters, state, codes


# --- the definition -------------------------------------------------------------------------------


def defined_loss(parameters, h, codes):
    """h_t = tanh(W h_{t-1} + U[:, x_t] + b), p_t = softmax(V h_t + c), loss = -Σ_t ln p_t[x_{t+1}],
    element by element."""
    U, W, V, b, c = (parameters[name] for name in "UWVbc")
    m, K = U.shape
    loss = 0.0
    for x, target in itertools.pairwise(codes):
        h = [math.tanh(sum(W[i, j] * h[j] for j in range(m)) + U[i, x] + b[i]) for i in range(m)]
        o = [sum(V[k, i] * h[i] for i in range(m)) + c[k] for k in range(K)]
        loss -= o[target] - math.log(sum(map(math.exp, o)))
    return loss


def test_loss_is_the_defined_one_averaged_over_streams():
    config = Config(hidden=4, seq_length=6, batch=3, dtype="float64")
    parameters, state, codes = setting(config, 5)
    losses = [defined_loss(parameters, state[0, s], codes[:, s]) for s in range(3)]
    found = reference.forward(parameters, state, codes).loss
    assert found == pytest.approx(np.mean(losses), rel=1e-14)


# --- PyTorch --------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_loss_state_and_gradient_are_those_of_torch(model):
    parameters, codes = recorded_parameters(model), CODES[: T + 1]
    forward = reference.forward(parameters, TORCH[f"{model}/state"], codes)
    gradient = reference.backward(parameters, forward, codes)
    assert forward.loss == pytest.approx(float(TORCH[f"{model}/loss"]), rel=1e-14)
    np.testing.assert_allclose(forward.state, TORCH[f"{model}/after"], rtol=0, atol=1e-14)
    expected = recorded_parameters(model, "gradient")
    assert list(gradient) == list(expected)
    for name in expected:
        np.testing.assert_allclose(gradient[name], expected[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("model", OPTIMIZED)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_parameters_after_twenty_updates_are_those_of_torch(model, optimizer):
    config, parameters = recorded_config(model, optimizer), recorded_parameters(model)
    optimizer_state = reference.optimizer_state(config, parameters)
    state = TORCH[f"{model}/state"]
    for i in range(UPDATES):
        codes = CODES[i * T : (i + 1) * T + 1]
        forward = reference.forward(parameters, state, codes)
        gradient = reference.backward(parameters, forward, codes)
        reference.update(config, parameters, gradient, optimizer_state, i)
        state = forward.state
    expected = recorded_parameters(model, optimizer)
    for name in expected:
        np.testing.assert_allclose(parameters[name], expected[name], rtol=0, atol=1e-14)


# --- derivatives, and what must not matter --------------------------------------------------------


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_gradient_is_the_derivative(cell, layers, dropout):
    config = Config(
        cell=cell, layers=layers, dropout=dropout, hidden=4, seq_length=6, batch=3, dtype="float64"
    )
    parameters, state, codes = setting(config, 5)
    inputs = state, codes, KEYS[:layers], dropout
    gradient = reference.backward(parameters, reference.forward(parameters, *inputs), codes)
    for name in parameters:
        exact = complex_step(parameters, name, *inputs)
        assert largest_difference(gradient[name], exact) < 1e-14, name


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_carried_state(cell, layers):
    """One chunk of T = 12 has the states and the loss of three of 4."""
    config = Config(cell=cell, layers=layers, hidden=9, seq_length=12, batch=2, dtype="float64")
    parameters, state, codes = setting(config, 6)
    whole = reference.forward(parameters, state, codes)
    losses = []
    for t in (0, 4, 8):
        part = reference.forward(parameters, state, codes[t : t + 5])
        state = part.state
        losses.append(part.loss)
    np.testing.assert_allclose(state, whole.state, rtol=0, atol=1e-14)
    assert sum(losses) == pytest.approx(whole.loss, rel=1e-14)


@pytest.mark.parametrize("optimizer", reference.RULES)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_everything_stays_in_the_dtype(dtype, cell, optimizer):
    momentum = {"momentum": 0.5} if optimizer in ("rmsprop", "sgd") else {}
    config = Config(
        cell=cell,
        layers=2,
        hidden=3,
        seq_length=2,
        batch=2,
        dtype=dtype,
        dropout=0.5,
        optimizer=optimizer,
        clip_norm=1e-3,
        weight_decay=0.1,
        **momentum,
    )
    parameters = initial_parameters(config, 4)
    codes = np.zeros((3, 2), np.int32)
    state = np.zeros(state_shape(config, 2), dtype)
    forward = reference.forward(parameters, state, codes, KEYS[:2], config.dropout)
    gradient = reference.backward(parameters, forward, codes)
    optimizer_state = reference.optimizer_state(config, parameters)
    reference.update(config, parameters, gradient, optimizer_state, 0)
    arrays = [forward.state, forward.p, *gradient.values(), *parameters.values()]
    for buffer in optimizer_state.values():
        arrays += buffer.values()
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


def test_update_is_adagrad_with_its_epsilon_in_the_root():
    config = Config(optimizer="adagrad", learning_rate=0.1, clip=5.0, epsilon=9.0)
    parameters, squares = {"b": np.array([1.0, 2.0])}, {"b": np.array([6.0, 15.0])}
    reference.update(config, parameters, {"b": np.array([1.0, -9.0])}, {"squares": squares}, 0)
    assert squares["b"].tolist() == [7.0, 40.0]
    assert parameters["b"] == pytest.approx([1 - 0.1 / 4, 2 + 0.5 / 7], rel=1e-15)


# --- dropout --------------------------------------------------------------------------------------


def defined_hash(key, index):
    """24 bits of a place and two numbers."""
    x = (index * 0x9E3779B1 + key[0]) % 2**32
    x ^= x >> 16
    x = x * 0x21F0AAAD % 2**32
    x ^= key[1]
    x ^= x >> 15
    x = x * 0x735A2D97 % 2**32
    x ^= x >> 15
    return x >> 8


@pytest.mark.parametrize("dropout", [0.0, 0.3, 0.75])
def test_mask_is_the_defined_hash(dropout):
    T, B, m = 3, 4, 5
    for key in KEYS.tolist():
        mask = reference.dropout_mask(key, dropout, T, B, m)
        assert mask.shape == (T, B, m)
        for t, stream, unit in np.ndindex(T, B, m):
            kept = defined_hash(key, (stream * T + t) * m + unit) >= round(dropout * 2**24)
            assert mask[t, stream, unit] == kept


def test_mask_is_on_the_way_up_and_not_on_the_recurrent_path():
    config = Config(hidden=9, layers=2, seq_length=4, batch=3, dtype="float64")
    parameters, state, codes = setting(config, 6)
    plain = reference.forward(parameters, state, codes)
    dropped = reference.forward(parameters, state, codes, KEYS[:2], 0.25)
    assert np.array_equal(plain.layers[0].states, dropped.layers[0].states)
    assert not np.array_equal(plain.layers[1].states, dropped.layers[1].states)
    for layer, key in zip(dropped.layers, KEYS, strict=False):
        mask = reference.dropout_mask(key, 0.25, 4, 3, 9)
        assert 0 < mask.sum() < mask.size
        expected = np.where(mask, layer.states[0, 1:] / 0.75, 0)
        np.testing.assert_allclose(layer.outputs.reshape(4, 3, 9), expected, rtol=1e-15)


def correlation(a, b):
    """Of two samples of equal variance, in standard deviations of that of independent ones."""
    a, b = (x.ravel().astype(float) for x in (a, b))
    return abs(np.corrcoef(a, b)[0, 1]) * math.sqrt(a.size)


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9])
def test_masks_are_as_good_as_independent(dropout):
    """Over neighbours in a mask, layers, and successive updates."""
    T, B, m = 25, 32, 128
    keys = dropout_keys(seed=1, first_update=1000, updates=2, layers=2)
    masks = [reference.dropout_mask(key, dropout, T, B, m) for key in keys.reshape(4, 2)]
    for mask in masks:
        deviation = math.sqrt(dropout * (1 - dropout) / mask.size)
        assert abs(mask.mean() - (1 - dropout)) < 4 * deviation
        assert correlation(mask[1:], mask[:-1]) < 4
        assert correlation(mask[:, 1:], mask[:, :-1]) < 4
        assert correlation(mask[..., 1:], mask[..., :-1]) < 4
    for a, b in itertools.combinations(masks, 2):
        assert correlation(a, b) < 4


def test_each_unit_is_dropped_independently_over_updates():
    updates, m, dropout = 4000, 50, 0.4
    keys = dropout_keys(seed=2, first_update=0, updates=updates, layers=1)[:, 0]
    masks = np.array([reference.dropout_mask(key, dropout, 1, 1, m)[0, 0] for key in keys])
    deviation = math.sqrt(dropout * (1 - dropout) / updates)
    assert np.abs(masks.mean(axis=0) - (1 - dropout)).max() < 4 * deviation
    between = np.corrcoef(masks.T.astype(float)) - np.eye(m)
    assert np.abs(between).max() * math.sqrt(updates) < 5  # of 1225 pairs
    assert max(correlation(masks[1:, i], masks[:-1, i]) for i in range(m)) < 4.5
