"""What the process that bench.run starts does: time kernels and baseline, and send the times.

All times of a round are taken one right after the other (limit, ours, baseline), what is compared
are times of the same round, and the result is the median over the rounds. So a machine that is
slower for a second slows both sides.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from fastrnn import reference
from fastrnn._version import __version__
from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.kernels import benchmark, entries
from fastrnn.kernels.entries import Record
from fastrnn.measure.bench import MARK, PHASES, PREFIXES, Result, Row, Shape
from fastrnn.network import Network
from fastrnn.parameters import Parameters, initial_parameters
from fastrnn.threads import available_cores

SAMPLE_SECONDS = 0.025  # what one timing lasts
MINIMUM_ROUNDS = 3
CHUNKS = 2048  # of text; no timing goes through more. A power of two
TOLERANCE = {"float32": 1e-3, "float64": 1e-10}  # of one update, relative to the largest entry

Work = Callable[[int], Any]  # does its work so many times


class Case:
    """Kernels and baseline at one shape and dtype, on the same weights and the same text."""

    def __init__(self, shape: Shape, dtype: str, threads: int = 1):
        self.shape, self.dtype, self.threads = shape, dtype, threads
        self.phases = PHASES if shape.B == 1 else PHASES[-1:]
        m, K, T, B = shape
        config = Config(hidden=m, seq_length=T, batch=B, dtype=dtype)
        eta, clip = config.learning_rate, config.clip
        # Characters drawn evenly. Text repeats its frequent ones, and would leave the kernels fewer
        # rows of U to update.
        codes = np.random.default_rng(0).integers(0, K, (CHUNKS * T + 1, B)).astype(np.int32)
        self.initial = initial_parameters(config, K)

        self.network = n = Network(config, K, threads)
        inputs = n._weights, n._packed, n._states, n.sizes, n._team, codes
        state = n._weights, n._gradient, n._memory, n._packed, n._states, n.sizes, n._team
        one = np.dtype(dtype).type(1)
        self.limit_work = threads * 10_000 * benchmark.operations(one)

        def train(count: int) -> float:
            losses = np.empty(count)
            n.train(codes[: count * T + 1], Record(0.0, np.inf, -1, False), losses)
            return losses[0] * 1000  # the smooth loss starts from 0 and takes in a thousandth

        self.ours: dict[str, Work] = {
            "limit": lambda count: n.workers.run(
                lambda _: benchmark.multiply_adds(one / 2, one, 10_000 * count)
            ),
            "forward": lambda count: benchmark.forward(*inputs, count),
            "backward": lambda count: benchmark.backward(*inputs, n._gradient, count),
            "update": lambda count: benchmark.update(*state, eta, clip, count),
            "step": train,
        }
        self.ours = {name: self.ours[name] for name in ("limit", *self.phases)}

        chunks = [codes[i * T : (i + 1) * T + 1] for i in range(CHUNKS)]
        self.state = np.zeros((1, B, m), dtype)
        self.parameters = parameters = {name: x.copy() for name, x in self.initial.items()}
        self.optimizer_state = reference.optimizer_state(config, parameters)
        self.passed = passed = reference.forward(parameters, self.state, chunks[0])
        self.gradient = gradient = reference.backward(parameters, passed, chunks[0])

        def update(gradient: Parameters) -> None:
            reference.update(config, parameters, gradient, self.optimizer_state, 0)

        def step(chunk: np.ndarray) -> None:
            passed = reference.forward(parameters, self.state, chunk)
            update(reference.backward(parameters, passed, chunk))
            self.state[...] = passed.state

        def repeated(phase: Callable[[np.ndarray], Any]) -> Work:
            def repeat(count: int) -> None:
                for chunk in chunks[:count]:
                    phase(chunk)

            return repeat

        self.baseline: dict[str, Work] = {
            "forward": repeated(lambda chunk: reference.forward(parameters, self.state, chunk)),
            "backward": repeated(lambda _: reference.backward(parameters, passed, chunks[0])),
            "update": repeated(lambda _: update(gradient)),
            "step": repeated(step),
        }
        self.baseline = {name: self.baseline[name] for name in self.phases}

    def reset(self, memory: float = 0.0) -> None:
        """Both sides to the start, with this number in all of AdaGrad's memory."""
        self.state[...] = self.network.hidden[...] = 0
        for name, x in self.initial.items():
            self.parameters[name][...] = x
            squares = self.optimizer_state["squares"][name]
            squares[...] = self.network.memory[name][...] = memory
        self.network.set_parameters(self.initial)

    def check(self) -> None:
        """Raise FastrnnError unless one update from the same state is the same on both sides."""
        for phases in (self.phases[:-1], ("step",)) if len(self.phases) > 1 else (("step",),):
            self.reset()
            loss, *_ = [self.ours[phase](1) for phase in phases]
            last = phases[-1]
            self.baseline[last](1)
            pairs: dict[str, tuple[Any, Any]] = {f"loss ({phases[0]})": (loss, self.passed.loss)}
            for name in self.initial:
                gradients = self.network.gradient[name], self.gradient[name]
                pairs[f"gradient of {name} ({last})"] = gradients
                pairs[f"new {name} ({last})"] = self.network.parameters[name], self.parameters[name]
            for what, (ours, baseline) in pairs.items():
                error = np.max(np.abs(ours - baseline)) / np.max(np.abs(baseline))
                if not error <= TOLERANCE[self.dtype]:
                    raise FastrnnError(
                        f"kernels and baseline disagree at {self.shape}, {self.dtype}: the {what} "
                        f"differs by {error:.1e} of the largest entry"
                    )

    def calibrate(self) -> None:
        """Find how often to repeat each phase for a timing long enough to be read well."""
        self.counts: dict[Work, int] = {}
        for work in (*self.ours.values(), *self.baseline.values()):
            self.seconds(work, 1)  # compiles, loads, warms
            count = 1
            while (total := self.seconds(work, count)) < SAMPLE_SECONDS / 4 and count < CHUNKS:
                count *= 2
            self.counts[work] = min(math.ceil(SAMPLE_SECONDS / total * count), CHUNKS)

    def seconds(self, work: Work, count: int) -> float:
        """How long `work` takes `count` times, from the start.

        With a memory, as it is later in a training. Without one AdaGrad's first steps saturate a
        large network, and its vanishing gradients are subnormal numbers, which are slow.
        """
        self.reset(1.0)
        if work is self.ours.get("backward"):
            self.ours["forward"](1)  # leaves what backward reads
        start = time.perf_counter()
        work(count)
        return time.perf_counter() - start

    def time(self, work: Work) -> float:
        """Seconds that `work` takes once."""
        return self.seconds(work, self.counts[work]) / self.counts[work]


