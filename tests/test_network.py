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
from fastrnn.network import Network
from fastrnn.parameters import parameter_shapes

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
NAMES = ("U", "W", "V", "b", "c")


def state(config, K, seed=0):
    """Parameters, memory, hidden state and characters as they may be in a training."""
    rng = np.random.default_rng(seed)
    shapes = parameter_shapes(config, K)
    scale = 0.5 / np.sqrt(config.hidden)
    parameters = {k: rng.normal(0, scale, s).astype(config.dtype) for k, s in shapes.items()}
    memory = {k: rng.uniform(0.1, 2, s).astype(config.dtype) for k, s in shapes.items()}
    hidden = rng.uniform(-1, 1, (config.batch, config.hidden)).astype(config.dtype)
    codes = rng.integers(0, K, (config.seq_length + 1, config.batch)).astype(np.int32)
    return parameters, memory, hidden, codes


def network(config, K, parameters, memory, hidden):
    made = Network(config, K)
    made.set_parameters(parameters)
    made.hidden[...] = hidden
    for name in NAMES:
        made.memory[name][...] = memory[name]
    return made


def relative(got, wanted):
    """Largest difference relative to the largest entry."""
    return np.abs(got - wanted).max() / max(np.abs(wanted).max(), 1e-300)


def check_one_update(m, K, T, B, dtype):
    config = Config(hidden=m, seq_length=T, batch=B, dtype=dtype)
    parameters, memory, hidden, codes = state(config, K)
    net = network(config, K, parameters, memory, hidden)
    tolerance = TOLERANCE[dtype]

    loss = net.loss_and_gradient(codes)
    forward = reference.forward(parameters, hidden[None], codes)
    gradient = reference.backward(parameters, forward, codes)
    assert abs(loss - forward.loss) <= tolerance * max(1, forward.loss)
    assert net.loss(codes) == loss
    # A sum over the chunk may cancel in a small array: the whole gradient is the measure. With
    # K = 1 the softmax is 1, and every gradient exactly 0.
    largest = max(np.abs(wanted).max() for wanted in gradient.values())
    for name in NAMES:
        assert np.abs(net.gradient[name] - gradient[name]).max() <= tolerance * largest, name

    net.update()
    reference.update(config, parameters, gradient, {"squares": memory}, 0)
    for name in NAMES:
        assert relative(net.parameters[name], parameters[name]) <= tolerance, name
        assert relative(net.memory[name], memory[name]) <= tolerance, name


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
def test_training_is_loss_gradient_and_update_in_turn(dtype):
    config = Config(hidden=20, seq_length=5, batch=3, dtype=dtype)
    parameters, memory, hidden, _ = state(config, 30)
    codes = np.random.default_rng(5).integers(0, 30, (12 * 5 + 1, 3)).astype(np.int32)
    net = network(config, 30, parameters, memory, hidden)
    smooth_losses = np.empty(12)
    net.train(codes, Record(40.0, 40.0, -1, True), smooth_losses)

    other = network(config, 30, parameters, memory, hidden)
    smooth = 40.0
    for i in range(12):
        chunk = codes[i * 5 : i * 5 + 6]
        smooth = 0.999 * smooth + (1 - 0.999) * other.loss_and_gradient(chunk)
        assert smooth == smooth_losses[i]
        other.update()
        other.hidden[...] = other._states.after[:, :20]
    assert all(np.array_equal(net.parameters[k], other.parameters[k]) for k in NAMES)
    assert np.array_equal(net.hidden, other.hidden)


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
def test_same_bits_with_any_number_of_threads(sizes, dtype, monkeypatch):
    """And however many streams are taken at a time."""
    m, K, T, B = sizes
    config = Config(hidden=m, seq_length=T, batch=B, dtype=dtype)
    parameters, memory, hidden, _ = state(config, K)
    codes = np.random.default_rng(5).integers(0, K, (9 * T + 1, B)).astype(np.int32)
    results = {}
    for threads, streams in ((1, 1000), (1, 3), (2, 12), (3, 2), (4, 12)):
        monkeypatch.setattr("fastrnn.network.STREAMS", streams)
        net = Network(config, K, threads)
        net.set_parameters(parameters)
        net.hidden[...] = hidden
        for name in NAMES:
            net.memory[name][...] = memory[name]
        smooth_losses = np.empty(8)
        # The smooth loss rises and falls: the best model is copied on the way.
        record = net.train(codes[: 8 * T + 1], Record(30.0, 30.0, -1, True), smooth_losses)
        loss = net.loss_and_gradient(codes[8 * T :])
        assert net.loss(codes[8 * T :]) == loss
        arrays = *net._trained, smooth_losses, *net.gradient.values()
        results[threads, streams] = record, loss, [array.tobytes() for array in arrays]
    first = results.pop((1, 1000))
    assert all(result == first for result in results.values())


