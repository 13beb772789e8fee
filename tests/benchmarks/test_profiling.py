from pathlib import Path

import pytest
from test_results import limit_of, result_of

import profiling
from fastrnn import layout
from fastrnn.kernels.benchmark import PARTS
from fastrnn.measure.kernels import FOR_ALL_STREAMS
from fastrnn.measure.results import LIMIT, Result, Row, load
from peers import vanilla

TINY = vanilla(7, 5, 3, 5)


def fixed_result() -> Result:
    """The parts take 2, 4, 6 … µs, the last two half of this; the limit is 1 GFLOP/s."""
    case = vanilla(10, 20, 5, 2)
    rows = [limit_of(case, 1, 1e9), Row("fastrnn", case, 1, "step", [3e-5, 4e-5, 6e-5])]
    for i, name in enumerate(PARTS):
        microseconds = (i + 1) * (1 if name in FOR_ALL_STREAMS else 2)
        rows.append(Row("fastrnn", case, 1, name, [1e-6 * microseconds] * 3))
    return result_of(rows, "python benchmarks/profiling.py a")


MARKDOWN = """\
|  | m=10 K=20 T=5 B=2 float32, µs | of the limit |
|---|--:|--:|
| forward recurrence | 2.00 | 100 % |
| logits | 4.00 | 100 % |
| softmax and loss | 2.00 |  |
| gradient of h | 8.00 | 50 % |
| backward recurrence | 2.00 | 80 % |
| gradients of matrices | 2.00 | 300 % |
| gradients of vectors and U | 12.0 |  |
| optimizer | 8.00 |  |
| packing into panels | 1.00 |  |
| **sum of these** | **41.0** | **43 %** |
| **whole update** | **40.0** | **44 %** |

One thread. A Processor (AVX2), 2 cores, Linux x86_64; fastrnn 0.1, Python 3.12.1, NumPy 2.0.0, \
Numba 0.61.0; `python benchmarks/profiling.py a`, 2025-01-02. Medians of 3 interleaved rounds. \
Limit of fused multiply-adds on one core: 1.00 GFLOP/s in float32."""


def test_from_end_to_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(profiling, "CASES", [TINY])
    monkeypatch.setattr("common.RESULTS", tmp_path)
    monkeypatch.setattr(layout, "STREAMS", 2)
    profiling.main(["a", "--quick"])
    rows = load(tmp_path / "profile" / "a.json").rows
    assert [(row.method, row.phase) for row in rows] == [
        (LIMIT, "step"),
        ("fastrnn", "step"),
        *(("fastrnn", part) for part in PARTS),
    ]
    printed = capsys.readouterr().out
    assert printed.startswith(f"{TINY} float32\n  forward recurrence")
    assert "\n  sum of these" in printed
    assert "\n  whole update" in printed


def test_a_difference_below_zero() -> None:
    rows = fixed_result().rows
    slow = next(row for row in rows if row.phase == "logits")
    fast = next(row for row in rows if row.phase == "all gradients")
    fast.seconds[:] = slow.seconds
    assert profiling.cells(fast.case, rows)["gradients of matrices"] == ("0", "")
