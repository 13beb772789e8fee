"""How good a model is after how long: benchmarks/results/quality/NAME.json.

    python benchmarks/quality.py NAME --try "--preset small --hidden 160"
    python benchmarks/quality.py NAME --presets --seeds 0 1 2 --plot docs/quality.png
    python benchmarks/quality.py NAME --publish

A trial is a whole command `fastrnn train shakespeare --val-fraction 0.1` with some options: it
trains on the first nine tenths of the text, and its loss is the lowest on the last tenth, which it
reads as 16 streams with their state carried. Its time is that of the command by the clock on the
wall, from the start of Python to the end; the kernels are compiled before. Every trial is added to
the results, so a search for settings stays where its outcome is; the same trial with the same seed
takes the place of the older one. With `--untimed` only its loss counts, which does not depend on
what else the machine does. `--publish` gives `fastrnn presets` what the presets reach: the median
of the seeds. (`results/search` has the searches that found them; the first was made by an earlier
form of this script, which could also multiply the initial U.)
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import fastrnn
from common import log, origin, result_path
from fastrnn import presets
from fastrnn.measure.results import save
from fastrnn.report.plots import Picture, default_settings, plain_ticks, write_picture

HELD_OUT = ("--val-fraction", "0.1")
SAMPLE = {"length": 240, "seed": 1, "temperature": 0.8}
# Of the project whose transformers these are, on the same split of the same text.
TRANSFORMERS = (
    ("small transformer, 4 cores", 163, 1.8857),
    ("transformer of 10 million parameters, A100", 180, 1.4697),
)
TICKS = (2, 4, 8, 16, 40, 80, 160, 320, 640)  # seconds
COLOURS = {"reference": "#777777", "small": "#d9822b", "medium": "#2a6fb0", "large": "#3c8d40"}


def trial(text: str, options: list[str], seed: int) -> dict[str, Any]:
    """A row of the results: seconds, nats per character, and the curve of both."""
    with tempfile.TemporaryDirectory() as folder:
        model, events = Path(folder) / "best.h5", Path(folder) / "log"
        command = [sys.executable, "-m", "fastrnn", "train", text, *HELD_OUT, *options]
        command += ["--seed", str(seed), "--ckpt", str(model), "--log", str(events)]
        start = time.perf_counter()
        subprocess.run([*command, "--sample-every", "0", "--quiet"], check=True)
        seconds = time.perf_counter() - start
        trained = fastrnn.load_checkpoint(model)
        rows = [json.loads(line) for line in events.read_text().splitlines()]
        curve = [
            [round(row["seconds"], 2), round(row["nats_per_character"], 4)]
            for row in rows
            if row["event"] == "validation"
        ]
        return {
            "options": shlex.join(options),
            "seed": seed,
            "seconds": round(seconds, 2),
            "nats": trained.best.validation_loss,
            "characters": trained.last.update * trained.config.batch * trained.config.seq_length,
            "curve": curve,
            "sample": fastrnn.Model.from_checkpoint(trained).sample(**SAMPLE),
        }


def presets_of_texts() -> list[str]:
    """The presets but those that take the lines for items, whose loss is of something else."""
    return [name for name in presets.PRESETS if not presets.preset(name).lines]


def of_presets(result: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each preset as it is, by its name."""
    rows = {name: f"--preset {name}" for name in presets_of_texts()}
    found = {
        name: [row for row in result["rows"] if row["options"] == options]
        for name, options in rows.items()
    }
    return {name: rows for name, rows in found.items() if rows}


def seconds_of(rows: list[dict[str, Any]]) -> float:
    """The median of those that were timed."""
    return median(row["seconds"] for row in rows if row["seconds"])


def published(result: dict[str, Any]) -> dict[str, Any]:
    """What `fastrnn.presets.measured` reads."""
    machine = result["machine"]
    where = f"{machine['cores']} cores of {machine['cpu']} ({machine['instructions']})"
    reached = [
        {
            "preset": name,
            "seconds": seconds_of(rows),
            "nats": median(row["nats"] for row in rows),
            "seeds": len(rows),
            "sample": min(rows, key=lambda row: row["seed"])["sample"],
        }
        for name, rows in of_presets(result).items()
    ]
    text = "tiny Shakespeare, whose last tenth is held out,"
    return {"text": text, "machine": where, "date": result["date"][:10], "rows": reached}


def plot(result: dict[str, Any], path: str) -> None:
    """Loss over the time of the command, for every seed of every preset."""
    with default_settings():
        figure = Picture(figsize=(9, 5), layout="constrained")
        axes = figure.add_subplot()
        for name, rows in of_presets(result).items():
            for i, row in enumerate(row for row in rows if row["curve"]):
                seconds, nats = zip(*row["curve"], strict=True)
                label = f"preset {name}" if i == 0 else None
                axes.plot(seconds, nats, ".-", color=COLOURS[name], linewidth=1, label=label)
        for name, seconds, nats in TRANSFORMERS:
            axes.plot(seconds, nats, "*", color="#c0392b", markersize=11)
            axes.annotate(name, (seconds, nats), (-8, -12), textcoords="offset points", ha="right")
        axes.set_xscale("log")
        axes.set_xticks(TICKS, map(str, TICKS))
        axes.set_xticks([], minor=True)
        axes.set_xlabel("seconds of the whole command")
        axes.set_ylabel("validation loss, nats per character")
        plain_ticks(axes.yaxis, 8)
        axes.legend(edgecolor="none")
        write_picture(figure, path)


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the result, such as that of the machine")
    parser.add_argument("--corpus", default="shakespeare", help="text, as for fastrnn train")
    parser.add_argument("--try", dest="trials", action="append", default=[], metavar="OPTIONS")
    parser.add_argument("--presets", action="store_true", help="try all of them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="(default 0)")
    parser.add_argument("--untimed", action="store_true", help="beside other work: only losses")
    parser.add_argument("--plot", help="draw the presets into this file")
    parser.add_argument("--publish", action="store_true", help="for fastrnn presets")
    options = parser.parse_args(arguments)
    path = result_path("quality", options.name)
    result = json.loads(path.read_text()) if path.exists() else {"rows": []}
    trials = options.trials
    if options.presets:
        trials = [*trials, *(f"--preset {name}" for name in presets_of_texts())]
    if trials:
        result = origin("quality", arguments) | {"corpus": options.corpus, "rows": result["rows"]}
    for words in trials:
        for seed in options.seeds:
            row = trial(options.corpus, shlex.split(words), seed)
            if options.untimed:
                row |= {"seconds": None, "curve": []}
            key = row["options"], seed
            others = [one for one in result["rows"] if (one["options"], one["seed"]) != key]
            result["rows"] = [*others, row]
            save(result, path)
            time_taken = "" if options.untimed else f" after {row['seconds']:.1f} s"
            log(f"{words}, seed {seed}: {row['nats']:.4f} nats{time_taken}")
    if options.plot:
        plot(result, options.plot)
    if options.publish:
        save(published(result), presets.MEASURED)


if __name__ == "__main__":
    main()