def measure(seconds: float, shapes: list[list[int]], dtypes: list[str], command: str) -> None:
    """Send bench.run a Result, and on the way there how far it is."""
    machine = describe_machine()  # first, to see the load without ours
    cores = available_cores()
    first_calls: dict[str, dict[str, Any]] = {}
    cases: list[tuple[Case, list[Row]]] = []
    send(stage="compiling")
    for shape in map(Shape._make, shapes):
        for dtype, threads in product(dtypes, sorted({1, cores if shape.B > 1 else 1})):
            case = Case(shape, dtype, threads)
            loaded = sum(entries.train.stats.cache_hits.values())
            elapsed = case.seconds(case.ours["step"], 1)
            compiled = sum(entries.train.stats.cache_hits.values()) == loaded
            first_calls.setdefault(dtype, {"seconds": elapsed, "compiled": compiled})
            case.check()
            case.calibrate()
            empty = [Row(shape, dtype, threads, phase, [], [], []) for phase in case.phases]
            cases.append((case, empty))

    gc.collect()
    gc.disable()
    send(stage="measuring")
    start = time.perf_counter()
    rounds = 0
    while rounds < MINIMUM_ROUNDS or time.perf_counter() - start < seconds:
        for i, (case, rows) in enumerate(cases):
            limit = case.limit_work / case.time(case.ours["limit"])
            for row in rows:
                row.ours.append(case.time(case.ours[row.phase]))
                row.baseline.append(case.time(case.baseline[row.phase]))
                row.limit.append(limit)
            by_rounds = (rounds + (i + 1) / len(cases)) / MINIMUM_ROUNDS
            by_time = (time.perf_counter() - start) / seconds if seconds else 1.0
            send(done=min(by_rounds, by_time, 1.0))
        rounds += 1

    result = Result(
        command=command,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        machine=machine,
        versions={
            "fastrnn": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "numba", "llvmlite")},
        },
        blas=describe_blas(),
        environment={k: v for k, v in sorted(os.environ.items()) if k.startswith(PREFIXES)},
        first_calls=first_calls,
        rows=[row for _, rows in cases for row in rows],
    )
    send(result=result.to_json())


def send(**message: Any) -> None:
    """A line to bench.run; the line break before it ends what others printed."""
    print(f"\n{MARK}{json.dumps(message)}", flush=True)


def describe_machine() -> dict[str, Any]:
    """Result.machine."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        if platform.system() == "Darwin":
            question = ["sysctl", "-n", "machdep.cpu.brand_string"]
            cpu = subprocess.run(question, capture_output=True, text=True).stdout.strip() or cpu
        else:
            lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            cpu = next(x.split(":")[1].strip() for x in lines if x.startswith("model name"))
    return {
        "cpu": cpu,
        "cores": available_cores(),
        "instructions": benchmark.instruction_set(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def describe_blas() -> dict[str, str]:
    """Name and version of NumPy's BLAS and, where threadpoolctl is installed, its kernels."""
    blas: dict[str, str] = {}
    with contextlib.suppress(TypeError, KeyError):  # NumPy before 1.26 only prints them
        built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        blas = {key: str(built[key]) for key in ("name", "version") if key in built}
    with contextlib.suppress(ImportError):
        from threadpoolctl import threadpool_info

        for pool in threadpool_info():
            if pool["user_api"] == "blas":
                blas["kernels"] = pool.get("architecture") or "unknown"
    return blas
