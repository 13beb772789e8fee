"""The same training in NumPy, PyTorch, JAX and fastrnn, on one thread and on all.

    pip install '.[peers]'
    python benchmarks/peers.py --json benchmarks/results/peers/NAME.json
    python benchmarks/tables.py

Every method (see benchmarks/methods) has to arrive at the reference's loss and weights before it is
timed. Each runs in a process of its own for each shape and number of threads, so that its memory
can be told, and without variables that would slow it down. The processes of a shape take turns: a
round is one timing of each. A framework that is not installed is left out with a word.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import numpy as np

import common
from common import log
from fastrnn.measure.bench import MARK, ONE_THREAD, PREFIXES, Shape, count_threads, digits
from fastrnn.measure.measurement import TOLERANCE, describe_machine
from methods import METHODS, LeftOut, Task, expected

BATCHED = [Shape(m, 80, 50, B) for m, B in product((100, 256, 512, 1024), (8, 32, 128))]
REFERENCE = Shape(100, 80, 25, 1)
CASES = [(REFERENCE, "float32"), (REFERENCE, "float64"), *((shape, "float32") for shape in BATCHED)]

PEERS = ("torch", "jax")  # as their users write, with gradients by the framework
HAND = ("hand",)  # with the gradient by hand in their operations
PEER_PREFIXES = ("GOMP_", "XLA_", "JAX_", "TORCH_", "ATEN_", "DNNL_", "ONEDNN_")
CHILD = (
    "import json, sys; request = json.loads(sys.argv[1]); sys.path[:] = request.pop('path'); "
    "from methods import serve; serve(**request)"
)
COMPILING = 120.0  # seconds after which a process that has not made its first updates is left out


# --- results ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One method at one shape: element i of the times is from round i."""

    shape: Shape
    dtype: str
    method: str  # of METHODS; up to its hyphen, the framework
    threads: int
    seconds: list[float]  # of one update
    first: float  # seconds of the first update, with what it compiles
    memory: dict[str, int]  # bytes held at most: "imported", before the first array, and "peak"

    @property
    def case(self) -> tuple[Shape, str]:
        return self.shape, self.dtype

    @property
    def framework(self) -> str:
        return self.method.partition("-")[0]

    @property
    def characters_per_second(self) -> float:
        return self.shape.T * self.shape.B / median(self.seconds)

    def times_as_fast_as(self, other: Row) -> float:
        return median(b / a for a, b in zip(self.seconds, other.seconds, strict=True))


def read_rows(data: dict[str, Any]) -> list[Row]:
    """The rows of a result file."""
    return [Row(**{**row, "shape": Shape(**row["shape"])}) for row in data["rows"]]


