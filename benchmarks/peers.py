"""The same training in NumPy, PyTorch, JAX and fastrnn, on one thread and on all.

    pip install '.[peers]'
    python benchmarks/peers.py --json benchmarks/results/peers/NAME.json [--cells lstm gru]
    python benchmarks/tables.py

Every method (see benchmarks/methods) has to arrive at the reference's loss and weights before it is
timed. Each runs in a process of its own for each case and number of threads, so that its memory can
be told, and without variables that would slow it down. The processes of a case take turns: a round
is one timing of each. A framework that is not installed is left out with a word.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from statistics import geometric_mean

from common import command_of
from fastrnn.checks import counted
from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.measure.harness import METHODS, Task, measure
from fastrnn.measure.results import (
    LIMIT,
    Case,
    Row,
    by_case,
    digits,
    percent,
    share_of_limit,
)
from fastrnn.parameters import NAMES
from fastrnn.threads import available_cores

PROGRAMS = METHODS | {
    "torch-nn": ("methods.pytorch", "make", "module"),
    "torch-loop": ("methods.pytorch", "make", "loop"),
    "torch-compile": ("methods.pytorch", "make", "compile"),
    "jax-scan": ("methods.xla", "Jax", "scan"),
    "hand-torch": ("methods.pytorch", "make", "hand"),
    "hand-jax": ("methods.xla", "Jax", "hand"),
}
GATED_FORMS = ("numpy", "torch-nn", "torch-compile", "jax-scan", "fastrnn", LIMIT)
VANILLA_FORMS = (*GATED_FORMS[:-2], "torch-loop", "hand-torch", "hand-jax", *GATED_FORMS[-2:])
PEERS = ("torch", "jax")  # as their users write, with gradients by the framework
HAND = ("hand",)  # with the gradient by hand in their operations


def vanilla(m: int, K: int, T: int, B: int, dtype: str = "float32") -> Case:
    return Case(Config(hidden=m, seq_length=T, batch=B, dtype=dtype), K)


def gated(cell: str, m: int, B: int) -> Case:
    """With Adam and clipping by norm, the defaults of gated cells."""
    return Case(Config(cell=cell, hidden=m, seq_length=64, batch=B), characters=65)


CASES = {
    "rnn": (
        *(vanilla(100, 80, 25, 1, dtype) for dtype in ("float32", "float64")),
        *(vanilla(m, 80, 50, B) for m, B in product((100, 256, 512, 1024), (8, 32, 128))),
    ),
    **{
        cell: tuple(gated(cell, m, B) for m, B in product((128, 256, 512), (16, 64, 128)))
        for cell in ("lstm", "gru")
    },
}


# --- results --------------------------------------------------------------------------------------


def framework(row: Row) -> str:
    return row.method.partition("-")[0]


def fastest(rows: Sequence[Row], *frameworks: str, threads: int | None = None) -> Row | None:
    """The best row of these frameworks, in whatever form and on however many threads."""
    chosen = [
        row for row in rows if framework(row) in frameworks and threads in (None, row.threads)
    ]
    return min(chosen, key=lambda row: row.median, default=None)


def ratio(rows: Sequence[Row], *others: str, threads: int) -> float | None:
    """How many times as fast fastrnn on so many threads is as the best of the others, in a case."""
    ours, other = fastest(rows, "fastrnn", threads=threads), fastest(rows, *others)
    return ours.times_as_fast_as(other) if ours and other else None


def summary(rows: Sequence[Row], *others: str, threads: int) -> tuple[float, float, int] | None:
    """Geometric mean, minimum and number of the ratios over the batched cases in float32."""
    ratios = [
        value
        for case, measured in by_case(rows)
        if case.config.batch > 1 and case.config.dtype == "float32"
        if (value := ratio(measured, *others, threads=threads)) is not None
    ]
    return (geometric_mean(ratios), min(ratios), len(ratios)) if ratios else None


def thread_counts(rows: Sequence[Row]) -> list[int]:
    return sorted({row.threads for row in rows})


OTHERS = (
    ("the best of PyTorch and JAX", PEERS),
    ("the better of these with the gradient by hand", HAND),
    ("NumPy", ("numpy",)),
)


def summaries(rows: Sequence[Row]) -> Iterator[tuple[str, int, str, float, float, int]]:
    """By cell, threads of fastrnn and what it is compared with: `summary`."""
    for cell, threads, (names, others) in product(CASES, reversed(thread_counts(rows)), OTHERS):
        measured = [row for row in rows if row.case.config.cell == cell]
        if found := summary(measured, *others, threads=threads):
            yield NAMES[cell], threads, names, *found


def describe_summary(rows: Sequence[Row]) -> str:
    """The ratios over all batched cases, in sentences."""
    return " ".join(
        f"{cell}, fastrnn on {counted(threads, 'thread')} over {names}, "
        f"{counted(count, 'batched shape')}: {digits(mean)}× as a geometric mean, "
        f"at least {digits(least)}×."
        for cell, threads, names, mean, least, count in summaries(rows)
    )


def format_tables(rows: Sequence[Row]) -> str:
    """Everything measured, as text."""
    layout = "  {:<14}{:>8}{:>13}{:>10}{:>12}{:>14}{:>8}{:>10}"
    names = ("method", "threads", "µs", "kchar/s", "fastrnn is", "of the limit", "MB", "first, s")
    lines = [layout.format(*names)]
    for case, measured in by_case(rows):
        lines += ["", f"{case} {case.config.dtype}"]
        lines += [layout.format(*cells).rstrip() for cells in cells_of(measured)]
        for threads in thread_counts(measured):
            if (value := ratio(measured, *PEERS, threads=threads)) is not None:
                peer = fastest(measured, *PEERS)
                lines.append(
                    f"  fastrnn on {counted(threads, 'thread')} is {digits(value)}× as fast as "
                    f"{peer.method} on {counted(peer.threads, 'thread')}"
                )
    return "\n".join([*lines, "", *textwrap.wrap(describe_summary(rows), 100)])


def cells_of(rows: Sequence[Row]) -> Iterator[Sequence]:
    """What the text tells of every method at a case."""
    most = thread_counts(rows)[-1]
    ours = fastest(rows, "fastrnn", threads=most) or fastest(rows, "fastrnn")
    for row in rows:
        if row.method != LIMIT:
            yield (
                row.method,
                row.threads,
                digits(1e6 * row.median),
                digits(1e-3 / row.per_character),
                f"{digits(ours.times_as_fast_as(row))}×" if ours else "",
                percent(share_of_limit(row, rows)),
                digits(row.details["memory"]["peak"] / 1e6),
                digits(row.details["first"]),
            )


# --- measuring ------------------------------------------------------------------------------------


def tasks_of(case: Case, methods: Sequence[str]) -> list[Task]:
    forms = VANILLA_FORMS if case.config.cell == "rnn" else GATED_FORMS
    return [
        Task(method, case, threads, program=PROGRAMS[method])
        for method in forms
        if method in methods
        for threads in sorted({1, available_cores()})
    ]


def parse_case(text: str) -> Case:
    """100,80,25,1 or 100,80,25,1,float64, with lstm, or gru, before it or nothing."""
    first, *rest = text.split(",")
    cell, sizes = ("rnn", [first, *rest]) if first.isdecimal() else (first, rest)
    m, K, T, B, *dtype = sizes
    sized = {"hidden": int(m), "seq_length": int(T), "batch": int(B)}
    return Case(Config(cell=cell, **sized, dtype=dtype[0] if dtype else "float32"), int(K))


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument(
        "--cells", nargs="+", choices=CASES, default=list(CASES), help="(default: all of these)"
    )
    parser.add_argument(
        "--cases",
        nargs="+",
        type=parse_case,
        metavar="[cell,]m,K,T,B[,dtype]",
        help="(default: 14 vanilla ones, and 9 of each gated cell: CASES in this script)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="(default 5)")
    parser.add_argument("--seconds", type=float, default=0.2, help="of a timing (default 0.2)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all times here")
    options = parser.parse_args(arguments)
    cases = options.cases or [case for cell in options.cells for case in CASES[cell]]
    try:
        result = measure(
            [tasks_of(case, options.methods) for case in cases],
            command=command_of("peers", arguments),
            apart=True,
            rounds=options.rounds,
            sample=options.seconds,
        )
    except FastrnnError as error:
        raise SystemExit(str(error)) from error
    if not result.rows:
        raise SystemExit("nothing was measured")
    print(format_tables(result.rows))
    if options.json:
        result.save(options.json)


if __name__ == "__main__":
    main()
