"""Times are taken in turn, in processes that nothing slows down, and only of equal results."""

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_results import TINY

from fastrnn import reference
from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.kernels import benchmark
from fastrnn.measure import harness, methods, worker
from fastrnn.measure.harness import Task, measure
from fastrnn.measure.kernels import Kernels, MultiplyAdds, Reading
from fastrnn.measure.methods import Baseline, Method, Problem
from fastrnn.measure.results import LIMIT, Case, Result
from fastrnn.measure.worker import Timed
from fastrnn.threads import available_cores
from peers import gated, vanilla

ROOT = Path(__file__).parents[2]
ONE = vanilla(7, 5, 3, 1)
SLOWING = ("OPENBLAS_CORETYPE", "MKL_VERBOSE", "OMP_NUM_THREADS", "XLA_FLAGS", "NPY_DISABLE_X")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Two groups of a tiny case, with everything around them that could disturb them."""
    folder = tmp_path_factory.mktemp("noise")
    # Python runs it at every start: output before ours, without and with our mark inside a line.
    (folder / "sitecustomize.py").write_text(
        f"print('noise'); print('x {harness.MARK}', end='')", encoding="utf-8"
    )
    tasks = [Task(LIMIT, ONE), Task("fastrnn", ONE, 2), Task("numpy", ONE, 1, ("step", "forward"))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        for name in SLOWING:
            patch.setenv(name, "7")
        return measure([tasks, [Task("numpy", TINY)]], command="x", sample=1e-4, progress=False)


def test_every_phase_has_a_row(measured: Result) -> None:
    rows = [(row.method, row.case, row.threads, row.phase) for row in measured.rows]
    assert rows == [
        (LIMIT, ONE, 1, "step"),
        ("fastrnn", ONE, 2, "step"),
        ("numpy", ONE, 1, "step"),
        ("numpy", ONE, 1, "forward"),
        ("numpy", TINY, 1, "step"),
    ]
    assert measured.rounds == 3
    for row in measured.rows:
        assert len(row.seconds) == 3
        assert min(row.seconds) > 0
        assert (row.method == LIMIT) == ("first" not in row.details)
    assert measured.rows[1].details.keys() == {"first", "compiled"}
    assert measured.machine["cores"] == available_cores()
    assert measured.versions["python"] == sys.version.split()[0]


def test_the_processes_have_no_variables_that_slow_them_down(measured: Result) -> None:
    libraries = dict.fromkeys(harness.THREADS, "1")
    # Numba's OpenMP library sets a variable of its own.
    found = {k: v for k, v in measured.environment.items() if k != "KMP_DUPLICATE_LIB_OK"}
    assert found == {
        **libraries,
        "JAX_PLATFORMS": "cpu",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    } or found == {**libraries, "JAX_PLATFORMS": "cpu"}


def test_apart_every_task_has_a_process() -> None:
    missing = Task("missing", ONE, program=("no.such.module", "Class"))
    tasks = [Task("numpy", ONE, 2), missing, Task("fastrnn", ONE)]
    result = measure([tasks], command="x", apart=True, rounds=2, sample=1e-4, progress=False)
    assert [(row.method, row.threads) for row in result.rows] == [("numpy", 2), ("fastrnn", 1)]
    assert result.left_out == {"missing": "no is not installed"}
    assert result.environment["OMP_NUM_THREADS"] == "2"
    for row in result.rows:
        memory = row.details["memory"]
        assert 10**7 < memory["imported"] <= memory["peak"] < 10**10


@pytest.mark.parametrize(("progress", "shown"), [(True, "compiling\nmeasuring\n"), (False, "")])
def test_stages_are_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], progress: bool, shown: str
) -> None:
    measure([[Task(LIMIT, ONE)]], command="x", rounds=1, sample=1e-4, progress=progress)
    assert capsys.readouterr().err == shown


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("child", "reason"),
    [
        ("import sys; print('first', file=sys.stderr); sys.exit('it is so\\n\\n')", "it is so"),
        ("from fastrnn.errors import FastrnnError; raise FastrnnError('not equal')", "not equal"),
        ("import os; os._exit(3)", "exit code 3"),
        ("pass", "exit code 0"),
    ],
)
def test_a_process_that_fails(monkeypatch: pytest.MonkeyPatch, child: str, reason: str) -> None:
    monkeypatch.setattr(harness, "CHILD", child)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for apart, name in (
        (False, "the process that measures"),
        (True, "fastrnn at m=7 K=5 T=3 B=1, float32, on 1 thread"),
    ):
        with pytest.raises(FastrnnError) as error:
            measure([[Task("fastrnn", ONE)]], command="x", apart=apart, progress=False)
        assert str(error.value) == f"{name} failed: {reason}"


def test_a_process_that_takes_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "CHILD", "import time; time.sleep(60)")
    monkeypatch.setattr(harness, "COMPILING", 0.1)
    result = measure([[Task("numpy", ONE)]], command="x", apart=True, rounds=1, progress=False)
    assert (result.left_out, result.rows) == ({"numpy": "was not ready after 0.1 seconds"}, [])


def test_a_process_that_ends_between_two_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    time = harness.Process.time

    def killed(process: harness.Process, number: int) -> None:
        process.process.kill()
        process.process.wait()
        time(process, number)

    monkeypatch.setattr(harness.Process, "time", killed)
    with pytest.raises(FastrnnError, match=r"^the process that measures failed: exit code "):
        measure([[Task(LIMIT, ONE)]], command="x", sample=1e-4, progress=False)


def test_ctrl_c_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def interrupted(process: harness.Process, number: int) -> None:
        started.append(process.process)
        raise KeyboardInterrupt

    monkeypatch.setattr(harness.Process, "time", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure([[Task(LIMIT, ONE)]], command="x", sample=1e-4, progress=False)
    assert started[0].poll() is not None


# --- equal results --------------------------------------------------------------------------------


class Forgetful(Baseline):
    """Forgets the state after each update."""

    def train(self, updates: int) -> float:
        for _ in range(updates):
            self.state = np.zeros_like(self.state)
            loss = super().train(1)
        return loss


@pytest.mark.parametrize("case", [vanilla(100, 80, 50, 8), gated("lstm", 128, 16)])
def test_other_results_are_an_error(monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    task = Task("forgetful", case, program=("test_harness", "Forgetful"))
    with pytest.raises(FastrnnError) as error:
        measure([[task]], command="x", sample=1e-4, progress=False)
    message = f"forgetful at {case}, float32, on 1 thread and the reference disagree: U differs by "
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(("what", "updates"), [("V", 1), ("loss", 1), ("b", 3), ("loss", 3)])
def test_differences_are_found(what: str, updates: int) -> None:
    right = methods.results(Baseline(Problem(TINY)))
    assert methods.difference("float32", right, right) is None
    key = f"{what} {updates}"
    assert methods.difference("float32", {**right, key: right[key] * 1.02}, right) == (
        f"{what} differs by 2.0e-02 of the largest entry (updates: {updates})"
    )
    nan = {**right, key: right[key] * np.nan}
    assert methods.difference("float32", nan, right)


MODELS = {
    "rnn": {"batch": 2},
    "one stream": {"dtype": "float64"},
    "lstm": {"cell": "lstm", "batch": 2, "layers": 2, "dropout": 0.3},
    "gru": {"cell": "gru", "batch": 3, "dtype": "float64"},
    "sgd": {"cell": "gru", "optimizer": "sgd", "momentum": 0.9},
    "rmsprop": {"optimizer": "rmsprop", "clip_norm": 1.0},
}


@pytest.mark.parametrize("settings", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("threads", [1, 2])
def test_kernels_and_baseline_are_equal(settings: dict[str, Any], threads: int) -> None:
    case = Case(Config(hidden=7, seq_length=3, **settings), 5)
    problem = Problem(case, threads)
    problem.chunks = 2  # so that the text begins again
    found, expected = (methods.results(method(problem)) for method in (Kernels, Baseline))
    assert methods.difference(case.config.dtype, found, expected) is None


PARTED = [
    Config(hidden=7, seq_length=3, batch=5),
    Config(cell="lstm", hidden=7, seq_length=3, batch=5, layers=2),
]


@pytest.mark.parametrize("config", PARTED, ids=["rnn", "lstm"])
def test_the_phases_are_those_of_an_update(config: Config) -> None:
    problem = Problem(Case(replace(config, batch=1, dtype="float64"), 5))
    whole = Baseline(problem)
    whole.reset(1.0)
    whole.train(1)
    for method in (Kernels(problem), Baseline(problem)):
        method.reset(1.0)
        for phase in ("forward", "backward", "update"):
            method.work(phase)(1)
        for name, expected in whole.parameters().items():
            np.testing.assert_allclose(method.parameters()[name], expected, 1e-9, 1e-12)


@pytest.mark.parametrize("config", PARTED, ids=["rnn", "lstm"])
def test_the_parts_are_those_of_an_update(config: Config) -> None:
    kernels = Kernels(Problem(Case(config, 5)))
    n = kernels.network

    def trained(work: Callable[[], Any]) -> list[np.ndarray]:
        kernels.reset(1.0)
        work()
        views = n.gradient, n.parameters, *n.optimizer_state.values()
        return [x.copy() for view in views for x in view.values()] + [n._flat.packed.copy()]

    def parts(*names: str) -> None:
        for name in names:
            kernels.work(name)(1)

    first = "forward recurrence", "logits and softmax", "hidden gradient and backward recurrence"
    expected = trained(lambda: kernels.train(1))
    for gradients, last in (
        (("all gradients",), "optimizer and packing"),
        (("all gradients", "vector gradients"), "optimizer and packing"),
        (("all gradients",), "optimizer"),
    ):
        found = trained(lambda names=(*first, *gradients, last): parts(*names))
        packed = last != "optimizer"
        for x, y in zip(expected if packed else expected[:-1], found, strict=packed):
            np.testing.assert_array_equal(x, y)


def test_what_backward_reads_is_there() -> None:
    """It is timed after a forward pass of the first chunk, whatever was timed before."""
    problem = Problem(vanilla(7, 5, 3, 1, "float64"))
    kernels, baseline = Kernels(problem), Baseline(problem)
    for method in (kernels, baseline):
        method.prepare("backward")
    kernels.work("backward")(1)
    codes = problem.chunk(0)
    passed = reference.forward(baseline.weights, baseline.state, codes)
    gradient = reference.backward(baseline.weights, passed, codes)
    for name, expected in gradient.items():
        np.testing.assert_allclose(kernels.network.gradient[name], expected, 1e-9, 1e-12)


# --- timing ---------------------------------------------------------------------------------------


class Clockwork(Method):
    """Takes so many seconds of a clock that stands otherwise."""

    def __init__(self, clock: list[float], seconds: float, most: int = 2**62, updates: float = 1.0):
        self.clock, self.seconds, self.most, self.updates = clock, seconds, most, updates
        self.calls: list[int] = []

    def work(self, phase: str) -> methods.Work:
        def repeat(count: int) -> None:
            self.calls.append(count)
            self.clock[0] += self.seconds * count

        return repeat

    def prepare(self, phase: str) -> None:
        self.clock[0] += 10.0  # is not timed

    def unit(self, phase: str) -> float:
        return self.updates


def test_timings_are_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(worker, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    for seconds, most, counts in ((0.001, 2**62, (100, 101)), (0.001, 30, (30,)), (1.0, 9, (1,))):
        method = Clockwork(clock, seconds, most, updates=0.5)
        timed = Timed(method, "step", 0.1)
        method.calls.clear()
        assert math.isclose(timed.of_an_update(), 2 * seconds, rel_tol=1e-6)
        assert method.calls[0] in counts


def test_everything_takes_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = []
    time = harness.Process.time

    def noted(process: harness.Process, number: int) -> None:
        turns.append((process.tasks[0].method, number))
        time(process, number)

    monkeypatch.setattr(harness.Process, "time", noted)
    tasks = [Task("numpy", ONE, phases=("step", "forward")), Task(LIMIT, ONE)]
    measure([tasks], command="x", apart=True, rounds=2, sample=1e-4, progress=False)
    assert turns == 2 * [("numpy", 0), ("numpy", 1), (LIMIT, 0)]


# --- limits ---------------------------------------------------------------------------------------


def test_the_limit_makes_the_operations_of_an_update() -> None:
    limit = MultiplyAdds(Problem(TINY, threads=2))
    in_one_call = 2 * 1000 * benchmark.operations(np.float32(1))
    assert limit.unit("step") * TINY.operations() == pytest.approx(in_one_call)


def test_reading_reads_everything() -> None:
    array = np.arange(4096, dtype=np.float32) % 7
    assert benchmark.read(array, 1) == array.sum()
    assert benchmark.read(array, 3) == 3 * array.sum()
    assert benchmark.read(array[256:512], 1) == array[256:512].sum()
    assert Reading(Problem(TINY), bytes=2**14).run(0, 2) == 2 * 2**14 / 4


# --- the machine ----------------------------------------------------------------------------------


def test_no_compiling_before_it_is_asked_for() -> None:
    heavy = "{'numba', 'matplotlib', 'h5py', 'torch', 'jax'}"
    check = f"import fastrnn.measure.bench, sys; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n"


def test_one_logical_processor_of_each_core(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for processor, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        folder = tmp_path / f"cpu{processor}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings)
    found = {f"/sys/devices/system/cpu/cpu{i}/topology": i for i in range(4)}
    monkeypatch.setattr(worker, "Path", lambda path: tmp_path / f"cpu{found[path]}" / "topology")
    assert worker.one_of_each_core({3, 0, 1, 2}) == [0, 1]
    monkeypatch.setattr(worker, "Path", lambda path: tmp_path / "missing")
    assert worker.one_of_each_core({1, 0}) == [0, 1]
