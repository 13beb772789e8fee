"""The kernels against the NumPy reference, which test_reference.py holds against the definition."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn import reference
from fastrnn.config import Config
from fastrnn.kernels.entries import Record
from fastrnn.network import CELLS, Network
from fastrnn.parameters import parameter_shapes, state_shape
from fastrnn.training.schedule import dropout_keys, steps

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def state(config, K, seed=0):
    """Parameters, sums of squares, state and characters as they may be in a training."""
    rng = np.random.default_rng(seed)
    shapes = parameter_shapes(config, K)
    scale = 0.5 / np.sqrt(config.hidden)
    parameters = {k: rng.normal(0, scale, s).astype(config.dtype) for k, s in shapes.items()}
    squares = {k: rng.uniform(0.1, 2, s).astype(config.dtype) for k, s in shapes.items()}
    carried = rng.uniform(-1, 1, state_shape(config, config.batch)).astype(config.dtype)
    codes = rng.integers(0, K, (config.seq_length + 1, config.batch)).astype(np.int32)
    return parameters, squares, carried, codes


def network(config, K, parameters, squares, carried, threads=1):
    made = Network(config, K, threads)
    made.set_parameters(parameters)
    made.state[...] = carried
    made.set_optimizer_state({"squares": squares})
    return made


def numbers_of(config, updates):
    """What the kernels are told of the first updates."""
    keys = dropout_keys(config.seed, 0, updates, config.layers)
    return steps(config, 0, updates, updates), keys


def relative(got, wanted):
    """Largest difference relative to the largest entry."""
    return np.abs(got - wanted).max() / max(np.abs(wanted).max(), 1e-300)


def check_one_update(m, K, T, B, dtype):
    config = Config(hidden=m, seq_length=T, batch=B, dtype=dtype)
    parameters, squares, carried, codes = state(config, K)
    net = network(config, K, parameters, squares, carried)
    tolerance = TOLERANCE[dtype]

    loss = net.loss_and_gradient(codes)
    forward = reference.forward(parameters, carried, codes)
    gradient = reference.backward(parameters, forward, codes)
    assert abs(loss - forward.loss) <= tolerance * max(1, forward.loss)
    assert net.loss(codes) == loss
    # A sum over the chunk may cancel in a small array: the whole gradient is the measure. With
    # K = 1 the softmax is 1, and every gradient exactly 0.
    largest = max(np.abs(wanted).max() for wanted in gradient.values())
    for name, got in net.gradient.items():
        assert np.abs(got - gradient[name]).max() <= tolerance * largest, name

    net.update(steps(config, 0, 1, 1)[0])
    reference.update(config, parameters, gradient, {"squares": squares}, 0)
    for name in parameters:
        assert relative(net.parameters[name], parameters[name]) <= tolerance, name
        assert relative(net.optimizer_state["squares"][name], squares[name]) <= tolerance, name


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    "sizes",
    # m, K, T, B all different, below and above whole vectors and tiles
    [
        (1, 1, 1, 1),
        (2, 3, 4, 5),
        (5, 2, 7, 1),
        (16, 33, 1, 3),
        (17, 16, 9, 2),
        (100, 80, 25, 1),
        (33, 65, 26, 7),
        (129, 7, 3, 13),
        (8, 257, 2, 6),
    ],
    ids=str,
)
def test_one_update(sizes, dtype):
    check_one_update(*sizes, dtype)


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.integers(1, n) for n in (70, 70, 12, 9)]), st.sampled_from(list(TOLERANCE)))
def test_one_update_of_any_size(sizes, dtype):
    check_one_update(*sizes, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
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
    parameters, squares, carried, _ = state(config, 30)
    codes = np.random.default_rng(5).integers(0, 30, (12 * 5 + 1, 3)).astype(np.int32)
    net = network(config, 30, parameters, squares, carried)
    smooth_losses = np.empty(12)
    numbers = numbers_of(config, 12)
    net.train(codes, *numbers, Record(40.0, 40.0, -1, True), smooth_losses)

    other = network(config, 30, parameters, squares, carried)
    smooth = 40.0
    for i in range(12):
        chunk = codes[i * 5 : i * 5 + 6]
        smooth = 0.999 * smooth + (1 - 0.999) * other.loss_and_gradient(
            chunk, numbers[1][i : i + 1]
        )
        assert smooth == smooth_losses[i]
        other.update(numbers[0][i])
        other.state[...] = other._states.after[..., :20]
    for name, array in net.parameters.items():
        assert np.array_equal(array, other.parameters[name])
    assert np.array_equal(net.state, other.state)


@pytest.mark.parametrize("cell", ["rnn", "lstm × 2", "gru × 3"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    "sizes",
    [
        (100, 80, 40, 1),  # fewer streams than threads, which share the time steps, too
        (5, 3, 4, 2),  # fewer columns than threads
        (40, 300, 1, 7),
        (33, 20, 6, 25),  # three groups of streams
        (130, 30, 3, 3),  # four threads share the columns in pairs
    ],
    ids=str,
)
def test_same_bits_with_any_number_of_threads(sizes, dtype, cell, monkeypatch):
    """And however many streams are taken at a time."""
    m, K, T, B = sizes
    cell, _, layers = cell.partition(" × ")
    family = {} if cell == "rnn" else {"layers": int(layers), "dropout": 0.3, "clip_norm": 0.7}
    sizes = {"hidden": m, "seq_length": T, "batch": B, "dtype": dtype}
    config = Config(cell=cell, optimizer="adagrad", **sizes, **family)
    parameters, squares, carried, _ = state(config, K)
    codes = np.random.default_rng(5).integers(0, K, (9 * T + 1, B)).astype(np.int32)
    results = {}
    for threads, streams in ((1, 1000), (1, 3), (2, 12), (3, 2), (4, 12)):
        monkeypatch.setattr("fastrnn.network.STREAMS", streams)
        net = network(config, K, parameters, squares, carried, threads)
        smooth_losses = np.empty(8)
        # The smooth loss rises and falls: the best model is copied on the way.
        record = Record(30.0, 30.0, -1, True)
        record = net.train(codes[: 8 * T + 1], *numbers_of(config, 8), record, smooth_losses)
        loss = net.loss_and_gradient(codes[8 * T :])
        assert net.loss(codes[8 * T :]) == loss
        arrays = *net._trained, smooth_losses, *net.gradient.values()
        results[threads, streams] = record, loss, [array.tobytes() for array in arrays]
    first = results.pop((1, 1000))
    assert all(result == first for result in results.values())


def test_the_number_of_threads_may_change_between_updates():
    config = Config(hidden=33, seq_length=6, batch=3)
    parameters, squares, carried, _ = state(config, 20)
    # Each time other characters, so that the rows of U that have a gradient change.
    codes = np.random.default_rng(5).integers(0, 20, (9 * 6 + 1, 3)).astype(np.int32)
    codes[:25] %= 7
    results = []
    for most, turns in ((1, (1,)), (4, (4, 1, 3, 2, 2, 4))):
        net = network(config, 20, parameters, squares, carried, most)
        record, smooth_losses = Record(60.0, 60.0, -1, True), np.empty(9)
        for i in range(9):
            net.use_threads(turns[i % len(turns)])
            chunk = codes[i * 6 : i * 6 + 7]
            record = net.train(chunk, *numbers_of(config, 1), record, smooth_losses[i : i + 1])
        arrays = *net._trained, smooth_losses, *net.gradient.values()
        results.append((record, [array.tobytes() for array in arrays]))
    assert results[0] == results[1]


@pytest.mark.parametrize("cell", CELLS)
def test_carried_state(cell):
    """One chunk of T = 12 has the hidden states and the loss of three of 4."""
    family = {"cell": cell, "layers": 2, "optimizer": "adagrad", "dtype": "float64"}
    whole, part = (Config(hidden=9, seq_length=T, batch=2, **family) for T in (12, 4))
    parameters, squares, carried, codes = state(whole, 6)
    net = network(whole, 6, parameters, squares, carried)
    parts = network(part, 6, parameters, squares, carried)
    total = net.loss(codes)
    losses = []
    for t in (0, 4, 8):
        losses.append(parts.loss(codes[t : t + 5]))
        assert np.array_equal(parts._states.H[:, :, 1:], net._states.H[:, :, t + 1 : t + 5])
        parts.state[...] = parts._states.after[..., :9]
    assert sum(losses) == pytest.approx(total, rel=1e-15)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("cell", CELLS)
def test_padding_stays_zero(cell, dtype):
    family = {"cell": cell, "layers": 2, "optimizer": "adagrad", "dropout": 0.1}
    config = Config(hidden=5, seq_length=6, batch=2, dtype=dtype, learning_rate=10.0, **family)
    shapes = parameter_shapes(config, 7)
    parameters, squares, carried, _ = state(config, 7)
    net = network(config, 7, parameters, {k: 0 * v for k, v in squares.items()}, carried)
    codes = np.random.default_rng(0).integers(0, 7, (50 * 6 + 1, 2)).astype(np.int32)
    net.train(codes, *numbers_of(config, 50), Record(9.0, 9.0, -1, False), np.empty(50))
    for name in ("weight", "gradient", "squares"):
        flat = getattr(net._flat, name)
        net.layout.set(flat, {name: np.zeros(shape) for name, shape in shapes.items()})
        assert not flat.any()


@pytest.mark.parametrize("cell", CELLS)
def test_restored_state_is_complete(cell):
    """Also the padding, which a divergence fills with NaN."""
    family = {"cell": cell, "layers": 2, "optimizer": "adagrad"}
    config = Config(hidden=5, seq_length=4, learning_rate=1e39, clip=np.inf, **family)
    parameters, squares, carried, _ = state(config, 7)
    net = network(config, 7, parameters, squares, carried)
    codes = np.random.default_rng(0).integers(0, 7, (9 * 4 + 1, 1)).astype(np.int32)
    before = net.copy_state()
    net.train(codes, *numbers_of(config, 9), Record(9.0, 9.0, -1, False), np.empty(9))
    assert not net.is_finite()
    net.restore_state(before)
    assert net.is_finite() and not net._states.before[..., 5:].any()
    assert net.loss_and_gradient(codes[:5]) > 0
    assert all(np.isfinite(array).all() for array in net.gradient.values())
    assert np.isfinite(net._flat.gradient).all()


def test_clipping():
    config = Config(hidden=4, seq_length=3, dtype="float64", clip=1e-3)
    parameters, squares, carried, codes = state(config, 5)
    net = network(config, 5, parameters, squares, carried)
    net.loss_and_gradient(codes)
    clipped = {k: np.clip(v, -1e-3, 1e-3) for k, v in net.gradient.items()}
    assert any((np.abs(v) > 1e-3).any() for v in net.gradient.values())
    net.update(steps(config, 0, 1, 1)[0])
    for name, got in net.optimizer_state["squares"].items():
        assert relative(got, squares[name] + clipped[name] ** 2) < 1e-15


HASHES_OF_TRAININGS = """
import hashlib, numpy as np
from itertools import product
from fastrnn import network
from fastrnn.config import Config
from fastrnn.kernels.entries import Record
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
network.STREAMS = 2
cut = hashlib.sha256()
for cases, dtypes, updates in ((VANILLA, ("float32", "float64"), 300), (FAMILY, ("float32",), 60)):
    digest = hashlib.sha256()
    for dtype, (m, K, T, B, threads, family) in product(dtypes, cases):
        config = Config(hidden=m, seq_length=T, batch=B, dtype=dtype, **family)
        net = network.Network(config, K, threads)
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
