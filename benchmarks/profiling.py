"""Where the time of an update goes, on one thread: benchmarks/results/profile/NAME.json.

    python benchmarks/profiling.py NAME [--quick]
    python benchmarks/tables.py

Each part of an update is repeated alone (kernels/benchmark.py), so that what it works on may stay
in faster caches than between the others: the whole update takes longer than the sum of its parts.
Four parts are differences, as they need what another leaves or cannot be called alone: softmax,
backward recurrence, the gradients of the matrices, and packing. With more streams than the kernels
take at a time, one group of them is timed, and its parts count as often as there are groups.

(A script called profile.py would hide the module of that name from Python's own cProfile.)
"""

from __future__ import annotations

import argparse
import sys
from statistics import median
from typing import Any

import numpy as np

from common import RESULTS, Steps, Timed, interleaved, log, origin, save
from fastrnn.kernels import benchmark
from fastrnn.kernels.benchmark import PARTS
from fastrnn.measure.bench import Shape, digits

CASES = [
    (Shape(100, 80, 25, 1), "float32"),
    (Shape(100, 80, 25, 1), "float64"),
    (Shape(512, 80, 50, 128), "float32"),
]
# The parts of an update: what is repeated, and what has to be subtracted from that.
PHASES = {
    "forward recurrence": ("forward recurrence", None),
    "logits": ("logits", None),
    "softmax and loss": ("logits and softmax", "logits"),
    "gradient of h": ("hidden gradient", None),
    "backward recurrence": ("hidden gradient and backward recurrence", "hidden gradient"),
    "gradients of W, V": ("all gradients", "vector gradients"),
    "gradients of U, b, c": ("vector gradients", None),
    "AdaGrad": ("AdaGrad", None),
    "packing into panels": ("AdaGrad and packing", "AdaGrad"),
}
ONCE = ("AdaGrad", "AdaGrad and packing")  # in an update, not for every group of streams


def flops(shape: Shape, phase: str) -> int:
    """Operations of a phase, counted as in fastrnn.measure.bench."""
    m, K, T, B = shape
    counts = {
        "forward recurrence": T * m * m,
        "logits": T * m * K,
        "gradient of h": T * m * K,
        "backward recurrence": (T - 1) * m * m,
        "gradients of W, V": T * (m * m + m * K),
    }
    return 2 * B * counts.get(phase, 0)


def measure(shape: Shape, dtype: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Times of the limit, the whole step, and all PARTS of one group of streams."""
    steps = Steps(shape, dtype, threads=1)
    n = steps.network
    group = n._states.H.shape[0]
    one = np.dtype(dtype).type(1)

    def prepare() -> None:
        """Leave what each part reads, as an update of the first group of streams does."""
        steps.reset()
        for number in (benchmark.RECURRENCE, benchmark.SOFTMAX, benchmark.BACKWARD, benchmark.ALL):
            repeat(number, 1)

    def repeat(number: int, count: int) -> None:
        state = n._weights, n._gradient, n._memory, n._packed, n._states, n.sizes, n._team
        rest = group, number, steps.config.learning_rate, steps.config.clip, count
        benchmark.part(*state, steps.codes, *rest)

    works = {
        "limit": Timed(lambda count: benchmark.multiply_adds(one / 2, one, 1000 * count), seconds),
        "step": Timed(steps.train, seconds, steps.most, steps.reset),
    }
    for number, name in enumerate(PARTS):
        works[name] = Timed(lambda count, i=number: repeat(i, count), seconds, reset=prepare)
    times = interleaved(works, rounds)
    work = 1000 * benchmark.operations(one)
    return {
        "shape": shape._asdict(),
        "dtype": dtype,
        "streams": group,
        "limit": [work / t for t in times.pop("limit")],
        "seconds": times,
    }


def phases(row: dict[str, Any]) -> dict[str, float]:
    """Seconds of each phase in a whole update."""
    groups = row["shape"]["B"] / row["streams"]
    times = {
        name: median(seconds) * (1 if name in ONCE else groups)
        for name, seconds in row["seconds"].items()
    }
    return {
        phase: times[name] - (times[less] if less else 0.0)
        for phase, (name, less) in PHASES.items()
    }


def cells(row: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Microseconds and share of the limit, of each phase, their sum and the whole update."""
    shape, limit = Shape(**row["shape"]), median(row["limit"])
    found = phases(row)
    total = sum(flops(shape, phase) for phase in PHASES)
    lines = {phase: (seconds, flops(shape, phase)) for phase, seconds in found.items()}
    lines["sum of these"] = sum(found.values()), total
    lines["whole update"] = median(row["seconds"]["step"]), total
    return {
        # A difference of two times may come out as nothing, or less.
        name: (
            digits(1e6 * seconds) if seconds > 0 else "0",
            f"{100 * work / seconds / limit:.0f} %" if work and seconds > 0 else "",
        )
        for name, (seconds, work) in lines.items()
    }


def format_table(rows: list[dict[str, Any]]) -> str:
    """The result as text."""
    lines = []
    for row in rows:
        lines += ["", f"{Shape(**row['shape'])} {row['dtype']}"]
        lines += [f"  {name:<30}{us:>10} µs{share:>8}" for name, (us, share) in cells(row).items()]
    return "\n".join(lines[1:])


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the machine, such as zen5")
    parser.add_argument("--quick", action="store_true", help="three rounds of short timings")
    options = parser.parse_args(arguments)
    result = origin("profiling", arguments)
    result["rounds"], seconds = (3, 0.01) if options.quick else (11, 0.05)
    result["rows"] = []
    for shape, dtype in CASES:
        log(f"{shape} {dtype}")
        result["rows"].append(measure(shape, dtype, result["rounds"], seconds))
    print(format_table(result["rows"]))
    save(result, RESULTS / "profile" / f"{options.name}.json")


if __name__ == "__main__":
    main()
