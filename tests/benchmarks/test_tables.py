"""The tables of README and docs are those of the results."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from test_bench import fixed_result as speed_result
from test_learning_rates import MARKDOWN as LEARNING_RATES
from test_learning_rates import fixed_result as learning_rates_result
from test_lengths import MARKDOWN as LENGTHS
from test_lengths import QUALITY, TORCH, quality_result, torch_result
from test_lengths import fixed_result as lengths_result
from test_model_sizes import MARKDOWN as MODEL_SIZES
from test_model_sizes import fixed_result as model_sizes_result
from test_peers import BESIDE
from test_peers import MARKDOWN as PEERS
from test_peers import fixed_result as peers_result
from test_profiling import MARKDOWN as PROFILE
from test_profiling import fixed_result as profile_result
from test_writing_speed import MARKDOWN as WRITING
from test_writing_speed import fixed_result as writing_result

import tables

SPEED = (
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
SEEDS = """a text, 9 epochs, lowest smooth loss for seeds 0 to 2, sorted:

| | | median | all |
|---|---|--:|---|
| kernels | float32 | 42.12 | 41.00, 42.12, 43.50 |"""
PAGES = {
    "README.md": {"speed": SPEED, "peers": BESIDE, "seeds": SEEDS},
    "docs/performance.md": {
        "peers": PEERS,
        "profile": PROFILE,
        "writing": WRITING,
        "learning_rates": LEARNING_RATES,
        "model_sizes": MODEL_SIZES,
    },
    "docs/quality.md": {"quality": QUALITY, "lengths": LENGTHS, "quality_torch": TORCH},
}


def page(contents: dict[str, str]) -> str:
    return "Before\n" + "".join(
        f"\n<!-- {name} -->\n{content}\n<!-- /{name} -->\n" for name, content in contents.items()
    )


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., None]:
    """Run the script on pages and results of our own; the tables there are old."""
    for name in {"docs", *(name for contents in PAGES.values() for name in contents)}:
        (tmp_path / name).mkdir()
    speed_result().save(tmp_path / "speed" / "a.json")
    peers_result().save(tmp_path / "peers" / "a.json")
    profile_result().save(tmp_path / "profile" / "a.json")
    writing_result().save(tmp_path / "writing" / "a.json")
    runs = [{"min_loss": loss} for loss in (42.125, 41.0, 43.5)]
    seeds = {
        "corpus": "a text",
        "epochs": 9,
        "rows": [{"method": "kernels", "dtype": "float32", "runs": runs}],
    }
    for name, data in {
        "seeds": seeds,
        "learning_rates": learning_rates_result(),
        "model_sizes": model_sizes_result(),
        "quality": quality_result(),
        "lengths": lengths_result(),
        "quality_torch": torch_result(),
    }.items():
        (tmp_path / name / "a.json").write_text(json.dumps(data))
    for path, contents in PAGES.items():
        (tmp_path / path).write_text(page(dict.fromkeys(contents, "old")), encoding="utf-8")

    def run(*arguments: str) -> None:
        tables.main([*arguments, "--root", str(tmp_path), "--results", str(tmp_path)])

    return run


def test_the_tables(make: Callable[..., None], tmp_path: Path) -> None:
    paths = [tmp_path / path for path in PAGES]
    with pytest.raises(SystemExit) as outdated:
        make("--check")
    assert outdated.value.code == (
        f"the tables of {' and '.join(map(str, paths))} are outdated; run python "
        "benchmarks/tables.py"
    )
    make()
    for path, contents in zip(paths, PAGES.values(), strict=True):
        assert path.read_text(encoding="utf-8") == page(contents)
    make("--check")
    paths[1].write_text(page(dict.fromkeys(PAGES["docs/performance.md"], "old")), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"performance\.md are outdated"):
        make("--check")


@pytest.mark.parametrize("text", ["", "<!-- speed -->", "<!-- /speed --> <!-- speed -->"])
def test_a_readme_without_its_markers(make: Callable[..., None], tmp_path: Path, text: str) -> None:
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    with pytest.raises(
        SystemExit, match=r"^README\.md needs the lines <!-- speed --> and <!-- /speed -->"
    ):
        make()


def test_no_results(make: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "speed" / "a.json").unlink()
    with pytest.raises(SystemExit, match="holds no results"):
        make()


def test_results_are_readable_and_their_tables_in_place() -> None:
    tables.main(["--check"])
