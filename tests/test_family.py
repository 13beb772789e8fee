"""Every cell, number of layers, dropout and optimizer in the kernels, against recorded results of
PyTorch, and against the NumPy reference, which test_reference.py holds against the same."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import CODES, MODELS, OPTIMIZED, TORCH, UPDATES, recorded_config, recorded_parameters
from recorded import OPTIMIZERS as RECORDED_OPTIMIZERS

from fastrnn import reference
from fastrnn.config import Config
from fastrnn.kernels.entries import Record
from fastrnn.network import Network
from fastrnn.parameters import parameter_shapes, state_shape
from fastrnn.training.schedule import ETA, dropout_keys, steps

CELLS = ("rnn", "lstm", "gru")
DTYPES = ("float32", "float64")
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}  # of one pass, relative to the largest entry
AFTER_UPDATES = {"float32": 2e-4, "float64": 1e-11}  # of twenty updates

# m, K, T, B all different, below and above whole vectors and tiles.
SIZES = [(5, 7, 4, 3), (16, 3, 1, 2), (17, 33, 6, 1), (33, 16, 3, 7)]

OPTIMIZERS = {
    "adagrad": {"optimizer": "adagrad"},
    "adagrad, decay, clipped norm": {
        "optimizer": "adagrad",
        "weight_decay": 0.1,
        "clip_norm": 0.5,
    },
    "rmsprop": {"optimizer": "rmsprop", "rho": 0.9},
    "rmsprop, momentum, decay": {
        "optimizer": "rmsprop",
        "rho": 0.8,
        "epsilon": 1e-3,
        "momentum": 0.7,
        "weight_decay": 0.2,
        "input_rate": 0.25,
    },
    "adam": {"optimizer": "adam"},
    "adam, decay, clipped": {
        "optimizer": "adam",
        "beta1": 0.8,
        "beta2": 0.95,
        "weight_decay": 0.1,
        "clip": 0.01,
        "clip_norm": 0.5,
    },
    "adamw, cosine": {"optimizer": "adamw", "schedule": "cosine", "warmup": 3, "input_rate": 9.0},
    "sgd": {"optimizer": "sgd"},
    "sgd, momentum, decay": {"optimizer": "sgd", "momentum": 0.6, "weight_decay": 0.1},
    "sgd, nesterov, clipped norm": {
        "optimizer": "sgd",
        "momentum": 0.8,
        "nesterov": True,
        "clip_norm": 0.5,
        "schedule": "exponential",
    },
}


def setting(config, K, updates=1, seed=0):
    """Parameters, optimizer state, state and characters as they may be in a training."""
    rng = np.random.default_rng(seed)
    scale = 1 / np.sqrt(config.hidden)
    shapes = parameter_shapes(config, K)
    parameters = {k: rng.normal(0, scale, s).astype(config.dtype) for k, s in shapes.items()}
    optimizer_state = reference.optimizer_state(config, parameters)
    for name, buffer in optimizer_state.items():
        low, high = (0.1, 2.0) if name == "squares" else (-0.1, 0.1)
        for array in buffer.values():
            array[...] = rng.uniform(low, high, array.shape)
    state = rng.uniform(-1, 1, state_shape(config, config.batch)).astype(config.dtype)
    codes = rng.integers(0, K, (updates * config.seq_length + 1, config.batch)).astype(np.int32)
    return parameters, optimizer_state, state, codes


def network_of(config, K, parameters, optimizer_state, state, threads=1):
    network = Network(config, K, threads)
    network.set_parameters(parameters)
    network.set_optimizer_state(optimizer_state)
    network.state[...] = state
    return network


def assert_close(got, wanted, tolerance):
    """All arrays, relative to the largest entry of any: a sum may cancel in a small one."""
    assert got.keys() == wanted.keys()
    largest = max(np.abs(array).max() for array in wanted.values())
    for name, array in wanted.items():
        assert got[name].shape == array.shape
        assert np.abs(got[name] - array).max() <= tolerance * largest, name


# --- PyTorch --------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_loss_and_gradient_are_those_of_torch(model):
    config = recorded_config(model)
    network = Network(config, int(CODES.max()) + 1)
    network.set_parameters(recorded_parameters(model))
    network.state[...] = TORCH[f"{model}/state"]
    loss = network.loss_and_gradient(CODES[: config.seq_length + 1])
    assert loss == pytest.approx(float(TORCH[f"{model}/loss"]), rel=1e-14)
    assert_close(network.gradient, recorded_parameters(model, "gradient"), 1e-14)


@pytest.mark.parametrize("model", OPTIMIZED)
@pytest.mark.parametrize("optimizer", RECORDED_OPTIMIZERS)
def test_parameters_after_twenty_updates_are_those_of_torch(model, optimizer):
    config = recorded_config(model, optimizer)
    network = Network(config, int(CODES.max()) + 1, threads=2)
    network.set_parameters(recorded_parameters(model))
    network.state[...] = TORCH[f"{model}/state"]
    rows = steps(config, 0, UPDATES, UPDATES)
    keys = dropout_keys(config.seed, 0, UPDATES, config.layers)
    network.train(CODES, rows, keys, Record(0.0, 0.0, -1, False), np.empty(UPDATES))
    assert_close(network.parameters, recorded_parameters(model, optimizer), 1e-13)


# --- the reference --------------------------------------------------------------------------------


def check_loss_and_gradient(config, K, threads):
    parameters, optimizer_state, state, codes = setting(config, K)
    network = network_of(config, K, parameters, optimizer_state, state, threads)
    keys = dropout_keys(config.seed, 0, 1, config.layers)
    tolerance = TOLERANCE[config.dtype]
    for given_keys, dropout in ((keys, config.dropout), (None, 0.0)):
        loss = network.loss_and_gradient(codes, given_keys)
        forward = reference.forward(parameters, state, codes, keys[0], dropout)
        gradient = reference.backward(parameters, forward, codes)
        assert abs(loss - forward.loss) <= tolerance * max(1, forward.loss)
        assert_close(network.gradient, gradient, tolerance)
    assert network.loss(codes) == loss
    assert np.array_equal(network.state, state)
    number = 4
    step = steps(config, number, 1, UPDATES)[0]
    network.update(step)
    reference.update(
        replace(config, learning_rate=step[ETA]), parameters, gradient, optimizer_state, number
    )
    assert_close(network.parameters, parameters, tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_loss_gradient_and_update(cell, layers, dtype):
    for (m, K, T, B), dropout, threads in itertools.product(SIZES, (0.0, 0.3), (1, 2, 3)):
        config = Config(
            cell=cell, layers=layers, hidden=m, seq_length=T, batch=B, dropout=dropout, dtype=dtype
        )
        check_loss_and_gradient(config, K, threads)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.integers(1, n) for n in (70, 70, 12, 9)]),
    st.sampled_from(CELLS),
    st.integers(1, 4),
    st.sampled_from((0.0, 0.5, 0.9)),
    st.sampled_from(DTYPES),
    st.integers(1, 3),
)
def test_loss_gradient_and_update_of_any_size(sizes, cell, layers, dropout, dtype, threads):
    m, K, T, B = sizes
    config = Config(
        cell=cell, layers=layers, hidden=m, seq_length=T, batch=B, dropout=dropout, dtype=dtype
    )
    check_loss_and_gradient(config, K, threads)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", [("rnn", 1), ("lstm", 2), ("gru", 3)], ids=str)
def test_twenty_updates(model, optimizer, dtype):
    """Of successive chunks, so the state is carried; with dropout, and by two threads."""
    (cell, layers), (m, K, T, B) = model, (17, 7, 4, 3)
    config = Config(
        cell=cell,
        layers=layers,
        hidden=m,
        seq_length=T,
        batch=B,
        dropout=0.3,
        dtype=dtype,
        updates=UPDATES,
        **{"clip": math.inf, "clip_norm": math.inf, "learning_rate": 0.01} | OPTIMIZERS[optimizer],
    )
    parameters, optimizer_state, state, codes = setting(config, K, UPDATES)
    network = network_of(config, K, parameters, optimizer_state, state, threads=2)
    rows = steps(config, 0, UPDATES, UPDATES)
    keys = dropout_keys(config.seed, 0, UPDATES, layers)
    smooth_losses = np.empty(UPDATES)
    network.train(codes, rows, keys, Record(0.0, 0.0, -1, False), smooth_losses)

    smooth, clipped = 0.0, False
    for i in range(UPDATES):
        chunk = codes[i * T : (i + 1) * T + 1]
        forward = reference.forward(parameters, state, chunk, keys[i], config.dropout)
        gradient = reference.backward(parameters, forward, chunk)
        clipped |= math.hypot(*map(np.linalg.norm, gradient.values())) > config.clip_norm
        scheduled = replace(config, learning_rate=rows[i, ETA])
        reference.update(scheduled, parameters, gradient, optimizer_state, i)
        state = forward.state
        smooth = 0.999 * smooth + 0.001 * forward.loss
        assert smooth_losses[i] == pytest.approx(smooth, rel=AFTER_UPDATES[dtype])
    assert clipped == (config.clip_norm < math.inf)
    assert_close(network.parameters, parameters, AFTER_UPDATES[dtype])
    for name, buffer in optimizer_state.items():
        assert_close(network.optimizer_state[name], buffer, AFTER_UPDATES[dtype])
    np.testing.assert_allclose(network.state, state, rtol=0, atol=AFTER_UPDATES[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_same_bits_with_any_number_of_threads(cell, layers, dtype, monkeypatch):
    """And however many streams are taken at a time, with dropout and a clipped norm."""
    shapes = [(40, 20, 9, 1), (5, 3, 4, 2), (17, 40, 1, 7), (33, 20, 6, 25)]
    for (m, K, T, B), optimizer in zip(shapes, ("adam", "sgd", "rmsprop", "adagrad"), strict=True):
        config = Config(
            cell=cell,
            layers=layers,
            hidden=m,
            seq_length=T,
            batch=B,
            dropout=0.4,
            dtype=dtype,
            optimizer=optimizer,
            clip_norm=0.5,
        )
        start = setting(config, K, updates=6)
        codes = start[-1]
        rows, keys = steps(config, 0, 5, 5), dropout_keys(config.seed, 0, 6, layers)
        results = {}
        for threads, streams in ((1, 1000), (1, 3), (2, 12), (3, 2), (4, 12)):
            monkeypatch.setattr("fastrnn.network.STREAMS", streams)
            network = network_of(config, K, *start[:-1], threads)
            smooth_losses = np.empty(5)
            record = network.train(
                codes[: 5 * T + 1], rows, keys[:5], Record(30.0, 30.0, -1, True), smooth_losses
            )
            loss = network.loss_and_gradient(codes[5 * T :], keys[5:])
            arrays = *network._trained, smooth_losses, *network.gradient.values()
            results[threads, streams] = record, loss, [array.tobytes() for array in arrays]
        first = results.pop((1, 1000))
        assert all(result == first for result in results.values()), (m, K, T, B)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_carried_state(cell, layers):
    """One chunk of T = 12 has the states and the loss of three of 4, to the last bit."""
    whole = Config(cell=cell, layers=layers, hidden=9, seq_length=12, batch=2, dtype="float64")
    part = replace(whole, seq_length=4, clip_norm=whole.clip_norm)
    parameters, optimizer_state, state, codes = setting(whole, 6)
    network = network_of(whole, 6, parameters, optimizer_state, state)
    parts = network_of(part, 6, parameters, optimizer_state, state)
    total = network.loss(codes)
    losses = []
    for t in (0, 4, 8):
        losses.append(parts.loss(codes[t : t + 5]))
        parts.state[...] = parts._states.after[:, :, :9]
    assert np.array_equal(parts.state, network._states.after[:, :, :9])
    assert sum(losses) == pytest.approx(total, rel=1e-15)
