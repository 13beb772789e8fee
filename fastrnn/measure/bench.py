"""How fast the kernels are: against the NumPy baseline, and against the processor's limit.

Phases: forward goes up to loss and probabilities (ours to the gradient of the logits, in the same
loop); backward from there to the gradients of all parameters; update is the optimizer; step is all
three, over one chunk of text after the other, as training does it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastrnn.checks import counted
from fastrnn.config import Config
from fastrnn.measure.harness import Task, measure
from fastrnn.measure.operations import PHASES
from fastrnn.measure.results import (
    LIMIT,
    Case,
    Result,
    Row,
    by_case,
    describe_limits,
    describe_origin,
    digits,
    find,
    percent,
    share_of_limit,
)
from fastrnn.storage.files import AnyPath, check_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHARACTERS = 80  # K
SIZES = ((100, 25, 1), (256, 50, 1), (512, 50, 1), (100, 50, 32), (512, 50, 32))  # m, T, B
CASES = (
    *(
        Case(Config(hidden=m, seq_length=T, batch=B, dtype=dtype), CHARACTERS)
        for m, T, B in SIZES
        for dtype in ("float32", "float64")
    ),
    *(
        Case(Config(cell=cell, hidden=256, seq_length=50, batch=32), CHARACTERS)
        for cell in ("lstm", "gru")
    ),
)


def run(
    seconds: float = 15.0,
    cases: Sequence[Case] = CASES,
    progress: bool = True,
    command: str = "fastrnn bench",
) -> Result:
    """Measure the kernels against the NumPy baseline, which has one thread.

    Parameters
    ----------
    seconds : float
        How long to measure; compiling comes on top, and at least three rounds are made.
    cases : sequence of Case
        Of one stream every phase is measured, of several the whole step, on one thread and on all.
    progress, command
        As for `harness.measure`.

    Raises
    ------
    FastrnnError
        If the process fails, or kernels and baseline do not arrive at the same results.
    """
    from fastrnn.threads import available_cores  # which imports the kernels

    tasks = []
    for case in cases:
        alone = case.config.batch == 1
        phases = tuple(PHASES) if alone else ("step",)
        tasks.append(Task("numpy", case, phases=phases))
        for threads in sorted({1, 1 if alone else available_cores()}):
            tasks += [Task(LIMIT, case, threads), Task("fastrnn", case, threads, phases)]
    return measure([tasks], command=command, seconds=seconds, progress=progress)


# --- words ----------------------------------------------------------------------------------------


def describe(result: Result) -> str:
    """Where and with what it was measured, in a sentence."""
    blas = " ".join(result.blas.values()) or "unknown BLAS"
    return f"{describe_origin(vars(result), 'llvmlite')}, {blas}"


def describe_times(result: Result) -> str:
    """The multiply-add limits, and the time of the first updates, in two sentences."""
    first: dict[str, str] = {}
    for row in result.rows:
        if row.method == "fastrnn" and "first" in row.details:
            how = "compiled" if row.details["compiled"] else "from the cache"
            dtype = row.case.config.dtype
            first.setdefault(dtype, f"{digits(row.details['first'])} s in {dtype} ({how})")
    return f"{describe_limits(result.rows)} First update of a process: {', '.join(first.values())}."


def format_table(result: Result) -> str:
    """The result as text of at most 80 columns."""
    layout = "{:<23}{:>10}{:>11}{:>9}{:>14}{:>13}"
    names = "fastrnn µs", "NumPy µs", "ratio", "characters/s", "of the limit"
    lines = [layout.format("", *names)]
    name = ""
    for case, rows in by_case(result.rows):
        if str(case) != name:
            name = str(case)
            lines += ["", name]
        for row in rows:
            if row.method == "fastrnn":
                what = row.phase if case.config.batch == 1 else counted(row.threads, "thread")
                baseline = baseline_of(row, rows)
                cells = (
                    digits(1e6 * row.median),
                    digits(1e6 * baseline.median),
                    digits(row.times_as_fast_as(baseline)) + "×",
                    digits(1 / row.per_character),
                    percent(share_of_limit(row, rows)),
                )
                lines.append(layout.format(f"  {case.config.dtype} {what}", *cells).rstrip())
    notes = f"Medians of {result.rounds} interleaved rounds. {describe_times(result)}"
    return "\n".join([*lines, "", *textwrap.wrap(notes, 80), *textwrap.wrap(describe(result), 80)])


def baseline_of(row: Row, rows: Sequence[Row]) -> Row:
    """What a row is compared with."""
    found = find(rows, "numpy", phase=row.phase)
    assert found is not None
    return found


# --- pictures -------------------------------------------------------------------------------------


def plot(result: Result, path: AnyPath) -> None:
    """Draw the ratios as bars, a panel for each case; the name ends in .png, .svg or .pdf.

    With one stream there are bars for every phase, with several for the whole step by threads.
    """
    check_picture(path)
    from fastrnn.report.plots import default_settings, write_picture

    with default_settings():
        figure = _ratio_figure(result)
    write_picture(figure, path)


def _ratio_figure(result: Result) -> Figure:
    from fastrnn.report.plots import Picture, plain_ticks

    panels: dict[str, dict[str, list[tuple[str, float]]]] = {}  # by case, by dtype
    for case, rows in by_case(result.rows):
        panels.setdefault(str(case), {})[case.config.dtype] = [
            (
                row.phase if case.config.batch == 1 else counted(row.threads, "thread"),
                row.times_as_fast_as(baseline_of(row, rows)),
            )
            for row in rows
            if row.method == "fastrnn"
        ]
    dtypes = list(dict.fromkeys(dtype for panel in panels.values() for dtype in panel))
    colours = {"float32": "#1f6f8b", "float64": "#e0a458"}
    figure = Picture(figsize=(1.2 + 2.6 * len(panels), 3.8), layout="constrained")
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    width = 0.8 / len(dtypes)
    for (title, panel), axes in zip(panels.items(), all_axes, strict=True):
        for i, (dtype, bars) in enumerate(panel.items()):
            names, ratios = zip(*bars, strict=True)
            shift = (i - (len(panel) - 1) / 2) * width
            places = [x + shift for x in range(len(bars))]
            drawn = axes.bar(places, ratios, width, label=dtype, color=colours[dtype])
            axes.bar_label(drawn, [digits(ratio) for ratio in ratios], padding=2, fontsize=8)
            axes.set_xticks(range(len(names)), names)
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="x", length=0)
        axes.margins(y=0.12)
    plain_ticks(all_axes[0].yaxis, 8)
    all_axes[0].set_ylabel("times as fast as NumPy")
    figure.legend(
        *all_axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False
    )
    figure.supxlabel(f"{result.machine['cpu']}; the line at 1 is NumPy on one thread", fontsize=8)
    return figure
