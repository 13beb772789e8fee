import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_learning_rates import MARKDOWN as LEARNING_RATES_MARKDOWN
from test_learning_rates import fixed_result as learning_rates_result
from test_model_sizes import MARKDOWN as MODEL_SIZES_MARKDOWN
from test_model_sizes import fixed_result as model_sizes_result
from test_peers import MARKDOWN as PEERS_MARKDOWN
from test_peers import fixed_result as peers_result
from test_profiling import MARKDOWN as PROFILE_MARKDOWN
from test_profiling import fixed_result as profile_result

import peers
from fastrnn.errors import FastrnnError
from fastrnn.measure import bench, measurement
from fastrnn.measure.bench import PHASES, Result, Row, Shape
from fastrnn.threads import available_cores

ROOT = Path(__file__).parents[2]
TINY = Shape(m=7, K=5, T=3, B=2)
ONE = TINY._replace(B=1)


def load_table_script():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


table = load_table_script()


def fixed_result():
    """One shape of which float64 loses in every phase; the limit is 100 GFLOP/s."""
    rows = []
    for dtype, ratio in (("float32", 20.0), ("float64", 0.8)):
        for phase, ours in zip(PHASES, (5e-6, 1.234e-5, 2e-6, 2e-5), strict=True):
            times = [ours, 2 * ours, 4 * ours]
            baseline = [ratio * t * noise for t, noise in zip(times, (1, 1.1, 0.9), strict=True)]
            rows.append(Row(Shape(100, 80, 25, 1), dtype, 1, phase, times, baseline, [1e11] * 3))
    batched = Shape(100, 80, 25, 8), "float32", 2, "step"
    rows.append(Row(*batched, [4e-5] * 3, [2e-4] * 3, [2e11] * 3))
    return Result(
        command="fastrnn bench",
        date="2025-01-02T03:04:05+00:00",
        machine={
            "cpu": "A Processor",
            "cores": 2,
            "instructions": "AVX2",
            "system": "Linux x86_64",
            "load": 0.5,
        },
        versions={
            "fastrnn": "0.1",
            "python": "3.12.1",
            "numpy": "2.0.0",
            "numba": "0.61.0",
            "llvmlite": "0.44.0",
        },
        blas={"name": "openblas", "version": "0.3.27"},
        environment={},
        first_calls={
            "float32": {"seconds": 8.25, "compiled": True},
            "float64": {"seconds": 0.25, "compiled": False},
        },
        rows=rows,
    )


# --- measuring ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A whole benchmark of a tiny shape, with everything around it that could disturb it."""
    folder = tmp_path_factory.mktemp("noise")
    # Python runs it at every start: output before ours, without and with our mark inside a line.
    (folder / "sitecustomize.py").write_text("print('noise'); print('x fastrnn-bench:', end='')")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        patch.setenv("OPENBLAS_CORETYPE", "Prescott")
        patch.setenv("OPENBLAS_NUM_THREADS", "7")
        patch.setenv("MKL_VERBOSE", "1")
        patch.setenv("NPY_DISABLE_CPU_FEATURES", "AVX2")
        return bench.run(seconds=0, shapes=[ONE, TINY], dtypes=["float32"], progress=False)


def test_every_phase_is_measured(measured):
    assert [(row.shape, row.dtype, row.threads, row.phase) for row in measured.rows] == [
        *((ONE, "float32", 1, phase) for phase in PHASES),
        *((TINY, "float32", threads, "step") for threads in sorted({1, available_cores()})),
    ]
    for row in measured.rows:
        assert len(row.ours) == len(row.baseline) == len(row.limit) == measurement.MINIMUM_ROUNDS
        assert min(row.ours) > 0
        assert min(row.baseline) > 0
        assert min(row.limit) > 0
        assert (row.share is None) == (row.phase == "update")
    assert measured.first_calls["float32"]["seconds"] > 0
    assert measured.machine["cores"] == available_cores()
    assert measured.versions["python"] == sys.version.split()[0]


def test_the_process_has_no_variables_that_slow_numpy_down(measured):
    assert measured.environment == bench.ONE_THREAD
    assert measured.environment["OPENBLAS_NUM_THREADS"] == "1"


def test_a_result_survives_json(measured, tmp_path):
    measured.save(tmp_path / "result.json")
    data = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert data == json.loads(json.dumps(measured.to_json()))
    assert Result.from_json(data) == measured
    summary = data["rows"][0]["summary"]
    assert summary["ours"]["min"] == min(measured.rows[0].ours)
    assert summary["ratio"]["median"] == measured.rows[0].ratio


