"""A training on items: each as if it were alone."""

import numpy as np
import pytest

from fastrnn.config import Config
from fastrnn.evaluation import Evaluator
from fastrnn.kernels.entries import Record
from fastrnn.network import Network
from fastrnn.parameters import initial_parameters
from fastrnn.training.schedule import dropout_keys, steps

K, SEPARATOR = 7, 2
ITEMS = [[0, 5, 1], [4], [6, 6, 3, 1, 0], [3, 5]]


def alone(config, item):
    """Loss and gradient of one item from a state of zeros, in float64."""
    codes = np.array([SEPARATOR, *item, SEPARATOR], np.int32)[:, None]
    length = len(codes) - 1
    network = Network(Config(**config, seq_length=length, dtype="float64", loss="sum"), K)
    network.set_parameters(parameters_of(config))
    return network.loss_and_gradient(codes), network.gradient


def parameters_of(config):
    config = Config(**config, init="normal", sigma=0.6, dtype="float64", seq_length=3)
    return initial_parameters(config, K)


@pytest.mark.parametrize("loss", ["sum", "mean"])
@pytest.mark.parametrize("cell, layers", [("rnn", 1), ("lstm", 2), ("gru", 2)])
def test_gradient_is_that_of_each_item_alone(cell, layers, loss):
    model = {"cell": cell, "layers": layers, "hidden": 5}
    streams = [
        [code for item in items for code in [SEPARATOR, *item, SEPARATOR]]
        for items in (ITEMS[:2], ITEMS[2:])
    ]
    length = max(map(len, streams)) + 2
    codes = np.array([s + [SEPARATOR] * (length - len(s)) for s in streams], np.int32).T.copy()
    config = Config(**model, seq_length=length - 1, batch=2, dtype="float64", loss=loss)
    network = Network(config, K, separator=SEPARATOR)
    network.set_parameters(parameters_of(model))
    found = network.loss_and_gradient(codes)
    expected = [alone(model, item) for item in ITEMS]
    # The mean over what is predicted; a sum is so many times T.
    predicted = sum(len(item) + 1 for item in ITEMS)
    weight = (1 if loss == "mean" else length - 1) / predicted
    assert found == pytest.approx(weight * sum(nats for nats, _ in expected), rel=1e-13)
    for name, gradient in network.gradient.items():
        summed = weight * sum(gradients[name] for _, gradients in expected)
        np.testing.assert_allclose(gradient, summed, rtol=1e-10, atol=1e-13, err_msg=name)
    assert not network._states.after[:, :, :5].any()  # after an end


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_evaluation_of_items(cell):
    model = {"cell": cell, "layers": 2, "hidden": 5}
    network = Network(Config(**model, dtype="float64", seq_length=3), K)
    network.set_parameters(parameters_of(model))
    codes = np.array([c for i in ITEMS for c in [SEPARATOR, *i, SEPARATOR]], np.int32)[:, None]
    losses = Evaluator(network, 4, 1, separator=SEPARATOR).losses(codes)[:, 0]
    ends = np.cumsum([len(item) + 2 for item in ITEMS])
    assert not losses[ends[:-1] - 1].any()
    for item, end in zip(ITEMS, ends, strict=True):
        nats = losses[end - len(item) - 2 : end - 1].sum()
        assert nats == pytest.approx(alone(model, item)[0], rel=1e-13)


def train(network, codes, updates):
    config = network.config
    numbers = steps(config, 0, updates, updates), dropout_keys(0, 0, updates, config.layers)
    losses = np.empty(updates)
    network.train(codes, *numbers, Record(0.0, np.inf, -1, False), losses)
    return losses


@pytest.mark.parametrize("order, separator", [("chunks", None), ("sequential", SEPARATOR)])
def test_threads_change_nothing(order, separator):
    """Sequences from states of zeros, and items, by one thread and by three."""
    model = {"cell": "lstm", "layers": 2, "hidden": 20, "dropout": 0.3}
    config = Config(**model, seq_length=6, batch=2, order=order)
    rows = 5 * 7 if order == "chunks" else 5 * 6 + 1
    codes = np.random.default_rng(1).choice([0, 1, SEPARATOR], (rows, 2)).astype(np.int32)
    results = []
    for threads in (1, 3):
        network = Network(config, K, threads, separator)
        network.set_parameters(initial_parameters(config, K))
        results.append((train(network, codes, 5), network.parameters))
        assert network.state.any() == (order == "sequential")
    (losses, parameters), (others, same) = results
    assert np.array_equal(losses, others)
    assert all(np.array_equal(parameters[name], same[name]) for name in parameters)
    if order == "chunks":  # each update by itself gives the same
        network = Network(config, K)
        network.set_parameters(initial_parameters(config, K))
        first = network.loss_and_gradient(codes[:7], dropout_keys(0, 0, 1, 2)) * 0.001
        assert losses[0] == pytest.approx(first, rel=1e-12)
