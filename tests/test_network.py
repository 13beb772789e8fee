"""Networks of every cell, number of layers, dropout and optimizer: against recorded results of
PyTorch, against the NumPy reference, which test_reference.py holds against the same, and the same
bits however they are computed."""

import hashlib
import itertools
import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import CODES, MODELS, OPTIMIZED, TORCH, UPDATES, recorded_config, recorded_parameters
from recorded import OPTIMIZERS as RECORDED_OPTIMIZERS

from fastrnn import reference
from fastrnn.config import CELLS, DTYPES, Config
from fastrnn.kernels.entries import Record
from fastrnn.network import Network
from fastrnn.parameters import parameter_shapes, state_shape
from fastrnn.training.schedule import ETA, dropout_keys, steps

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}  # of one pass, relative to the largest entry
AFTER_UPDATES = {"float32": 2e-4, "float64": 1e-11}  # of twenty updates

# m, K, T, B all different, below and above whole vectors and tiles.
SIZES = [
    (1, 1, 1, 1),
    (5, 7, 4, 3),
    (16, 3, 1, 2),
    (17, 33, 6, 1),
    (33, 16, 3, 7),
    (8, 257, 2, 6),
    (100, 80, 25, 1),
    (129, 7, 3, 13),
]

OPTIMIZERS = {
    "adagrad": {"optimizer": "adagrad"},
    "adagrad, clipped": {"optimizer": "adagrad", "clip": 0.01},
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


def numbers_of(config, updates):
    """What the kernels are told of the first updates."""
    keys = dropout_keys(config.seed, 0, updates, config.layers)
    return steps(config, 0, updates, updates), keys


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
    numbers = numbers_of(config, UPDATES)
    network.train(CODES, *numbers, Record(0.0, 0.0, -1, False), np.empty(UPDATES))
    assert_close(network.parameters, recorded_parameters(model, optimizer), 1e-13)


# --- the reference --------------------------------------------------------------------------------


def check_one_update(config, K, threads):
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
    threads = itertools.cycle((1, 2, 3))
    for (m, K, T, B), dropout in itertools.product(SIZES, (0.0, 0.3)):
        config = Config(
            cell=cell, layers=layers, hidden=m, seq_length=T, batch=B, dropout=dropout, dtype=dtype
        )
        check_one_update(config, K, next(threads))


@settings(max_examples=60)
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
    check_one_update(config, K, threads)


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
    rows, keys = numbers_of(config, UPDATES)
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


# --- the same bits however they are computed ------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_training_is_loss_gradient_and_update_in_turn(cell, dtype):
    config = Config(
        cell=cell,
        hidden=20,
        layers=2,
        dropout=0.2,
        seq_length=5,
        batch=3,
        dtype=dtype,
        optimizer="adagrad",
    )
    *start, codes = setting(config, 30, updates=12)
    network = network_of(config, 30, *start)
    smooth_losses = np.empty(12)
    rows, keys = numbers_of(config, 12)
    network.train(codes, rows, keys, Record(40.0, 40.0, -1, True), smooth_losses)

    other = network_of(config, 30, *start)
    smooth = 40.0
    for i in range(12):
        loss = other.loss_and_gradient(codes[i * 5 : i * 5 + 6], keys[i : i + 1])
        smooth = 0.999 * smooth + (1 - 0.999) * loss
        assert smooth == smooth_losses[i]
        other.update(rows[i])
        other.state[...] = other._states.after[..., :20]
    for name, array in network.parameters.items():
        assert np.array_equal(array, other.parameters[name])
    assert np.array_equal(network.state, other.state)


# m, K, T, B, layers, optimizer
THREADED = [
    (100, 80, 40, 1, 1, "adagrad"),  # fewer streams than threads, which share the time steps, too
    (5, 3, 4, 2, 3, "sgd"),  # fewer columns than threads
    (40, 300, 1, 7, 2, "rmsprop"),
    (33, 20, 6, 25, 1, "adagrad"),  # three groups of streams
    (130, 30, 3, 3, 2, "adam"),  # four threads share the columns in pairs
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_same_bits_with_any_number_of_threads(cell, dtype, monkeypatch):
    """And however many streams are taken at a time; of deep models with dropout and a clipped
    norm."""
    for m, K, T, B, layers, optimizer in THREADED:
        deep = {"dropout": 0.3, "clip_norm": 0.5} if layers > 1 else {}
        sizes = {"layers": layers, "hidden": m, "seq_length": T, "batch": B}
        config = Config(cell=cell, dtype=dtype, optimizer=optimizer, **sizes, **deep)
        *start, codes = setting(config, K, updates=9)
        rows, keys = numbers_of(config, 9)
        results = {}
        for threads, streams in ((1, 1000), (1, 3), (2, 12), (3, 2), (4, 12)):
            monkeypatch.setattr("fastrnn.layout.STREAMS", streams)
            network = network_of(config, K, *start, threads)
            smooth_losses = np.empty(8)
            # The smooth loss rises and falls: the best model is copied on the way.
            record = Record(30.0, 30.0, -1, True)
            record = network.train(codes[: 8 * T + 1], rows[:8], keys[:8], record, smooth_losses)
            loss = network.loss_and_gradient(codes[8 * T :], keys[8:])
            arrays = *network._trained, smooth_losses, *network.gradient.values()
            results[threads, streams] = record, loss, [array.tobytes() for array in arrays]
        first = results.pop((1, 1000))
        assert all(result == first for result in results.values()), (m, K, T, B)


def test_the_number_of_threads_may_change_between_updates():
    config = Config(hidden=33, seq_length=6, batch=3)
    *start, codes = setting(config, 20, updates=9)
    codes[:25] %= 7  # so that the rows of U that have a gradient change
    results = []
    for most, turns in ((1, (1,)), (4, (4, 1, 3, 2, 2, 4))):
        network = network_of(config, 20, *start, most)
        record, smooth_losses = Record(60.0, 60.0, -1, True), np.empty(9)
        for i in range(9):
            network.use_threads(turns[i % len(turns)])
            chunk = codes[i * 6 : i * 6 + 7]
            record = network.train(chunk, *numbers_of(config, 1), record, smooth_losses[i : i + 1])
        arrays = *network._trained, smooth_losses, *network.gradient.values()
        results.append((record, [array.tobytes() for array in arrays]))
    assert results[0] == results[1]


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_carried_state(cell, layers):
    """One chunk of T = 12 has the states and the loss of three of 4."""
    whole = Config(cell=cell, layers=layers, hidden=9, seq_length=12, batch=2, dtype="float64")
    part = replace(whole, seq_length=4, clip_norm=whole.clip_norm)
    *start, codes = setting(whole, 6)
    network, parts = network_of(whole, 6, *start), network_of(part, 6, *start)
    total = network.loss(codes)
    losses = []
    for t in (0, 4, 8):
        losses.append(parts.loss(codes[t : t + 5]))
        assert np.array_equal(parts._states.H[:, :, 1:], network._states.H[:, :, t + 1 : t + 5])
        parts.state[...] = parts._states.after[..., :9]
    assert np.array_equal(parts.state, network._states.after[..., :9])
    assert sum(losses) == pytest.approx(total, rel=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_padding_stays_zero(cell, dtype):
    family = {"cell": cell, "layers": 2, "optimizer": "adagrad", "dropout": 0.1}
    config = Config(hidden=5, seq_length=6, batch=2, dtype=dtype, learning_rate=10.0, **family)
    parameters, squares, state, codes = setting(config, 7, updates=50)
    zeros = {"squares": {name: 0 * array for name, array in squares["squares"].items()}}
    network = network_of(config, 7, parameters, zeros, state)
    network.train(codes, *numbers_of(config, 50), Record(9.0, 9.0, -1, False), np.empty(50))
    for name in ("weight", "gradient", "squares"):
        flat = getattr(network._flat, name)
        assert flat.any()
        network.layout.set(flat, {name: np.zeros_like(array) for name, array in parameters.items()})
        assert not flat.any()


@pytest.mark.parametrize("cell", CELLS)
def test_restored_state_is_complete(cell):
    """Also the padding, which a divergence fills with NaN."""
    family = {"cell": cell, "layers": 2, "optimizer": "adagrad"}
    config = Config(hidden=5, seq_length=4, learning_rate=3e38, clip=np.inf, **family)
    *start, codes = setting(config, 7, updates=9)
    network = network_of(config, 7, *start)
    before = network.copy_state()
    network.train(codes, *numbers_of(config, 9), Record(9.0, 9.0, -1, False), np.empty(9))
    assert not network.is_finite()
    network.restore_state(before)
    assert network.is_finite() and not network._states.before[..., 5:].any()
    assert network.loss_and_gradient(codes[:5]) > 0
    assert all(np.isfinite(array).all() for array in network.gradient.values())
    assert np.isfinite(network._flat.gradient).all()


HASHES_OF_TRAININGS = """
import hashlib, numpy as np
from itertools import product
from fastrnn import layout
from fastrnn.config import Config
from fastrnn.kernels.entries import Record
from fastrnn.network import Network
from fastrnn.parameters import initial_parameters
from fastrnn.training.schedule import dropout_keys, steps
from fastrnn.kernels.writing import Choice
from fastrnn.writing import Writer
# One stream; groups of several, of which the last is smaller; threads that share columns.
VANILLA = [
    (100, 80, 25, 1, 1, {}), (33, 20, 18, 9, 2, {}), (70, 30, 40, 1, 2, {})
]
FAMILY = [
    (33, 20, 7, 9, 2, dict(cell="lstm", layers=2, dropout=0.3, schedule="cosine", warmup=20)),
    (70, 30, 5, 1, 2, dict(cell="gru", layers=2, optimizer="rmsprop", momentum=0.5)),
    (40, 30, 5, 3, 1, dict(layers=3, optimizer="adamw", schedule="exponential")),
]
layout.STREAMS = 2
cut = hashlib.sha256()
for cases, dtypes, updates in ((VANILLA, ("float32", "float64"), 300), (FAMILY, ("float32",), 60)):
    digest = hashlib.sha256()
    for dtype, (m, K, T, B, threads, family) in product(dtypes, cases):
        config = Config(hidden=m, seq_length=T, batch=B, dtype=dtype, **family)
        net = Network(config, K, threads)
        net.set_parameters(initial_parameters(config, K))
        text = np.random.default_rng(0).integers(0, K, (updates * T + 1, B)).astype(np.int32)
        text = np.minimum(text, np.roll(text, 7, axis=0))
        losses = np.empty(updates)
        numbers = steps(config, 0, updates, updates), dropout_keys(0, 0, updates, config.layers)
        net.train(text, *numbers, Record(110.0, 110.0, -1, True), losses)
        assert len(set(losses)) == updates
        states = [array for state in net.optimizer_state.values() for array in state.values()]
        for array in (losses, *net.parameters.values(), *states, net.state):
            digest.update(np.ascontiguousarray(array))
        writer = Writer(net)
        writer.read(np.array([3]))
        digest.update(writer.write(np.linspace(0, 0.99, 50)[:, None])[:, 0].copy())
        writer = writer.copies(5, 2)
        for choice in (Choice(0.7, top_k=9), Choice(top_p=0.8, end=3, longest=7)):
            cut.update(writer.write(np.linspace(0, 0.99, 50 * 5).reshape(50, 5), choice))
    print(digest.hexdigest())
print(cut.hexdigest())
"""
# As it was before the other models came.
VANILLA = "8dc307cb7567dcdd6bd033ae4e855bf29e9717d0226113297391b01d60f81c81"


def test_same_bits_on_every_processor():
    """300 updates compiled for this machine, for AVX2 and for plain SSE2."""
    targets = {
        "host": {},
        "AVX2": {
            "NUMBA_CPU_NAME": "haswell",
            "NUMBA_CPU_FEATURES": "+sse2,+avx,+avx2,+fma,+bmi,+bmi2",
        },
        "SSE2": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
    }
    if os.uname().machine not in ("x86_64", "AMD64"):
        targets = {"host": {}, "generic": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}}
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-c", HASHES_OF_TRAININGS],
            env=os.environ | target,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, target in targets.items()
    }
    hashes = {name: process.communicate()[0].split() for name, process in processes.items()}
    vanilla, *others = hashes["host"]
    assert vanilla == VANILLA
    assert [len(other) for other in others] == [hashlib.sha256().digest_size * 2] * 2
    assert all(of_target == [vanilla, *others] for of_target in hashes.values()), hashes