@pytest.mark.parametrize(
    ("phase", "kind", "what"),
    [("backward", "gradient", "gradient of V"), ("update", "parameters", "new V")],
)
def test_disagreement_is_an_error(phase, kind, what):
    case = measurement.Case(ONE, "float32")
    case.check()
    good = case.ours[phase]
    case.ours[phase] = lambda count: (good(count), getattr(case.network, kind)["V"].__iadd__(0.01))
    message = rf"^kernels and baseline disagree at m=7 K=5 T=3 B=1, float32: the {what} \(update\) "
    with pytest.raises(FastrnnError, match=message):
        case.check()


def test_backward_is_timed_on_the_first_chunk():
    case = measurement.Case(ONE, "float64")
    case.seconds(case.ours["step"], 5)
    case.seconds(case.ours["backward"], 2)
    for name, gradient in case.gradient.items():
        assert case.network.gradient[name] == pytest.approx(gradient, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("child", "reason"),
    [
        ("import sys; print('first', file=sys.stderr); sys.exit('it is so\\n\\n')", "it is so"),
        ("from fastrnn.errors import FastrnnError; raise FastrnnError('not equal')", "not equal"),
        ("import os; os._exit(3)", "exit code 3"),
        ("pass", "exit code 0"),
    ],
)
def test_a_process_that_fails(monkeypatch, child, reason):
    monkeypatch.setattr(bench, "CHILD", child)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with pytest.raises(FastrnnError) as error:
        bench.run(progress=False)
    assert str(error.value) == f"the process that measures failed: {reason}"


@pytest.mark.parametrize(("progress", "shown"), [(True, "compiling\nmeasuring\n"), (False, "")])
def test_stages_are_lines_where_there_is_no_terminal(capsys, progress, shown):
    messages = [{"stage": "compiling"}, {"stage": "measuring"}, {"done": 0.5}, {"result": {}}]
    assert list(bench._shown(iter(messages), progress)) == messages
    assert capsys.readouterr().err == shown


def test_the_module_is_light():
    heavy = "{'numba', 'matplotlib', 'h5py'}"
    check = f"import fastrnn.measure.bench, sys; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n"


def test_operations_by_hand():
    # 2 characters in 3 steps; 7·7 and 7·5 multiply-adds of two operations each.
    assert bench.flops(TINY, "forward") == 2 * 3 * (49 + 35) * 2
    assert bench.flops(TINY, "backward") == 2 * (2 * 49 + 3 * (49 + 35 + 35)) * 2
    assert bench.flops(TINY, "update") == 0
    assert bench.flops(TINY, "step") == 1008 + 1820


# --- tables -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1.00"),
        (0.8, "0.800"),
        (9.996, "10.0"),
        (27.34, "27.3"),
        (999.6, "1,000"),
        (1504.4, "1,500"),
        (1234567.0, "1,230,000"),
        (0.01234, "0.0123"),
    ],
)
def test_three_significant_digits(number, text):
    assert bench.digits(number) == text


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

MARKDOWN = (
    """\
|  |  | forward | backward | update | **whole step** | NumPy, µs | fastrnn, µs | characters/s | of the limit |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|
| m=100 K=80 T=25 B=1 | float32 | 20.0× | 20.0× | 20.0× | **20.0×** | 880 | 40.0 | 625,000 | 67 % |
| m=100 K=80 T=25 B=1 | float64 | 0.800× | 0.800× | 0.800× | **0.800×** | 35.2 | 40.0 | 625,000 | 67 % |
| m=100 K=80 T=25 B=8, 2 threads | float32 |  |  |  | **5.00×** | 200 | 40.0 | 5,000,000 | 268 % |

"""  # noqa: E501
    + (
        "A Processor (AVX2), 2 cores, Linux x86_64; fastrnn 0.1, Python 3.12.1, "
        "NumPy 2.0.0, Numba 0.61.0, llvmlite 0.44.0, openblas 0.3.27. Medians of 3 interleaved "
        "rounds, `fastrnn bench`, 2025-01-02. Limit of fused multiply-adds on one core: 100 "
        "GFLOP/s in float32, 100 GFLOP/s in float64. First update of a process: 8.25 s in float32"
        " (compiled), 0.250 s in float64 (from the cache)."
    )
)


def test_the_table():
    assert bench.format_table(fixed_result()) + "\n" == TEXT
    assert all(len(line) <= 80 for line in TEXT.splitlines())


def test_the_table_of_a_large_machine():
    shape = Shape(10_000, 100, 1000, 1000)
    row = Row(shape, "float64", 1024, "step", [1.234567], [9.876543], [1e12])
    fast = replace(row, ours=[1e-3], baseline=[1.0])
    lines = bench.format_table(replace(fixed_result(), rows=[row, fast])).splitlines()
    assert all(len(line) <= 80 for line in lines)
    numbers = [line.split()[3:7] for line in lines[3:5]]
    assert numbers == [
        ["1,230,000", "9,880,000", "8.00×", "810,000"],
        ["1,000", "1,000,000", "1,000×", "1,000,000,000"],
    ]


