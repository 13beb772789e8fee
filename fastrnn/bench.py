"""How fast the kernels are: against the NumPy baseline, and against the processor's limit.

    run() ──request──▶ a process with a clean environment: _measure() ──Result──▶ format_table, plot

All times of a round are taken one right after the other (limit, ours, baseline), what is compared
are times of the same round, and the result is the median over the rounds. So a machine that is
slower for a second slows both sides.

Phases: forward goes up to loss and probabilities; backward from there to the gradients of all
parameters (ours is the time of both together less that of forward); update is AdaGrad; step is all
three, over one chunk of text after the other, as training does it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import numpy as np

from fastrnn import reference
from fastrnn._version import __version__
from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.model import initial_parameters


class Shape(NamedTuple):
    """Sizes of a model and its chunks, as fastrnn.model names them."""

    m: int
    K: int
    T: int
    B: int

    def __str__(self) -> str:
        return " ".join(f"{name}={size}" for name, size in self._asdict().items())


SHAPES = (Shape(100, 80, 25, 1), Shape(256, 80, 50, 1), Shape(512, 80, 50, 1))
PHASES = ("forward", "backward", "update", "step")

SAMPLE_SECONDS = 0.025  # what one timing lasts
MINIMUM_ROUNDS = 3
CHUNKS = 2048  # of text; no timing goes through more
TOLERANCE = {"float32": 1e-3, "float64": 1e-10}  # of one update, relative to the largest entry


def flops(shape: Shape, phase: str) -> int:
    """Operations of a phase: two for each multiply-add of its matrix products, without padding.

    Forward W h and V h; backward their transposed products back through time, and the gradients of
    W and V. The first time step back has no product. The input is an index and costs none; tanh,
    softmax, biases and the update are left out, so their time lowers the share of the limit.
    """
    m, K, T, B = shape
    forward = 2 * B * T * (m * m + m * K)
    backward = 2 * B * ((T - 1) * m * m + T * (m * m + 2 * m * K))
    return {"forward": forward, "backward": backward, "update": 0, "step": forward + backward}[
        phase
    ]


@dataclass(frozen=True)
class Row:
    """The timings of one phase: element i of every list is from round i."""

    shape: Shape
    dtype: str
    phase: str  # one of PHASES
    ours: list[float]  # seconds
    baseline: list[float]  # seconds
    limit: list[float]  # operations a second in multiply-adds that touch no memory

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
        summary: dict[str, Any] = {
            side: {"median": median(times), "min": min(times), "max": max(times)}
            for side, times in (
                ("ours", self.ours),
                ("baseline", self.baseline),
                ("ratio", self.ratios),
            )
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
        rows = []
        for row in data["rows"]:
            raw = {name: value for name, value in row.items() if name != "summary"}
            rows.append(Row(**{**raw, "shape": Shape(**raw["shape"])}))
        return cls(**{**data, "rows": rows})

    def save(self, path: str | Path) -> None:
        """Write `to_json` to a file, a row of the table a line."""
        data = self.to_json()
        rows = ",\n".join(f"  {json.dumps(row)}" for row in data.pop("rows"))
        head = json.dumps(data, indent=1).removesuffix("\n}")
        try:
            Path(path).write_text(f'{head},\n "rows": [\n{rows}\n ]\n}}\n', encoding="utf-8")
        except OSError as error:
            raise FastrnnError(f"{path} cannot be written: {error.strerror}") from error


# --- the caller's process -------------------------------------------------------------------------

# NumPy and its BLAS obey variables that choose slower code. The baseline gets none of them; and one
# thread, like our kernels.
PREFIXES = ("OPENBLAS_", "MKL_", "OMP_", "KMP_", "GOTO_", "BLIS_", "VECLIB_", "NUMEXPR_", "NPY_")
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL", "BLIS")} | {
    "VECLIB_MAXIMUM_THREADS": "1"
}

CHILD = (
    "import json, sys; request = json.loads(sys.argv[1]); sys.path[:] = request.pop('path'); "
    "from fastrnn.bench import _measure; _measure(**request)"
)
MARK = "fastrnn-bench:"  # starts the lines of the child's output that are meant for us


def run(
    seconds: float = 25.0,
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
    environment = {k: v for k, v in os.environ.items() if not k.startswith(PREFIXES)} | ONE_THREAD
    request = {
        "path": sys.path,
        "seconds": seconds,
        "shapes": shapes,
        "dtypes": dtypes,
        "command": command,
    }
    result = None
    # Standard error goes to a file: a pipe that nobody reads would block the child when it is full.
    with (
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        subprocess.Popen(
            [sys.executable, "-c", CHILD, json.dumps(request)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
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
    from tqdm import tqdm

    layout = "{desc:<16} {percentage:3.0f} % {bar} {elapsed}"
    # disable=None: tqdm draws its bar on a terminal only.
    with tqdm(total=1.0, bar_format=layout, disable=None if progress else True) as bar:
        for message in messages:
            if "stage" in message:
                bar.set_description_str(message["stage"])
                if progress and bar.disable:
                    print(message["stage"], file=sys.stderr)
            bar.update(message.get("done", bar.n) - bar.n)
            yield message


# --- the measuring process ------------------------------------------------------------------------


def _send(**message: Any) -> None:
    print(f"\n{MARK}{json.dumps(message)}", flush=True)


class _Case:
    """Kernels and baseline at one shape and dtype, on the same weights and the same text.

    `ours` and `baseline` do their work so many times; "gradient" of ours is forward and backward.
    """

    def __init__(self, shape: Shape, dtype: str):
        from fastrnn.kernels import benchmark
        from fastrnn.network import Network

        self.shape, self.dtype = shape, dtype
        m, K, T, B = shape
        config = Config(hidden=m, seq_length=T, batch=B, dtype=dtype)
        eta, clip = config.learning_rate, config.clip
        # Characters drawn evenly. Text repeats its frequent ones, and would leave the kernels fewer
        # rows of U to update.
        codes = np.random.default_rng(0).integers(0, K, (CHUNKS * T + 1, B)).astype(np.int32)
        self.initial = initial_parameters(config, K)

        self.network = n = Network(config, K)
        inputs = n._weights, n._packed, n._states, n.sizes, codes
        state = n._weights, n._gradient, n._memory, n._packed, n._states, n.sizes
        one = np.dtype(dtype).type(1)
        self.limit_work = 10_000 * benchmark.operations(one)

        def train(count: int) -> float:
            record, losses = np.array([0.0, np.inf, 0.0, 0.0]), np.empty(count)
            n.train(codes[: count * T + 1], record, losses)
            return losses[0] * 1000  # the smooth loss starts from 0 and takes in a thousandth

        self.ours: dict[str, Callable[[int], Any]] = {
            "limit": lambda count: benchmark.multiply_adds(one / 2, one, 10_000 * count),
            "forward": lambda count: benchmark.forward(*inputs, count),
            "gradient": lambda count: benchmark.loss_and_gradient(*inputs, n._gradient, count),
            "update": lambda count: benchmark.update(*state, eta, clip, count),
            "step": train,
        }

        chunks = [codes[i * T : (i + 1) * T + 1] for i in range(CHUNKS)]
        self.h = np.zeros((B, m), dtype)
        self.parameters = parameters = {name: x.copy() for name, x in self.initial.items()}
        self.memory = memory = {name: np.zeros_like(x) for name, x in self.initial.items()}
        self.passed = reference.forward(parameters, self.h, chunks[0])
        self.gradient = reference.backward(parameters, self.passed, chunks[0])

        def step(chunk: np.ndarray) -> None:
            passed = reference.forward(parameters, self.h, chunk)
            gradient = reference.backward(parameters, passed, chunk)
            reference.update(parameters, gradient, memory, eta, clip)
            self.h[...] = passed.h[-1]

        def repeated(phase: Callable[[np.ndarray], Any]) -> Callable[[int], None]:
            def repeat(count: int) -> None:
                for chunk in chunks[:count]:
                    phase(chunk)

            return repeat

        self.baseline = {
            "forward": repeated(lambda chunk: reference.forward(parameters, self.h, chunk)),
            "backward": repeated(lambda _: reference.backward(parameters, self.passed, chunks[0])),
            "update": repeated(
                lambda _: reference.update(parameters, self.gradient, memory, eta, clip)
            ),
            "step": repeated(step),
        }

    def reset(self) -> None:
        """Both sides to the start, so that no timing depends on how many came before."""
        self.h[...] = self.network.hidden[...] = 0
        for name, x in self.initial.items():
            self.parameters[name][...] = x
            self.memory[name][...] = self.network.memory[name][...] = 0
        self.network.set_parameters(self.initial)

    def check(self) -> None:
        """Raise FastrnnError unless one update from the same state is the same on both sides."""
        for last in ("update", "step"):
            self.reset()
            self.baseline[last](1)
            pairs = {}
            for phase in ("forward", "gradient", "update") if last == "update" else ("step",):
                loss = self.ours[phase](1)
                if phase != "update":
                    pairs[f"loss ({phase})"] = np.array(loss), np.array(self.passed.loss)
            for name in self.initial:
                pairs[f"gradient of {name} ({last})"] = (
                    self.network.gradient[name],
                    self.gradient[name],
                )
                pairs[f"new {name} ({last})"] = self.network.parameters[name], self.parameters[name]
            for what, (ours, baseline) in pairs.items():
                error = np.abs(ours - baseline).max() / np.abs(baseline).max()
                if not error <= TOLERANCE[self.dtype]:
                    raise FastrnnError(
                        f"kernels and baseline disagree at {self.shape}, {self.dtype}: the {what} "
                        f"differs by {error:.1e} of the largest entry"
                    )

    def calibrate(self) -> None:
        """Find how often to repeat each phase for a timing long enough to be read well."""
        self.counts = {}
        for side in (self.ours, self.baseline):
            for work in side.values():
                self._restarted(work, 1)  # compiles, loads, warms
                count = 1
                while (
                    total := self._restarted(work, count)
                ) < SAMPLE_SECONDS / 4 and count < CHUNKS:
                    count = min(2 * count, CHUNKS)
                self.counts[work] = min(math.ceil(SAMPLE_SECONDS / total * count), CHUNKS)

    def _restarted(self, work: Callable[[int], Any], count: int) -> float:
        self.reset()
        return _seconds(work, count)

    def time(self, work: Callable[[int], Any]) -> float:
        """Seconds that `work` takes once."""
        return self._restarted(work, self.counts[work]) / self.counts[work]


def _seconds(work: Callable[[int], Any], count: int) -> float:
    start = time.perf_counter()
    work(count)
    return time.perf_counter() - start


def _measure(seconds: float, shapes: list[list[int]], dtypes: list[str], command: str) -> None:
    """What the child does: send a Result, and on the way there how far it is."""
    from fastrnn.kernels import entries

    train: Any = entries.train
    machine = _machine()  # first, to see the load without ours
    first_calls: dict[str, dict[str, Any]] = {}
    cases: list[tuple[_Case, list[Row]]] = []
    _send(stage="compiling")
    for shape in map(Shape._make, shapes):
        for dtype in dtypes:
            case = _Case(shape, dtype)
            case.reset()
            loaded = sum(train.stats.cache_hits.values())
            elapsed = _seconds(case.ours["step"], 1)
            compiled = sum(train.stats.cache_hits.values()) == loaded
            first_calls.setdefault(dtype, {"seconds": elapsed, "compiled": compiled})
            case.check()
            case.calibrate()
            cases.append((case, [Row(shape, dtype, phase, [], [], []) for phase in PHASES]))

    gc.collect()
    gc.disable()
    _send(stage="measuring")
    start = time.perf_counter()
    rounds = 0
    while rounds < MINIMUM_ROUNDS or time.perf_counter() - start < seconds:
        for i, (case, rows) in enumerate(cases):
            limit = case.limit_work / case.time(case.ours["limit"])
            forward = 0.0
            for row in rows:
                ours = case.time(case.ours["gradient" if row.phase == "backward" else row.phase])
                row.baseline.append(case.time(case.baseline[row.phase]))
                row.ours.append(ours - forward if row.phase == "backward" else ours)
                row.limit.append(limit)
                if row.phase == "forward":
                    forward = ours
            by_rounds = (rounds + (i + 1) / len(cases)) / MINIMUM_ROUNDS
            by_time = (time.perf_counter() - start) / seconds if seconds else 1.0
            _send(done=min(by_rounds, by_time, 1.0))
        rounds += 1

    result = Result(
        command=command,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        machine=machine,
        versions={
            "fastrnn": __version__,
            "python": platform.python_version(),
            **{name: sys.modules[name].__version__ for name in ("numpy", "numba", "llvmlite")},
        },
        blas=_blas(),
        environment={k: v for k, v in sorted(os.environ.items()) if k.startswith(PREFIXES)},
        first_calls=first_calls,
        rows=[row for _, rows in cases for row in rows],
    )
    _send(result=result.to_json())


def _machine() -> dict[str, Any]:
    from fastrnn.kernels.benchmark import instruction_set

    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        if platform.system() == "Darwin":
            question = ["sysctl", "-n", "machdep.cpu.brand_string"]
            cpu = subprocess.run(question, capture_output=True, text=True).stdout.strip() or cpu
        else:
            lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            cpu = next(
                line.split(":")[1].strip() for line in lines if line.startswith("model name")
            )
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": cpu,
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "threads": 1,
        "instructions": instruction_set(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _blas() -> dict[str, str]:
    """Name and version of NumPy's BLAS and, where threadpoolctl is installed, its kernels."""
    blas: dict[str, str] = {}
    with contextlib.suppress(TypeError, KeyError):  # NumPy before 1.26 only prints them
        built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        blas = {key: str(built[key]) for key in ("name", "version") if key in built}
    with contextlib.suppress(ImportError):
        from threadpoolctl import threadpool_info  # type: ignore[import-not-found]

        for pool in threadpool_info():
            if pool["user_api"] == "blas":
                blas["kernels"] = pool.get("architecture") or "unknown"
    return blas


