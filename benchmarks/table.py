"""Write the speed table of the README from benchmarks/results/*.json, or check that it is theirs.

    python benchmarks/table.py [--check]

The table stands between two markers; with --check nothing is written, and the exit code is 1 when
the README and the data disagree. Every row measured is in the table, the losing ones too.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import median

from fastrnn.bench import PHASES, Result, Row, describe, describe_limits, digits

HERE = Path(__file__).parent
START, END = "<!-- speed -->", "<!-- /speed -->"

COLUMNS = (
    *("", "", "forward", "backward", "update", "**whole step**"),
    *("NumPy, µs", "fastrnn, µs", "characters/s", "of the limit"),
)


def markdown(result: Result) -> str:
    """A table of how many times as fast as NumPy, and a paragraph that says where."""
    cases: dict[tuple, dict[str, Row]] = {}
    for row in result.rows:
        cases.setdefault((row.shape, row.dtype), {})[row.phase] = row
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|---|" + "--:|" * (len(COLUMNS) - 2)]
    for (shape, dtype), rows in cases.items():
        step = rows["step"]
        cells = [str(shape), dtype, *(f"{digits(rows[phase].ratio)}×" for phase in PHASES)]
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


def section(results: Path) -> str:
    """The tables of all result files, in the order of their names."""
    paths = sorted(results.glob("*.json"))
    if not paths:
        raise SystemExit(f"{results} holds no results; python benchmarks/run.py NAME makes one")
    data = (json.loads(path.read_text(encoding="utf-8")) for path in paths)
    return "\n\n".join(markdown(Result.from_json(one)) for one in data)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if outdated")
    parser.add_argument("--readme", type=Path, default=HERE.parent / "README.md")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args(arguments)
    text = options.readme.read_text(encoding="utf-8")
    if not (text.count(START) == text.count(END) == 1 and text.index(START) < text.index(END)):
        raise SystemExit(
            f"{options.readme} needs the lines {START} and {END}, once and in this order"
        )
    before, rest = text.split(START)
    _, after = rest.split(END)
    updated = f"{before}{START}\n{section(options.results)}\n{END}{after}"
    if not options.check:
        options.readme.write_text(updated, encoding="utf-8")
    elif updated != text:
        sys.exit(f"the speed table of {options.readme} is outdated; run python benchmarks/table.py")


if __name__ == "__main__":
    main()
