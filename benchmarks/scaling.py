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
the first-level cache holds, up to 512 MB. Writing, the output layer's weights, gradients and the
optimizer's memory are not counted: they are touched once in an update, not once in a time step.

The sweep over the size of the text, 1 MB to 1 GB, times fastrnn.train's loop at places spread over
the text, in a process for each size, which tells the most memory that it held. The texts are made
of shuffled lines in a temporary folder (TMPDIR says where; it takes 2 GB). They have just been
written, so most of them will be in the system's file cache.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from common import RESULTS, Steps, Timed, interleaved, load, log, origin, save
from fastrnn.config import Config
from fastrnn.kernels import benchmark
from fastrnn.kernels.compile import kernel_folder
from fastrnn.measure import bench
from fastrnn.measure.bench import MARK, Shape, count_threads, digits
from fastrnn.memory import aligned_zeros
from fastrnn.report.plots import BLUE, GREY, RED, write_picture
from fastrnn.text.corpus import read_corpus
from fastrnn.threads import Workers, available_cores
from fastrnn.training.trainer import Trainer
from methods import peak_memory

DOCS = Path(__file__).parent.parent / "docs"
DTYPE = np.dtype("float32")
BASE = Shape(256, 80, 50, 32)


@dataclass(frozen=True)
class Sweep:
    """One size that varies, around some shapes."""

    axis: str  # its name in the picture
    varied: str  # a field of Shape, or threads
    shapes: tuple[Shape, ...]
    sizes: tuple[int, ...] = ()


ONE_STREAM, LARGE = BASE._replace(B=1), BASE._replace(m=1024)
SWEEPS = {
    "hidden": Sweep(
        "hidden units m",
        "m",
        (BASE, ONE_STREAM),
        (32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024),
    ),
    "batch": Sweep("streams B", "B", (BASE, LARGE), (1, 2, 4, 8, 16, 32, 64, 128, 256)),
    "length": Sweep(
        "sequence length T", "T", (BASE, ONE_STREAM), (10, 15, 20, 25, 35, 50, 75, 100, 150, 200)
    ),
    "threads": Sweep("threads", "threads", (BASE, ONE_STREAM, LARGE, LARGE._replace(B=1))),
}
QUICK = {
    "hidden": (32, 100, 256),
    "batch": (1, 8, 32),
    "length": (10, 50, 100),
}
READ = [2**i for i in range(14, 30)]  # bytes of a thread, for the bandwidth; the last of all
TEXTS = [10**6, 10**7, 10**8, 10**9]  # characters
QUICK_TEXTS = [10**6, 2 * 10**7]
SLICES = 20  # of a training, spread over the text


def thread_counts(most: int) -> list[int]:
    """1, 2, 4 … and all."""
    return sorted({1, most} | {2**i for i in range(most.bit_length()) if 2**i <= most})


def points(sweep: Sweep, sizes: Sequence[int], most: int) -> list[tuple[Shape, int]]:
    """Shapes and threads of a sweep."""
    if sweep.varied == "threads":
        return [(shape, count) for shape in sweep.shapes for count in thread_counts(most)]
    return [
        (shape._replace(**{sweep.varied: size}), most) for shape in sweep.shapes for size in sizes
    ]


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
    def of(cls, data: dict[str, Any], threads: int) -> Roofline:
        """From a result."""
        limit = next(row["rates"] for row in data["limit"] if row["threads"] == threads)
        rows = [row for row in data["bandwidth"] if row["threads"] == threads]
        # The best round: a limit that something else held down for a while would be none.
        sizes, rates = [row["bytes"] for row in rows], [max(row["rates"]) for row in rows]
        return cls(threads, max(limit), sizes, rates)

    def compute(self, shape: Shape) -> float:
        """Seconds per character of the multiply-adds alone."""
        return bench.flops(shape, "step") / self.limit / (shape.T * shape.B)

    def reading(self, shape: Shape) -> float:
        """Seconds per character of reading W alone."""
        bytes_of_W = shape.m * shape.m * DTYPE.itemsize
        sizes, rates = np.log(self.sizes), np.log(self.bandwidth)
        rate = np.exp(np.interp(np.log(bytes_of_W / self.threads), sizes, rates))
        # The first time step back has no product.
        return float((2 * shape.T - 1) * bytes_of_W / rate / (shape.T * shape.B))


