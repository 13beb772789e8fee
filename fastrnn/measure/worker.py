"""What a process of the harness does: prepare its tasks, and time them when it is their turn."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from fastrnn._version import __version__
from fastrnn.kernels.benchmark import instruction_set
from fastrnn.measure.harness import MARK, SLOWING, Task
from fastrnn.measure.methods import LeftOut, Method, Problem, Training, results
from fastrnn.threads import available_cores


class Timed:
    """A phase of a method, repeated often enough for a timing of about `sample` seconds."""

    def __init__(self, method: Method, phase: str, sample: float):
        self.method, self.phase = method, phase
        method.prepare(phase)  # now, as the work may be made of what it leaves
        self.work = method.work(phase)
        self.count = 1
        self.time()  # compiles, loads, warms
        while (total := self.time()) < sample / 4 and self.count < method.most:
            self.count = min(2 * self.count, method.most)
        self.count = min(math.ceil(sample / total * self.count), method.most)

    def time(self) -> float:
        """Seconds that all repetitions take."""
        self.method.prepare(self.phase)
        start = time.perf_counter()
        self.work(self.count)
        return time.perf_counter() - start

    def of_an_update(self) -> float:
        return self.time() / (self.count * self.method.unit(self.phase))


def serve(tasks: list[dict], sample: float, cores: int | None, state: str) -> None:
    """Answer harness.Process, which asks by lines on standard input, until the last of them."""
    machine = describe_machine()  # first, to see the load without ours, and all cores
    timed: list[Timed] = []
    details: list[dict[str, Any]] = []
    versions = describe_versions()
    try:
        keep_to(cores)
        for i, task in enumerate(map(Task.from_json, tasks)):
            name, attribute, *arguments = task.program
            module = importlib.import_module(name)
            imported = peak_memory()
            method = getattr(module, attribute)(
                Problem(task.case, task.threads), *arguments, **task.options
            )
            if isinstance(method, Training):
                method.first_update()
                np.savez(Path(state, f"{i}.npz"), **results(method))
            timed += [Timed(method, phase, sample) for phase in task.phases]
            details.append(method.details())
            versions |= getattr(module, "versions", dict)()
    except ImportError as error:
        return send(left_out=f"{error.name} is not installed")
    except LeftOut as reason:
        return send(left_out=str(reason))
    environment = {k: v for k, v in sorted(os.environ.items()) if k.startswith(SLOWING)}
    about = {"machine": machine, "versions": versions, "blas": describe_blas()}
    gc.collect()
    gc.disable()
    send(**about, environment=environment, details=details)
    for line in sys.stdin:
        send(seconds=timed[int(line)].of_an_update())
    send(memory={"imported": imported, "peak": peak_memory()})


def send(**message: Any) -> None:
    """A line to the harness; the line break before it ends what others printed."""
    print(f"\n{MARK}{json.dumps(message)}", flush=True)


# --- the machine ----------------------------------------------------------------------------------


def keep_to(cores: int | None) -> None:
    """Leave this process so many of its cores, where the system can do that.

    Some libraries take the number of their threads from the cores they may use, and from nothing
    else.
    """
    if cores is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, one_of_each_core(os.sched_getaffinity(0))[-cores:])


def one_of_each_core(processors: Iterable[int]) -> list[int]:
    """One of the logical processors of every physical core; all, where the system does not tell."""
    chosen: dict[str, int] = {}
    for processor in sorted(processors):
        core = str(processor)
        with contextlib.suppress(OSError):
            topology = Path(f"/sys/devices/system/cpu/cpu{processor}/topology")
            core = (topology / "thread_siblings_list").read_text()
        chosen.setdefault(core, processor)
    return list(chosen.values())


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
        "instructions": instruction_set(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def describe_versions() -> dict[str, str]:
    libraries = {name: version(name) for name in ("numpy", "numba", "llvmlite")}
    return {"fastrnn": __version__, "python": platform.python_version(), **libraries}


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


def peak_memory() -> int:
    """The most memory that this process held so far, in bytes."""
    with contextlib.suppress(OSError, StopIteration):
        # getrusage counts what the parent held when it started us.
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