SEEDS = {
    "corpus": "a text",
    "epochs": 9,
    "rows": [
        {
            "method": "kernels",
            "dtype": "float32",
            "runs": [{"min_loss": loss} for loss in (42.125, 41.0, 43.5)],
        }
    ],
}
SEEDS_MARKDOWN = """a text, 9 epochs, lowest smooth loss for seeds 0 to 2, sorted:

| | | median | all |
|---|---|--:|---|
| kernels | float32 | 42.12 | 41.00, 42.12, 43.50 |"""


PERFORMANCE = (
    "<!-- profile -->\n{}\n<!-- /profile -->\n\n"
    "<!-- learning_rates -->\n{}\n<!-- /learning_rates -->\n\n"
    "<!-- model_sizes -->\n{}\n<!-- /model_sizes -->\n"
)


@pytest.fixture
def readme(tmp_path):
    """How to run the script that makes the tables, on a README and results of our own."""
    for name in (*("speed", "peers", "seeds", "profile", "learning_rates", "model_sizes"), "docs"):
        (tmp_path / name).mkdir()
    fixed_result().save(tmp_path / "speed" / "a.json")
    (tmp_path / "seeds" / "a.json").write_text(json.dumps(SEEDS))
    (tmp_path / "profile" / "a.json").write_text(json.dumps(profile_result()))
    (tmp_path / "learning_rates" / "a.json").write_text(json.dumps(learning_rates_result()))
    (tmp_path / "model_sizes" / "a.json").write_text(json.dumps(model_sizes_result()))
    peers.save(peers_result(), tmp_path / "peers" / "a.json")

    def run(*arguments):
        table.main([*arguments, "--root", str(tmp_path), "--results", str(tmp_path)])

    run.path = tmp_path / "README.md"
    run.performance = tmp_path / "docs" / "performance.md"
    run.performance.write_text(PERFORMANCE.format("old", "older", "oldest"), encoding="utf-8")
    return run


def test_the_readme_tables(readme):
    frame = "Before\n" + "".join(
        f"\n<!-- {name} -->\n{{}}\n<!-- /{name} -->\n" for name in ("speed", "peers", "seeds")
    )
    readme.path.write_text(frame.format("old", "older", "oldest"), encoding="utf-8")
    with pytest.raises(SystemExit) as outdated:
        readme("--check")
    assert outdated.value.code == (
        f"the tables of {readme.path} and {readme.performance} are outdated; "
        "run python benchmarks/tables.py"
    )
    readme()
    assert readme.path.read_text(encoding="utf-8") == frame.format(
        MARKDOWN, PEERS_MARKDOWN, SEEDS_MARKDOWN
    )
    assert readme.performance.read_text(encoding="utf-8") == PERFORMANCE.format(
        PROFILE_MARKDOWN, LEARNING_RATES_MARKDOWN, MODEL_SIZES_MARKDOWN
    )
    readme("--check")
    readme.performance.write_text(PERFORMANCE.format("old", "older", "oldest"), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"performance\.md are outdated"):
        readme("--check")


@pytest.mark.parametrize("text", ["", "<!-- speed -->", "<!-- /speed --> <!-- speed -->"])
def test_a_readme_without_its_markers(readme, text):
    readme.path.write_text(text, encoding="utf-8")
    with pytest.raises(
        SystemExit, match=r"^README\.md needs the lines <!-- speed --> and <!-- /speed -->"
    ):
        readme()


def test_no_results(readme):
    readme.path.write_text("<!-- speed --><!-- /speed -->", encoding="utf-8")
    (readme.path.parent / "speed" / "a.json").unlink()
    with pytest.raises(SystemExit, match="holds no results"):
        readme()


# --- pictures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.PDF", b"%PDF")]
)
def test_pictures(tmp_path, name, start):
    bench.plot(fixed_result(), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


def test_a_picture_of_another_kind():
    with pytest.raises(FastrnnError) as error:
        bench.plot(fixed_result(), "a.jpg")
    assert str(error.value) == (
        "cannot draw a.jpg: its name says no format; let it end in .png, .svg or .pdf"
    )


def test_files_that_cannot_be_written(tmp_path):
    for write in (lambda path: bench.plot(fixed_result(), path), fixed_result().save):
        with pytest.raises(FastrnnError) as error:
            write(tmp_path / "missing" / "a.svg")
        path = tmp_path / "missing" / "a.svg"
        assert str(error.value) == (
            f"cannot write {path}: No such file or directory; choose another path"
        )
