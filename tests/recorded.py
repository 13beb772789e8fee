"""The results of PyTorch that benchmarks/record_torch.py has recorded."""

import json
import math
from pathlib import Path

import numpy as np

from fastrnn.config import Config
from fastrnn.parameters import parameter_shapes

with np.load(Path(__file__).parent / "data" / "torch.npz") as file:
    TORCH = dict(file)
SETTINGS = json.loads(str(TORCH["settings"]))
T, UPDATES, OPTIMIZERS = (SETTINGS[name] for name in ("T", "updates", "optimizers"))
CODES = TORCH["codes"]  # (UPDATES · T + 1, B)
MODELS = ("rnn-1", "rnn-3", "lstm-1", "lstm-3", "gru-1", "gru-3")
OPTIMIZED = ("rnn-1", "lstm-1", "gru-3")


def recorded_config(model, optimizer="adagrad"):
    """The configuration of a recorded training: it has no clipping but its own."""
    cell, layers = model.split("-")
    _, B, m = TORCH[f"{model}/state"].shape
    options = {"clip": math.inf, "clip_norm": math.inf} | OPTIMIZERS[optimizer]
    sizes = {"layers": int(layers), "hidden": m, "seq_length": T, "batch": B}
    return Config(cell=cell, dtype="float64", **sizes, **options)


def recorded_parameters(model, what="parameters"):
    """Parameters that were recorded as a vector, by their names."""
    shapes = parameter_shapes(recorded_config(model), CODES.max() + 1)
    vector = TORCH[f"{model}/{what}"]
    parameters = {}
    for name, shape in shapes.items():
        part, vector = np.split(vector, [math.prod(shape)])
        parameters[name] = part.reshape(shape).copy()
    assert vector.size == 0
    return parameters
