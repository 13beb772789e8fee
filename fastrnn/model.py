"""What a model is: its configuration, its named parameters, and how they start.

Names and shapes, the same everywhere in the code, the checkpoints and the documentation:

    m  hidden units      U  (m, K)  input to hidden       h  (m,)  hidden state
    K  characters        W  (m, m)  hidden to hidden      a  (m,)  pre-activation
    T  sequence length   V  (K, m)  hidden to output      o  (K,)  logits
    B  parallel streams  b  (m,)    hidden bias           p  (K,)  probabilities
                         c  (K,)    output bias

    h_t = tanh(W h_{t-1} + U[:, x_t] + b),   p_t = softmax(V h_t + c)
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from fastrnn.errors import FastrnnError

DTYPES = ("float32", "float64")

Parameters = dict[str, np.ndarray]
"""Named arrays in the shapes above, in the order of `parameter_shapes`."""


@dataclass(frozen=True)
class Config:
    """Everything that, with the text, decides the outcome of a training.

    The defaults are the reference experiment's: a vanilla RNN with 100 hidden units on sequences of 25
    characters, AdaGrad with learning rate 0.1, weights from N(0, 0.01²), gradients clipped to ±5.
    """

    hidden: int = 100  # m, hidden units
    seq_length: int = 25  # T, characters per update and stream
    batch: int = 1  # B, parallel streams
    learning_rate: float = 0.1  # eta of AdaGrad
    sigma: float = 0.01  # standard deviation of the initial weights
    clip: float = 5.0  # gradients are clipped to ±clip, element by element
    seed: int = 0  # of the initial weights and of the samples
    dtype: str = "float32"  # of parameters and arithmetic

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int":
                lowest = 0 if field.name == "seed" else 1
                good = type(value) is int and lowest <= value < 2**31
                wanted = f"a whole number from {lowest} to {2**31 - 1}"
            elif field.type == "float":
                # A clip of infinity switches clipping off; a sigma of 0 starts from zero weights.
                lowest_open = field.name != "sigma"
                good = type(value) in (int, float) and (value > 0 if lowest_open else value >= 0)
                good = good and (value < float("inf") or field.name == "clip")
                wanted = "a positive number" if lowest_open else "zero or a positive number"
            else:
                good = value in DTYPES
                wanted = " or ".join(DTYPES)
            if not good:
                name = field.name.replace("_", "-")
                raise FastrnnError(f"{name} is {value!r}, but must be {wanted}")


def parameter_shapes(config: Config, characters: int) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter by name, for a vocabulary of K = `characters`."""
    m, K = config.hidden, characters
    return {"U": (m, K), "W": (m, m), "V": (K, m), "b": (m,), "c": (K,)}


def initial_parameters(config: Config, characters: int) -> Parameters:
    """Weights drawn from N(0, sigma²) and biases of zero.

    They are drawn in float64 and rounded, so both dtypes start from the same numbers.
    """
    rng = np.random.default_rng(config.seed)
    return {
        name: (rng.normal(0.0, config.sigma, shape) if len(shape) == 2 else np.zeros(shape)).astype(
            config.dtype
        )
        for name, shape in parameter_shapes(config, characters).items()
    }