# --- what people read -----------------------------------------------------------------------------


def digits(number: float) -> str:
    """Three significant digits, without an exponent."""
    if not 0 < number < math.inf:
        return "–"
    rounded = float(f"{number:.2e}")
    return f"{rounded:,.{max(0, 2 - math.floor(math.log10(rounded)))}f}"


def describe(result: Result) -> str:
    """Where and with what it was measured, in a sentence or two."""
    machine, versions = result.machine, dict(result.versions)
    blas = " ".join(result.blas.values()) or "unknown BLAS"
    cores = "1 core" if machine["cores"] == 1 else f"{machine['cores']} cores"
    names = {"python": "Python", "numpy": "NumPy", "numba": "Numba", "llvmlite": "llvmlite"}
    return (
        f"{machine['cpu']} ({machine['instructions']}), {cores}, 1 thread used, "
        f"{machine['system']}; fastrnn {versions['fastrnn']}, "
        + ", ".join(f"{name} {versions[key]}" for key, name in names.items())
        + f", {blas}"
    )


def describe_limits(result: Result) -> str:
    """The multiply-add limits, and the time of the first calls."""
    limits: dict[str, float] = {}
    for row in result.rows:
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
    """The result as text of at most 100 columns."""
    layout = "{:<19}{:>12}{:>12}{:>10}{:>18}{:>15}{:>13}"
    names = "fastrnn µs", "NumPy µs", "ratio", "middle half", "characters/s", "of the limit"
    lines = [layout.format("", *names)]
    shape = None
    for row in result.rows:
        if row.shape != shape:
            shape = row.shape
            lines += ["", str(shape)]
        low, _, high = quantiles(row.ratios, method="inclusive")
        share = "" if row.share is None else f"{100 * row.share:.0f} %"
        lines.append(
            layout.format(
                f"  {row.dtype} {row.phase}",
                digits(1e6 * median(row.ours)),
                digits(1e6 * median(row.baseline)),
                digits(row.ratio) + "×",
                "–".join(digits(quartile) for quartile in (low, high)),
                digits(row.characters_per_second),
                share,
            ).rstrip()
        )
    rounds = len(result.rows[0].ours)
    notes = f"Medians of {rounds} interleaved rounds. {describe_limits(result)}"
    return "\n".join(
        [*lines, "", *textwrap.wrap(notes, 100), *textwrap.wrap(describe(result), 100)]
    )


