import json
import math
import os

import numpy as np
import pytest

import scaling
from common import Timed, interleaved
from fastrnn.kernels import benchmark
from fastrnn.measure import bench
from fastrnn.measure.bench import Shape
from scaling import Roofline, Sweep

TINY = Shape(m=7, K=5, T=3, B=2)


def test_from_end_to_end(monkeypatch, tmp_path, capsys):
    sweeps = {
        "hidden": Sweep("m", "m", (TINY, TINY._replace(B=1))),
        "threads": Sweep("threads", "threads", (TINY,)),
    }
    for name, value in {
        "BASE": TINY,
        "SWEEPS": sweeps,
        "QUICK": {"hidden": (5, 7)},
        "QUICK_TEXTS": [2000, 5000],
        "READ": [2**14, 2**15],
        "RESULTS": tmp_path,
        "DOCS": tmp_path,
    }.items():
        monkeypatch.setattr(scaling, name, value)
    scaling.main(["a", "--quick", "--threads", "2"])
    printed = capsys.readouterr().out
    assert "\nm=5 K=5 T=3 B=1 " in printed
    data = json.loads((tmp_path / "scaling" / "a.json").read_text())
    measured = {(Shape(**row["shape"]), row["threads"]) for row in data["rows"]}
    sizes = {TINY._replace(m=m, B=B) for m in (5, 7) for B in (1, 2)}
    assert measured == {(shape, 2) for shape in sizes} | {(TINY, 1)}
    assert [(row["threads"], row["bytes"]) for row in data["bandwidth"]] == [
        (1, 2**14),
        (1, 2**15),
        (2, 2**14),
    ]
    assert [row["threads"] for row in data["limit"]] == [1, 2]
    assert [row["characters"] for row in data["texts"]] == [2000, 5000]
    for row in data["texts"]:
        assert len(row["seconds"]) == scaling.SLICES
        assert row["memory"]["peak"] >= row["memory"]["imported"] > 10**7

    assert not list(tmp_path.glob("*.png"))
    scaling.main(["a", "--plot"])
    pictures = {path.name: path.read_bytes()[:4] for path in tmp_path.glob("*.png")}
    names = (*sweeps, "corpus")
    assert pictures == {f"scaling-{name}.png": b"\x89PNG" for name in names}


def test_the_sweeps_have_no_shape_twice():
    for sweep in scaling.SWEEPS.values():
        cases = scaling.points(sweep, sweep.sizes, 4)
        assert len(cases) == len(set(cases)) >= 12


@pytest.mark.parametrize(
    ("most", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_thread_counts(most, counts):
    assert scaling.thread_counts(most) == counts


def test_the_limits_by_hand():
    roofline = Roofline(1, 1e9, [1_000, 100_000], [4e9, 1e9])
    shape = Shape(m=50, K=20, T=10, B=4)
    assert roofline.compute(shape) == pytest.approx(bench.flops(shape, "step") / 1e9 / 40)
    # W has 10,000 bytes, in the middle of the two on the logarithmic scale; it is read 10 times
    # forward and 9 times backward for 40 characters.
    assert roofline.reading(shape) == pytest.approx(19 * 10_000 / 2e9 / 40)
    small, large = shape._replace(m=5), shape._replace(m=500)
    assert roofline.reading(small) == pytest.approx(19 * 100 / 4e9 / 40)
    assert roofline.reading(large) == pytest.approx(19 * 10**6 / 1e9 / 40)
    # Of two threads, which read 1e9 bytes a second together, each has half of W.
    shared = Roofline(2, 1e9, [500, 5_000], [2e9, 1e9])
    assert shared.reading(shape) == pytest.approx(19 * 10_000 / 1e9 / 40)


def test_a_roofline_of_a_result():
    data = {
        "limit": [{"threads": 1, "rates": [1.0]}, {"threads": 2, "rates": [5.0, 2.0, 3.0]}],
        "bandwidth": [
            {"threads": threads, "bytes": size, "rates": [1.0, threads * size, 7.0]}
            for threads in (1, 2)
            for size in (100, 200)
        ],
    }
    roofline = Roofline.of(data, 2)
    assert (roofline.limit, roofline.sizes, roofline.bandwidth) == (5.0, [100, 200], [200, 400])


def test_reading_reads_everything():
    array = np.arange(4096, dtype=np.float32) % 7
    assert benchmark.read(array, 1) == array.sum()
    assert benchmark.read(array, 3) == 3 * array.sum()
    assert benchmark.read(array[256:512], 1) == array[256:512].sum()


def test_a_text_of_any_length(tmp_path):
    path = tmp_path / "text.txt"
    scaling.write_text(path, 1_000_000)
    text = path.read_text(encoding="utf-8")
    assert len(text) == 1_000_000
    assert text[:1000] not in text[1000:]  # not the same order again
    scaling.write_text(path, 1000)
    assert path.read_text(encoding="utf-8") == text[:1000]


def test_encoded_texts_go_with_the_temporary_folder(monkeypatch):
    """The process that trains gets another cache folder, and the kernels of this one."""
    seen = []

    def run(program, env, **options):
        seen.append(env)
        raise InterruptedError

    monkeypatch.setattr(scaling.subprocess, "run", run)
    with pytest.raises(InterruptedError):
        scaling.measure_texts([100], TINY, 1, 0.01)
    (environment,) = seen
    assert environment["XDG_CACHE_HOME"] != os.environ.get("XDG_CACHE_HOME")
    assert not os.path.exists(environment["XDG_CACHE_HOME"])
    assert os.path.exists(environment["NUMBA_CACHE_DIR"])


def test_timings_are_long_enough_and_take_turns(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("common.time.perf_counter", lambda: now[0])
    calls = []

    def work(name, seconds):
        def repeat(count):
            calls.append((name, count))
            now[0] += seconds * count

        return repeat

    works = {
        "short": Timed(work("short", 0.001), 0.1),
        "limited": Timed(work("limited", 0.001), 0.1, most=30),
        "long": Timed(work("long", 1.0), 0.1),
    }
    calls.clear()
    times = interleaved(works, 2)
    assert [name for name, _ in calls] == ["short", "limited", "long"] * 2
    assert all(math.isclose(t, 0.001) for t in times["short"] + times["limited"])
    counts = [count for _, count in calls[:3]]
    assert counts[0] in (100, 101)
    assert counts[1:] == [30, 1]
