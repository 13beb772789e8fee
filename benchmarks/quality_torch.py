"""A preset in PyTorch, beside fastrnn: benchmarks/results/quality_torch/NAME.json.

    python benchmarks/quality_torch.py NAME --preset medium
    python benchmarks/tables.py

The same training with torch.nn.LSTM and a fused AdamW: the same initial weights, updates, learning
rates, clipping and share of dropout, on as many threads as there are cores. Only the dropout masks
are other ones. fastrnn's time is that of the whole command, from `quality.py NAME --presets`, which
comes first; that of PyTorch lacks the imports.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from statistics import median

import torch
import torch.nn.functional as F

from common import log, origin, result_path
from fastrnn import presets
from fastrnn.config import Config
from fastrnn.measure.results import save
from fastrnn.parameters import initial_parameters
from fastrnn.text.corpus import read_corpus
from fastrnn.text.streams import EncodedText, Streams, held_out
from fastrnn.training.schedule import ETA, steps
from fastrnn.training.validation import STREAMS
from quality import of_presets, seconds_of


class Model(torch.nn.Module):
    """fastrnn's LSTM, with its initial weights.

    The input is one-hot vectors, whose product is with U; of PyTorch's two biases one stays zero.
    """

    def __init__(self, config: Config, K: int):
        super().__init__()
        self.eye = torch.eye(K)
        self.dropout = torch.nn.Dropout(config.dropout)
        self.lstm = torch.nn.LSTM(K, config.hidden)
        self.output = torch.nn.Linear(config.hidden, K)
        ours = {
            "U": self.lstm.weight_ih_l0,
            "W": self.lstm.weight_hh_l0,
            "V": self.output.weight,
            "b": self.lstm.bias_ih_l0,
            "c": self.output.bias,
        }
        self.lstm.bias_hh_l0.requires_grad_(False).zero_()
        with torch.no_grad():
            for name, start in initial_parameters(config, K).items():
                ours[name].copy_(torch.from_numpy(start))
        self.U, self.others = ours.pop("U"), list(ours.values())

    def forward(self, x: torch.Tensor, state: tuple | None) -> tuple[torch.Tensor, tuple]:
        h, state = self.lstm(self.eye[x], state)
        return self.output(self.dropout(h)).flatten(0, 1), state


def codes_of(streams: Streams, first: int, count: int) -> torch.Tensor:
    return torch.from_numpy(streams.read(first, count)).long()


@torch.no_grad()
def validation(model: Model, codes: torch.Tensor, T: int) -> float:
    """Nats per character of all streams, with their state carried."""
    model.eval()
    state, total = None, 0.0
    for first in range(0, len(codes) - 1, T):
        piece = codes[first : first + T + 1]
        o, state = model(piece[:-1], state)
        total += F.cross_entropy(o, piece[1:].flatten(), reduction="sum").item()
    model.train()
    return total / codes[1:].numel()


def train(config: Config, text: str) -> tuple[float, float]:
    """Seconds of a training on nine tenths of a text, and the loss on the last one."""
    start = time.perf_counter()
    torch.manual_seed(config.seed)
    corpus = read_corpus([text])
    K, T, B = len(corpus.vocabulary), config.seq_length, config.batch
    end, _ = held_out(corpus.length, config.val_fraction, 0.0)
    streams = Streams(EncodedText(corpus.codes[:end], K), B, T)
    rest = Streams(EncodedText(corpus.codes[end:], K), STREAMS, 1)
    model = Model(config, K)
    groups = [{"params": [model.U]}, {"params": model.others}]
    optimizer = torch.optim.AdamW(
        groups,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        weight_decay=config.weight_decay,
        fused=True,
    )
    state = None
    for update, eta in enumerate(steps(config, 0, config.updates, config.updates)[:, ETA]):
        if update % streams.chunks == 0:
            state = None
        codes = codes_of(streams, update % streams.chunks, 1)
        o, state = model(codes[:-1], state)
        state = tuple(one.detach() for one in state)
        loss = F.cross_entropy(o, codes[1:].flatten(), reduction="sum") / B
        optimizer.zero_grad()
        (loss / T if config.loss == "mean" else loss).backward()
        if config.clip_norm < math.inf:
            torch.nn.utils.clip_grad_norm_([model.U, *model.others], config.clip_norm)
        for group, rate in zip(optimizer.param_groups, (config.input_rate, 1.0), strict=True):
            group["lr"] = rate * eta
        optimizer.step()
        if (update + 1) % 100 == 0:
            log(f"{update + 1}: {loss.item() / T:.3f} nats, {time.perf_counter() - start:.1f} s")
    nats = validation(model, codes_of(rest, 0, rest.chunks), T)
    return time.perf_counter() - start, nats


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the results of quality.py, and of this one")
    parser.add_argument("--preset", choices=["small", "medium", "large"], default="medium")
    options = parser.parse_args(arguments)
    ours = json.loads(result_path("quality", options.name).read_text())
    rows = of_presets(ours)[options.preset]
    path = result_path("quality_torch", options.name)
    before = json.loads(path.read_text())["rows"] if path.exists() else []
    result = origin("quality_torch", arguments)
    result["versions"]["torch"] = torch.__version__
    seconds, nats = train(presets.preset(options.preset, val_fraction=0.1), ours["corpus"])
    row = {
        "preset": options.preset,
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 2),
        "nats": nats,
        "fastrnn": {"seconds": seconds_of(rows), "nats": median(row["nats"] for row in rows)},
    }
    log(f"{nats:.4f} nats after {seconds:.1f} s")
    result["rows"] = [one for one in before if one["preset"] != options.preset] + [row]
    save(result, path)


if __name__ == "__main__":
    main()
