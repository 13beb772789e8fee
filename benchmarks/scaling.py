"""Time per character over the sizes of model and text: benchmarks/results/scaling/NAME.json.

    python benchmarks/scaling.py NAME [--quick]
    python benchmarks/scaling.py NAME --plot        draws docs/scaling-*.png from that file

Each sweep varies one size: hidden units m, streams B, sequence length T, threads. What is timed is
the whole training step in float32, without compilation. A lower bound is drawn beside it, the
larger of two times that no program can go below which multiplies by W one time step after another:

    multiply-adds   the operations of all matrix products, at the processor's limit of fused
                    multiply-adds that touch no memory
    reading W       W is read once in each time step forward and backward, for all streams together,
                    each thread reading its share of it, at the bandwidth of memory of this size

Both limits are measured here, with as many threads at once; the bandwidth for sizes of 16 kB, which
the first-level cache holds, up to 256 MB. Writing, the output layer's weights, gradients and the
optimizer's memory are not counted: they are touched once in an update, not once in a time step.

The sweep over the size of the text, 1 MB to 1 GB, times fastrnn.train's loop at places spread over
the text, in a process for each size, which tells the most memory that it held. The texts are made
of shuffled lines in a temporary folder (TMPDIR says where; it takes 2 GB). They have just been
written, so most of them will be in the system's file cache.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from common import command_of, log, result_path
from fastrnn.checks import counted
from fastrnn.kernels.compile import kernel_folder
from fastrnn.measure import methods
from fastrnn.measure.harness import Task, measure
from fastrnn.measure.results import LIMIT, Case, Result, Row, digits, load
from fastrnn.report.plots import BLUE, GREY, RED, Picture, default_settings, write_picture
from fastrnn.text.corpus import read_corpus
from fastrnn.threads import available_cores
from fastrnn.training.trainer import Trainer
from peers import vanilla

DOCS = Path(__file__).parent.parent / "docs"
BASE = vanilla(256, 80, 50, 32)


def changed(case: Case, **settings: Any) -> Case:
    return replace(case, config=replace(case.config, **settings))


@dataclass(frozen=True)
class Sweep:
    """One size that varies, around some cases."""

    axis: str  # its name in the picture
    varied: str  # a setting of Config, or threads
    cases: tuple[Case, ...]
    sizes: tuple[int, ...] = ()


ONE_STREAM, LARGE = changed(BASE, batch=1), changed(BASE, hidden=1024)
SWEEPS = {
    "hidden": Sweep(
        "hidden units m",
        "hidden",
        (BASE, ONE_STREAM),
        (32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024),
    ),
    "batch": Sweep("streams B", "batch", (BASE, LARGE), (1, 2, 4, 8, 16, 32, 64, 128, 256)),
    "length": Sweep(
        "sequence length T",
        "seq_length",
        (BASE, ONE_STREAM),
        (10, 15, 20, 25, 35, 50, 75, 100, 150, 200),
    ),
    "threads": Sweep("threads", "threads", (BASE, ONE_STREAM, LARGE, changed(LARGE, batch=1))),
}
QUICK = {"hidden": (32, 100, 256), "batch": (1, 8, 32), "length": (10, 50, 100)}
READ = [2**i for i in range(14, 29)]  # bytes of a thread, for the bandwidth
TEXTS = [10**6, 10**7, 10**8, 10**9]  # characters
QUICK_TEXTS = [10**6, 2 * 10**7]


def thread_counts(most: int) -> list[int]:
    """1, 2, 4 … and all."""
    return sorted({1, most} | {2**i for i in range(most.bit_length()) if 2**i <= most})


def points(sweep: Sweep, sizes: Sequence[int], most: int) -> list[tuple[Case, int]]:
    """Cases and threads of a sweep."""
    if sweep.varied == "threads":
        return [(case, count) for case in sweep.cases for count in thread_counts(most)]
    return [(changed(case, **{sweep.varied: size}), most) for case in sweep.cases for size in sizes]


# --- the roofline -------------------------------------------------------------------------------


class Roofline:
    """The limits of some threads together, and what follows from them.

    Attributes
    ----------
    limit : float
        Operations a second.
    sizes, bandwidth : list of float
        Bytes that each thread reads over and over, and bytes a second of all of them.
    """

    def __init__(self, threads: int, limit: float, sizes: list[float], bandwidth: list[float]):
        self.threads, self.limit, self.sizes, self.bandwidth = threads, limit, sizes, bandwidth

    @classmethod
    def of(cls, rows: Iterable[Row], threads: int) -> Roofline:
        """From what was measured."""
        limit, sizes, bandwidth = 0.0, [], []
        for row in rows:
            # The best round: a limit that something else held down for a while would be none.
            if row.method == LIMIT and row.threads == threads:
                limit = row.case.operations() / min(row.seconds)
            if row.method == "reading" and row.threads == threads:
                sizes.append(row.details["bytes"])
                bandwidth.append(threads * row.details["bytes"] / min(row.seconds))
        return cls(threads, limit, sizes, bandwidth)

    def compute(self, case: Case) -> float:
        """Seconds per character of the multiply-adds alone."""
        return case.operations() / self.limit / case.characters_read

    def reading(self, case: Case) -> float:
        """Seconds per character of reading W alone."""
        config = case.config
        bytes_of_W = config.hidden**2 * np.dtype(config.dtype).itemsize
        sizes, rates = np.log(self.sizes), np.log(self.bandwidth)
        rate = np.exp(np.interp(np.log(bytes_of_W / self.threads), sizes, rates))
        # The first time step back has no product.
        return float((2 * config.seq_length - 1) * bytes_of_W / rate / case.characters_read)


# --- measuring ----------------------------------------------------------------------------------


def tasks_of(cases: Sequence[tuple[Case, int]]) -> list[Task]:
    """All cases, and the limits of these numbers of threads."""
    tasks = []
    for threads in sorted({threads for _, threads in cases}):
        tasks.append(Task(LIMIT, BASE, threads))
        tasks += [Task("reading", BASE, threads, options={"bytes": size}) for size in READ]
    return tasks + [Task("fastrnn", case, threads) for case, threads in cases]


class OnText(methods.Method):
    """fastrnn.train's loop at places spread over a text."""

    def __init__(self, problem: methods.Problem, text: str):
        start = time.perf_counter()
        corpus = read_corpus([text])
        self.reading = time.perf_counter() - start
        self.length = corpus.length
        self.trainer = Trainer(corpus, problem.config, problem.threads)
        self.most = max(self.trainer.streams.chunks // 4, 1)
        self.place = 0.0

    def prepare(self, phase: str) -> None:
        # The golden ratio's multiples never come close to each other.
        self.place = (self.place + (math.sqrt(5) - 1) / 2) % 1
        self.trainer.chunk = int(self.place * (self.trainer.streams.chunks - self.most))

    def work(self, phase: str) -> methods.Work:
        return self.trainer.advance

    def details(self) -> dict[str, Any]:
        return {"length": self.length, "encoding": self.reading}


def write_text(path: Path, characters: int) -> None:
    """A text of the default corpus's lines in one random order after the other."""
    corpus = read_corpus()
    lines = corpus.vocabulary.decode(corpus.codes).splitlines(keepends=True)
    generator = np.random.default_rng(0)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        while characters > 0:
            text = "".join([lines[i] for i in generator.permutation(len(lines))])
            characters -= file.write(text[:characters])


def measure_texts(sizes: Sequence[int], threads: int, **how: Any) -> list[Row]:
    """A training on a text of each size, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        # Encoded texts are to go with the folder, but kernels are not to be compiled again.
        environment = {"XDG_CACHE_HOME": folder, "NUMBA_CACHE_DIR": str(kernel_folder().parent)}
        tasks = []
        for size in sizes:
            log(f"a text of {size:,} characters")
            text = Path(folder, f"{size}.txt")
            write_text(text, size)
            case = replace(BASE, characters=len(read_corpus().vocabulary))
            program, options = ("scaling", "OnText"), {"text": str(text)}
            tasks.append(Task("training", case, threads, program=program, options=options))
        return measure([tasks], apart=True, environment=environment, **how).rows


# --- showing ------------------------------------------------------------------------------------


def sweeps_of(result: Result) -> dict[tuple[Case, int], Row]:
    """The rows of whole steps, by case and threads."""
    return {(row.case, row.threads): row for row in result.rows if row.method == "fastrnn"}


def texts_of(result: Result) -> list[Row]:
    return [row for row in result.rows if row.method == "training"]


def format_table(result: Result) -> str:
    """Everything measured, as text: nanoseconds per character, and the bounds beside them."""
    steps, texts = sweeps_of(result), texts_of(result)
    rooflines = {threads: Roofline.of(result.rows, threads) for _, threads in steps}
    lines = [
        f"threads: {threads}, {digits(roofline.limit / 1e9)} GFLOP/s"
        for threads, roofline in sorted(rooflines.items())
    ]
    layout = "{:<28}{:>8}{:>12}{:>15}{:>12}"
    lines += ["", layout.format("", "threads", "ns/char", "multiply-adds", "reading W")]
    for (case, threads), row in steps.items():
        roofline = rooflines[threads]
        times = row.per_character, roofline.compute(case), roofline.reading(case)
        lines.append(layout.format(str(case), threads, *(digits(1e9 * t) for t in times)))
    lines += ["", layout.format("text, characters", "threads", "ns/char", "memory, MB", "read, s")]
    for row in texts:
        memory, encoding = row.details["memory"]["peak"] / 1e6, row.details["encoding"]
        cells = map(digits, (1e9 * row.per_character, memory, encoding))
        lines.append(layout.format(f"{row.details['length']:,}", row.threads, *cells))
    return "\n".join(lines)


COLOURS = (BLUE, RED, "#3a923a", "#8a5fb0")
LINES = {"multiply-adds": "--", "reading W": ":"}


def plot(result: Result, folder: Path) -> None:
    """Draw a picture of every sweep, and of the texts."""
    for name, sweep in SWEEPS.items():
        with default_settings():
            figure = sweep_figure(result, sweep)
        write_picture(figure, folder / f"scaling-{name}.png")
    with default_settings():
        figure = texts_figure(result)
    write_picture(figure, folder / "scaling-corpus.png")


def sweep_figure(result: Result, sweep: Sweep) -> Picture:
    """Nanoseconds per character over what varies, and the lower bounds."""
    from matplotlib.lines import Line2D

    steps = sweeps_of(result)
    most = max(threads for _, threads in steps)
    varied = sweep.varied
    figure = Picture(figsize=(7, 4.6), layout="constrained")
    axes = figure.add_subplot()
    ticks: set[int] = set()
    drawn: set[str] = set()
    for base, colour in zip(sweep.cases, COLOURS, strict=False):
        found = {}
        for (case, threads), row in steps.items():
            if varied == "threads" and case == base:
                found[threads] = row
            elif varied != "threads" and threads == most:
                size = getattr(case.config, varied)
                if case == changed(base, **{varied: size}):
                    found[size] = row
        sizes = sorted(found)
        ticks |= set(sizes)
        times = [1e9 * found[size].per_character for size in sizes]
        axes.plot(sizes, times, color=colour, marker="o", markersize=4, linewidth=1.4)
        axes.annotate(
            label(base, varied),
            (sizes[-1], times[-1]),
            xytext=(7, 0),
            textcoords="offset points",
            verticalalignment="center",
            color=colour,
            annotation_clip=False,
        )
        grid, bounds = bounds_of(result, sweep, base, sizes, most)
        start = 0
        for reason, run in groupby(reason for _, reason in bounds):
            end = start + len(list(run))
            x, y = grid[max(start - 1, 0) : end], [b for b, _ in bounds[max(start - 1, 0) : end]]
            axes.plot(x, y, LINES[reason], color=colour, linewidth=1.2)
            drawn.add(reason)
            start = end
    axes.set_xscale("log")
    axes.set_yscale("log")
    plain_ticks(axes.yaxis)
    axes.set_xticks(sorted(ticks), [f"{tick:,}" for tick in sorted(ticks)])
    axes.minorticks_off()
    plain(axes)
    axes.set_xlabel(sweep.axis)
    axes.set_ylabel("nanoseconds per character")
    handles = [Line2D([], [], color=GREY, marker="o", markersize=4, label="training step")]
    for reason, line in LINES.items():
        if reason in drawn:
            handles.append(Line2D([], [], color=GREY, linestyle=line, label=f"limit: {reason}"))
    figure.legend(
        handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=9
    )
    fixed = "" if varied == "seq_length" else f", T = {BASE.config.seq_length}"
    threads = "" if varied == "threads" else f", {counted(most, 'thread')}"
    caption(figure, result, f"K = {BASE.characters}{fixed}, {BASE.config.dtype}{threads}")
    return figure


def bounds_of(
    result: Result, sweep: Sweep, base: Case, sizes: list[int], most: int
) -> tuple[Sequence[float], list[tuple[float, str]]]:
    """Sizes, and at each the larger of the two limits in nanoseconds, and which it is."""
    grid: Sequence[float] = sizes
    places = sizes
    if sweep.varied == "threads":  # limits are known for the numbers that were measured
        known = [(Roofline.of(result.rows, threads), base) for threads in sizes]
    else:  # so fine that the limits meet in a point
        grid = np.geomspace(sizes[0], sizes[-1], 200)
        places = sorted({round(size) for size in grid})
        roofline = Roofline.of(result.rows, most)
        known = [(roofline, changed(base, **{sweep.varied: size})) for size in places]
    limits = {
        "multiply-adds": [1e9 * roofline.compute(case) for roofline, case in known],
        "reading W": [1e9 * roofline.reading(case) for roofline, case in known],
    }
    curves = [
        [(y, name) for y in np.exp(np.interp(np.log(grid), np.log(places), np.log(values)))]
        for name, values in limits.items()
    ]
    return grid, list(map(max, *curves))


def texts_figure(result: Result) -> Picture:
    """Time and memory over the size of the text."""
    from matplotlib.ticker import FuncFormatter

    rows = texts_of(result)
    case, threads = rows[0].case, rows[0].threads
    sizes = [row.details["length"] / 1e6 for row in rows]
    times = [1e9 * row.per_character for row in rows]
    figure = Picture(figsize=(9, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(sizes, times, "o-", color=BLUE, markersize=4)
    roofline = Roofline.of(result.rows, threads)
    bound = 1e9 * max(roofline.compute(case), roofline.reading(case))
    left.axhline(bound, color=BLUE, linestyle="--", linewidth=1.2)
    note(left, "training", sizes[0], times[0], BLUE)
    note(left, "limit: multiply-adds", sizes[0], bound, BLUE)
    left.set_ylim(0, 1.15 * left.get_ylim()[1])
    left.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
    left.set_ylabel("nanoseconds per character")
    peak = [row.details["memory"]["peak"] / 1e6 for row in rows]
    right.plot(sizes, peak, "o-", color=BLUE, markersize=4)
    right.plot(sizes, sizes, color=GREY, linewidth=1.2)
    note(right, "most memory held", sizes[0], peak[0], BLUE)
    middle = math.sqrt(sizes[0] * sizes[-1])
    note(right, "the text itself", middle, middle, GREY, (8, -12))
    right.set_yscale("log")
    right.set_ylim(top=2 * max(*peak, *sizes))
    plain_ticks(right.yaxis)
    right.minorticks_off()
    right.set_ylabel("megabytes")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks(sizes, [digits_or_whole(size) for size in sizes])
        axes.minorticks_off()
        plain(axes)
        axes.set_xlabel("text, millions of characters")
    caption(figure, result, f"{case}, {case.config.dtype}, {counted(threads, 'thread')}")
    return figure


def note(axes: Any, text: str, x: float, y: float, colour: str, offset=(0, 7)) -> None:
    """A label that starts at a point."""
    axes.annotate(text, (x, y), xytext=offset, textcoords="offset points", color=colour)


def label(case: Case, varied: str) -> str:
    """What tells a case from the others of its sweep."""
    sizes = {"m": case.config.hidden, "B": case.config.batch}
    names = {"hidden": "B", "batch": "m", "seq_length": "B", "threads": "mB"}[varied]
    return ", ".join(f"{name} = {sizes[name]}" for name in names)


def digits_or_whole(number: float) -> str:
    return f"{number:,.0f}" if number == round(number) else digits(number)


def plain_ticks(axis: Any) -> None:
    """Ticks at 1, 2 and 5 times the powers of ten of a logarithmic axis, as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}"))


