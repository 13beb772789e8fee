"""Hidden units, learning rate and size of the text: benchmarks/results/model_sizes/NAME.json.

    python benchmarks/model_sizes.py NAME
    python benchmarks/tables.py

Trainings with one stream, compared as learning_rates.py does. Several run at a time, each on one
thread, so their times would say nothing; the losses are the same anywhere.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from typing import Any

from common import log, origin, result_path
from fastrnn.config import EPOCHS, Config
from fastrnn.measure.results import save
from fastrnn.text.corpus import Corpus, read_corpus
from learning_rates import JUDGED, run

TEXTS = (  # sources as for fastrnn train, and how many of the characters
    ("shakespeare", 100_000),
    (None, None),
    ("shakespeare", None),
)
HIDDEN = (50, 100, 200, 300)
LEARNING_RATES = (0.02, 0.03, 0.05, 0.1)


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the result")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"(default {EPOCHS})")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="(default: all cores)")
    options = parser.parse_args(arguments)
    result = origin("model_sizes", arguments)
    result |= {"epochs": options.epochs, "judged": JUDGED}
    texts = []
    for source, length in TEXTS:
        corpus = read_corpus([] if source is None else source)
        texts.append(replace(corpus, codes=corpus.codes[:length]))

    def row(case: tuple[Corpus, int, float]) -> dict[str, Any]:
        corpus, hidden, rate = case
        found = run(corpus, Config(hidden=hidden, learning_rate=rate), options.epochs, threads=1)
        del found["seconds"]
        log(f"{corpus.length} characters, m={hidden}, learning rate {rate:g}: {found['loss']}")
        return {"corpus": corpus.name, "length": corpus.length, "hidden": hidden, **found}

    with ThreadPoolExecutor(options.workers) as pool:
        result["rows"] = list(pool.map(row, product(texts, HIDDEN, LEARNING_RATES)))
    result["seq_length"] = Config.seq_length
    save(result, result_path("model_sizes", options.name))


if __name__ == "__main__":
    main()
