"""What `fastrnn bench` measures, its table and its picture."""

from dataclasses import replace
from pathlib import Path

import pytest
from test_results import limit_of, result_of

from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.measure import bench
from fastrnn.measure.results import LIMIT, Case, Result, Row, load
from fastrnn.threads import available_cores


def fixed_result() -> Result:
    """One case of which float64 loses in every phase; the limit is 100 GFLOP/s."""
    rows = []
    for dtype, ratio in (("float32", 20.0), ("float64", 0.8)):
        case = Case(Config(hidden=100, seq_length=25, dtype=dtype), 80)
        compiled = dtype == "float32"
        details = {"first": 8.25 if compiled else 0.25, "compiled": compiled}
        rows.append(limit_of(case, 1, 1e11))
        for phase, ours in {
            "forward": 5e-6,
            "backward": 1.234e-5,
            "update": 2e-6,
            "step": 2e-5,
        }.items():
            times = [ours, 2 * ours, 4 * ours]
            baseline = [ratio * t * noise for t, noise in zip(times, (1, 1.1, 0.9), strict=True)]
            rows.append(Row("fastrnn", case, 1, phase, times, details))
            rows.append(Row("numpy", case, 1, phase, baseline))
    batched = Case(Config(hidden=100, seq_length=25, batch=8), 80)
    rows.append(limit_of(batched, 2, 2e11))
    rows.append(Row("fastrnn", batched, 2, "step", [4e-5] * 3))
    rows.append(Row("numpy", batched, 1, "step", [2e-4] * 3))
    return result_of(rows, "fastrnn bench")


def test_from_end_to_end(tmp_path: Path) -> None:
    one = Case(Config(hidden=7, seq_length=3), 5)
    two = Case(Config(hidden=7, seq_length=3, batch=2), 5)
    result = bench.run(seconds=0, cases=[one, two], progress=False)
    phases = "forward", "backward", "update", "step"
    assert [(row.method, row.case, row.threads, row.phase) for row in result.rows] == [
        *(("numpy", one, 1, phase) for phase in phases),
        (LIMIT, one, 1, "step"),
        *(("fastrnn", one, 1, phase) for phase in phases),
        ("numpy", two, 1, "step"),
        *(
            (method, two, threads, "step")
            for threads in sorted({1, available_cores()})
            for method in (LIMIT, "fastrnn")
        ),
    ]
    assert "\n  float32 backward  " in bench.format_table(result)
    result.save(tmp_path / "a.json")
    assert load(tmp_path / "a.json") == result


TEXT = """\
                       fastrnn µs   NumPy µs    ratio  characters/s of the limit

m=100 K=80 T=25 B=1
  float32 forward            10.0        220    20.0×     2,500,000         90 %
  float32 backward           24.7        543    20.0×     1,010,000         72 %
  float32 update             4.00       88.0    20.0×     6,250,000
  float32 step               40.0        880    20.0×       625,000         67 %
  float64 forward            10.0       8.80   0.800×     2,500,000         90 %
  float64 backward           24.7       21.7   0.800×     1,010,000         72 %
  float64 update             4.00       3.52   0.800×     6,250,000
  float64 step               40.0       35.2   0.800×       625,000         67 %

m=100 K=80 T=25 B=8
  float32 2 threads          40.0        200    5.00×     5,000,000        268 %

Medians of 3 interleaved rounds. Limit of fused multiply-adds on one core: 100
GFLOP/s in float32, 100 GFLOP/s in float64. First update of a process: 8.25 s in
float32 (compiled), 0.250 s in float64 (from the cache).
A Processor (AVX2), 2 cores, Linux x86_64; fastrnn 0.1, Python 3.12.1, NumPy
2.0.0, Numba 0.61.0, llvmlite 0.44.0, openblas 0.3.27
"""


def test_the_table() -> None:
    assert bench.format_table(fixed_result()) + "\n" == TEXT
    assert all(len(line) <= 80 for line in TEXT.splitlines())


def test_the_table_of_a_large_machine() -> None:
    case = Case(Config(hidden=10_000, seq_length=1000, batch=1000, dtype="float64"), 100)
    slow = Row("fastrnn", case, 1024, "step", [1.234567], {"first": 1.0, "compiled": True})
    rows = [slow, Row("numpy", case, 1, "step", [9.876543]), limit_of(case, 1024, 1e12, 1)]
    lines = bench.format_table(result_of(rows, "x")).splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert lines[3].split()[3:7] == ["1,230,000", "9,880,000", "8.00×", "810,000"]
    rows = [replace(slow, seconds=[1e-3]), Row("numpy", case, 1, "step", [1.0])]
    lines = bench.format_table(result_of(rows, "x")).splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert lines[3].split()[3:] == ["1,000", "1,000,000", "1,000×", "1,000,000,000"]


@pytest.mark.parametrize(
    ("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.PDF", b"%PDF")]
)
def test_pictures(tmp_path: Path, name: str, start: bytes) -> None:
    bench.plot(fixed_result(), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


def test_a_picture_of_another_kind() -> None:
    with pytest.raises(FastrnnError) as error:
        bench.plot(fixed_result(), "a.jpg")
    assert str(error.value) == (
        "cannot draw a.jpg: its name says no format; let it end in .png, .svg or .pdf"
    )


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "a.svg"
    for write in (lambda path: bench.plot(fixed_result(), path), fixed_result().save):
        with pytest.raises(FastrnnError) as error:
            write(path)
        assert str(error.value) == (
            f"cannot write {path}: No such file or directory; choose another path"
        )
