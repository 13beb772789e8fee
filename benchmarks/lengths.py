"""How the presets do on texts of several lengths: benchmarks/results/lengths/NAME.json.

    python benchmarks/lengths.py NAME
    python benchmarks/tables.py

Each preset beside `reference` in the same time, by the loss on the last tenth of the text. A preset
makes as many updates of any text, so its time is that which `quality.py NAME --presets` measured
before; `reference` gets as many updates as it makes in this time. So the losses do not depend on
what else the machine does. Where `fastrnn train --preset` says before it starts that a model is
too large for a text, that is all.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from operator import itemgetter
from pathlib import Path
from typing import Any

import fastrnn
from common import log, origin, result_path
from fastrnn import presets
from fastrnn.measure.results import save
from fastrnn.text.corpus import Corpus
from quality import of_presets, seconds_of, trial

TEXTS = (
    ("the start of tiny Shakespeare", ["shakespeare"], 50_000),
    ("Python's language reference", [], None),
    ("tiny Shakespeare", ["shakespeare"], None),
    ("Python's standard library", ["stdlib"], None),
)
POINTS = 100  # validations of `reference`


def reference(text: str, allowed: dict[str, int]) -> dict[str, float]:
    """The lowest loss of the reference experiment within so many updates, by preset."""
    most = max(allowed.values())
    every = max(most // POINTS, 1)
    row = trial(text, ["--updates", str(most), "--val-every", str(every)], 0)
    losses = [nats for _, nats in row["curve"]]
    return {name: min(losses[: updates // every]) for name, updates in allowed.items()}


def rows_of(
    corpus: Corpus, text: str, pace: dict[str, float], speed: float, known: dict[str, float]
) -> list[dict[str, Any]]:
    """A row for every preset: its loss and that of the reference experiment, or what it says.

    `pace` has the seconds of each, `speed` is the updates of the reference experiment in a second;
    `known` are losses.
    """
    rows: list[dict[str, Any]] = []
    for name, seconds in pace.items():
        row = {"preset": name, "seconds": seconds, "says": None, "nats": None, "reference": None}
        said = presets.fit(presets.preset(name), corpus.length, len(corpus.vocabulary))
        if said and "by heart" in said:
            row["says"] = said
        else:
            row["nats"] = known.get(name) or trial(text, ["--preset", name], 0)["nats"]
        log(f"{name}: {row['says'] or row['nats']}")
        rows.append(row)
    trained = [row for row in rows if row["nats"]]
    found = reference(text, {row["preset"]: int(speed * row["seconds"]) for row in trained})
    for row in trained:
        row["reference"] = found[row["preset"]]
        log(f"{row['preset']}: {row['nats']:.4f}, reference {row['reference']:.4f}")
    return rows


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the results of quality.py, and of this one")
    options = parser.parse_args(arguments)
    trials = json.loads(result_path("quality", options.name).read_text())
    measured = of_presets(trials)
    losses = {name: min(rows, key=itemgetter("seed"))["nats"] for name, rows in measured.items()}
    pace = {name: seconds_of(rows) for name, rows in measured.items()}
    read = presets.preset("reference").seq_length  # characters of an update
    speed = measured["reference"][0]["characters"] / read / pace.pop("reference")
    result = origin("lengths", arguments) | {"rows": []}
    for title, sources, length in TEXTS:
        corpus = fastrnn.read_corpus(sources)
        text = corpus.vocabulary.decode(corpus.codes[:length])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text.txt"
            path.write_text(text, encoding="utf-8")
            cut = fastrnn.read_corpus(path)
            log(f"{title}, {cut.length:,} characters")
            about = {"text": title, "characters": cut.length}
            known = losses if sources == [trials["corpus"]] and length is None else {}
            rows = rows_of(cut, str(path), pace, speed, known)
            result["rows"] += [about | row for row in rows]
        save(result, result_path("lengths", options.name))


if __name__ == "__main__":
    main()