def plain(axes: Any) -> None:
    axes.grid(color=GREY, alpha=0.2, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def caption(figure: Any, result: Result, what: str) -> None:
    machine = result.machine
    where = f"{machine['cpu']} ({machine['instructions']})"
    figure.supxlabel(f"{what}; {where}, {result.date[:10]}", fontsize=8, color=GREY)


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the machine, such as zen5")
    parser.add_argument("--quick", action="store_true", help="few sizes, three short rounds")
    parser.add_argument(
        "--plot", action="store_true", help="draw what was measured, measure nothing"
    )
    parser.add_argument("--threads", type=int, help="at most (default: physical cores)")
    options = parser.parse_args(arguments)
    path = result_path("scaling", options.name)
    if options.plot:
        return plot(load(path), DOCS)
    most = options.threads or available_cores()
    cases: dict[tuple[Case, int], None] = {}  # some are in several sweeps
    for name, sweep in SWEEPS.items():
        sizes = QUICK.get(name, ()) if options.quick else sweep.sizes
        cases |= dict.fromkeys(points(sweep, sizes, most))
    rounds, sample = (3, 0.02) if options.quick else (7, 0.1)
    how: dict[str, Any] = {"command": command_of("scaling", arguments), "sample": sample}
    result = measure([tasks_of(list(cases))], rounds=rounds, **how)
    texts = QUICK_TEXTS if options.quick else TEXTS
    result.rows.extend(measure_texts(texts, most, rounds=2 * rounds, **how))
    print(format_table(result))
    result.save(path)


if __name__ == "__main__":
    main()
