"""Pictures are drawn in any environment, by any thread, on a full disk: or nothing is lost."""

import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from test_bench import fixed_result
from test_plots import training

from fastrnn.config import Config
from fastrnn.measure import bench
from fastrnn.report.plots import plot_loss
from fastrnn.storage.files import write
from fastrnn.text.corpus import read_corpus
from fastrnn.training.loop import train

TESTS = Path(__file__).parent.parent
INLINE = "module://matplotlib_inline.backend_inline"  # of Jupyter

DRAW = """
from fastrnn.measure import bench
from fastrnn.report.plots import plot_loss
from test_bench import fixed_result
from test_plots import training
plot_loss(training(), "loss.svg")
bench.plot(fixed_result(), "bench.svg")
"""


def run(
    folder: Path, *arguments: str, **environment: str | None
) -> subprocess.CompletedProcess[str]:
    """Python in a folder, with some variables changed, or removed if None."""
    folders = (TESTS / "benchmarks", TESTS / "measure", TESTS / "report")
    paths = [TESTS.parent, TESTS.parent / "benchmarks", *folders]
    changed = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), **environment}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={name: value for name, value in changed.items() if value is not None},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )


def pictures(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("loss.svg", "bench.svg")]


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The two pictures, drawn in this process."""
    folder = tmp_path_factory.mktemp("usual")
    plot_loss(training(), folder / "loss.svg")
    bench.plot(fixed_result(), folder / "bench.svg")
    return pictures(folder)


def test_backend_that_is_not_there(tmp_path: Path, usual: list[bytes]) -> None:
    after = "import os; assert os.environ['MPLBACKEND'] == 'nonsense'"
    done = run(tmp_path, "-c", DRAW + after, MPLBACKEND="nonsense")
    assert (done.returncode, done.stderr) == (0, "")
    assert pictures(tmp_path) == usual


def test_the_command_in_jupyter(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("to be or not to be " * 10)
    config = Config(hidden=3, seq_length=5)
    train(read_corpus(tmp_path / "a.txt"), config, updates=3, path=tmp_path / "a.h5")
    done = run(tmp_path, "-m", "fastrnn", "plot", "a.h5", MPLBACKEND=INLINE)
    assert (done.returncode, done.stderr) == (0, "Wrote loss.png\n")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_own_plots_keep_their_backend_and_settings(tmp_path: Path) -> None:
    program = """
import sys
from fastrnn.report.plots import plot_loss
from test_plots import training
import matplotlib
matplotlib.rcParams["lines.linewidth"] = 7
before = dict(matplotlib.rcParams)
plot_loss(training(), "a.png")
assert dict(matplotlib.rcParams) == before
assert "matplotlib.pyplot" not in sys.modules
assert matplotlib.get_backend() == "svg"
"""
    done = run(tmp_path, "-c", program, MPLBACKEND="svg")
    assert (done.returncode, done.stderr) == (0, "")


def test_settings_of_the_user(tmp_path: Path, usual: list[bytes]) -> None:
    (tmp_path / "matplotlibrc").write_text(
        "text.usetex: True\naxes.facecolor: black\nfont.family: fantasy\nsvg.fonttype: path\n"
        'savefig.bbox: tight\naxes.prop_cycle: cycler("color", [])\n'
    )
    done = run(tmp_path, "-c", DRAW, MATPLOTLIBRC=str(tmp_path / "matplotlibrc"))
    assert (done.returncode, done.stderr) == (0, "")
    assert pictures(tmp_path) == usual


def test_settings_that_matplotlib_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_bytes(b"text.usetex: \xff\n")
    done = run(tmp_path, "-c", DRAW)
    assert "FastrnnError: cannot import matplotlib: " in done.stderr
    assert done.stderr.endswith("; repair its installation or its settings\n")


def test_no_place_for_the_list_of_fonts(tmp_path: Path, usual: list[bytes]) -> None:
    (tmp_path / "file").write_text("")
    done = run(tmp_path, "-c", DRAW, MPLCONFIGDIR=str(tmp_path / "file" / "folder"), HOME=None)
    assert done.returncode == 0
    assert pictures(tmp_path) == usual


def test_broken_list_of_fonts(tmp_path: Path, usual: list[bytes]) -> None:
    from matplotlib.font_manager import FontManager

    (tmp_path / f"fontlist-v{FontManager.__version__}.json").write_text('{"broken')
    done = run(tmp_path, "-c", DRAW, MPLCONFIGDIR=str(tmp_path))
    assert done.returncode == 0
    assert pictures(tmp_path) == usual


def test_threads_draw_at_once(tmp_path: Path, usual: list[bytes]) -> None:
    import matplotlib

    settings, filters = dict(matplotlib.rcParams), warnings.filters[:]

    def draw(i: int) -> bytes:
        if i % 2:
            bench.plot(fixed_result(), tmp_path / f"{i}.svg")
        else:
            plot_loss(training(), tmp_path / f"{i}.svg")
        return (tmp_path / f"{i}.svg").read_bytes()

    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(draw, range(4)))
    assert drawn == 2 * usual
    assert dict(matplotlib.rcParams) == settings
    assert warnings.filters == filters


def test_full_disk_keeps_the_older_picture(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="limits of file sizes are of POSIX")
    (tmp_path / "a.svg").write_bytes(b"old")
    program = """
import resource
from fastrnn.storage.files import write
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write("a.svg", bytes(2000))
"""
    done = run(tmp_path, "-c", program)
    assert "FastrnnError: cannot write a.svg: File too large; choose another path" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.svg"]
    assert (tmp_path / "a.svg").read_bytes() == b"old"


def test_what_cannot_be_replaced_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(os.devnull, b"new")
    assert not os.path.isfile(os.devnull)

    def busy(source: str, target: str) -> None:
        raise OSError(16, "Device or resource busy")  # as a mount point says

    (tmp_path / "a.svg").write_bytes(b"older")
    monkeypatch.setattr(os, "replace", busy)
    write(tmp_path / "a.svg", b"new")
    assert (tmp_path / "a.svg").read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 1
