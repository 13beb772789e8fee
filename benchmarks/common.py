"""What these scripts share: how they time, where they ran, and how a result is written."""

from __future__ import annotations

import gc
import json
import math
import platform
import shlex
import sys
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import llvmlite
import numba
import numpy as np

from fastrnn._version import __version__
from fastrnn.config import Config
from fastrnn.kernels.entries import Record
from fastrnn.measure.bench import Shape
from fastrnn.measure.measurement import describe_machine
from fastrnn.network import Network
from fastrnn.parameters import initial_parameters
from fastrnn.storage.files import write

RESULTS = Path(__file__).parent / "results"
CHARACTERS = 200_000  # of text at most; no timing goes through more

Work = Callable[[int], Any]  # does its work so many times
Key = TypeVar("Key", bound=Hashable)


# --- timing -------------------------------------------------------------------------------------


class Steps:
    """Updates of a network on text whose characters are drawn evenly, always from the start.

    Text repeats its frequent characters, and would leave the kernels fewer rows of U to update.
    AdaGrad has a memory, as it has later in a training: its first steps without one saturate a
    large network, and its vanishing gradients are subnormal numbers, which are slow.
    """

    def __init__(self, shape: Shape, dtype: str, threads: int):
        m, K, T, B = shape
        self.config = Config(hidden=m, seq_length=T, batch=B, dtype=dtype)
        self.network = Network(self.config, K, threads)
        self.most = max(CHARACTERS // (T * B), 1)  # updates
        size = self.most * T + 1, B
        self.codes = np.random.default_rng(0).integers(0, K, size, dtype=np.int32)
        self.initial = initial_parameters(self.config, K)

    def reset(self) -> None:
        self.network.hidden[...] = 0
        for memory in self.network.memory.values():
            memory[...] = 1
        self.network.set_parameters(self.initial)

    def train(self, count: int) -> None:
        codes = self.codes[: count * self.config.seq_length + 1]
        self.network.train(codes, Record(0.0, np.inf, -1, False), np.empty(count))


class Timed:
    """Some work, repeated often enough for a timing of about `seconds`; `reset` is not timed."""

    def __init__(
        self,
        work: Work,
        seconds: float,
        most: int = 2**62,
        reset: Callable[[], Any] = lambda: None,
    ):
        self.work, self.reset = work, reset
        self.count = 1
        self.time()  # compiles, loads, warms
        while (once := self.time()) * self.count < seconds / 4 and self.count < most:
            self.count = min(2 * self.count, most)
        self.count = min(math.ceil(seconds / once), most)

    def time(self) -> float:
        """Seconds that it takes once."""
        self.reset()
        start = time.perf_counter()
        self.work(self.count)
        return (time.perf_counter() - start) / self.count


def interleaved(works: Mapping[Key, Timed], rounds: int) -> dict[Key, list[float]]:
    """Seconds of each, round by round: a machine that is slower for a while slows all of them."""
    gc.collect()
    gc.disable()
    try:
        times: dict[Key, list[float]] = {key: [] for key in works}
        for _ in range(rounds):
            for key, work in works.items():
                times[key].append(work.time())
        return times
    finally:
        gc.enable()


# --- results ------------------------------------------------------------------------------------


def origin(script: str, arguments: Sequence[str]) -> dict[str, Any]:
    """What a result tells of where it comes from; taken first, to see the load without ours."""
    modules = {module.__name__: module.__version__ for module in (np, numba, llvmlite)}
    return {
        "command": shlex.join(["python", f"benchmarks/{script}.py", *arguments]),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "versions": {"fastrnn": __version__, "python": platform.python_version(), **modules},
    }


def describe_origin(data: dict[str, Any]) -> str:
    """The same in a sentence."""
    machine, versions = data["machine"], data["versions"]
    cores = "1 core" if machine["cores"] == 1 else f"{machine['cores']} cores"
    return (
        f"{machine['cpu']} ({machine['instructions']}), {cores}, {machine['system']}; "
        f"fastrnn {versions['fastrnn']}, Python {versions['python']}, NumPy {versions['numpy']}, "
        f"Numba {versions['numba']}; `{data['command']}`, {data['date'][:10]}."
    )


def save(result: dict[str, Any], path: Path) -> None:
    """Write a result, a row a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ",\n".join(f"  {json.dumps(row)}" for row in result["rows"])
    head = json.dumps({key: value for key, value in result.items() if key != "rows"}, indent=1)
    head = head.removesuffix("\n}")
    write(path, f'{head},\n "rows": [\n{rows}\n ]\n}}\n'.encode())


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
