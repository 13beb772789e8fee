"""Learning rate and batch: benchmarks/results/learning_rates/NAME.json.

    python benchmarks/learning_rates.py NAME --corpus shakespeare
    python benchmarks/tables.py

All trainings read the same number of characters; the more streams, the fewer updates are made of
them. The smooth loss cannot compare them: it is an average over about the last 1000 updates, which
are all epochs of a large batch and a small part of one epoch of a single stream. So what is
compared is the loss per character when a model reads the first 100,000 characters of the corpus in
one stream: the better of two models, the last one, and the one with the lowest smooth loss, which
fastrnn keeps, but which with few updates may be older than the last by all that was learnt. (It is
text that all have trained on: how fast they learn is the question, not how well they generalise.)

A training has diverged if its loss was not finite any more, or both models are no better than to
hold all characters for equally likely.
"""

from __future__ import annotations

import argparse
import math
import sys
from itertools import product
from typing import Any

import numpy as np

from common import log, origin, result_path
from fastrnn.config import EPOCHS, Config
from fastrnn.errors import FastrnnError
from fastrnn.measure.results import save
from fastrnn.network import Network
from fastrnn.parameters import Parameters
from fastrnn.text.corpus import Corpus, read_corpus
from fastrnn.training.loop import train

BATCHES = (1, 8, 32, 128)
LEARNING_RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
JUDGED = 100_000  # characters that the models read


def loss_per_character(corpus: Corpus, config: Config, parameters: Parameters) -> float:
    """Mean cross-entropy in nats of the first JUDGED characters, read from the start."""
    length = min(JUDGED, corpus.length - 1)
    judge = Config(hidden=config.hidden, seq_length=length, dtype=config.dtype)
    network = Network(judge, len(corpus.vocabulary))
    network.set_parameters(parameters)
    return network.loss(corpus.codes[: length + 1, None].astype(np.int32)) / length


def run(corpus: Corpus, config: Config, epochs: int, threads: int | None) -> dict[str, Any]:
    """One training; `loss` is None if it has diverged."""
    row: dict[str, Any] = {"batch": config.batch, "learning_rate": config.learning_rate}
    try:
        done = train(corpus, config, epochs=epochs, sample_every=0, threads=threads, observers=[])
    except FastrnnError as error:
        if "not finite any more" not in str(error):
            raise
        return row | {"updates": None, "seconds": None, "loss": None, "losses": None}
    losses = {
        "smooth": done.best.smooth_loss / config.seq_length,
        "best": loss_per_character(corpus, config, done.best.parameters),
        "last": loss_per_character(corpus, config, done.last.parameters),
    }
    loss = min(losses["best"], losses["last"])
    learnt = loss < 0.99 * math.log(len(corpus.vocabulary))  # small random weights do a bit, too
    seconds = round(done.seconds, 2)
    row |= {"updates": done.last.update, "seconds": seconds, "loss": loss if learnt else None}
    return row | {"losses": losses}


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the result, such as that of the corpus")
    parser.add_argument("--corpus", nargs="*", default=[], help="text, as for fastrnn train")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"(default {EPOCHS})")
    parser.add_argument("--threads", type=int, help="(default: as fastrnn train)")
    parser.add_argument("--quick", action="store_true", help="one epoch, two batches")
    options = parser.parse_args(arguments)
    corpus = read_corpus(options.corpus)
    result = origin("learning_rates", arguments)
    result["corpus"] = {"name": corpus.name, "length": corpus.length, "sha256": corpus.sha256}
    result["epochs"] = epochs = 1 if options.quick else options.epochs
    result["judged"] = min(JUDGED, corpus.length - 1)
    result["rows"] = []
    for batch, rate in product((8, 128) if options.quick else BATCHES, LEARNING_RATES):
        config = Config(batch=batch, learning_rate=rate)
        row = run(corpus, config, epochs, options.threads)
        result["rows"].append(row)
        loss = "diverged" if row["loss"] is None else f"{row['loss']:.3f} nats per character"
        log(f"B={batch} learning rate {rate:g}: {loss}, {row['seconds']} s")
    result["hidden"], result["seq_length"] = config.hidden, config.seq_length
    save(result, result_path("learning_rates", options.name))


if __name__ == "__main__":
    main()
