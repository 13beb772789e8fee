"""How fast the kernels are: against the NumPy baseline, and against the processor's limit.

    run() ──request──▶ a process with a clean environment ──Result──▶ format_table, plot

Phases: forward goes up to loss and probabilities (ours to the gradient of the logits, in the same
loop); backward from there to the gradients of all parameters; update is AdaGrad; step is all three,
over one chunk of text after the other, as training does it.

The process runs fastrnn.measure.measurement, which imports this module and is never imported by it:
here is what can be had without compiling anything.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from tqdm import tqdm

from fastrnn.console import ERR
from fastrnn.errors import FastrnnError
from fastrnn.storage.files import check_picture, write

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Shape(NamedTuple):
    """Sizes of a model and its chunks, as fastrnn.parameters names them."""

    m: int
    K: int
    T: int
    B: int

    def __str__(self) -> str:
        return " ".join(f"{name}={size}" for name, size in self._asdict().items())


SHAPES = (
    *(Shape(100, 80, 25, 1), Shape(256, 80, 50, 1), Shape(512, 80, 50, 1)),
    *(Shape(100, 80, 50, 32), Shape(512, 80, 50, 32)),
)
PHASES = ("forward", "backward", "update", "step")


def flops(shape: Shape, phase: str) -> int:
    """Operations of a phase: two for each multiply-add of its matrix products, without padding.

    Forward W h and V h; backward their transposed products back through time, and the gradients of
    W and V. The first time step back has no product. The input is an index and costs none; tanh,
    softmax, biases and the update are left out, so their time lowers the share of the limit.
    """
    m, K, T, B = shape
    forward = 2 * B * T * (m * m + m * K)
    backward = 2 * B * ((T - 1) * m * m + T * (m * m + 2 * m * K))
    counts = {"forward": forward, "backward": backward, "update": 0, "step": forward + backward}
    return counts[phase]


@dataclass(frozen=True)
class Row:
    """The timings of one phase: element i of every list is from round i."""

    shape: Shape
    dtype: str
    threads: int  # of ours; the baseline has one
    phase: str  # one of PHASES; with more than one stream, only the whole step
    ours: list[float]  # seconds
    baseline: list[float]  # seconds
    limit: list[float]  # operations a second of these threads in multiply-adds without memory

    @property
    def ratios(self) -> list[float]:
        """How many times as long the baseline takes, round by round."""
        return [baseline / ours for ours, baseline in zip(self.ours, self.baseline, strict=True)]

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    @property
    def characters_per_second(self) -> float:
        return self.shape.T * self.shape.B / median(self.ours)

    @property
    def share(self) -> float | None:
        """Of the limit; None where nothing is counted."""
        work = flops(self.shape, self.phase)
        shares = [work / t / limit for t, limit in zip(self.ours, self.limit, strict=True)]
        return median(shares) if work else None

    def to_json(self) -> dict[str, Any]:
        sides = {"ours": self.ours, "baseline": self.baseline, "ratio": self.ratios}
        summary: dict[str, Any] = {
            name: {"median": median(values), "min": min(values), "max": max(values)}
            for name, values in sides.items()
        }
        summary |= {"characters_per_second": self.characters_per_second, "share": self.share}
        return {**asdict(self), "shape": self.shape._asdict(), "summary": summary}


@dataclass(frozen=True)
class Result:
    """What `run` measured, where and with what."""

    command: str
    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    blas: dict[str, str]  # of NumPy
    environment: dict[str, str]  # variables of the measuring process that concern NumPy
    first_calls: dict[str, dict[str, Any]]  # of training, by dtype: seconds, whether it compiled
    rows: list[Row]

    def to_json(self) -> dict[str, Any]:
        """All raw times, in seconds, and what follows from them, for the json module."""
        return {**vars(self), "rows": [row.to_json() for row in self.rows]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Result:
        """The inverse of `to_json`; medians are computed afresh."""
        rows = [{**row, "shape": Shape(**row["shape"])} for row in data["rows"]]
        for row in rows:
            del row["summary"]
        return cls(**{**data, "rows": [Row(**row) for row in rows]})

    def save(self, path: str | Path) -> None:
        """Write `to_json` to a file, a row of the table a line."""
        data = self.to_json()
        rows = ",\n".join(f"  {json.dumps(row)}" for row in data.pop("rows"))
        head = json.dumps(data, indent=1).removesuffix("\n}")
        write(path, f'{head},\n "rows": [\n{rows}\n ]\n}}\n'.encode())


# NumPy and its BLAS obey variables that choose slower code. The baseline gets none of them, and one
# thread.
PREFIXES = ("OPENBLAS_", "MKL_", "OMP_", "KMP_", "GOTO_", "BLIS_", "VECLIB_", "NUMEXPR_", "NPY_")
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL", "BLIS")} | {
    "VECLIB_MAXIMUM_THREADS": "1"
}

CHILD = (
    "import json, sys; request = json.loads(sys.argv[1]); sys.path[:] = request.pop('path'); "
    "from fastrnn.measure.measurement import measure; measure(**request)"
)
MARK = "fastrnn-bench:"  # starts the lines of the child's output that are meant for us


def run(
    seconds: float = 15.0,
    shapes: Sequence[Shape] = SHAPES,
    dtypes: Sequence[str] = ("float32", "float64"),
    progress: bool = True,
    command: str = "fastrnn bench",
) -> Result:
    """Measure the kernels against the NumPy baseline, in a process of its own.

    Parameters
    ----------
    seconds : float
        How long to measure; compiling comes on top, and at least three rounds are made.
    shapes : sequence of Shape
    dtypes : sequence of str
    progress : bool
        Show on standard error how far it is: a bar on a terminal, otherwise a line for each stage.
    command : str
        Recorded in the result, so that a reader can repeat it.

    Raises
    ------
    FastrnnError
        If the process fails, or kernels and baseline do not agree on one update.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(PREFIXES)}
    request = {"seconds": seconds, "shapes": shapes, "dtypes": dtypes, "command": command}
    program = [sys.executable, "-c", CHILD, json.dumps({"path": sys.path, **request})]
    result = None
    # Standard error goes to a file: a pipe that nobody reads would block the child when it is full.
    with (
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        subprocess.Popen(
            program,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment | ONE_THREAD,
            text=True,
            errors="replace",
        ) as child,
    ):
        try:
            for message in _shown(_messages(child.stdout), progress):
                result = message.get("result", result)
        except BaseException:  # Ctrl-C above all
            child.kill()
            raise
        if child.wait() != 0 or result is None:
            errors.seek(0)
            lines = [line.strip() for line in errors if line.strip()]
            reason = lines[-1] if lines else f"exit code {child.returncode}"
            reason = reason.removeprefix("fastrnn.errors.FastrnnError: ")
            raise FastrnnError(f"the process that measures failed: {reason}")
    return Result.from_json(result)


