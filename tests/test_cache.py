"""Compiled kernels are kept, and never used after any kernel source has changed."""

import os
import pkgutil
import shutil
import stat
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import fastrnn
from fastrnn import cache, kernels
from fastrnn.kernels import entries
from fastrnn.kernels.compile import entry

PACK = """
import numpy as np
from fastrnn.config import Config
from fastrnn.kernels import entries
from fastrnn.kernels.tiles import register_lanes
from fastrnn.network import Network
network = Network(Config(hidden=2), 2)
network.parameters["W"][...] = [[1, 2], [3, 4]]
network.pack()
stats = entries.pack.versions["float32"].stats
hits, misses = (sum(count.values()) for count in (stats.cache_hits, stats.cache_misses))
panel = network._packed.WT[0].reshape(-1, register_lanes(network.dtype))
print(panel[:2, :2].tolist(), hits, misses)
"""


@pytest.fixture
def package(tmp_path):
    """A copy of the package that may be edited, and how to run Python with it."""
    shutil.copytree(Path(fastrnn.__file__).parent, tmp_path / "fastrnn")

    def run(**environment):
        result = subprocess.run(
            [sys.executable, "-c", PACK],
            cwd=tmp_path,
            env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")} | environment,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    run.folder = tmp_path
    return run


def test_a_change_of_a_helper_is_noticed(package):
    transposed = "[[1.0, 3.0], [2.0, 4.0]]"
    assert package() == f"{transposed} 0 1"
    assert package() == f"{transposed} 1 0"

    # A helper of a helper of the cached kernel, in another file.
    path = package.folder / "fastrnn/kernels/tiles.py"
    path.write_text(
        path.read_text().replace("store_vector(builder, value,", "store_vector(builder, values[0],")
    )
    assert package() == "[[1.0, 3.0], [1.0, 3.0]] 0 1"


def test_kernels_go_where_numba_is_told(package):
    folder = package.folder / "elsewhere"
    package(NUMBA_CACHE_DIR=str(folder))
    assert (
        list(folder.glob("kernels-*/float32/*/*.nbi")) and not (package.folder / "cache").exists()
    )


def test_a_folder_that_cannot_be_written_is_not_used(package):
    """Numba would fall back on one beside the sources, and there miss that they change."""
    (package.folder / "file").touch()
    package(NUMBA_CACHE_DIR=str(package.folder / "file" / "folder"))
    assert list((package.folder / "cache").glob("fastrnn/kernels-*/float32/*/*.nbi"))


def test_each_dtype_has_its_own_index():
    """Two processes, one for each dtype, could spoil a common one by saving at the same time."""
    pack = entries.pack
    folders = {name: Path(kernel._cache.cache_path) for name, kernel in pack.versions.items()}
    assert len(set(folders.values())) == 2
    assert all(folder.parent.name == name for name, folder in folders.items())


def test_the_callers_own_cache_setting_stays():
    from numba.core import config

    assert os.environ.get("NUMBA_CACHE_DIR", "") == config.CACHE_DIR
    assert entries.pack.versions["float64"].targetoptions["error_model"] == "numpy"


def test_folder(tmp_path, monkeypatch):
    """The user's cache folder, or if that cannot be, one of the user's own in the temporary one."""
    monkeypatch.setattr(cache.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache.cache_folder() == tmp_path / "cache/fastrnn"

    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    fallback = tmp_path / f"fastrnn-{os.getuid()}"
    assert cache.cache_folder() == fallback
    assert stat.S_IMODE(fallback.stat().st_mode) == 0o700

    # Others could have put code there.
    fallback.chmod(0o777)
    other = cache.cache_folder()
    assert other not in (fallback, tmp_path / "file/fastrnn") and other.parent == tmp_path
    assert cache.cache_folder() == other


def test_folder_without_a_home(tmp_path, monkeypatch):
    monkeypatch.setattr(cache.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cache.platformdirs, "user_cache_dir", lambda *_, **__: "~/.cache/fastrnn")
    assert cache.cache_folder() == tmp_path / f"fastrnn-{os.getuid()}"


def test_no_two_kernels_share_a_name():
    """Numba would let one cached kernel call the other's helper of that name (its issue 10486)."""
    from numba.core.dispatcher import Dispatcher

    homes = {}
    for module in pkgutil.iter_modules(kernels.__path__):
        for value in vars(import_module(f"fastrnn.kernels.{module.name}")).values():
            for kernel in value.versions.values() if isinstance(value, entry) else [value]:
                if isinstance(kernel, Dispatcher):
                    function = kernel.py_func
                    name = function.__module__, function.__qualname__
                    homes.setdefault(name, set()).add(function)
    assert len(homes) > 20
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}