def plot(result: Result, path: str | Path) -> None:
    """Draw the ratios as bars, a panel for each shape; the name ends in .png, .svg or .pdf."""
    if Path(path).suffix.lower() not in (".png", ".svg", ".pdf"):
        raise FastrnnError(
            f"{path}: pictures are written as .png, .svg or .pdf; choose one of them"
        )
    from matplotlib.figure import Figure

    shapes = list(dict.fromkeys(row.shape for row in result.rows))
    dtypes = list(dict.fromkeys(row.dtype for row in result.rows))
    colours = {"float32": "#1f6f8b", "float64": "#e0a458"}
    figure = Figure(figsize=(1.2 + 3.2 * len(shapes), 3.8), layout="constrained")
    panels = figure.subplots(1, len(shapes), sharey=True, squeeze=False)[0]
    width = 0.8 / len(dtypes)
    for shape, panel in zip(shapes, panels, strict=True):
        for i, dtype in enumerate(dtypes):
            ratios = [row.ratio for row in result.rows if (row.shape, row.dtype) == (shape, dtype)]
            places = [x + (i - (len(dtypes) - 1) / 2) * width for x in range(len(PHASES))]
            bars = panel.bar(places, ratios, width, label=dtype, color=colours[dtype])
            panel.bar_label(bars, [digits(ratio) for ratio in ratios], padding=2, fontsize=8)
        panel.axhline(1, color="black", linewidth=0.8)
        panel.set_xticks(range(len(PHASES)), [*PHASES[:-1], "whole step"])
        panel.set_title(str(shape), fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(axis="x", length=0)
        panel.margins(y=0.12)
    panels[0].set_ylabel("times as fast as NumPy")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False
    )
    figure.supxlabel(f"{result.machine['cpu']}, one thread; the line at 1 is NumPy", fontsize=8)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise FastrnnError(f"{path} cannot be written: {error.strerror}") from error
