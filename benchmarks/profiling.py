"""Where the time of an update goes, on one thread: benchmarks/results/profile/NAME.json.

    python benchmarks/profiling.py NAME [--quick]
    python benchmarks/tables.py

Each part of an update is repeated alone (kernels/benchmark.py), so that what it works on may stay
in faster caches than between the others: the whole update takes longer than the sum of its parts.
Four parts are differences, as they need what another leaves or cannot be called alone: softmax,
backward recurrence, the gradients of the matrices, and packing. Of more streams than the kernels
take at a time, one group is timed, for as often as there are groups.

(A script called profile.py would hide the module of that name from Python's own cProfile.)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from common import command_of, result_path
from fastrnn.kernels.benchmark import PARTS
from fastrnn.measure.harness import Task, measure
from fastrnn.measure.results import LIMIT, Case, Row, by_case, digits, find, percent
from peers import gated, vanilla

CASES = (
    *(vanilla(100, 80, 25, 1), vanilla(100, 80, 25, 1, "float64"), vanilla(512, 80, 50, 128)),
    *(gated("lstm", 512, 128), gated("gru", 512, 128)),
)
# What an update consists of, as operations names it where it counts: what is repeated, and what has
# to be subtracted from that.
PHASES = {
    "forward recurrence": ("forward recurrence", None),
    "logits": ("logits", None),
    "softmax and loss": ("logits and softmax", "logits"),
    "gradient of h": ("hidden gradient", None),
    "backward recurrence": ("hidden gradient and backward recurrence", "hidden gradient"),
    "gradients of matrices": ("all gradients", "vector gradients"),
    "gradients of vectors and U": ("vector gradients", None),
    "optimizer": ("optimizer", None),
    "packing into panels": ("optimizer and packing", "optimizer"),
}


def phases(rows: Sequence[Row]) -> dict[str, float]:
    """Seconds of each phase in a whole update, from the rows of a case."""
    times = {row.phase: row.median for row in rows if row.method != LIMIT}
    return {
        phase: times[name] - (times[less] if less else 0.0)
        for phase, (name, less) in PHASES.items()
    }


def cells(case: Case, rows: Sequence[Row]) -> dict[str, tuple[str, str]]:
    """Microseconds and share of the limit, of each phase, their sum and the whole update."""
    whole, limit = find(rows, "fastrnn"), find(rows, LIMIT)
    assert whole is not None and limit is not None
    found = phases(rows)
    lines = {phase: (seconds, case.operations(phase)) for phase, seconds in found.items()}
    lines["sum of these"] = sum(found.values()), case.operations()
    lines["whole update"] = whole.median, case.operations()
    rate = case.operations() / limit.median
    return {
        # A difference of two times may come out as nothing, or less.
        name: (
            digits(1e6 * seconds) if seconds > 0 else "0",
            percent(work / seconds / rate if work and seconds > 0 else None),
        )
        for name, (seconds, work) in lines.items()
    }


def format_table(rows: Sequence[Row]) -> str:
    """The result as text."""
    lines = []
    for case, measured in by_case(rows):
        lines += ["", f"{case} {case.config.dtype}"]
        for name, (us, share) in cells(case, measured).items():
            lines.append(f"  {name:<30}{us:>10} µs{share:>8}")
    return "\n".join(lines[1:])


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the machine, such as zen5")
    parser.add_argument("--quick", action="store_true", help="three rounds of short timings")
    options = parser.parse_args(arguments)
    tasks = []
    for case in CASES:
        tasks += [Task(LIMIT, case), Task("fastrnn", case, phases=("step", *PARTS))]
    rounds, sample = (3, 0.01) if options.quick else (11, 0.05)
    result = measure(
        [tasks], command=command_of("profiling", arguments), rounds=rounds, sample=sample
    )
    print(format_table(result.rows))
    result.save(result_path("profile", options.name))


if __name__ == "__main__":
    main()
