"""Write the tables of README and docs from benchmarks/results, or check that they are their own.

    python benchmarks/tables.py [--check]

Each stands between two markers; with --check nothing is written, and the exit code is 1 when the
pages and the data disagree. Every row measured is in a table, the losing ones too.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import compress
from pathlib import Path
from statistics import median
from typing import Any

import profiling
import writing
from fastrnn.checks import counted
from fastrnn.measure.bench import baseline_of, describe, describe_times
from fastrnn.measure.operations import PHASES
from fastrnn.measure.results import (
    LIMIT,
    Result,
    by_case,
    describe_limits,
    describe_origin,
    digits,
    find,
    load,
    percent,
    share_of_limit,
)
from peers import HAND, PEERS, fastest, ratio, summaries, thread_counts
from quality import of_presets, seconds_of

HERE = Path(__file__).parent

COLUMNS = (
    *("", "", "forward", "backward", "update", "**whole step**"),
    *("NumPy, µs", "fastrnn, µs", "characters/s", "of the limit"),
)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], words: int) -> str:
    """In Markdown; the first columns are words, the others numbers."""
    layout = "|---" * words + "|--:" * (len(heads) - words) + "|"
    return "\n".join([line_of(heads), layout, *map(line_of, rows)])


def line_of(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def bold(cell: str) -> str:
    return f"**{cell}**" if cell else ""


def how(data: dict[str, Any]) -> str:
    """By what command a result was made, and when."""
    return f"`{data['command']}`, {data['date'][:10]}."


def speed(result: Result) -> str:
    """A table of how many times as fast as NumPy, and a paragraph that says where."""
    lines = []
    for case, rows in by_case(result.rows):
        for step in rows:
            if step.method != "fastrnn" or step.phase != "step":
                continue
            phases = [find(rows, "fastrnn", step.threads, phase) for phase in PHASES]
            ratios = [
                f"{digits(row.times_as_fast_as(baseline_of(row, rows)))}×" if row else ""
                for row in phases
            ]
            threads = f", {counted(step.threads, 'thread')}" if case.config.batch > 1 else ""
            times = baseline_of(step, rows).median, step.median
            lines.append(
                [
                    *(f"{case}{threads}", case.config.dtype, *ratios[:-1], bold(ratios[-1])),
                    *(digits(1e6 * seconds) for seconds in times),
                    *(digits(1 / step.per_character), percent(share_of_limit(step, rows))),
                ]
            )
    where = (
        f"{describe(result)}. Medians of {result.rounds} interleaved rounds, {how(vars(result))} "
        f"{describe_times(result)}"
    )
    return f"{table(COLUMNS, lines, 2)}\n\n{where}"


def seeds(data: dict) -> str:
    """A table of the lowest smooth losses over seeds, by method and dtype."""
    lines = [
        f"{data['corpus']}, {data['epochs']} epochs, lowest smooth loss for seeds 0 to "
        f"{len(data['rows'][0]['runs']) - 1}, sorted:",
        "",
        "| | | median | all |",
        "|---|---|--:|---|",
    ]
    for row in data["rows"]:
        losses = sorted(run["min_loss"] for run in row["runs"])
        every = ", ".join(f"{loss:.2f}" for loss in losses)
        lines.append(f"| {row['method']} | {row['dtype']} | {median(losses):.2f} | {every} |")
    return "\n".join(lines)


def peers(result: Result) -> str:
    """A table of characters a second and of memory, and paragraphs that say where."""
    rows = result.rows
    counts = thread_counts(rows)
    limited = any(row.method == LIMIT for row in rows)
    heads = [
        *("", "", "NumPy", "PyTorch", "JAX", "by hand"),
        *(f"fastrnn, {counted(threads, 'thread')}" for threads in counts),
        "**over the best peer**",
        *(f"of the limit, {counted(threads, 'thread')}" for threads in counts if limited),
        *("PyTorch, MB", "JAX, MB", "fastrnn, MB"),
    ]
    lines = []
    for case, found in by_case(rows):
        numpy, *others = (fastest(found, name) for name in ("numpy", "torch", "jax", *HAND))
        ours = [fastest(found, "fastrnn", threads=threads) for threads in counts]
        last = ours[-1] or ours[0]
        times = ratio(found, *PEERS, threads=last.threads) if last else None
        shares = [row and share_of_limit(row, found) for row in ours if limited]
        speeds = [row and 1e-3 / row.per_character for row in (numpy, *others, *ours)]
        memory = [row and row.details["memory"]["peak"] / 1e6 for row in (*others[:2], last)]
        lines.append(
            [
                *(str(case), case.config.dtype),
                *(digits(speed) if speed else "" for speed in speeds),
                bold(f"{digits(times)}×" if times else ""),
                *map(percent, shares),
                *(digits(megabytes) if megabytes else "" for megabytes in memory),
            ]
        )
    spread = max(row.spread for row in rows)
    where = (
        "Thousands of characters a second, the others in their fastest form and on the better "
        "number of threads; by hand is the better of PyTorch and JAX with the gradient written out "
        "in their operations. And the most memory that this process held. "
        f"{describe_origin(vars(result), 'torch', 'jax')}. Medians of {result.rounds} interleaved "
        f"rounds, {how(vars(result))} The machine's load before was {result.machine['load']}; the "
        f"slowest round of a row took up to {digits(spread)} times its fastest."
    )
    return f"{table(*without_empty_columns(heads, lines), 2)}\n\n{where}"


def without_empty_columns(
    heads: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    """What nobody measured is not in a table."""
    used = [any(column) for column in zip(*rows, strict=True)]
    first, *others = [list(compress(line, used)) for line in (heads, *rows)]
    return first, others


def beside(result: Result) -> str:
    """A table of the ratios over all batched cases, and a sentence that says where."""
    heads = ["", "fastrnn on", "over", "shapes", "**geometric mean**", "at least"]
    lines = [
        [
            *(cell, counted(threads, "thread"), names, str(count)),
            *(bold(f"{digits(mean)}×"), f"{digits(least)}×"),
        ]
        for cell, threads, names, mean, least, count in summaries(result.rows)
    ]
    where = f"{describe_origin(vars(result), 'torch', 'jax')}; {result.date[:10]}."
    return f"{table(heads, lines, 3)}\n\n{where}"


def profile(result: Result) -> str:
    """A table of the phases of an update, and a paragraph that says where."""
    heads, columns = [""], []
    for case, rows in by_case(result.rows):
        heads += [f"{case} {case.config.dtype}, µs", "of the limit"]
        columns.append(profiling.cells(case, rows))
    lines = []
    for name in columns[0]:
        line = [name, *(cell for column in columns for cell in column[name])]
        lines.append(line if name in profiling.PHASES else list(map(bold, line)))
    where = (
        f"One thread. {describe_origin(vars(result))}; {how(vars(result))} Medians of "
        f"{result.rounds} interleaved rounds. {describe_limits(result.rows)}"
    )
    return f"{table(heads, lines, 1)}\n\n{where}"


def writing_and_scoring(result: Result) -> str:
    """A table of how fast models write and score, and a paragraph that says where."""
    lines = []
    for case, rows in by_case(result.rows):
        cells = writing.cells(case, rows)
        lines.append([str(case), *cells.values()])
    where = (
        f"On one thread where no number is named, in float32. {describe_origin(vars(result))}; "
        f"{how(vars(result))} Medians of {result.rounds} interleaved rounds. "
        f"{describe_limits(result.rows)}"
    )
    return f"{table(['', *cells], lines, 1)}\n\n{where}"


def learning_rates(data: dict) -> str:
    """A table of the losses by batch and learning rate, the best of each batch in bold."""
    rates = list(dict.fromkeys(row["learning_rate"] for row in data["rows"]))
    heads = ["B", "updates", *(f"η = {rate:g}" for rate in rates), "seconds"]
    lines = []
    for batch in dict.fromkeys(row["batch"] for row in data["rows"]):
        rows = [row for row in data["rows"] if row["batch"] == batch]
        done = [row for row in rows if row["updates"] is not None]
        best = min((row["loss"] for row in rows if row["loss"] is not None), default=None)
        cells = [str(batch), f"{done[0]['updates']:,}" if done else ""]
        for loss in [row["loss"] for row in rows]:
            cell = "diverged" if loss is None else f"{loss:.3f} ({loss / math.log(2):.3f})"
            cells.append(bold(cell) if loss is not None and loss == best else cell)
        cells.append(digits(median(row["seconds"] for row in done)) if done else "")
        lines.append(cells)
    corpus = data["corpus"]
    epochs = counted(data["epochs"], "epoch")
    where = (
        f"Nats (and bits) per character on the first {data['judged']:,} characters of "
        f"{corpus['name']}, after {epochs} of its {corpus['length']:,} characters; "
        f"m = {data['hidden']}, T = {data['seq_length']}, one seed. Seconds are the median of a "
        f"row. {describe_origin(data)}; {how(data)}"
    )
    return f"{table(heads, lines, 0)}\n\n{where}"


def model_sizes(data: dict) -> str:
    """A table of the losses by text, hidden units and learning rate, the best of a text in bold."""
    rates = list(dict.fromkeys(row["learning_rate"] for row in data["rows"]))
    heads = ["text", "m", *(f"η = {rate:g}" for rate in rates)]
    lines = []
    for text in dict.fromkeys((row["corpus"], row["length"]) for row in data["rows"]):
        rows = [row for row in data["rows"] if (row["corpus"], row["length"]) == text]
        best = min((row["loss"] for row in rows if row["loss"] is not None), default=None)
        name = f"{text[0]}, {text[1]:,} characters"
        for hidden in dict.fromkeys(row["hidden"] for row in rows):
            cells = [name, str(hidden)]
            for loss in [row["loss"] for row in rows if row["hidden"] == hidden]:
                cell = "diverged" if loss is None else f"{loss / math.log(2):.3f}"
                cells.append(bold(cell) if loss is not None and loss == best else cell)
            lines.append(cells)
            name = ""
    epochs = counted(data["epochs"], "epoch")
    where = (
        f"Bits per character on the first {data['judged']:,} characters of each text, after "
        f"{epochs} of all of it; B = 1, T = {data['seq_length']}, one seed. "
        f"{describe_origin(data)}; {how(data)}"
    )
    return f"{table(heads, lines, 1)}\n\n{where}"


def quality(data: dict) -> str:
    """A table of what the presets reach."""
    heads = ["preset", "seconds", "nats", "bits", "nats of all seeds"]
    lines = []
    for name, rows in of_presets(data).items():
        losses = sorted(row["nats"] for row in rows)
        middle = median(losses)
        every = ", ".join(f"{loss:.4f}" for loss in losses)
        lines.append([name, digits(seconds_of(rows)), *in_two_units(middle), every])
    where = (
        "Loss per character on the last tenth of tiny Shakespeare, and the time of the whole "
        f"command; medians. {describe_origin(data)}; `python benchmarks/quality.py NAME "
        f"--presets`, {data['date'][:10]}."
    )
    return f"{table(heads, lines, 1)}\n\n{where}"


def lengths(data: dict) -> str:
    """A table of losses by text and preset, beside the reference experiment, the lower in bold."""
    heads = ["text", "preset", "nats", "`reference` in the same time"]
    lines, says = [], []
    for text in dict.fromkeys((row["text"], row["characters"]) for row in data["rows"]):
        name = title = f"{text[0]}, {text[1]:,} characters"
        for row in (row for row in data["rows"] if (row["text"], row["characters"]) == text):
            cells = ["says that the text is short", ""]
            if row["says"]:
                says.append(f"`{row['preset']}`, {title}: “{row['says']}”")
            else:
                losses = row["nats"], row["reference"]
                cells = [f"{loss:.4f}" for loss in losses]
                best = losses.index(min(losses))
                cells[best] = bold(cells[best])
            lines.append([name, f"{row['preset']}, {digits(row['seconds'])} s", *cells])
            name = ""
    where = (
        f"Nats per character on the last tenth of each text, seed 0. {describe_origin(data)}; "
        f"{how(data)}"
    )
    return "\n\n".join([table(heads, lines, 2), where, *says])


def quality_torch(data: dict) -> str:
    """A table of presets in fastrnn and in PyTorch."""
    heads = ["preset", "fastrnn, s", "nats", "PyTorch, s", "nats", "**times as long**"]
    lines = []
    for row in data["rows"]:
        ours = row["fastrnn"]
        cells = [
            f"{x}" for one in (ours, row) for x in (digits(one["seconds"]), f"{one['nats']:.4f}")
        ]
        lines.append([row["preset"], *cells, bold(f"{digits(row['seconds'] / ours['seconds'])}×")])
    where = f"{describe_origin(data, 'torch')}; {how(data)}"
    return f"{table(heads, lines, 1)}\n\n{where}"


def in_two_units(nats: float) -> list[str]:
    """A loss in nats and in bits."""
    return [f"{nats:.4f}", f"{nats / math.log(2):.4f}"]


def of_result(make: Callable[[Result], str]) -> Callable[[Path], str]:
    """What makes a table of a file of times."""
    return lambda path: make(load(path))


def of_data(make: Callable[[dict], str]) -> Callable[[Path], str]:
    """What makes a table of another file."""
    return lambda path: make(json.loads(path.read_text(encoding="utf-8")))


# By page: names of the markers and of the folders in results, and what makes a table of a file
# there.
TABLES = {
    "README.md": {"speed": of_result(speed), "peers": of_result(beside), "seeds": of_data(seeds)},
    "docs/performance.md": {
        "peers": of_result(peers),
        "profile": of_result(profile),
        "writing": of_result(writing_and_scoring),
        "learning_rates": of_data(learning_rates),
        "model_sizes": of_data(model_sizes),
    },
    "docs/quality.md": {
        "quality": of_data(quality),
        "lengths": of_data(lengths),
        "quality_torch": of_data(quality_torch),
    },
}


def updated(text: str, page: str, name: str, results: Path) -> str:
    """A page with its section `name` made anew from all result files, in their names' order."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if not (text.count(start) == text.count(end) == 1 and text.index(start) < text.index(end)):
        raise SystemExit(f"{page} needs the lines {start} and {end}, once and in this order")
    paths = sorted((results / name).glob("*.json"))
    if not paths:
        raise SystemExit(f"{results / name} holds no results; see the scripts in benchmarks")
    tables = map(TABLES[page][name], paths)
    before, rest = text.split(start)
    content = "\n\n".join(tables)
    return f"{before}{start}\n{content}\n{end}{rest.split(end)[1]}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if outdated")
    parser.add_argument("--root", type=Path, default=HERE.parent, help="where the README is")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args(arguments)
    outdated = []
    for page, tables in TABLES.items():
        path = options.root / page
        old = new = path.read_text(encoding="utf-8")
        for name in tables:
            new = updated(new, page, name, options.results)
        if new != old:
            outdated.append(str(path))
            if not options.check:
                path.write_text(new, encoding="utf-8")
    if options.check and outdated:
        paths = " and ".join(outdated)
        sys.exit(f"the tables of {paths} are outdated; run python benchmarks/tables.py")


if __name__ == "__main__":
    main()
