"""How fast a model writes and scores: benchmarks/results/writing/NAME.json.

    python benchmarks/writing.py NAME [--quick]
    python benchmarks/tables.py

Writing one text, many texts side by side, and with fewer characters to draw from; scoring; and the
training that scoring is compared with. A text reads all weights for each of its characters, so one
text is compared with how fast memory of that size can be read, and many with the multiply-adds that
a core can make.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from common import command_of, result_path
from fastrnn.checks import counted
from fastrnn.evaluation import Evaluator
from fastrnn.kernels.simd import VECTOR_BYTES
from fastrnn.kernels.writing import Choice
from fastrnn.layout import Layout
from fastrnn.measure.harness import Task, measure
from fastrnn.measure.kernels import Kernels
from fastrnn.measure.methods import Method, Problem, Work
from fastrnn.measure.results import LIMIT, Case, Row, by_case, digits, find, percent
from fastrnn.network import Weights
from fastrnn.threads import available_cores
from fastrnn.writing import Writer
from peers import gated, vanilla

CASES = (
    *(vanilla(100, 80, 25, 1), vanilla(100, 80, 25, 32)),
    *(gated("lstm", 256, 16), gated("lstm", 512, 64)),
)
ONE, SOME, MANY = "1 text", "8 texts", "64 texts"
TOP_K, TOP_P = f"{MANY}, top-k", f"{MANY}, top-p"
WRITING = {  # how many texts, and how they are drawn
    ONE: (1, Choice()),
    SOME: (8, Choice()),
    MANY: (64, Choice()),
    TOP_K: (64, Choice(top_k=10)),
    TOP_P: (64, Choice(top_p=0.9)),
}
CHARACTERS = 2000  # in a call into compiled code, about


class Texts(Method):
    """Writing and scoring, and training with the same batch; all by the character."""

    def __init__(self, problem: Problem):
        self.problem = problem
        self.training = Kernels(problem)
        self.training.reset(1.0)
        self.weights = Weights(problem.config, problem.K)
        # With those at the start of a training all characters would be about equally likely.
        rng, scale = np.random.default_rng(0), 1 / np.sqrt(problem.config.hidden)
        parameters = {k: rng.normal(0, scale, x.shape) for k, x in problem.initial.items()}
        self.weights.set_parameters(parameters | {"V": 4 * parameters["V"]})

    def work(self, phase: str) -> Work:
        problem = self.problem
        if phase == "training":
            return self.training.train
        if phase == "scoring":
            codes = problem.codes[: self.unit(phase) // problem.B + 1]
            reader = Evaluator(self.weights, problem.T, problem.B, problem.threads)
            return repeated(lambda: reader.losses(codes))
        texts, choice = WRITING[phase]
        writer = Writer(self.weights, texts=texts, threads=problem.threads)
        writer.read(np.zeros(1, np.int32))
        uniforms = np.random.default_rng(0).random((self.unit(phase) // texts, texts))
        return repeated(lambda: writer.write(uniforms, choice))

    def unit(self, phase: str) -> int:
        """Characters of one repetition."""
        update = self.problem.T * self.problem.B
        if phase in WRITING:
            texts, _ = WRITING[phase]
            return max(CHARACTERS // texts, 1) * texts
        return update if phase == "training" else max(CHARACTERS // update, 1) * update


def repeated(work: Callable[[], Any]) -> Work:
    def repeat(count: int) -> None:
        for _ in range(count):
            work()

    return repeat


def bytes_read(case: Case) -> int:
    """Bytes of the matrices that a text reads for each character, in whole blocks of `read`."""
    layout = Layout(case.config, case.characters)
    elements = sum(np.prod(layout.panels[name]) for name in ("WT", "XT", "VT"))
    block = 16 * VECTOR_BYTES
    return int(-(-elements * layout.dtype.itemsize // block) * block)


def cells(case: Case, rows: Sequence[Row]) -> dict[str, str]:
    """What a line of the table says."""

    def row(phase: str, threads: int = 1) -> Row:
        found = find(rows, "fastrnn", threads, phase)
        assert found is not None
        return found

    limit, reading = find(rows, LIMIT), find(rows, "reading")
    assert limit is not None and reading is not None
    threads = max(one.threads for one in rows)
    one, many, all_threads = row(ONE), row(MANY), row(MANY, threads)
    share = case.operations("forward") / case.operations() / case.characters_read
    return {
        **{f"{name}, characters/s": digits(1 / row(name).median) for name in (ONE, SOME, MANY)},
        f"{MANY}, {counted(threads, 'thread')}": digits(1 / all_threads.median),
        "of one text": f"{digits(all_threads.times_as_fast_as(one))}×",
        f"{ONE}, of reading": percent(one.times_as_fast_as(reading)),
        f"{MANY}, of the limit": percent(share * many.times_as_fast_as(limit)),
        "top-k, µs": f"{1e6 * (row(TOP_K).median - many.median):+.2f}",
        "top-p, µs": f"{1e6 * (row(TOP_P).median - many.median):+.2f}",
        "scoring, characters/s": digits(1 / row("scoring").median),
        "of training": f"{digits(row('scoring').times_as_fast_as(row('training')))}×",
    }


def format_table(rows: Sequence[Row]) -> str:
    """The result as text."""
    lines = []
    for case, measured in by_case(rows):
        lines += ["", str(case)]
        lines += [f"  {name:<28}{cell:>12}" for name, cell in cells(case, measured).items()]
    return "\n".join(lines[1:])


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the machine, such as zen5")
    parser.add_argument("--quick", action="store_true", help="three rounds of short timings")
    options = parser.parse_args(arguments)
    program, phases = ("writing", "Texts"), (*WRITING, "scoring", "training")
    groups = []
    for case in CASES:
        groups.append(
            [
                Task(LIMIT, case),
                Task("reading", case, options={"bytes": bytes_read(case)}),
                Task("fastrnn", case, phases=phases, program=program),
            ]
        )
        if (threads := available_cores()) > 1:
            groups[-1].append(Task("fastrnn", case, threads, (MANY,), program))
    rounds, sample = (3, 0.01) if options.quick else (11, 0.02)
    result = measure(groups, command=command_of("writing", arguments), rounds=rounds, sample=sample)
    print(format_table(result.rows))
    result.save(result_path("writing", options.name))


if __name__ == "__main__":
    main()
