from pathlib import Path

import pytest
from test_results import limit_of, result_of

import writing
from fastrnn.measure.results import LIMIT, Result, Row, load
from peers import vanilla
from writing import MANY, ONE, SOME, TOP_K, TOP_P, WRITING


def fixed_result() -> Result:
    """A character takes one text 2 µs, of which reading the weights takes 1.5; the limit is 1
    GFLOP/s, at which its 600 operations would take 0.6 µs."""
    case = vanilla(10, 20, 5, 2)
    microseconds = {
        **{ONE: 2.0, SOME: 1.25, MANY: 0.8, TOP_K: 1.0, TOP_P: 0.9},
        **{"scoring": 1.6, "training": 4.0},
    }
    rows = [
        limit_of(case, 1, 1e9),
        Row("reading", case, 1, "step", [1.5e-6] * 3),
        *(Row("fastrnn", case, 1, name, [1e-6 * us] * 3) for name, us in microseconds.items()),
        Row("fastrnn", case, 2, MANY, [5e-7] * 3),
    ]
    return result_of(rows, "python benchmarks/writing.py a")


MARKDOWN = """\
|  | 1 text, characters/s | 8 texts, characters/s | 64 texts, characters/s | 64 texts, 2 threads \
| of one text | 1 text, of reading | 64 texts, of the limit | top-k, µs | top-p, µs \
| scoring, characters/s | of training |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
| m=10 K=20 T=5 B=2 | 500,000 | 800,000 | 1,250,000 | 2,000,000 | 4.00× | 75 % | 75 % | +0.20 \
| +0.10 | 625,000 | 2.50× |

On one thread where no number is named, in float32. A Processor (AVX2), 2 cores, Linux x86_64; \
fastrnn 0.1, Python 3.12.1, NumPy 2.0.0, Numba 0.61.0; `python benchmarks/writing.py a`, \
2025-01-02. Medians of 3 interleaved rounds. Limit of fused multiply-adds on one core: 1.00 \
GFLOP/s in float32."""


def test_from_end_to_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = vanilla(7, 5, 3, 5)
    monkeypatch.setattr(writing, "CASES", [tiny])
    monkeypatch.setattr(writing, "available_cores", lambda: 2)
    monkeypatch.setattr("common.RESULTS", tmp_path)
    writing.main(["a", "--quick"])
    rows = load(tmp_path / "writing" / "a.json").rows
    assert [(row.method, row.threads, row.phase) for row in rows] == [
        (LIMIT, 1, "step"),
        ("reading", 1, "step"),
        *(("fastrnn", 1, phase) for phase in (*WRITING, "scoring", "training")),
        ("fastrnn", 2, MANY),
    ]
    printed = capsys.readouterr().out
    assert printed.startswith(f"{tiny}\n  1 text, characters/s")
    assert "\n  64 texts, 2 threads" in printed
