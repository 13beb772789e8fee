"""What a model consists of: its named parameters, and how they start.

Names and shapes, the same everywhere in the code, the checkpoints and the documentation:

    m  hidden units      U  (g·m, K)  input to hidden         h  (m,)  hidden state
    K  characters        W  (g·m, m)  hidden to hidden        a  (m,)  pre-activation
    T  sequence length   V  (K, m)    hidden to output        o  (K,)  logits
    B  parallel streams  b  (g·m,)    hidden bias             p  (K,)  probabilities
    L  layers            c  (K,)      output bias
    g  gates             n  (m,)      second bias of the GRU's candidate

The layers above the first have their number in the name: X2 (g·m, m), from layer 1 to layer 2, is
in place of U, beside W2, b2, n2. Gates are blocks of m rows, in PyTorch's order. With s for the
logistic function, and vectors multiplied element by element:

    a_t = W h_{t-1} + U[:, x_t] + b     (above the first layer, X2 h_t in place of U[:, x_t])

    rnn     h_t = tanh(a_t)

    lstm    i, f, g, o = a_t
            cell_t = s(f) cell_{t-1} + s(i) tanh(g)
            h_t = s(o) tanh(cell_t)

    gru     r, z, g = a_t, where g lacks its rows of W h_{t-1}, which are w
            h_t = (1 - s(z)) tanh(g + s(r) (w + n)) + s(z) h_{t-1}

    p_t = softmax(V h_t + c)            (of the last layer)

These are the formulas of torch.nn.RNN, LSTM and GRU, which have two biases where one would do: b
is their sum.
"""

from __future__ import annotations

import math

import numpy as np

from fastrnn.checks import counted
from fastrnn.config import Architecture, Config

Parameters = dict[str, np.ndarray]
"""Named arrays in the shapes above, in the order of `parameter_shapes`."""

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
STATES = {"rnn": 1, "lstm": 2, "gru": 1}
"""How many vectors of m numbers a layer hands on from one time step to the next."""

NAMES = {"rnn": "vanilla RNN", "lstm": "LSTM", "gru": "GRU"}


def parameter_shapes(architecture: Architecture, characters: int) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter by name, for a vocabulary of K = `characters`.

    Matrices come first, then vectors, each from the first layer to the output.
    """
    m, K, g = architecture.hidden, characters, GATES[architecture.cell]
    layers = ["", *map(str, range(2, architecture.layers + 1))]
    inputs = {f"X{layer}" if layer else "U": (g * m, m if layer else K) for layer in layers}
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (name, shape) in zip(layers, inputs.items(), strict=True):
        shapes |= {name: shape, f"W{layer}": (g * m, m)}
    shapes["V"] = (K, m)
    shapes |= {f"b{layer}": (g * m,) for layer in layers}
    if architecture.cell == "gru":
        shapes |= {f"n{layer}": (m,) for layer in layers}
    return shapes | {"c": (K,)}


def state_shape(architecture: Architecture, batch: int) -> tuple[int, int, int]:
    """Of what is handed on from chunk to chunk: L hidden states, then an LSTM's L cell states."""
    vectors = STATES[architecture.cell] * architecture.layers
    return vectors, batch, architecture.hidden


def initial_parameters(config: Config, characters: int) -> Parameters:
    """Parameters drawn as `config.init` says.

    - "normal": weights from N(0, sigma²), biases of zero; the reference experiment's.
    - "torch": everything uniform within ±1/√m, as in PyTorch.
    - "orthogonal": W orthogonal, gate by gate (Saxe 2013); the other weights uniform within
      ±√(6/(rows + columns)) of a gate (Glorot 2010); biases of zero.

    The bias of an LSTM's forget gate is 1 in each, so that it remembers at first (Gers 2000,
    Jozefowicz 2015). They are drawn in float64 and rounded, so both dtypes start from the same
    numbers.
    """
    rng = np.random.default_rng(config.seed)
    m = config.hidden

    def uniform(bound: float, shape: tuple[int, ...]) -> np.ndarray:
        return bound * (2 * rng.random(shape) - 1)

    def normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
        assert config.sigma is not None
        return rng.normal(0.0, config.sigma, shape) if len(shape) == 2 else np.zeros(shape)

    def torch(name: str, shape: tuple[int, ...]) -> np.ndarray:
        drawn = uniform(1 / math.sqrt(m), shape)
        if name.startswith("b"):
            # The second of its two biases, but for a GRU's candidate, which has it as n.
            summed = 2 * m if config.cell == "gru" else len(drawn)
            drawn[:summed] += uniform(1 / math.sqrt(m), (summed,))
        return drawn

    def orthogonal(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) == 1:
            return np.zeros(shape)
        rows, columns = (m if name != "V" else characters), shape[1]
        if name.startswith("W"):
            gates = [orthogonal_matrix(rng.normal(size=(m, m))) for _ in range(shape[0] // m)]
            return np.concatenate(gates)
        return uniform(math.sqrt(6 / (rows + columns)), shape)

    draw = {"normal": normal, "torch": torch, "orthogonal": orthogonal}[config.init]
    parameters = {}
    with np.errstate(over="ignore"):  # the training finds out that its loss is infinite
        for name, shape in parameter_shapes(config, characters).items():
            drawn = draw(name, shape)
            if config.cell == "lstm" and name.startswith("b"):
                drawn[m : 2 * m] = 1.0
            parameters[name] = drawn.astype(config.dtype)
    return parameters


def orthogonal_matrix(normal: np.ndarray) -> np.ndarray:
    """From a square matrix of normal numbers, one in which no direction is preferred.

    Householder's factorisation has a fixed choice of signs; those of R's diagonal undo it
    (Mezzadri 2007). The last bits are those of NumPy's LAPACK.
    """
    q, r = np.linalg.qr(normal)
    return q * np.copysign(1.0, np.diagonal(r))


def name_of(architecture: Architecture) -> str:
    """The kind and size of a model: "LSTM, 2 × 512 hidden units"."""
    layers = f"{architecture.layers} × " if architecture.layers > 1 else ""
    return f"{NAMES[architecture.cell]}, {layers}{counted(architecture.hidden, 'hidden unit')}"


def describe(architecture: Architecture, characters: int) -> str:
    """The model in a few words."""
    parameters = sum(map(math.prod, parameter_shapes(architecture, characters).values()))
    return f"{name_of(architecture)}, {parameters:,} parameters, {architecture.dtype}"


def per_character(loss: float, characters: int) -> tuple[float, float]:
    """Nats and bits per character of a loss summed over so many characters."""
    nats = loss / characters
    return nats, nats / math.log(2)


def loss_in_words(nats: float) -> str:
    """A loss per character."""
    return "{:.4f} nats ({:.4f} bits) per character".format(*per_character(nats, 1))
