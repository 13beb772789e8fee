"""The one way in which times are taken.

    measure(groups of tasks) ──tasks──▶ worker.serve, in processes without settings that slow down
                             ◀─ready──  prepared, calibrated, and arrived at the reference's results
                             ──"time the third"──▶
                             ◀─seconds──           … round after round, everything in turn

What is compared takes turns: a machine that is slower for a while slows all of it. Compiling comes
before, on a clock of its own. This module compiles nothing, and imports nothing that does.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fastrnn.checks import counted
from fastrnn.console import ERR
from fastrnn.errors import FastrnnError
from fastrnn.measure.methods import Baseline, LeftOut, Problem, difference, results
from fastrnn.measure.results import Case, Result, Row

METHODS = {  # what a name runs: a module, a class in it, and arguments for that
    "numpy": ("fastrnn.measure.methods", "Baseline"),
    "fastrnn": ("fastrnn.measure.kernels", "Kernels"),
    "multiply-adds": ("fastrnn.measure.kernels", "MultiplyAdds"),
    "reading": ("fastrnn.measure.kernels", "Reading"),
}


@dataclass(frozen=True)
class Task:
    """What to time: phases of a method, each in a row of its own."""

    method: str
    case: Case
    threads: int = 1
    phases: Sequence[str] = ("step",)
    program: Sequence[str] = ()  # as in METHODS, for a method that is not there
    options: dict[str, Any] = field(default_factory=dict)  # for the class, by name

    def to_json(self) -> dict[str, Any]:
        program = self.program or METHODS[self.method]
        return {**vars(self), "case": self.case.to_json(), "program": program}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Task:
        return cls(**{**values, "case": Case.from_json(values["case"])})

    def __str__(self) -> str:
        threads = counted(self.threads, "thread")
        return f"{self.method} at {self.case}, {self.case.config.dtype}, on {threads}"


def measure(
    groups: Sequence[Sequence[Task]],
    *,
    command: str,
    apart: bool = False,
    rounds: int = 3,
    seconds: float = 0.0,
    sample: float = 0.025,
    environment: Mapping[str, str] | None = None,
    progress: bool = True,
) -> Result:
    """Time all tasks.

    Parameters
    ----------
    groups : sequence of sequences of Task
        The tasks of a group take turns; the groups follow one another.
    command : str
        Recorded in the result, so that a reader can repeat it.
    apart : bool
        Every task has a process of its own, which may use as many cores as the task has threads:
        its memory is told, and a method that cannot run is left out. Otherwise all of a group share
        one, in which libraries have one thread.
    rounds, seconds : int, float
        A group is timed for so long, and in so many rounds at least.
    sample : float
        Seconds that one timing lasts, by repeating what is shorter.
    environment : mapping of str to str, optional
        More variables for the processes.
    progress : bool
        Show on standard error how far it is: a bar on a terminal, otherwise a line for each stage.

    Raises
    ------
    FastrnnError
        If a process fails, or a method does not arrive at the reference's results.
    """
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    about: dict[str, Any] = {"machine": {}, "versions": {}, "blas": {}, "environment": {}}
    left_out: dict[str, str] = {}
    rows: list[Row] = []
    least = rounds
    with tempfile.TemporaryDirectory() as folder, _Bar(progress) as bar:
        for number, tasks in enumerate(groups):
            of_all = f" ({number + 1} of {len(groups)})" if len(groups) > 1 else ""
            with contextlib.ExitStack() as stack:
                bar.stage(f"compiling{of_all}")
                processes: list[Process] = []
                for shared in [[task] for task in tasks] if apart else [tasks]:
                    process = stack.enter_context(
                        Process(shared, sample, Path(folder), apart, environment or {})
                    )
                    try:
                        ready = process.start()
                    except LeftOut as reason:
                        if left_out.get(shared[0].method) != str(reason):
                            bar.say(f"{shared[0]} is left out: {reason}")
                        left_out[shared[0].method] = str(reason)
                        continue
                    for name, value in ready.items():
                        about[name] = value | about[name]  # the load: before the first process
                    processes.append(process)
                bar.stage(f"measuring{of_all}")
                done, start = 0, time.perf_counter()
                while done < least or time.perf_counter() - start < seconds:
                    for i, process in enumerate(processes):
                        for j in range(len(process.rows)):
                            process.time(j)
                            part = (i + (j + 1) / len(process.rows)) / len(processes)
                            by_time = (time.perf_counter() - start) / seconds if seconds else 1.0
                            bar.show(min((done + part) / least, by_time, 1.0))
                    done += 1
                for process in processes:
                    rows += process.end()
                rounds = max(rounds, done)
    return Result(command, date, **about, rounds=rounds, left_out=left_out, rows=rows)


class _Bar:
    """How far it is, on standard error."""

    def __init__(self, shown: bool):
        layout = "{desc:<16} {percentage:3.0f} % {bar} {elapsed}"
        # disable=None: tqdm draws its bar on a terminal only.
        disable = None if shown else True
        self._bar = tqdm(
            total=1.0, bar_format=layout, disable=disable, dynamic_ncols=True, file=ERR
        )
        self._lines = shown and self._bar.disable

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def stage(self, name: str) -> None:
        self.show(0.0)
        self._bar.set_description_str(name)
        if self._lines:
            ERR.say(name)

    def show(self, done: float) -> None:
        self._bar.update(done - self._bar.n)

    def say(self, line: str) -> None:
        with tqdm.external_write_mode(ERR):
            ERR.say(line)


# --- the processes --------------------------------------------------------------------------------

# Libraries obey variables that choose slower code, or another number of threads. None gets any, but
# for the number of threads.
SLOWING = (
    *("OPENBLAS_", "MKL_", "OMP_", "KMP_", "GOTO_", "BLIS_", "VECLIB_", "NUMEXPR_", "NPY_"),
    *("GOMP_", "XLA_", "JAX_", "TORCH_", "ATEN_", "DNNL_", "ONEDNN_"),
)
THREADS = (
    *(f"{library}_NUM_THREADS" for library in ("OPENBLAS", "OMP", "MKL", "BLIS")),
    "VECLIB_MAXIMUM_THREADS",
)
CHILD = (
    "import json, sys; request = json.loads(sys.argv[1]); sys.path[:] = request.pop('path'); "
    "from fastrnn.measure.worker import serve; serve(**request)"
)
MARK = "fastrnn-measure:"  # starts the lines of the child's output that are meant for us
COMPILING = 300.0  # seconds after which a task that is not ready is left out


class Process:
    """A process that waits for its turn."""

    def __init__(
        self,
        tasks: Sequence[Task],
        sample: float,
        folder: Path,
        apart: bool,
        environment: Mapping[str, str],
    ):
        self.tasks, self.apart = tasks, apart
        self.state = Path(tempfile.mkdtemp(dir=folder))
        threads = tasks[0].threads if apart else 1
        variables = {k: v for k, v in os.environ.items() if not k.startswith(SLOWING)}
        variables |= dict.fromkeys(THREADS, str(threads))
        # No processes that compile: they would outlive it when it is killed.
        variables |= {"JAX_PLATFORMS": "cpu", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        request = {
            "path": sys.path,
            "tasks": [task.to_json() for task in tasks],
            "sample": sample,
            "cores": threads if apart else None,
            "state": str(self.state),
        }
        # A pipe that nobody reads would block the child when it is full.
        self.errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={**variables, **environment},
            text=True,
            errors="replace",
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exception: object) -> None:  # Ctrl-C above all
        with self.errors, contextlib.suppress(OSError), self.process:
            self.process.kill()

    def start(self) -> dict[str, Any]:
        """Wait until it is ready, and check its results; returns what it is running on.

        Raises
        ------
        LeftOut
            If its method cannot run here, or takes too long to be ready.
        """
        started = time.perf_counter()
        timer = threading.Timer(COMPILING, self.process.kill)
        if self.apart:
            timer.start()
        try:
            message = self.receive()
        except FastrnnError:
            if self.apart and time.perf_counter() - started >= COMPILING:
                raise LeftOut(f"was not ready after {COMPILING:g} seconds") from None
            raise
        finally:
            timer.cancel()
        if "left_out" in message:
            raise LeftOut(message["left_out"])
        self.rows: list[Row] = []
        for i, (task, details) in enumerate(zip(self.tasks, message.pop("details"), strict=True)):
            self.check(task, self.state / f"{i}.npz")
            for phase in task.phases:
                self.rows.append(Row(task.method, task.case, task.threads, phase, [], details))
        return message

    def check(self, task: Task, path: Path) -> None:
        """Raise FastrnnError unless a task has arrived at the reference's losses and weights."""
        if not path.exists():  # it is a limit
            return
        with np.load(path) as state:
            found = difference(task.case.config.dtype, state, expected(task.case))
        if found:
            raise FastrnnError(f"{task} and the reference disagree: {found}")

    def time(self, number: int) -> None:
        """Time what a row tells."""
        with contextlib.suppress(OSError):  # if it has ended, `receive` tells why
            print(number, file=self.process.stdin, flush=True)
        self.rows[number].seconds.append(self.receive()["seconds"])

    def end(self) -> list[Row]:
        """Let it end; returns what it has measured."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        memory = self.receive()["memory"]
        if self.apart:
            for row in self.rows:
                row.details["memory"] = memory
        return self.rows

    def receive(self) -> dict[str, Any]:
        """Its next message, between whatever else was printed there."""
        for line in self.process.stdout or ():
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        code = self.process.wait()
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors if line.strip()]
        reason = lines[-1] if lines else f"exit code {code}"
        reason = reason.removeprefix("fastrnn.errors.FastrnnError: ")
        name = str(self.tasks[0]) if self.apart else "the process that measures"
        raise FastrnnError(f"{name} failed: {reason}")


@cache
def expected(case: Case) -> dict[str, Any]:
    """The results of the NumPy reference."""
    return results(Baseline(Problem(case)))