def by_case(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """The rows of each shape and dtype."""
    for case in dict.fromkeys(row.case for row in rows):
        yield [row for row in rows if row.case == case]


def fastest(rows: Sequence[Row], *frameworks: str, threads: int | None = None) -> Row | None:
    """The best row of these frameworks, in whatever form and on however many threads."""
    chosen = [
        row
        for row in rows
        if row.framework in frameworks and (threads is None or row.threads == threads)
    ]
    return min(chosen, key=lambda row: median(row.seconds), default=None)


def ratio(rows: Sequence[Row], *others: str, threads: int) -> float | None:
    """How many times as fast fastrnn on so many threads is as the best of the others, in a case."""
    ours, other = fastest(rows, "fastrnn", threads=threads), fastest(rows, *others)
    return ours.times_as_fast_as(other) if ours and other else None


def summary(rows: Sequence[Row], *others: str, threads: int) -> tuple[float, float, int] | None:
    """Geometric mean, minimum and number of the ratios over the batched shapes in float32."""
    ratios = [
        value
        for case in by_case(rows)
        if case[0].shape.B > 1 and case[0].dtype == "float32"
        if (value := ratio(case, *others, threads=threads)) is not None
    ]
    return (geometric_mean(ratios), min(ratios), len(ratios)) if ratios else None


def all_threads(rows: Sequence[Row]) -> int:
    return max(row.threads for row in rows)


def describe_summary(rows: Sequence[Row]) -> str:
    """The ratios over all batched shapes, in sentences."""
    sentences = []
    for threads in sorted({row.threads for row in rows}, reverse=True):
        for names, others in (
            ("the best of PyTorch and JAX", PEERS),
            ("the better of these with the gradient by hand", HAND),
            ("NumPy", ("numpy",)),
        ):
            if found := summary(rows, *others, threads=threads):
                mean, least, count = found
                sentences.append(
                    f"fastrnn on {count_threads(threads)} over {names}, {count} batched shapes: "
                    f"{digits(mean)}× as a geometric mean, at least {digits(least)}×."
                )
    return " ".join(sentences)


def format_tables(rows: Sequence[Row]) -> str:
    """Everything measured, as text."""
    layout = "  {:<14}{:>8}{:>13}{:>10}{:>12}{:>10}{:>10}"
    names = ("method", "threads", "µs", "kchar/s", "fastrnn is", "MB", "first, s")
    lines = [layout.format(*names)]
    most = all_threads(rows)
    for case in by_case(rows):
        shape, dtype = case[0].case
        ours = fastest(case, "fastrnn", threads=most) or fastest(case, "fastrnn")
        lines += ["", f"{shape} {dtype}"]
        for row in case:
            cells = (
                digits(1e6 * median(row.seconds)),
                digits(row.characters_per_second / 1e3),
                f"{digits(ours.times_as_fast_as(row))}×" if ours else "",
                digits(row.memory["peak"] / 1e6),
                digits(row.first),
            )
            lines.append(layout.format(row.method, row.threads, *cells))
        for threads in sorted({row.threads for row in case}):
            if (value := ratio(case, *PEERS, threads=threads)) is not None:
                peer = fastest(case, *PEERS)
                lines.append(
                    f"  fastrnn on {count_threads(threads)} is {digits(value)}× as fast as "
                    f"{peer.method} on {count_threads(peer.threads)}"
                )
    return "\n".join([*lines, "", *textwrap.wrap(describe_summary(rows), 100)])


# --- measuring ----------------------------------------------------------------------------------


class Late(LeftOut):
    """It may be faster at another shape."""


class Child:
    """A process that waits for its turn."""

    def __init__(self, task: Task, method: str, seconds: float, state: Path):
        self.task, self.method, self.state = task, method, state
        self.seconds: list[float] = []
        slowing = (*PREFIXES, *PEER_PREFIXES)
        environment = {k: v for k, v in os.environ.items() if not k.startswith(slowing)}
        environment |= dict.fromkeys(ONE_THREAD, str(task.threads))
        # No processes that compile: they would outlive it when it is killed.
        environment |= {"JAX_PLATFORMS": "cpu", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        request = {
            "path": sys.path,
            "name": method,
            "shape": task.shape,
            "dtype": task.config.dtype,
            "threads": task.threads,
            "seconds": seconds,
            "state": str(state),
        }
        # A pipe that nobody reads would block the child when it is full.
        self.errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment,
            text=True,
            errors="replace",
        )

    def start(self) -> dict[str, Any]:
        """Wait until it is ready; raise LeftOut if it cannot run, Late if it takes too long."""
        late = threading.Event()
        timer = threading.Timer(COMPILING, lambda: (late.set(), self.process.kill()))
        timer.start()
        try:
            message = self.receive()
        except SystemExit:
            if late.is_set():
                raise Late(f"was not ready after {COMPILING:g} seconds") from None
            raise
        finally:
            timer.cancel()
        if "left_out" in message:
            raise LeftOut(message["left_out"])
        self.ready = message
        return message

    def check(self, expected: dict[str, Any]) -> None:
        """End everything unless it arrived at these losses and weights."""
        with np.load(self.state) as state:
            for what, reference in expected.items():
                name, updates = what.split()
                # See methods.results. To forget the hidden state makes 5e-4, rounding 2e-6.
                loose = 10 if updates == "1" else 1 / 50
                error = np.max(np.abs(state[what] - reference)) / np.max(np.abs(reference))
                if not error <= loose * TOLERANCE[self.task.config.dtype]:
                    raise SystemExit(
                        f"{self.name} and the reference disagree: {name} differs by {error:.1e} of "
                        f"the largest entry (updates: {updates})"
                    )

    def time(self) -> None:
        print("time", file=self.process.stdin, flush=True)
        self.seconds.append(self.receive()["seconds"])

    def row(self) -> Row:
        """Let it end, and put together what it measured."""
        self.process.stdin.close()
        memory, task = self.receive()["memory"], self.task
        sizes = task.shape, task.config.dtype
        return Row(*sizes, self.method, task.threads, self.seconds, self.ready["first"], memory)

    def receive(self) -> dict[str, Any]:
        """Its next message, between whatever else was printed there."""
        for line in self.process.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        code = self.process.wait()
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors if line.strip()]
        raise SystemExit(f"{self.name} failed: {lines[-1] if lines else f'exit code {code}'}")

    def kill(self) -> None:
        with self.process, self.errors:
            self.process.kill()

    @property
    def name(self) -> str:
        task = self.task
        return (
            f"{self.method} at {task.shape}, {task.config.dtype}, on {count_threads(task.threads)}"
        )


