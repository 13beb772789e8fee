"""How many operations the matrix products of an update take."""

from __future__ import annotations

import math

from fastrnn.config import Config
from fastrnn.parameters import parameter_shapes

FORWARD = ("forward recurrence", "inputs of layers", "logits")
BACKWARD = (
    *("gradient of h", "backward recurrence", "gradients of inputs of layers"),
    "gradients of matrices",
)
PHASES = {"forward": FORWARD, "backward": BACKWARD, "update": (), "step": FORWARD + BACKWARD}


def operations(config: Config, characters: int, phase: str = "step") -> int:
    """Operations of a phase, or of one of its parts: two for each multiply-add, without padding.

    Forward every matrix but U is multiplied once for each character; backward twice, for the
    gradient of what it multiplied and for its own. The first time step back has no product with W.
    The input is an index: U costs nothing. Neither do activations, softmax, biases, clipping and
    the optimizer, so their time lowers the share of the limit.
    """
    size = {"W": 0, "X": 0, "V": 0}  # of all layers' matrices
    for name, shape in parameter_shapes(config, characters).items():
        if name[0] in size:
            size[name[0]] += math.prod(shape)
    W, X, V = size.values()
    T = config.seq_length
    multiply_adds = {
        "forward recurrence": T * W,
        "inputs of layers": T * X,
        "logits": T * V,
        "gradient of h": T * V,
        "backward recurrence": (T - 1) * W,
        "gradients of inputs of layers": T * X,
        "gradients of matrices": T * (W + X + V),
    }
    parts = PHASES.get(phase, (phase,))
    return 2 * config.batch * sum(multiply_adds.get(part, 0) for part in parts)
