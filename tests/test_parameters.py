"""Parameters: names and shapes of every model, and how they start."""

import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest

from fastrnn.config import CELLS, INITS, Architecture, Config
from fastrnn.parameters import (
    GATES,
    describe,
    initial_parameters,
    orthogonal_matrix,
    parameter_shapes,
    state_shape,
)

# Sizes are all different, so that no swapped axis goes unnoticed: m = 5, K = 7, B = 2, L = 3.
M, K, B, L = 5, 7, 2, 3


def model(cell: str, layers: int = L, **settings) -> Config:
    return Config(cell=cell, hidden=M, layers=layers, **settings)


@pytest.mark.parametrize(("cell", "g"), GATES.items())
def test_shapes(cell: str, g: int) -> None:
    assert list(parameter_shapes(model(cell, 1), K).items()) == [
        ("U", (g * M, K)),
        ("W", (g * M, M)),
        ("V", (K, M)),
        ("b", (g * M,)),
        *([("n", (M,))] if cell == "gru" else []),
        ("c", (K,)),
    ]
    assert list(parameter_shapes(model(cell), K).items()) == [
        ("U", (g * M, K)),
        ("W", (g * M, M)),
        ("X2", (g * M, M)),
        ("W2", (g * M, M)),
        ("X3", (g * M, M)),
        ("W3", (g * M, M)),
        ("V", (K, M)),
        *((f"b{layer}", (g * M,)) for layer in ("", 2, 3)),
        *((f"n{layer}", (M,)) for layer in ("", 2, 3) if cell == "gru"),
        ("c", (K,)),
    ]
    assert state_shape(model(cell), B) == (2 * L if cell == "lstm" else L, B, M)


def test_in_words() -> None:
    """And the number of parameters as PyTorch counts them, but for one bias of its two."""
    lstm = Architecture(cell="lstm", hidden=512, layers=2)
    assert describe(lstm, 65) == "LSTM, 2 × 512 hidden units, 3,316,289 parameters, float32"
    gru = Architecture(cell="gru", hidden=10, dtype="float64")
    assert describe(Architecture(hidden=1), 2).startswith("vanilla RNN, 1 hidden unit, ")
    assert describe(gru, 3) == "GRU, 10 hidden units, 463 parameters, float64"
    assert describe(Architecture(), 80) == (
        "vanilla RNN, 100 hidden units, 26,180 parameters, float32"
    )


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("cell", CELLS)
def test_start(cell: str, init: str) -> None:
    config = model(cell, init=init, seed=3)
    parameters = initial_parameters(config, K)
    exact = initial_parameters(replace(config, dtype="float64"), K)
    other = initial_parameters(replace(config, seed=4), K)
    shapes = parameter_shapes(config, K)
    assert list(parameters) == list(exact) == list(shapes)
    for name, shape in shapes.items():
        assert parameters[name].shape == shape
        assert (parameters[name].dtype, exact[name].dtype) == (np.float32, np.float64)
        assert np.array_equal(parameters[name], exact[name].astype(np.float32))
        drawn = len(shape) == 2 or init == "torch"
        assert drawn == (not np.array_equal(parameters[name], other[name]))
        if not drawn and not (cell == "lstm" and name.startswith("b")):
            assert not parameters[name].any()
        if cell == "lstm" and name.startswith("b"):
            i, f, g, o = exact[name].reshape(4, M)
            assert (f == 1).all()
            assert all(drawn == gate.any() for gate in (i, g, o))


def test_start_of_the_reference_experiment() -> None:
    """For ever: its results hang on every bit."""
    digest = hashlib.sha256()
    for array in initial_parameters(Config(), 65).values():
        digest.update(array.astype("<f4").tobytes())
    assert digest.hexdigest() == "905f57e6c375c3f90d05eb979f1db4d69a0a619f96669a6ce9cca08f1c9331ba"


@pytest.mark.parametrize("cell", CELLS)
def test_uniform_start_is_that_of_pytorch(cell: str) -> None:
    config = Config(cell=cell, hidden=100, layers=2, init="torch")
    bound = 1 / math.sqrt(100)
    for name, array in initial_parameters(config, 60).items():
        rows = array
        if name.startswith("b"):
            rows = np.delete(array, range(100, 200)) if cell == "lstm" else array
            # Of two uniform numbers, but for the candidate of a GRU, whose other bias is n.
            two = rows[:200] if cell == "gru" else rows
            assert bound < np.abs(two).max() < 2 * bound
            assert two.std() == pytest.approx(bound * math.sqrt(2 / 3), rel=0.15)
            rows = rows[200:] if cell == "gru" else rows[:0]
        if rows.size:
            assert 0.9 * bound < np.abs(rows).max() <= bound
            assert rows.std() == pytest.approx(bound / math.sqrt(3), rel=0.15)


@pytest.mark.parametrize("cell", CELLS)
def test_orthogonal_start(cell: str) -> None:
    config = Config(cell=cell, hidden=40, layers=2, init="orthogonal", dtype="float64")
    parameters = initial_parameters(config, 60)
    for name in ("W", "W2"):
        for gate in parameters[name].reshape(GATES[cell], 40, 40):
            assert np.allclose(gate @ gate.T, np.eye(40), atol=1e-13)
    for name, size in {"U": 60 + 40, "X2": 40 + 40, "V": 40 + 60}.items():
        bound = math.sqrt(6 / size)
        assert 0.95 * bound < np.abs(parameters[name]).max() <= bound


def test_no_direction_is_preferred() -> None:
    """Householder's matrices alone would have a negative diagonal more often than not."""
    rng = np.random.default_rng(1)
    drawn = np.array([orthogonal_matrix(rng.normal(size=(3, 3))) for _ in range(2000)])
    assert np.abs(drawn.mean(axis=0)).max() < 0.06  # five standard deviations
    assert (drawn**2).mean(axis=0) == pytest.approx(np.full((3, 3), 1 / 3), abs=0.04)
    rotations = np.linalg.det(drawn) > 0
    assert 0.4 < rotations.mean() < 0.6
