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
from pathlib import Path
from statistics import median

import profiling
from common import describe_origin
from fastrnn.measure.bench import (
    PHASES,
    Result,
    Row,
    Shape,
    count_threads,
    describe,
    describe_limits,
    digits,
)
from peers import (
    HAND,
    PEERS,
    all_threads,
    by_case,
    describe_summary,
    fastest,
    ratio,
    read_rows,
)

HERE = Path(__file__).parent

COLUMNS = (
    *("", "", "forward", "backward", "update", "**whole step**"),
    *("NumPy, µs", "fastrnn, µs", "characters/s", "of the limit"),
)


def speed(result: Result) -> str:
    """A table of how many times as fast as NumPy, and a paragraph that says where."""
    cases: dict[tuple, dict[str, Row]] = {}
    for row in result.rows:
        cases.setdefault((row.shape, row.dtype, row.threads), {})[row.phase] = row
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|---|" + "--:|" * (len(COLUMNS) - 2)]
    for (shape, dtype, threads), rows in cases.items():
        step = rows["step"]
        name = f"{shape}, {count_threads(threads)}" if shape.B > 1 else str(shape)
        ratios = (f"{digits(rows[phase].ratio)}×" if phase in rows else "" for phase in PHASES)
        cells = [name, dtype, *ratios]
        cells[-1] = f"**{cells[-1]}**"
        cells += [digits(1e6 * median(times)) for times in (step.baseline, step.ours)]
        cells += [digits(step.characters_per_second), f"{100 * step.share:.0f} %"]
        lines.append(f"| {' | '.join(cells)} |")
    rounds = len(result.rows[0].ours)
    where = (
        f"{describe(result)}. Medians of {rounds} interleaved rounds, `{result.command}`, "
        f"{result.date[:10]}. {describe_limits(result)}"
    )
    return "\n".join([*lines, "", where])


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


def peers(data: dict) -> str:
    """A table of characters a second and of memory, and paragraphs that say where."""
    rows = read_rows(data)
    counts = sorted({1, all_threads(rows)})
    heads = [
        *("", "", "NumPy", "PyTorch", "JAX", "by hand"),
        *(f"fastrnn, {count_threads(threads)}" for threads in counts),
        *("**over the best peer**", "PyTorch, MB", "JAX, MB", "fastrnn, MB"),
    ]
    lines = [f"| {' | '.join(heads)} |", "|---|---|" + "--:|" * (len(heads) - 2)]
    for case in by_case(rows):
        shape, dtype = case[0].case
        others = [fastest(case, name) for name in ("numpy", "torch", "jax", *HAND)]
        _, torch, jax, _ = others
        ours = [fastest(case, "fastrnn", threads=threads) for threads in counts]
        last = ours[-1] or ours[0]
        times = ratio(case, *PEERS, threads=last.threads) if last else None
        cells = [str(shape), dtype]
        for row in (*others, *ours):
            cells.append(digits(row.characters_per_second / 1e3) if row else "")
        cells.append(f"**{digits(times)}×**" if times else "")
        for row in (torch, jax, last):
            cells.append(digits(row.memory["peak"] / 1e6) if row else "")
        lines.append(f"| {' | '.join(cells)} |")
    machine, versions = data["machine"], data["versions"]
    spread = max(max(row.seconds) / min(row.seconds) for row in rows)
    names = {"fastrnn": "fastrnn", "torch": "PyTorch", "jax": "JAX"}
    names |= {"python": "Python", "numpy": "NumPy", "numba": "Numba"}
    where = (
        "Thousands of characters a second, the others in their fastest form and on the better "
        "number of threads; by hand is the better of PyTorch and JAX with the gradient written out "
        "in their operations. And the most memory that this process held. "
        f"{machine['cpu']} ({machine['instructions']}), {machine['cores']} cores, "
        f"{machine['system']}; "
        + ", ".join(f"{name} {versions[key]}" for key, name in names.items() if key in versions)
        + f". Medians of {data['rounds']} interleaved rounds, `{data['command']}`, "
        f"{data['date'][:10]}. The machine's load before was {machine['load']}; the slowest round "
        f"of a row took up to {digits(spread)} times its fastest."
    )
    return "\n".join([*lines, "", where, "", describe_summary(rows)])


