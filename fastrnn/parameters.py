"""What a model is: its named parameters, and how they start.

Names and shapes, the same everywhere in the code, the checkpoints and the documentation:

    m  hidden units      U  (m, K)  input to hidden       h  (m,)  hidden state
    K  characters        W  (m, m)  hidden to hidden      a  (m,)  pre-activation
    T  sequence length   V  (K, m)  hidden to output      o  (K,)  logits
    B  parallel streams  b  (m,)    hidden bias           p  (K,)  probabilities
                         c  (K,)    output bias

    h_t = tanh(W h_{t-1} + U[:, x_t] + b),   p_t = softmax(V h_t + c)
"""

from __future__ import annotations

import math

import numpy as np

from fastrnn.config import Config

Parameters = dict[str, np.ndarray]
"""Named arrays in the shapes above, in the order of `parameter_shapes`."""


def parameter_shapes(config: Config, characters: int) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter by name, for a vocabulary of K = `characters`."""
    m, K = config.hidden, characters
    return {"U": (m, K), "W": (m, m), "V": (K, m), "b": (m,), "c": (K,)}


def initial_parameters(config: Config, characters: int) -> Parameters:
    """Weights drawn from N(0, sigma²) and biases of zero.

    They are drawn in float64 and rounded, so both dtypes start from the same numbers.
    """
    rng = np.random.default_rng(config.seed)
    with np.errstate(over="ignore"):  # the training finds out that its loss is infinite
        return {
            name: (
                rng.normal(0.0, config.sigma, shape) if len(shape) == 2 else np.zeros(shape)
            ).astype(config.dtype)
            for name, shape in parameter_shapes(config, characters).items()
        }


def describe(config: Config, characters: int) -> str:
    """The model in a few words."""
    parameters = sum(math.prod(shape) for shape in parameter_shapes(config, characters).values())
    return f"vanilla RNN, {config.hidden} hidden units, {parameters:,} parameters, {config.dtype}"


def per_character(smooth_loss: float, seq_length: int) -> tuple[float, float]:
    """Nats and bits per character of a loss summed over `seq_length` characters."""
    nats = smooth_loss / seq_length
    return nats, nats / math.log(2)
