"""Record what PyTorch computes, for tests/test_reference.py: the suite itself needs no PyTorch.

torch.nn.RNN, LSTM and GRU with one and with three layers: loss, state and all gradients of a chunk;
and torch.optim: parameters after twenty updates. In float64; parameters are vectors, one after the
other in the order of fastrnn.parameters.

    pip install torch
    python benchmarks/record_torch.py
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

PATH = Path(__file__).parent.parent / "tests" / "data" / "torch.npz"
M, K, T, B = 5, 7, 4, 3  # all different, so that no transposed axis can hide
UPDATES = 20

MODELS = [(cell, layers) for cell in ("rnn", "lstm", "gru") for layers in (1, 3)]
OPTIMIZED = ("rnn-1", "lstm-1", "gru-3")

# As fastrnn.Config has them. AdaGrad's epsilon is outside of PyTorch's root: here it is so small
# that this makes no difference.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adagrad": {"optimizer": "adagrad", "learning_rate": 0.05, "epsilon": 1e-30},
    "adagrad, decay": {
        "optimizer": "adagrad",
        "learning_rate": 0.05,
        "epsilon": 1e-30,
        "weight_decay": 0.1,
        "clip_norm": 2.0,
    },
    "rmsprop": {"optimizer": "rmsprop", "learning_rate": 0.01, "rho": 0.9},
    "rmsprop, momentum": {
        "optimizer": "rmsprop",
        "learning_rate": 0.01,
        "rho": 0.8,
        "epsilon": 1e-3,
        "momentum": 0.7,
        "weight_decay": 0.2,
    },
    "adam": {"optimizer": "adam", "learning_rate": 0.02},
    "adam, decay": {
        "optimizer": "adam",
        "learning_rate": 0.02,
        "beta1": 0.8,
        "beta2": 0.95,
        "epsilon": 1e-4,
        "weight_decay": 0.1,
        "clip_norm": 0.5,
    },
    "adamw": {"optimizer": "adamw", "learning_rate": 0.02, "weight_decay": 0.3, "clip": 0.2},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.1},
    "sgd, momentum": {
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "momentum": 0.6,
        "weight_decay": 0.1,
    },
    "sgd, nesterov": {
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "momentum": 0.8,
        "nesterov": True,
        "clip_norm": 1.0,
    },
}


class Model(torch.nn.Module):
    """One-hot characters, recurrent layers, and a linear layer for the logits."""

    def __init__(self, cell: str, layers: int):
        super().__init__()
        self.cell, self.layers = cell, layers
        kind = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
        self.rnn = kind(K, M, layers)
        # How much of PyTorch's two biases is one of fastrnn: all but that of the GRU's candidate.
        self.joined = {"rnn": 1, "lstm": 4, "gru": 2}[cell] * M
        self.output = torch.nn.Linear(M, K)

    def forward(
        self, codes: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, summed over T and averaged over B, and the state after the chunk."""
        inputs = F.one_hot(codes[:-1], K).double()
        if self.cell == "lstm":
            h, after = self.rnn(inputs, tuple(state.chunk(2)))
            after = torch.cat(after)
        else:
            h, after = self.rnn(inputs, state)
        loss = F.cross_entropy(self.output(h).flatten(0, 1), codes[1:].flatten(), reduction="sum")
        return loss / B, after.detach()

    def flat(self, gradient: bool = False) -> np.ndarray:
        """All parameters or their gradients, one after the other in fastrnn's order."""

        def array(parameter: torch.Tensor) -> np.ndarray:
            return (parameter.grad if gradient else parameter).detach().numpy().copy()

        matrices, vectors, second = [], [], []
        for layer in range(self.layers):
            w_ih, w_hh, b_ih, b_hh = (
                array(getattr(self.rnn, f"{name}_l{layer}"))
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            matrices += [w_ih, w_hh]
            if not gradient:  # that of a sum is that of its first term
                b_ih[: self.joined] += b_hh[: self.joined]
            vectors.append(b_ih)
            second.append(b_hh[self.joined :])
        V, c = array(self.output.weight), array(self.output.bias)
        return np.concatenate([x.ravel() for x in (*matrices, V, *vectors, *second, c)])

    def join_biases(self) -> None:
        """Keep the sum of two biases in the first, where fastrnn has only one."""
        for layer in range(self.layers):
            first, second = (getattr(self.rnn, f"bias_{side}_l{layer}") for side in ("ih", "hh"))
            separate = torch.arange(len(second)) >= self.joined
            with torch.no_grad():
                first += second * ~separate
                second *= separate
            second.register_hook(lambda gradient, separate=separate: gradient * separate)


def optimizer(model: Model, options: dict[str, Any]) -> torch.optim.Optimizer:
    kinds = {
        "adagrad": torch.optim.Adagrad,
        "rmsprop": torch.optim.RMSprop,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "sgd": torch.optim.SGD,
    }
    names = {"learning_rate": "lr", "rho": "alpha", "epsilon": "eps"}
    same = ("weight_decay", "momentum", "nesterov")
    given = {names.get(k, k): v for k, v in options.items() if k in names or k in same}
    if options["optimizer"] in ("adam", "adamw"):
        given["betas"] = options.get("beta1", 0.9), options.get("beta2", 0.999)
    return kinds[options["optimizer"]](model.parameters(), **given)


def main() -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    settings = {"torch": torch.__version__, "T": T, "updates": UPDATES, "optimizers": OPTIMIZERS}
    recorded: dict[str, np.ndarray] = {"settings": np.array(json.dumps(settings))}
    torch.manual_seed(0)
    codes = torch.randint(K, (UPDATES * T + 1, B))
    recorded["codes"] = codes.numpy().astype(np.int32)
    for cell, layers in MODELS:
        model = Model(cell, layers)
        case = f"{cell}-{layers}"
        start = torch.rand((2 if cell == "lstm" else 1) * layers, B, M) * 2 - 1
        recorded[f"{case}/state"] = start.numpy()
        loss, after = model(codes[: T + 1], start)
        loss.backward()
        recorded[f"{case}/loss"] = loss.detach().numpy()
        recorded[f"{case}/after"] = after.numpy()
        recorded[f"{case}/parameters"] = model.flat()
        recorded[f"{case}/gradient"] = model.flat(gradient=True)
        if case not in OPTIMIZED:
            continue
        model.join_biases()
        initial = {name: x.clone() for name, x in model.state_dict().items()}
        for title, options in OPTIMIZERS.items():
            model.load_state_dict(initial)
            steps, state = optimizer(model, options), start
            for i in range(UPDATES):
                steps.zero_grad()
                loss, state = model(codes[i * T : (i + 1) * T + 1], state)
                loss.backward()
                if "clip_norm" in options:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), options["clip_norm"])
                torch.nn.utils.clip_grad_value_(model.parameters(), options.get("clip", math.inf))
                steps.step()
            recorded[f"{case}/{title}"] = model.flat()
    PATH.parent.mkdir(exist_ok=True)
    np.savez_compressed(PATH, **recorded)
    print(f"{PATH}: {PATH.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