def test_carried_state():
    """One chunk of T = 12 has the hidden states and the loss of three of 4."""
    whole, part = (Config(hidden=9, seq_length=T, batch=2, dtype="float64") for T in (12, 4))
    parameters, memory, hidden, codes = state(whole, 6)
    net = network(whole, 6, parameters, memory, hidden)
    parts = network(part, 6, parameters, memory, hidden)
    total = net.loss(codes)
    losses = []
    for t in (0, 4, 8):
        losses.append(parts.loss(codes[t : t + 5]))
        assert np.array_equal(parts._states.H[:, 1:], net._states.H[:, t + 1 : t + 5])
        parts.hidden[...] = parts._states.after[:, :9]
    assert sum(losses) == pytest.approx(total, rel=1e-15)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_padding_stays_zero(dtype):
    config = Config(hidden=5, seq_length=6, batch=2, dtype=dtype, learning_rate=10.0)
    parameters, memory, hidden, _ = state(config, 7)
    net = network(config, 7, parameters, {k: 0 * v for k, v in memory.items()}, hidden)
    codes = np.random.default_rng(0).integers(0, 7, (50 * 6 + 1, 2)).astype(np.int32)
    net.train(codes, Record(9.0, 9.0, -1, False), np.empty(50))
    for weights in (net._weights, net._gradient, net._memory):
        assert not weights.U[7:].any() and not weights.U[:, 5:].any()
        assert not weights.W[5:].any() and not weights.W[:, 5:].any()
        assert not weights.V[7:].any() and not weights.V[:, 5:].any()
        assert not weights.b[5:].any() and not weights.c[7:].any()


def test_restored_state_is_complete():
    """Also the padding, which a divergence fills with NaN."""
    config = Config(hidden=5, seq_length=4, learning_rate=1e39, clip=np.inf)
    parameters, memory, hidden, _ = state(config, 7)
    net = network(config, 7, parameters, memory, hidden)
    codes = np.random.default_rng(0).integers(0, 7, (9 * 4 + 1, 1)).astype(np.int32)
    before = net.copy_state()
    net.train(codes, Record(9.0, 9.0, -1, False), np.empty(9))
    assert not net.is_finite()
    net.restore_state(before)
    assert net.is_finite() and not net._states.before[:, 5:].any()
    assert net.loss_and_gradient(codes[:5]) > 0
    assert not any(getattr(net._gradient, name)[..., 5:].any() for name in "UWVb")


def test_clipping():
    config = Config(hidden=4, seq_length=3, dtype="float64", clip=1e-3)
    parameters, memory, hidden, codes = state(config, 5)
    net = network(config, 5, parameters, memory, hidden)
    net.loss_and_gradient(codes)
    clipped = {k: np.clip(v, -1e-3, 1e-3) for k, v in net.gradient.items()}
    assert any((np.abs(v) > 1e-3).any() for v in net.gradient.values())
    net.update()
    for name in NAMES:
        assert relative(net.memory[name], memory[name] + clipped[name] ** 2) < 1e-15


HASH_OF_A_TRAINING = """
import hashlib, numpy as np
from itertools import product
from fastrnn import network
from fastrnn.config import Config
from fastrnn.kernels.entries import Record
from fastrnn.parameters import initial_parameters
# One stream; groups of several, of which the last is smaller; threads that share columns.
CASES = (100, 80, 25, 1, 1), (33, 20, 18, 9, 2), (70, 30, 40, 1, 2)
digest = hashlib.sha256()
network.STREAMS = 2
for dtype, (m, K, T, B, threads) in product(("float32", "float64"), CASES):
    config = Config(hidden=m, seq_length=T, batch=B, dtype=dtype)
    net = network.Network(config, K, threads)
    net.set_parameters(initial_parameters(config, K))
    text = np.random.default_rng(0).integers(0, K, (300 * T + 1, B)).astype(np.int32)
    text = np.minimum(text, np.roll(text, 7, axis=0))
    losses = np.empty(300)
    net.train(text, Record(110.0, 110.0, -1, True), losses)
    assert len(set(losses)) == 300
    for array in (losses, *net.parameters.values(), *net.memory.values(), net.hidden):
        digest.update(np.ascontiguousarray(array))
    digest.update(network.Writer(net).sample([3], np.linspace(0, 0.99, 50)))
print(digest.hexdigest())
"""


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
            [sys.executable, "-c", HASH_OF_A_TRAINING],
            env=os.environ | target,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, target in targets.items()
    }
    hashes = {name: process.communicate()[0].strip() for name, process in processes.items()}
    assert len(hashes["host"]) == hashlib.sha256().digest_size * 2
    assert set(hashes.values()) == {hashes["host"]}, hashes