def measure(
    cases: Sequence[tuple[Shape, str]], methods: Sequence[str], rounds: int, seconds: float
) -> dict[str, Any]:
    """Rows, and what ran them; progress and what is left out go to standard error."""
    cores = describe_machine()["cores"]
    versions: dict[str, str] = {"python": platform.python_version()}
    pools: dict[str, list] = {}
    left_out: dict[str, str] = {}
    impossible: set[tuple[str, int]] = set()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for i, (shape, dtype) in enumerate(cases):
            log(f"{shape} {dtype} ({i + 1} of {len(cases)})")
            right = expected(Task(shape, dtype, 1))
            with contextlib.ExitStack() as stack:
                children = []
                for method, threads in product(methods, sorted({1, cores})):
                    if (method, threads) in impossible:
                        continue
                    state = Path(folder, f"{i}-{method}-{threads}.npz")
                    child = Child(Task(shape, dtype, threads), method, seconds, state)
                    stack.callback(child.kill)
                    try:
                        ready = child.start()
                    except LeftOut as reason:
                        if left_out.get(method) != str(reason):
                            log(f"  {child.name} is left out: {reason}")
                        left_out[method] = str(reason)
                        if not isinstance(reason, Late):
                            impossible.add((method, threads))
                        continue
                    child.check(right)
                    versions |= ready["versions"]
                    pools[f"{method}, {count_threads(threads)}"] = ready["pools"]
                    children.append(child)
                for _ in range(rounds):
                    for child in children:
                        child.time()
                rows += [child.row() for child in children]
    return {"versions": versions, "pools": pools, "left_out": left_out, "rows": rows}


def save(result: dict[str, Any], path: Path) -> None:
    """Write a result, a row a line."""
    rows = [{**asdict(row), "shape": row.shape._asdict()} for row in result["rows"]]
    common.save({**result, "rows": rows}, path)


def parse_case(text: str) -> tuple[Shape, str]:
    """100,80,25,1 or 100,80,25,1,float64."""
    m, K, T, B, *dtype = text.split(",")
    return Shape(int(m), int(K), int(T), int(B)), dtype[0] if dtype else "float32"


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument(
        "--shapes",
        nargs="+",
        type=parse_case,
        default=CASES,
        metavar="m,K,T,B[,dtype]",
        help="(default: the reference, and twelve with batches)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="(default 5)")
    parser.add_argument("--seconds", type=float, default=0.2, help="of a timing (default 0.2)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all times here")
    options = parser.parse_args(arguments)
    result = common.origin("peers", arguments) | {"rounds": options.rounds}
    result |= measure(options.shapes, options.methods, options.rounds, options.seconds)
    if not result["rows"]:
        raise SystemExit("nothing was measured")
    print(format_tables(result["rows"]))
    if options.json:
        save(result, options.json)


if __name__ == "__main__":
    main()
