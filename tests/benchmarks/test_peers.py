from dataclasses import replace
from pathlib import Path

import pytest
from test_results import limit_of, result_of

import peers
from fastrnn.config import Config
from fastrnn.measure.results import LIMIT, Case, Result, Row, by_case, load
from peers import vanilla

SMALL, LARGE = vanilla(100, 80, 50, 8), vanilla(512, 80, 50, 32)
MEMORY = {"imported": 10**8, "peak": 2 * 10**8}


def fixed_rows() -> list[Row]:
    """fastrnn wins at the small case, 4× on two threads, and loses at the large one."""
    by_method = {
        SMALL: {"numpy": 6, "torch-nn": 5, "jax-scan": 9, "hand-jax": 5, "fastrnn": 2},
        LARGE: {"numpy": 60, "torch-nn": 50, "jax-scan": 10, "fastrnn": 40},
    }
    rows = []
    for case, times in by_method.items():
        for method, milliseconds in times.items():
            for threads, speedup in ((1, 1.0), (2, 0.5 if method == "torch-nn" else 1.6)):
                seconds = [1e-3 * milliseconds / speedup * slower for slower in (1, 1.5, 2)]
                details = {"first": 0.5, "memory": MEMORY}
                rows.append(Row(method, case, threads, "step", seconds, details))
        # fastrnn reaches half of it on one thread, in the median.
        rate = case.operations() / (1.5e-3 * times["fastrnn"])
        rows += [limit_of(case, threads, threads * 2 * rate) for threads in (1, 2)]
    return rows


def fixed_result() -> Result:
    return result_of(fixed_rows(), "python benchmarks/peers.py", torch="2.9.0")


def test_from_end_to_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of three frameworks one is not installed."""
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(name='torch')")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "result.json"
    options = "--cases 7,5,3,2 --rounds 2 --seconds 0.001"
    options += f" --methods numpy torch-loop fastrnn {LIMIT}"
    peers.main([*options.split(), "--json", str(path)])
    out, err = capsys.readouterr()
    assert "torch-loop at m=7 K=5 T=3 B=2, float32, on 1 thread is left out: torch is not " in err
    assert err.count("torch") == 2  # said once
    assert "fastrnn on 1 thread over NumPy, 1 batched shape: " in " ".join(out.split())
    result = load(path)
    assert result.command == f"python benchmarks/peers.py {options} --json {path}"
    assert result.left_out == {"torch-loop": "torch is not installed"}
    assert {row.method for row in result.rows} == {"numpy", "fastrnn", LIMIT}
    assert {row.case for row in result.rows} == {vanilla(7, 5, 3, 2)}


def test_ratios() -> None:
    rows = fixed_rows()
    (_, small), (_, large) = by_case(rows)
    best = peers.fastest(small, *peers.PEERS)
    assert best is not None
    # PyTorch loses by its second thread.
    assert (best.method, best.threads) == ("torch-nn", 1)
    assert peers.ratio(small, *peers.PEERS, threads=1) == pytest.approx(2.5)
    assert peers.ratio(small, *peers.PEERS, threads=2) == pytest.approx(4.0)
    assert peers.ratio(large, *peers.PEERS, threads=2) == pytest.approx(0.25)
    summary = peers.summary(rows, *peers.PEERS, threads=2)
    assert summary == (pytest.approx(1.0), pytest.approx(0.25), 2)


def test_what_is_not_measured_has_no_ratio() -> None:
    rows = [row for row in fixed_rows() if row.method != "jax-scan"]
    assert peers.ratio(rows[:4], "jax", threads=1) is None
    assert peers.summary(rows, "jax", threads=1) is None

    def alone(case: Case) -> Case:
        return replace(case, config=replace(case.config, batch=1))

    rows = [replace(row, case=alone(row.case)) for row in fixed_rows()]
    assert peers.summary(rows, *peers.PEERS, threads=1) is None


def test_the_cases() -> None:
    assert [len(cases) for cases in peers.CASES.values()] == [14, 9, 9]
    assert str(peers.CASES["lstm"][-1]) == "LSTM m=512 K=65 T=64 B=128 adam"
    assert peers.parse_case("gru,7,5,3,2") == Case(
        Config(cell="gru", hidden=7, seq_length=3, batch=2), 5
    )
    assert peers.parse_case("7,5,3,2,float64") == vanilla(7, 5, 3, 2, "float64")
    for cell, forms in (("rnn", peers.VANILLA_FORMS), ("gru", peers.GATED_FORMS)):
        tasks = peers.tasks_of(peers.CASES[cell][0], list(peers.PROGRAMS))
        assert {task.method for task in tasks} == set(forms)


def test_vanilla_and_gated_cells_are_summed_up_apart() -> None:
    config = Config(cell="lstm", hidden=100, seq_length=50, batch=8)
    gated = [replace(row, case=Case(config, 80)) for row in fixed_rows() if row.case == SMALL]
    words = peers.describe_summary([*fixed_rows(), *gated])
    assert "over the best of PyTorch and JAX, 2 batched shapes: 1.00×" in words
    assert "over the best of PyTorch and JAX, 1 batched shape: 4.00×" in words


MARKDOWN = (
    """\