def _messages(output: Any) -> Iterator[dict[str, Any]]:
    """What the child sent, between whatever else was printed there."""
    for line in output:
        if line.startswith(MARK):
            yield json.loads(line.removeprefix(MARK))


def _shown(messages: Iterator[dict[str, Any]], progress: bool) -> Iterator[dict[str, Any]]:
    """The same messages, shown as they pass."""
    layout = "{desc:<16} {percentage:3.0f} % {bar} {elapsed}"
    # disable=None: tqdm draws its bar on a terminal only.
    disable = None if progress else True
    with tqdm(total=1.0, bar_format=layout, disable=disable, dynamic_ncols=True, file=ERR) as bar:
        for message in messages:
            if "stage" in message:
                bar.set_description_str(message["stage"])
                if progress and bar.disable:
                    ERR.say(message["stage"])
            bar.update(message.get("done", bar.n) - bar.n)
            yield message


def count_threads(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def digits(number: float) -> str:
    """Three significant digits of a positive number, without an exponent."""
    rounded = float(f"{number:.2e}")
    return f"{rounded:,.{max(0, 2 - math.floor(math.log10(rounded)))}f}"


def describe(result: Result) -> str:
    """Where and with what it was measured, in a sentence or two."""
    machine, versions = result.machine, result.versions
    blas = " ".join(result.blas.values()) or "unknown BLAS"
    cores = "1 core" if machine["cores"] == 1 else f"{machine['cores']} cores"
    names = {"python": "Python", "numpy": "NumPy", "numba": "Numba", "llvmlite": "llvmlite"}
    return (
        f"{machine['cpu']} ({machine['instructions']}), {cores}, "
        f"{machine['system']}; fastrnn {versions['fastrnn']}, "
        + ", ".join(f"{name} {versions[key]}" for key, name in names.items())
        + f", {blas}"
    )


def describe_limits(result: Result) -> str:
    """The multiply-add limits, and the time of the first calls."""
    limits: dict[str, float] = {}
    for row in result.rows:
        if row.threads == 1:
            limits[row.dtype] = max(limits.get(row.dtype, 0.0), *row.limit)
    measured = ", ".join(f"{digits(limit / 1e9)} GFLOP/s in {t}" for t, limit in limits.items())
    calls = ", ".join(
        f"{digits(call['seconds'])} s in {dtype} "
        + ("(compiled)" if call["compiled"] else "(from the cache)")
        for dtype, call in result.first_calls.items()
    )
    return (
        f"Limit of fused multiply-adds on one core: {measured}. First update of a process: {calls}."
    )


def format_table(result: Result) -> str:
    """The result as text of at most 80 columns."""
    layout = "{:<22}{:>11}{:>11}{:>9}{:>14}{:>13}"
    names = "fastrnn µs", "NumPy µs", "ratio", "characters/s", "of the limit"
    lines = [layout.format("", *names)]
    shape = None
    for row in result.rows:
        if row.shape != shape:
            shape = row.shape
            lines += ["", str(shape)]
        what = f"  {row.dtype} {row.phase}"
        if shape.B > 1:
            what = f"  {row.dtype} {count_threads(row.threads)}"
        share = "" if row.share is None else f"{100 * row.share:.0f} %"
        lines.append(
            layout.format(
                what,
                digits(1e6 * median(row.ours)),
                digits(1e6 * median(row.baseline)),
                digits(row.ratio) + "×",
                digits(row.characters_per_second),
                share,
            ).rstrip()
        )
    rounds = len(result.rows[0].ours)
    notes = f"Medians of {rounds} interleaved rounds. {describe_limits(result)}"
    return "\n".join([*lines, "", *textwrap.wrap(notes, 80), *textwrap.wrap(describe(result), 80)])


def plot(result: Result, path: str | Path) -> None:
    """Draw the ratios as bars, a panel for each shape; the name ends in .png, .svg or .pdf.

    With one stream there are bars for every phase, with several for the whole step by threads.
    """
    check_picture(path)
    from fastrnn.report.plots import default_settings, write_picture

    with default_settings():
        figure = _ratio_figure(result)
    write_picture(figure, path)


def _ratio_figure(result: Result) -> Figure:
    from fastrnn.report.plots import Picture, plain_ticks

    shapes = list(dict.fromkeys(row.shape for row in result.rows))
    dtypes = list(dict.fromkeys(row.dtype for row in result.rows))
    colours = {"float32": "#1f6f8b", "float64": "#e0a458"}
    figure = Picture(figsize=(1.2 + 2.6 * len(shapes), 3.8), layout="constrained")
    panels = figure.subplots(1, len(shapes), sharey=True, squeeze=False)[0]
    width = 0.8 / len(dtypes)
    for shape, panel in zip(shapes, panels, strict=True):
        names: list[str] = []
        for i, dtype in enumerate(dtypes):
            rows = [row for row in result.rows if (row.shape, row.dtype) == (shape, dtype)]
            names = [row.phase if shape.B == 1 else count_threads(row.threads) for row in rows]
            ratios = [row.ratio for row in rows]
            places = [x + (i - (len(dtypes) - 1) / 2) * width for x in range(len(rows))]
            bars = panel.bar(places, ratios, width, label=dtype, color=colours[dtype])
            panel.bar_label(bars, [digits(ratio) for ratio in ratios], padding=2, fontsize=8)
        panel.axhline(1, color="black", linewidth=0.8)
        panel.set_xticks(range(len(names)), names)
        panel.set_title(str(shape), fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(axis="x", length=0)
        panel.margins(y=0.12)
    plain_ticks(panels[0].yaxis, 8)
    panels[0].set_ylabel("times as fast as NumPy")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False
    )
    figure.supxlabel(f"{result.machine['cpu']}; the line at 1 is NumPy on one thread", fontsize=8)
    return figure