# --- measuring ----------------------------------------------------------------------------------


def measure(cases: Sequence[tuple[Shape, int]], rounds: int, seconds: float) -> dict[str, Any]:
    """Times of all shapes and threads, and the limits of these numbers of threads."""
    one = DTYPE.type(1)
    operations = 1000 * benchmark.operations(one)
    works: dict[Any, Timed] = {}
    # Filled: all pages of an array that nobody has written to are the same page of zeros.
    memory = aligned_zeros(READ[-1] // DTYPE.itemsize, DTYPE)
    memory[...] = 1
    for threads in sorted({threads for _, threads in cases}):
        workers = Workers(threads)

        def multiply_add(count: int, workers: Workers = workers) -> None:
            workers.run(lambda thread: benchmark.multiply_adds(one / 2, one, 1000 * count))

        works["limit", threads] = Timed(multiply_add, seconds)
        largest = memory.size // threads // 4096 * 4096  # whole pages
        for size in [size // DTYPE.itemsize for size in READ]:
            if size > largest:
                continue
            arrays = [memory[i * largest : i * largest + size] for i in range(threads)]

            def read(count: int, workers: Workers = workers, arrays: Any = arrays) -> None:
                workers.run(lambda thread: benchmark.read(arrays[thread], count))

            works["bandwidth", threads, size * DTYPE.itemsize] = Timed(read, seconds / 2)
    for shape, threads in cases:
        steps = Steps(shape, DTYPE.name, threads)
        works[shape, threads] = Timed(steps.train, seconds, steps.most, steps.reset)
        log(f"{shape}, threads: {threads}")
    log("measuring")
    times = interleaved(works, rounds)
    result: dict[str, Any] = {"limit": [], "bandwidth": [], "rows": []}
    for key, seconds_each in times.items():
        if key[0] == "limit":
            rates = [key[1] * operations / t for t in seconds_each]
            result["limit"].append({"threads": key[1], "rates": rates})
        elif key[0] == "bandwidth":
            rates = [key[1] * key[2] / t for t in seconds_each]
            row = {"threads": key[1], "bytes": key[2], "rates": rates}
            result["bandwidth"].append(row)
        else:
            shape, threads = key
            row = {"shape": shape._asdict(), "threads": threads, "seconds": seconds_each}
            result["rows"].append(row)
    return result


CHILD = (
    "import json, sys; request = json.loads(sys.argv[1]); sys.path[:] = request.pop('path'); "
    "from scaling import train_on; train_on(**request)"
)


def write_text(path: Path, characters: int) -> None:
    """A text of the default corpus's lines in one random order after the other."""
    corpus = read_corpus()
    lines = corpus.vocabulary.decode(corpus.codes).splitlines(keepends=True)
    generator = np.random.default_rng(0)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        while characters > 0:
            text = "".join([lines[i] for i in generator.permutation(len(lines))])
            characters -= file.write(text[:characters])


def train_on(text: str, shape: list[int], threads: int, seconds: float) -> None:
    """Send the seconds per character of slices of a training, and the most memory."""
    imported = peak_memory()
    start = time.perf_counter()
    corpus = read_corpus([text])
    reading = time.perf_counter() - start
    m, _, T, B = shape
    trainer = Trainer(corpus, Config(hidden=m, seq_length=T, batch=B), threads)
    chunks, times = trainer.streams.chunks, []
    count = 1
    for i in range(-2, SLICES):  # two to find out how many updates a slice may have
        trainer.chunk = max(i, 0) * (chunks - count) // (SLICES - 1)
        start = time.perf_counter()
        trainer.advance(count)
        elapsed = time.perf_counter() - start
        if i < 0:
            count = min(max(int(seconds / elapsed * count), 1), chunks)
        else:
            times.append(elapsed / (count * T * B))
    memory = {"imported": imported, "peak": peak_memory()}
    sizes = {"characters": corpus.length, "K": len(corpus.vocabulary)}
    message = {**sizes, "seconds": times, "reading": reading, "memory": memory}
    print(f"\n{MARK}{json.dumps(message)}", flush=True)


def measure_texts(
    sizes: Sequence[int], shape: Shape, threads: int, seconds: float
) -> list[dict[str, Any]]:
    """A training on a text of each size, in a process of its own."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "text.txt")
        # Encoded texts are to go with the folder, but kernels are not to be compiled again.
        environment = {"XDG_CACHE_HOME": folder, "NUMBA_CACHE_DIR": str(kernel_folder().parent)}
        # The smallest twice: the first process may have to compile, which takes memory.
        for i, size in enumerate([sizes[0], *sizes]):
            log(f"a text of {size:,} characters")
            write_text(text, size)
            request = {"path": sys.path, "text": str(text), "shape": shape}
            request |= {"threads": threads, "seconds": seconds}
            done = subprocess.run(
                [sys.executable, "-c", CHILD, json.dumps(request)],
                env={**os.environ, **environment},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            line = next(x for x in done.stdout.splitlines() if x.startswith(MARK))
            if i > 0:
                rows.append({"threads": threads, **json.loads(line.removeprefix(MARK))})
    return rows


# --- showing ------------------------------------------------------------------------------------


def format_table(data: dict[str, Any]) -> str:
    """Everything measured, as text: nanoseconds per character, and the bounds beside them."""
    lines = []
    for row in data["limit"]:
        lines.append(f"threads: {row['threads']}, {digits(max(row['rates']) / 1e9)} GFLOP/s")
    layout = "{:<28}{:>8}{:>12}{:>15}{:>12}"
    lines += ["", layout.format("", "threads", "ns/char", "multiply-adds", "reading W")]
    for row in data["rows"]:
        shape, threads = Shape(**row["shape"]), row["threads"]
        roofline = Roofline.of(data, threads)
        times = per_character(row), roofline.compute(shape), roofline.reading(shape)
        lines.append(layout.format(str(shape), threads, *(digits(1e9 * t) for t in times)))
    lines += ["", layout.format("text, characters", "threads", "ns/char", "memory, MB", "read, s")]
    for row in data["texts"]:
        cells = 1e9 * median(row["seconds"]), row["memory"]["peak"] / 1e6, row["reading"]
        lines.append(layout.format(f"{row['characters']:,}", row["threads"], *map(digits, cells)))
    return "\n".join(lines)


def per_character(row: dict[str, Any]) -> float:
    return median(row["seconds"]) / (row["shape"]["T"] * row["shape"]["B"])


COLOURS = (BLUE, RED, "#3a923a", "#8a5fb0")
LINES = {"multiply-adds": "--", "reading W": ":"}


def plot(data: dict[str, Any], folder: Path) -> None:
    """Draw a picture of every sweep that the result has."""
    most = max(row["threads"] for row in data["rows"])
    rows = {(Shape(**row["shape"]), row["threads"]): row for row in data["rows"]}
    for name, sweep in SWEEPS.items():
        draw_sweep(data, sweep, rows, most, folder / f"scaling-{name}.png")
    draw_texts(data, folder / "scaling-corpus.png")


def draw_sweep(data: dict[str, Any], sweep: Sweep, rows: dict, most: int, path: Path) -> None:
    """Nanoseconds per character over what varies, and the lower bounds."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    varied = sweep.varied
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.add_subplot()
    ticks: set[int] = set()
    drawn: set[str] = set()
    for base, colour in zip(sweep.shapes, COLOURS, strict=False):
        found = {}
        for (shape, threads), row in rows.items():
            if varied == "threads" and shape == base:
                found[threads] = row
            elif varied != "threads" and threads == most:
                size = getattr(shape, varied)
                if shape == base._replace(**{varied: size}):
                    found[size] = row
        sizes = sorted(found)
        ticks |= set(sizes)
        times = [1e9 * per_character(found[size]) for size in sizes]
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
        # Limits are known for the numbers of threads that were measured; other sizes may be any.
        grid = sizes if varied == "threads" else list(np.geomspace(sizes[0], sizes[-1], 200))
        bounds = []
        for size in grid:
            shape = base if varied == "threads" else base._replace(**{varied: size})
            roofline = Roofline.of(data, size if varied == "threads" else most)
            bounds.append(
                max(
                    (1e9 * roofline.compute(shape), "multiply-adds"),
                    (1e9 * roofline.reading(shape), "reading W"),
                )
            )
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
    fixed = {name: size for name, size in BASE._asdict().items() if name in ("K", "T")}
    fixed.pop(varied, None)
    sizes_named = ", ".join(f"{name} = {size}" for name, size in fixed.items())
    threads = "" if varied == "threads" else f", {count_threads(most)}"
    caption(figure, data, f"{sizes_named}, {DTYPE.name}{threads}")
    write_picture(figure, path)


def draw_texts(data: dict[str, Any], path: Path) -> None:
    """Time and memory over the size of the text."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    rows = data["texts"]
    if not rows:
        return
    shape = Shape(**data["text_shape"])
    sizes = [row["characters"] / 1e6 for row in rows]
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(sizes, [1e9 * median(row["seconds"]) for row in rows], "o-", color=BLUE, markersize=4)
    roofline = Roofline.of(data, rows[0]["threads"])
    bound = max(roofline.compute(shape), roofline.reading(shape))
    left.axhline(1e9 * bound, color=BLUE, linestyle="--", linewidth=1.2)
    note(left, "training", sizes[0], 1e9 * median(rows[0]["seconds"]), BLUE)
    note(left, "limit: multiply-adds", sizes[0], 1e9 * bound, BLUE)
    left.set_ylim(0, 1.15 * left.get_ylim()[1])
    left.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
    left.set_ylabel("nanoseconds per character")
    peak = [row["memory"]["peak"] / 1e6 for row in rows]
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
    named = ", ".join(f"{name} = {size}" for name, size in shape._asdict().items())
    caption(figure, data, f"{named}, {DTYPE.name}, {count_threads(rows[0]['threads'])}")
    write_picture(figure, path)


def note(axes: Any, text: str, x: float, y: float, colour: str, offset=(0, 7)) -> None:
    """A label that starts at a point."""
    axes.annotate(text, (x, y), xytext=offset, textcoords="offset points", color=colour)


def label(shape: Shape, varied: str) -> str:
    """What tells a shape from the others of its sweep."""
    names = {"m": ("B",), "B": ("m",), "T": ("B",), "threads": ("m", "B")}[varied]
    return ", ".join(f"{name} = {getattr(shape, name)}" for name in names)


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


def caption(figure: Any, data: dict[str, Any], what: str) -> None:
    machine = data["machine"]
    where = f"{machine['cpu']} ({machine['instructions']})"
    figure.supxlabel(f"{what}; {where}, {data['date'][:10]}", fontsize=8, color=GREY)


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
    path = RESULTS / "scaling" / f"{options.name}.json"
    if options.plot:
        return plot(load(path), DOCS)
    result = origin("scaling", arguments)
    most = options.threads or available_cores()
    cases = {}  # some shapes are in several sweeps
    for name, sweep in SWEEPS.items():
        cases |= dict.fromkeys(
            points(sweep, QUICK.get(name, ()) if options.quick else sweep.sizes, most)
        )
    result["rounds"], seconds = (3, 0.02) if options.quick else (7, 0.1)
    result |= measure(list(cases), result["rounds"], seconds)
    texts = QUICK_TEXTS if options.quick else TEXTS
    result["texts"] = measure_texts(texts, BASE, most, seconds)
    result["text_shape"] = BASE._replace(K=result["texts"][0]["K"])._asdict()
    print(format_table(result))
    save(result, path)


if __name__ == "__main__":
    main()
