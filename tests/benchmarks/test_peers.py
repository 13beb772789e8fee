import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import methods
import peers
from methods import Task
from methods.ours import Baseline, Kernels
from peers import Row, Shape

TINY = Shape(m=7, K=5, T=3, B=2)
SMALL, LARGE = Shape(100, 80, 50, 8), Shape(512, 80, 50, 32)


def fixed_rows():
    """fastrnn wins at the small shape, 4× on two threads, and loses at the large one."""
    rows = []
    for shape, times in (
        (
            SMALL,
            {
                "numpy": 6e-3,
                "torch-rnn": 5e-3,
                "jax-scan": 9e-3,
                "hand-jax": 5e-3,
                "fastrnn": 2e-3,
            },
        ),
        (LARGE, {"numpy": 6e-2, "torch-rnn": 5e-2, "jax-scan": 1e-2, "fastrnn": 4e-2}),
    ):
        for method, time in times.items():
            for threads, speedup in ((1, 1.0), (2, 0.5 if method == "torch-rnn" else 1.6)):
                seconds = [time / speedup * slower for slower in (1, 1.5, 2)]
                memory = {"imported": 10**8, "peak": 2 * 10**8 + threads}
                rows.append(Row(shape, "float32", method, threads, seconds, 0.5, memory))
    return rows


def fixed_result():
    return {
        "command": "python benchmarks/peers.py",
        "date": "2025-01-02T03:04:05+00:00",
        "machine": {
            "cpu": "A Processor",
            "cores": 2,
            "instructions": "AVX2",
            "system": "Linux x86_64",
            "load": 0.5,
        },
        "rounds": 3,
        "versions": {"python": "3.12.1", "numpy": "2.0.0", "torch": "2.9.0", "fastrnn": "0.1"},
        "rows": fixed_rows(),
    }


# --- measuring ----------------------------------------------------------------------------------


def test_from_end_to_end(monkeypatch, tmp_path, capsys):
    """Of three frameworks one is not installed."""
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(name='torch')")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "result.json"
    options = "--shapes 7,5,3,2 5,7,2,3 --rounds 2 --seconds 0.001"
    options += " --methods numpy torch-loop fastrnn"
    peers.main([*options.split(), "--json", str(path)])
    out, err = capsys.readouterr()
    assert "torch-loop at m=7 K=5 T=3 B=2, float32, on 1 thread is left out: torch is not " in err
    assert err.count("torch") == 2  # said once
    assert "fastrnn on 1 thread over NumPy, 2 batched shapes: " in " ".join(out.split())

    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["command"] == f"python benchmarks/peers.py {options} --json {path}"
    assert result["left_out"]["torch-loop"] == "torch is not installed"
    assert {"python", "numpy", "fastrnn"} <= set(result["versions"])
    rows = peers.read_rows(result)
    assert {row.method for row in rows} == {"numpy", "fastrnn"}
    for row in rows:
        assert row.case in ((TINY, "float32"), (Shape(5, 7, 2, 3), "float32"))
        assert len(row.seconds) == 2
        assert min(row.seconds) > 0
        assert 10**7 < row.memory["imported"] <= row.memory["peak"] < 10**10


def test_the_process_has_no_variables_that_slow_anything_down(monkeypatch, tmp_path):
    for name in ("OPENBLAS_CORETYPE", "MKL_VERBOSE", "OMP_NUM_THREADS", "XLA_FLAGS"):
        monkeypatch.setenv(name, "7")
    child = f"import json, os; print({peers.MARK!r} + json.dumps(dict(os.environ)))"
    monkeypatch.setattr(peers, "CHILD", child)
    process = peers.Child(Task(TINY, "float32", 2), "numpy", 0.1, tmp_path / "a.npz")
    try:
        environment = process.start()
    finally:
        process.kill()
    slowing = (*peers.PREFIXES, *peers.PEER_PREFIXES)
    kept = {name: value for name, value in environment.items() if name.startswith(slowing)}
    assert kept == {**dict.fromkeys(peers.ONE_THREAD, "2"), "JAX_PLATFORMS": "cpu"}


def test_one_update_is_the_same():
    task = Task(TINY, "float64", 1)
    ours, expected = methods.results(Kernels(task)), methods.expected(task)
    assert list(ours) == list(expected)
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name
    # Past the end of the text both start it again.
    small = Task(TINY, "float64", 1)
    small.chunks = 2
    losses = []
    for method in (Kernels(small), Baseline(small)):
        method.reset()
        losses.append(method.train(5))
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


@pytest.mark.parametrize(("what", "updates"), [("V", 1), ("loss", 1), ("b", 3), ("loss", 3)])
def test_disagreement_is_an_error(tmp_path, what, updates):
    task = Task(TINY, "float32", 1)
    right = methods.expected(task)
    child = peers.Child.__new__(peers.Child)
    child.task, child.method, child.state = task, "jax-scan", tmp_path / "a.npz"
    np.savez(child.state, **right)
    child.check(right)
    key = f"{what} {updates}"
    np.savez(child.state, **{**right, key: right[key] * 1.02})
    message = rf"jax-scan at m=7 .* disagree: {what} differs by 2.0e-02 .* \(updates: {updates}\)"
    with pytest.raises(SystemExit, match=message):
        child.check(right)


