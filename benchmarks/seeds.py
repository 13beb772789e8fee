"""Lowest smooth loss of the reference experiment over seeds: our kernels and the NumPy baseline.

The course of a training with AdaGrad at learning rate 0.1 depends on the last bits of its first
updates, so one number says little: this shows how far results spread, and that neither float32 nor
our kernels are systematically worse than plain NumPy.

    python benchmarks/seeds.py --corpus shakespeare --json benchmarks/results/seeds/shakespeare.json
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

import click
import numpy as np

from fastrnn import reference
from fastrnn.config import Config
from fastrnn.kernels.entries import SMOOTHING
from fastrnn.parameters import initial_parameters
from fastrnn.text.corpus import Corpus, read_corpus
from fastrnn.text.streams import EncodedText, Streams
from fastrnn.training.loop import train


def kernels(corpus: Corpus, config: Config, epochs: int) -> tuple[int, float]:
    """Update and value of the lowest smooth loss with our kernels."""
    best = train(corpus, config, epochs=epochs, sample_every=0).best
    return best.update, best.smooth_loss


def numpy(corpus: Corpus, config: Config, epochs: int) -> tuple[int, float]:
    """The same with the NumPy baseline."""
    text = EncodedText(corpus.codes, len(corpus.vocabulary))
    streams = Streams(text, config.batch, config.seq_length)
    parameters = initial_parameters(config, len(corpus.vocabulary))
    state = reference.optimizer_state(config, parameters)
    smooth, lowest = None, (0, np.inf)
    for update in range(epochs * streams.chunks):
        chunk = update % streams.chunks
        if chunk == 0:
            hidden = np.zeros((1, config.batch, config.hidden), config.dtype)
        codes = streams.read(chunk, 1)
        forward = reference.forward(parameters, hidden, codes)
        gradient = reference.backward(parameters, forward, codes)
        reference.update(config, parameters, gradient, state, update)
        hidden = forward.state
        loss = float(forward.loss)
        smooth = loss if smooth is None else SMOOTHING * smooth + (1.0 - SMOOTHING) * loss
        if smooth < lowest[1]:
            lowest = update + 1, smooth
    return lowest


@click.command(help=__doc__.split("\n")[0])
@click.option("--corpus", multiple=True, help="Text, as for fastrnn train.")
@click.option("--epochs", default=9, show_default=True)
@click.option("--seeds", default=5, show_default=True, help="Seeds 0, 1, … below this.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the results here.")
def main(corpus: tuple[str, ...], epochs: int, seeds: int, path: Path | None) -> None:
    text = read_corpus(corpus)
    rows = []
    for dtype in ("float32", "float64"):
        for method in (kernels, numpy):
            runs = []
            for seed in range(seeds):
                start = time.perf_counter()
                update, loss = method(text, Config(seed=seed, dtype=dtype), epochs)
                seconds = round(time.perf_counter() - start, 1)
                runs.append(
                    {"seed": seed, "min_iter": update, "min_loss": loss, "seconds": seconds}
                )
                click.echo(
                    f"{method.__name__:8} {dtype} seed {seed}: {loss:.4f} at {update}, {seconds} s"
                )
            losses = [run["min_loss"] for run in runs]
            rows.append({"method": method.__name__, "dtype": dtype, "runs": runs})
            click.echo(
                f"{method.__name__:8} {dtype}: median {statistics.median(losses):.2f}, "
                f"{min(losses):.2f} to {max(losses):.2f}"
            )
    if path:
        result = {"corpus": text.name, "sha256": text.sha256, "epochs": epochs, "rows": rows}
        path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
