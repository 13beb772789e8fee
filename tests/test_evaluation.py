"""What a model makes of a text that it reads: against training's loss, and the NumPy reference."""

import numpy as np
import pytest

from fastrnn import reference
from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.evaluation import Evaluator
from fastrnn.network import Network
from fastrnn.parameters import parameter_shapes, state_shape

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
MODELS = ("rnn × 1", "lstm × 2", "gru × 3")


def setting(model, m, K, T, B, dtype):
    """A model as it may be after a training, the states of its streams, and their characters."""
    cell, _, layers = model.partition(" × ")
    config = Config(cell=cell, layers=int(layers), hidden=m, seq_length=T, batch=B, dtype=dtype)
    rng = np.random.default_rng(0)
    shapes = parameter_shapes(config, K)
    parameters = {k: rng.normal(0, 1 / np.sqrt(m), s) for k, s in shapes.items()}
    network = Network(config, K)
    network.set_parameters(parameters)
    state = rng.uniform(-1, 1, state_shape(config, B)).astype(dtype)
    return network, state, rng.integers(0, K, (4 * T + 3, B)).astype(np.int32)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "sizes",
    # m, K, T, B all different, below and above whole vectors and tiles
    [(1, 1, 2, 5), (17, 16, 9, 2), (33, 65, 20, 1), (40, 7, 3, 25)],
    ids=str,
)
def test_losses(sizes, model, dtype, monkeypatch):
    """Of training's network, of the reference; by any division into calls, threads, and chunks."""
    *_, T, B = sizes
    network, state, codes = setting(model, *sizes, dtype)
    evaluator = Evaluator(network, T, B)
    evaluator.state[...] = state
    losses = evaluator.losses(codes)
    assert losses.shape == (len(codes) - 1, B) and losses.dtype == dtype

    network.state[...] = state
    first = losses[:T].astype(np.float64)
    assert network.loss(codes[: T + 1]) == pytest.approx(first.sum() / B, rel=1e-15, abs=1e-300)
    parameters = {k: v.astype(np.float64) for k, v in network.parameters.items()}
    forward = reference.forward(parameters, state.astype(np.float64), codes)
    wanted = -np.log(np.take_along_axis(forward.p, codes[1:, :, None], 2)[..., 0])
    assert np.abs(losses - wanted).max() <= TOLERANCE[dtype] * max(1, wanted.max())

    calls = (2, T, T + 1, 2 * T - 1)
    for threads, seq_length, streams in ((1, T, 3), (2, 1, 1000), (3, T + 5, 2), (4, T, 1)):
        monkeypatch.setattr("fastrnn.layout.STREAMS", streams)
        monkeypatch.setattr("fastrnn.evaluation.CALL_WORK", streams)
        other = Evaluator(network, seq_length, B, threads)
        other.state[...] = state
        parts, begin = [], 0
        for rows in (*calls, len(codes)):
            end = min(begin + rows, len(codes) - 1)
            parts.append(other.losses(codes[begin : end + 1]))
            begin = end
        assert np.array_equal(np.concatenate(parts), losses)
        assert np.array_equal(other.state, evaluator.state)


def test_state_starts_at_zero_and_of_one_row_there_is_no_loss():
    network, _, codes = setting("lstm × 2", 5, 7, 4, 3, "float32")
    evaluator = Evaluator(network, 4, 3)
    assert not evaluator.state.any()
    assert evaluator.losses(codes[:1]).shape == (0, 3)
    assert not evaluator.state.any()


def test_memory_is_refused_before_it_is_taken():
    network, *_ = setting("rnn × 1", 5, 7, 4, 3, "float32")
    with pytest.raises(FastrnnError, match=r"the evaluation would take .* use a smaller batch"):
        Evaluator(network, 10**9, 10**9)
