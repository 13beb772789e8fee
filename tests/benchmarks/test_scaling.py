import os
from pathlib import Path

import pytest
from test_results import limit_of

import scaling
from fastrnn.measure.harness import Task
from fastrnn.measure.results import Row, load
from peers import vanilla
from scaling import BASE, Roofline, Sweep, changed

TINY = vanilla(7, 5, 3, 2)


def test_from_end_to_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweeps = {
        "hidden": Sweep("m", "hidden", (TINY, changed(TINY, batch=1))),
        "threads": Sweep("threads", "threads", (TINY,)),
    }
    for name, value in {
        "BASE": TINY,
        "SWEEPS": sweeps,
        "QUICK": {"hidden": (5, 7)},
        "QUICK_TEXTS": [2000, 5000],
        "READ": [2**14, 2**15],
        "DOCS": tmp_path,
    }.items():
        monkeypatch.setattr(scaling, name, value)
    monkeypatch.setattr("common.RESULTS", tmp_path)
    scaling.main(["a", "--quick", "--threads", "2"])
    assert "\nm=5 K=5 T=3 B=1 " in capsys.readouterr().out
    result = load(tmp_path / "scaling" / "a.json")
    sizes = {changed(TINY, hidden=m, batch=B) for m in (5, 7) for B in (1, 2)}
    assert scaling.sweeps_of(result).keys() == {(case, 2) for case in sizes} | {(TINY, 1)}
    assert [
        (row.threads, row.details["bytes"]) for row in result.rows if row.method == "reading"
    ] == [(threads, size) for threads in (1, 2) for size in (2**14, 2**15)]
    texts = scaling.texts_of(result)
    assert [row.details["length"] for row in texts] == [2000, 5000]
    for row in texts:
        assert row.details["memory"]["peak"] >= row.details["memory"]["imported"] > 10**7

    assert not list(tmp_path.glob("*.png"))
    scaling.main(["a", "--plot"])
    pictures = {path.name: path.read_bytes() for path in tmp_path.glob("*.png")}
    names = (*sweeps, "corpus")
    assert {name: data[:4] for name, data in pictures.items()} == {
        f"scaling-{name}.png": b"\x89PNG" for name in names
    }

    # The user's settings change nothing.
    import matplotlib

    with matplotlib.rc_context({"axes.facecolor": "black", "lines.color": "red", "font.size": 30}):
        scaling.main(["a", "--plot"])
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.png")} == pictures


def test_the_sweeps_have_no_case_twice() -> None:
    for sweep in scaling.SWEEPS.values():
        cases = scaling.points(sweep, sweep.sizes, 4)
        assert len(cases) == len(set(cases)) >= 12


@pytest.mark.parametrize(
    ("most", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_thread_counts(most: int, counts: list[int]) -> None:
    assert scaling.thread_counts(most) == counts


def test_the_limits_by_hand() -> None:
    roofline = Roofline(1, 1e9, [1_000, 100_000], [4e9, 1e9])
    case = vanilla(50, 20, 10, 4)
    assert roofline.compute(case) == pytest.approx(case.operations() / 1e9 / 40)
    # W has 10,000 bytes, in the middle of the two on the logarithmic scale; it is read 10 times
    # forward and 9 times backward for 40 characters.
    assert roofline.reading(case) == pytest.approx(19 * 10_000 / 2e9 / 40)
    assert roofline.reading(changed(case, hidden=5)) == pytest.approx(19 * 100 / 4e9 / 40)
    assert roofline.reading(changed(case, hidden=500)) == pytest.approx(19 * 10**6 / 1e9 / 40)
    # Of two threads, which read 1e9 bytes a second together, each has half of W.
    shared = Roofline(2, 1e9, [500, 5_000], [2e9, 1e9])
    assert shared.reading(case) == pytest.approx(19 * 10_000 / 1e9 / 40)


def test_a_roofline_of_what_was_measured() -> None:
    rows = [limit_of(BASE, 1, 9.0), limit_of(BASE, 2, 5.0)]
    for threads in (1, 2):
        for size in (100, 200):
            seconds = [threads * size, 2 * threads * size, 4.0]
            rows.append(Row("reading", BASE, threads, "step", seconds, {"bytes": size}))
    roofline = Roofline.of(rows, 2)
    assert roofline.limit == pytest.approx(5.0)
    assert (roofline.sizes, roofline.bandwidth) == ([100, 200], [50.0, 100.0])


def test_a_text_of_any_length(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    scaling.write_text(path, 1_000_000)
    text = path.read_text(encoding="utf-8")
    assert len(text) == 1_000_000
    assert text[:1000] not in text[1000:]  # not the same order again
    scaling.write_text(path, 1000)
    assert path.read_text(encoding="utf-8") == text[:1000]


def test_encoded_texts_go_with_the_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes that train get another cache folder, and the kernels of this one."""
    seen = []

    def measure(groups: list[list[Task]], environment: dict[str, str], **how: object) -> None:
        seen.append(environment)
        assert os.path.exists(groups[0][0].options["text"])
        raise InterruptedError

    monkeypatch.setattr(scaling, "measure", measure)
    with pytest.raises(InterruptedError):
        scaling.measure_texts([100], 1)
    (environment,) = seen
    assert environment["XDG_CACHE_HOME"] != os.environ.get("XDG_CACHE_HOME")
    assert not os.path.exists(environment["XDG_CACHE_HOME"])
    assert os.path.exists(environment["NUMBA_CACHE_DIR"])
