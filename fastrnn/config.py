"""What decides a training, with the reference experiment's values as defaults."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from fastrnn.checks import real, refuse, whole
from fastrnn.errors import FastrnnError

DTYPES = ("float32", "float64")
MOST_THREADS = 1024

EPOCHS = 9
SAMPLE_EVERY = 10_000  # updates
SAMPLE_LENGTH = 200  # characters
CHECKPOINT_EVERY = 60.0  # seconds


@dataclass(frozen=True)
class Config:
    """Everything that, with the text, decides the outcome of a training.

    The defaults are the reference experiment's: a vanilla RNN with 100 hidden units on sequences
    of 25 characters, AdaGrad with learning rate 0.1, weights from N(0, 0.01²), gradients clipped
    to ±5.
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
            name, value = field.name.replace("_", "-"), getattr(self, field.name)
            if field.type == "int":
                value = whole(name, value, 0 if field.name == "seed" else 1, 2**31 - 1)
            elif field.type == "float":
                # A sigma of 0 starts from zero weights, a clip of infinity switches clipping off.
                value = real(name, value, field.name == "sigma", field.name == "clip")
            else:
                good = isinstance(value, str) and value in DTYPES
                value = str(value) if good else refuse(name, value, " or ".join(DTYPES))
            object.__setattr__(self, field.name, value)

    def to_json(self) -> dict[str, Any]:
        """As a dictionary for JSON, which has no infinity: no clipping is None there."""
        values = asdict(self)
        return values | {"clip": None} if math.isinf(self.clip) else values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Config:
        """The inverse of `to_json`. Every field has to be given."""
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or values.keys() != names:
            raise FastrnnError(
                f"the configuration has other fields than {', '.join(sorted(names))}"
            )
        return cls(**values | {"clip": math.inf} if values["clip"] is None else values)
