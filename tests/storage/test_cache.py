"""Compiled kernels are kept, and used only if they are intact and nothing has changed since."""

import errno
import os
import pkgutil
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from numba.core import config

import fastrnn
from fastrnn import kernels
from fastrnn.errors import FastrnnError
from fastrnn.kernels import compile, entries
from fastrnn.kernels.compile import entry
from fastrnn.storage import cache

PACK = """
import numpy as np
from fastrnn.config import Config
from fastrnn.kernels import entries
from fastrnn.kernels.tiles import register_lanes
from fastrnn.network import Network
network = Network(Config(hidden=2), 2)
network.set_parameters(network.parameters | {"W": np.array([[1.0, 2.0], [3.0, 4.0]])})
stats = entries.pack.stats
hits, misses = (sum(count.values()) for count in (stats.cache_hits, stats.cache_misses))
panel = network._packed.WT[0, 0].reshape(-1, register_lanes(network.dtype))
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
        list(folder.glob("kernels-*/entries.pack-*.kernel"))
        and not (package.folder / "cache").exists()
    )


def test_a_folder_that_cannot_be_written_is_not_used(package):
    """Numba would fall back on one beside the sources, and there miss that they change."""
    (package.folder / "file").touch()
    package(NUMBA_CACHE_DIR=str(package.folder / "file" / "folder"))
    assert list((package.folder / "cache").glob("fastrnn/kernels-*/entries.pack-*.kernel"))


def test_other_settings_of_numba_are_other_kernels(monkeypatch):
    def name():
        return compile.kernel_folder.__wrapped__().name

    before = name()
    for setting, value in {"OPT": 0, "BOUNDSCHECK": 1, "LOOP_VECTORIZE": 0}.items():
        with monkeypatch.context() as changed:
            changed.setattr(config, setting, value)
            assert name() != before
    monkeypatch.setattr(config, "NUMBA_NUM_THREADS", 77)
    assert name() == before


def test_the_callers_own_cache_setting_stays():
    assert os.environ.get("NUMBA_CACHE_DIR", "") == config.CACHE_DIR
    assert entries.pack.targetoptions["error_model"] == "numpy"


def twice(array):
    return array[0] + array[0]


def thrice(array):
    return array[0] + array[0] + array[0]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the kernels of a test are kept."""
    monkeypatch.setattr(compile, "kernel_folder", lambda: tmp_path / "kernels")
    monkeypatch.setattr(compile, "damaged", set())
    monkeypatch.setattr(compile, "unkept", set())
    return tmp_path / "kernels"


def loaded(function=twice, dtype="float64"):
    """Whether a process that starts now would load the kernel, instead of compiling it."""
    kernel = entry(function)
    assert kernel(np.ones(1, dtype)) == function(np.ones(1))
    assert sum((kernel.stats.cache_hits + kernel.stats.cache_misses).values()) == 1
    return bool(kernel.stats.cache_hits)


def test_a_kernel_is_kept_for_each_dtype(folder, caplog):
    assert not loaded(dtype="float32")
    assert not loaded(dtype="float64")
    assert len(list(folder.iterdir())) == 2
    assert loaded(dtype="float32") and loaded(dtype="float64")
    assert caplog.messages == []


LARGE = np.ones(1_000_000)


def from_memory(array):
    return array[0] * 2 * LARGE[-1]


def test_a_kernel_with_addresses_of_the_process_is_not_kept(folder):
    assert not loaded(from_memory)
    assert not folder.exists()


def change_a_bit(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:20],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: bytes(len(data)),
        lambda data: b"Dear diary,\n",
        change_a_bit,
    ],
    ids=["empty", "cut in the seal", "cut", "longer", "zeroed", "foreign", "a bit"],
)
def test_a_damaged_kernel_is_compiled_again(folder, caplog, damage):
    loaded()
    (file,) = folder.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert not loaded()
    assert caplog.messages == [
        f"compiled kernels in {folder} were damaged; they are compiled again"
    ]
    assert loaded()
    assert len(caplog.messages) == 1


def test_a_kernel_in_the_place_of_another_is_noticed(folder):
    for function in (twice, thrice):
        loaded(function)
    (one,), (other,) = (folder.glob(f"*.{name}-*") for name in ("twice", "thrice"))
    shutil.copy(one, other)
    assert loaded(twice)
    assert not loaded(thrice)


def test_all_damage_is_told_once(folder, caplog):
    for function in (twice, thrice):
        loaded(function)
    for file in folder.iterdir():
        file.write_bytes(b"")
    assert not loaded(twice) and not loaded(thrice)
    assert len(caplog.messages) == 1


def test_a_folder_in_the_place_of_a_kernel(folder, caplog):
    loaded()
    (file,) = folder.iterdir()
    file.unlink()
    file.mkdir()
    assert not loaded()
    assert not loaded()
    assert len(caplog.messages) == 2
    assert "Is a directory" in caplog.messages[1]
    assert list(folder.iterdir()) == [file]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_without_room_kernels_are_in_memory(folder, caplog, monkeypatch, code):
    def full(_):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as changed:
        changed.setattr(cache.os, "fsync", full)
        assert not loaded(twice) and not loaded(thrice)
    assert list(folder.iterdir()) == []
    assert caplog.messages == [
        f"kernels have to be compiled each time: cannot keep them in {folder}: "
        f"{os.strerror(code)}; set NUMBA_CACHE_DIR to a folder with room"
    ]
    assert compile.unkept == {"test_cache.twice", "test_cache.thrice"}
    assert not loaded() and loaded()


def test_without_any_folder_kernels_are_in_memory(folder, tmp_path, caplog, monkeypatch):
    def none():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "gettempdir", none)
    monkeypatch.setattr(cache.platformdirs, "user_cache_dir", lambda *_, **__: tmp_path / "file")
    with pytest.raises(FastrnnError, match="set XDG_CACHE_HOME to a folder that can") as raised:
        cache.cache_folder()
    monkeypatch.setattr(compile, "kernel_folder", cache.cache_folder)
    assert not loaded()
    assert not loaded()
    assert caplog.messages == [f"kernels have to be compiled each time: {raised.value}"]


def test_a_folder_that_vanishes_is_made_again(folder, caplog):
    loaded()
    shutil.rmtree(folder)
    assert not loaded()
    assert loaded()
    assert caplog.messages == []


def test_a_new_file_is_there_when_it_is_complete(tmp_path):
    path = tmp_path / "folder" / "file"
    with cache.new_file(path) as file:
        file.write(b"one")
        with cache.new_file(path) as other:  # of another process
            other.write(b"another")
        assert path.read_bytes() == b"another"
    assert path.read_bytes() == b"one"
    with suppress(KeyboardInterrupt), cache.new_file(path) as file:
        file.write(b"two")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"one"
    assert list(path.parent.iterdir()) == [path]


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    for name, hours in {"old.tmp": 25, "new.tmp": 23, "old.kernel": 25}.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, times=(time.time() - hours * 60 * 60,) * 2)
    with cache.new_file(tmp_path / "file"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"new.tmp", "old.kernel", "file"}


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
            if isinstance(value, Dispatcher):
                function = value.py_func
                name = function.__module__, function.__qualname__
                homes.setdefault(name, set()).add(function)
    assert len(homes) > 20
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}