|  |  | NumPy | PyTorch | JAX | by hand | fastrnn, 1 thread | fastrnn, 2 threads | **over the best peer** | of the limit, 1 thread | of the limit, 2 threads | PyTorch, MB | JAX, MB | fastrnn, MB |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
| m=100 K=80 T=50 B=8 | float32 | 71.1 | 53.3 | 47.4 | 85.3 | 133 | 213 | **4.00×** | 50 % | 40 % | 200 | 200 | 200 |
| m=512 K=80 T=50 B=32 | float32 | 28.4 | 21.3 | 171 |  | 26.7 | 42.7 | **0.250×** | 50 % | 40 % | 200 | 200 | 200 |

"""  # noqa: E501
    + (
        "Thousands of characters a second, the others in their fastest form and on the better "
        "number of threads; by hand is the better of PyTorch and JAX with the gradient written "
        "out in their operations. And the most memory that this process held. A Processor (AVX2), "
        "2 cores, Linux x86_64; fastrnn 0.1, Python 3.12.1, NumPy 2.0.0, Numba 0.61.0, PyTorch "
        "2.9.0. Medians of 3 interleaved rounds, `python benchmarks/peers.py`, 2025-01-02. The "
        "machine's load before was 0.5; the slowest round of a row took up to 2.00 times its "
        "fastest."
    )
)
BESIDE = """\
|  | fastrnn on | over | shapes | **geometric mean** | at least |
|---|---|---|--:|--:|--:|
| vanilla RNN | 2 threads | the best of PyTorch and JAX | 2 | **1.00×** | 0.250× |
| vanilla RNN | 2 threads | the better of these with the gradient by hand | 1 | **2.50×** | 2.50× |
| vanilla RNN | 2 threads | NumPy | 2 | **2.12×** | 1.50× |
| vanilla RNN | 1 thread | the best of PyTorch and JAX | 2 | **0.625×** | 0.156× |
| vanilla RNN | 1 thread | the better of these with the gradient by hand | 1 | **1.56×** | 1.56× |
| vanilla RNN | 1 thread | NumPy | 2 | **1.33×** | 0.938× |

A Processor (AVX2), 2 cores, Linux x86_64; fastrnn 0.1, Python 3.12.1, NumPy 2.0.0, Numba 0.61.0, \
PyTorch 2.9.0; 2025-01-02."""


def test_the_text() -> None:
    text = peers.format_tables(fixed_rows())
    assert "  torch-nn             2       15,000      26.7       8.00×" in text
    assert "\n  fastrnn on 2 threads is 4.00× as fast as torch-nn on 1 thread\n" in text
    assert all(len(line) <= 100 for line in text.splitlines())
