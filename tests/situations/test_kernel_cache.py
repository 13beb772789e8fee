"""Folders of compiled kernels that are damaged, full, missing or shared: all goes on."""

import os
import shutil
import subprocess
import sys

import pytest

import fastrnn
from fastrnn.kernels.compile import kernel_folder

TRAIN = ["train", "--quiet", "--corpus", "text.txt", "--updates", "3", "--ckpt", "model.h5"]

KERNEL = """
import sys
import numpy as np
from fastrnn.kernels.compile import entry

if len(sys.argv) > 1:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), -1))

@entry
def twice(array):
    return array[0] + array[0]

print(twice(np.ones(1)), sum(twice.stats.cache_hits.values()))
"""


def kernel(tmp_path, *limit, **environment):
    """A process that calls one small kernel."""
    places = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "NUMBA_CACHE_DIR": ""}
    return subprocess.Popen(
        [sys.executable, "-c", KERNEL, *limit],
        env=os.environ | places | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_training_with_damaged_kernels(tmp_path):
    (tmp_path / "text.txt").write_text("The quick brown fox jumps over the lazy dog.\n" * 9)
    text = fastrnn.read_corpus(tmp_path / "text.txt")
    expected = fastrnn.train(text, fastrnn.Config(), updates=3)
    copy = tmp_path / "kernels" / kernel_folder().name
    shutil.copytree(kernel_folder(), copy)
    for file in copy.glob("entries.pack-*"):
        file.write_bytes(file.read_bytes()[:-100])
    ended = subprocess.run(
        [sys.executable, "-m", "fastrnn", *TRAIN],
        cwd=tmp_path,
        env=os.environ | {"NUMBA_CACHE_DIR": str(copy.parent)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0
    assert f"compiled kernels in {copy} were damaged; they are compiled again\n" in ended.stderr
    assert ended.stderr.count("\n") == 1
    trained = fastrnn.load_checkpoint(tmp_path / "model.h5")
    assert trained.last.smooth_loss == expected.last.smooth_loss


@pytest.mark.skipif(os.name != "posix", reason="the size of files can be limited on POSIX only")
def test_a_full_disk(tmp_path):
    printed, told = kernel(tmp_path, "1000").communicate()
    assert printed == "2.0 0\n"
    (folder,) = tmp_path.glob("cache/fastrnn/kernels-*")
    assert told == (
        f"kernels have to be compiled each time: cannot keep them in {folder}: File too large; "
        "set NUMBA_CACHE_DIR to a folder with room\n"
    )
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="the size of files can be limited on POSIX only")
def test_nowhere_to_write(tmp_path):
    (tmp_path / "cache").touch()
    printed, told = kernel(tmp_path, "0").communicate()
    assert printed == "2.0 0\n"
    assert told == (
        "kernels have to be compiled each time: cannot keep files in "
        f"{tmp_path / 'cache' / 'fastrnn'}, nor in any temporary folder: they cannot be written; "
        "set XDG_CACHE_HOME to a folder that can\n"
    )


def test_a_home_that_cannot_be_written(tmp_path):
    """Kernels are kept in the folder for temporary files."""
    # A file as home, because permissions do not hold for an administrator.
    (tmp_path / "home").touch()
    (tmp_path / "tmp").mkdir()
    places = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")}
    for hits in (0, 1):
        process = kernel(tmp_path, **places, XDG_CACHE_HOME="")
        assert process.communicate() == (f"2.0 {hits}\n", "")


def test_processes_that_compile_the_same_kernel(tmp_path):
    together = [kernel(tmp_path) for _ in range(2)]
    for process in together:
        printed, told = process.communicate()
        assert printed in ("2.0 0\n", "2.0 1\n") and told == ""
    assert kernel(tmp_path).communicate() == ("2.0 1\n", "")