def profile(data: dict) -> str:
    """A table of the phases of an update, and a paragraph that says where."""
    heads, columns = [""], []
    for row in data["rows"]:
        shape, dtype = Shape(**row["shape"]), row["dtype"]
        heads += [f"{shape} {dtype}, µs", "of the limit"]
        columns.append(profiling.cells(row))
    lines = [f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 1)]
    for name in columns[0]:
        cells = [cell for column in columns for cell in column[name]]
        if name not in profiling.PHASES:
            name, cells = f"**{name}**", [f"**{cell}**" if cell else "" for cell in cells]
        lines.append(f"| {' | '.join([name, *cells])} |")
    limits = {row["dtype"]: digits(median(row["limit"]) / 1e9) for row in data["rows"]}
    measured = ", ".join(f"{limit} GFLOP/s in {dtype}" for dtype, limit in limits.items())
    where = (
        f"One thread. {describe_origin(data)} Medians of {data['rounds']} interleaved rounds. "
        f"Limit of fused multiply-adds: {measured}."
    )
    return "\n".join([*lines, "", where])


def learning_rates(data: dict) -> str:
    """A table of the losses by batch and learning rate, the best of each batch in bold."""
    rates = list(dict.fromkeys(row["learning_rate"] for row in data["rows"]))
    heads = ["B", "updates", *(f"η = {rate:g}" for rate in rates), "seconds"]
    lines = [f"| {' | '.join(heads)} |", "|" + "--:|" * len(heads)]
    for batch in dict.fromkeys(row["batch"] for row in data["rows"]):
        rows = [row for row in data["rows"] if row["batch"] == batch]
        done = [row for row in rows if row["updates"] is not None]
        best = min((row["loss"] for row in rows if row["loss"] is not None), default=None)
        cells = [str(batch), f"{done[0]['updates']:,}" if done else ""]
        for loss in [row["loss"] for row in rows]:
            cell = "diverged" if loss is None else f"{loss:.3f} ({loss / math.log(2):.3f})"
            cells.append(f"**{cell}**" if loss is not None and loss == best else cell)
        cells.append(digits(median(row["seconds"] for row in done)) if done else "")
        lines.append(f"| {' | '.join(cells)} |")
    corpus = data["corpus"]
    epochs = "1 epoch" if data["epochs"] == 1 else f"{data['epochs']} epochs"
    where = (
        f"Nats (and bits) per character on the first {data['judged']:,} characters of "
        f"{corpus['name']}, after {epochs} of its {corpus['length']:,} characters; "
        f"m = {data['hidden']}, T = {data['seq_length']}, one seed. Seconds are the median of a "
        f"row. {describe_origin(data)}"
    )
    return "\n".join([*lines, "", where])


def model_sizes(data: dict) -> str:
    """A table of the losses by text, hidden units and learning rate, the best of a text in bold."""
    rates = list(dict.fromkeys(row["learning_rate"] for row in data["rows"]))
    heads = ["text", "m", *(f"η = {rate:g}" for rate in rates)]
    lines = [f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 1)]
    for text in dict.fromkeys((row["corpus"], row["length"]) for row in data["rows"]):
        rows = [row for row in data["rows"] if (row["corpus"], row["length"]) == text]
        best = min((row["loss"] for row in rows if row["loss"] is not None), default=None)
        name = f"{text[0]}, {text[1]:,} characters"
        for hidden in dict.fromkeys(row["hidden"] for row in rows):
            cells = [name, str(hidden)]
            for loss in [row["loss"] for row in rows if row["hidden"] == hidden]:
                cell = "diverged" if loss is None else f"{loss / math.log(2):.3f}"
                cells.append(f"**{cell}**" if loss is not None and loss == best else cell)
            lines.append(f"| {' | '.join(cells)} |")
            name = ""
    epochs = "1 epoch" if data["epochs"] == 1 else f"{data['epochs']} epochs"
    where = (
        f"Bits per character on the first {data['judged']:,} characters of each text, after "
        f"{epochs} of all of it; B = 1, T = {data['seq_length']}, one seed. {describe_origin(data)}"
    )
    return "\n".join([*lines, "", where])


# By page: names of the markers and of the folders in results, and what makes a table of a file
# there.
TABLES = {
    "README.md": {
        "speed": lambda data: speed(Result.from_json(data)),
        "peers": peers,
        "seeds": seeds,
    },
    "docs/performance.md": {
        "profile": profile,
        "learning_rates": learning_rates,
        "model_sizes": model_sizes,
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
    make = TABLES[page][name]
    tables = (make(json.loads(path.read_text(encoding="utf-8"))) for path in paths)
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