def test_a_forgotten_hidden_state_is_an_error(tmp_path):
    class Forgetful(Baseline):
        def train(self, updates):
            for _ in range(updates):
                self.state = np.zeros_like(self.state)
                loss = super().train(1)
            return loss

    child = peers.Child.__new__(peers.Child)
    child.task, child.method, child.state = Task(SMALL, "float32", 1), "x", tmp_path / "a.npz"
    np.savez(child.state, **methods.results(Forgetful(child.task)))
    with pytest.raises(SystemExit, match=r"disagree: U differs by .* \(updates: 3\)"):
        child.check(methods.expected(child.task))


@pytest.mark.parametrize(
    ("child", "error", "reason"),
    [
        ("import sys; sys.exit('it is so')", SystemExit, "on 1 thread failed: it is so$"),
        ("import os; os._exit(3)", SystemExit, "exit code 3"),
        ("import time; time.sleep(60)", peers.Late, "was not ready after 0.1 seconds"),
    ],
)
def test_a_process_that_fails(monkeypatch, tmp_path, child, error, reason):
    monkeypatch.setattr(peers, "CHILD", child)
    monkeypatch.setattr(peers, "COMPILING", 0.1 if "sleep" in child else 60.0)
    process = peers.Child(Task(TINY, "float32", 1), "numpy", 0.1, tmp_path / "a.npz")
    try:
        with pytest.raises(error, match=reason):
            process.start()
    finally:
        process.kill()


def test_the_parent_imports_no_framework():
    check = "import peers, sys; print({'torch', 'jax'} & set(sys.modules))"
    folder = Path(peers.__file__).parent
    done = subprocess.run([sys.executable, "-c", check], cwd=folder, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


# --- ratios -------------------------------------------------------------------------------------


def test_ratios():
    rows = fixed_rows()
    small, large = peers.by_case(rows)
    best = peers.fastest(small, *peers.PEERS)
    # PyTorch loses by its second thread.
    assert (best.method, best.threads) == ("torch-rnn", 1)
    assert peers.ratio(small, *peers.PEERS, threads=1) == pytest.approx(2.5)
    assert peers.ratio(small, *peers.PEERS, threads=2) == pytest.approx(4.0)
    assert peers.ratio(large, *peers.PEERS, threads=2) == pytest.approx(0.25)
    mean, least, count = peers.summary(rows, *peers.PEERS, threads=2)
    assert (mean, least, count) == (pytest.approx(1.0), pytest.approx(0.25), 2)


def test_what_is_not_measured_has_no_ratio():
    rows = [row for row in fixed_rows() if row.framework != "jax"]
    (small, _) = peers.by_case(rows)
    assert peers.ratio(small, "jax", threads=1) is None
    assert peers.summary(rows, "jax", threads=1) is None
    alone = [replace(row, shape=row.shape._replace(B=1)) for row in fixed_rows()]
    assert peers.summary(alone, *peers.PEERS, threads=1) is None


def test_a_result_survives_json(tmp_path):
    peers.save(fixed_result(), tmp_path / "a.json")
    data = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert {**data, "rows": peers.read_rows(data)} == fixed_result()


# --- tables -------------------------------------------------------------------------------------

MARKDOWN = (
    """\
|  |  | NumPy | PyTorch | JAX | by hand | fastrnn, 1 thread | fastrnn, 2 threads | **over the best peer** | PyTorch, MB | JAX, MB | fastrnn, MB |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
| m=100 K=80 T=50 B=8 | float32 | 71.1 | 53.3 | 47.4 | 85.3 | 133 | 213 | **4.00×** | 200 | 200 | 200 |
| m=512 K=80 T=50 B=32 | float32 | 28.4 | 21.3 | 171 |  | 26.7 | 42.7 | **0.250×** | 200 | 200 | 200 |

"""  # noqa: E501
    + (
        "Thousands of characters a second, the others in their fastest form and on the better "
        "number of threads; by hand is the better of PyTorch and JAX with the gradient written "
        "out in their operations. And the most memory that this process held. A Processor (AVX2), "
        "2 cores, Linux x86_64; fastrnn 0.1, PyTorch 2.9.0, Python 3.12.1, NumPy 2.0.0. Medians of "
        "3 interleaved rounds, `python benchmarks/peers.py`, 2025-01-02. The machine's load "
        "before was 0.5; the slowest round of a row took up to 2.00 times its fastest."
        "\n\n"
        "fastrnn on 2 threads over the best of PyTorch and JAX, 2 batched shapes: 1.00× as a "
        "geometric mean, at least 0.250×. fastrnn on 2 threads over the better of these with the "
        "gradient by hand, 1 batched shapes: 2.50× as a geometric mean, at least 2.50×. fastrnn on "
        "2 threads over NumPy, 2 batched shapes: 2.12× as a geometric mean, at least 1.50×. "
        "fastrnn on 1 thread over the best of PyTorch and JAX, 2 batched shapes: 0.625× as a "
        "geometric mean, at least 0.156×. fastrnn on 1 thread over the better of these with the "
        "gradient by hand, 1 batched shapes: 1.56× as a geometric mean, at least 1.56×. fastrnn "
        "on 1 thread over NumPy, 2 batched shapes: 1.33× as a geometric mean, at least 0.938×."
    )
)


def test_the_text():
    text = peers.format_tables(fixed_rows())
    assert "  torch-rnn            2       15,000      26.7       8.00×" in text
    assert "\n  fastrnn on 2 threads is 4.00× as fast as torch-rnn on 1 thread\n" in text
    assert all(len(line) <= 100 for line in text.splitlines())
