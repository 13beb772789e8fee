"""Environment variables and folders that others have set, or not."""

import os
import subprocess
import sys

import pytest

import fastrnn
from fastrnn.kernels.compile import kernel_folder

TRAIN = ["train", "--quiet", "--corpus", "text.txt", "--updates", "3", "--ckpt", "model.h5"]


@pytest.fixture
def command(tmp_path):
    """Run a command in an environment."""
    (tmp_path / "text.txt").write_text("The quick brown fox jumps over the lazy dog.\n" * 9)

    def run(*arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", "fastrnn", *arguments],
            cwd=tmp_path,
            env=os.environ | environment,
            capture_output=True,
            text=True,
        )

    return run


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("NUMBA_DISABLE_JIT", "1", "they only run compiled; unset it"),
        (
            "NUMBA_NUM_THREADS",
            "0",
            "must be > 0; unset or correct NUMBA_NUM_THREADS, then start again",
        ),
        ("NUMBA_OPT", "9", "could not be parsed; unset or correct NUMBA_OPT, then start again"),
        ("NUMBA_CPU_FEATURES", "foo", "is 'foo', but must be a list"),
    ],
)
def test_what_numba_cannot_work_with_is_one_line(command, variable, value, problem):
    ended = command(*TRAIN, **{variable: value})
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: cannot ")
    assert ended.stderr.count("\n") == 1
    assert variable in ended.stderr and problem in ended.stderr


def test_other_environments_change_nothing(command, tmp_path):
    # Also as root, nothing can be made below a file.
    (tmp_path / "file").touch()
    nowhere = str(tmp_path / "file" / "folder")
    python = {"PYTHONOPTIMIZE": "2", "PYTHONHASHSEED": "7", "NUMBA_NUM_THREADS": "1"}
    places = {"HOME": nowhere, "XDG_CACHE_HOME": nowhere, "TMPDIR": nowhere}
    places |= {"LC_ALL": "C", "PYTHONDONTWRITEBYTECODE": "1"}
    text = fastrnn.read_corpus(tmp_path / "text.txt")
    expected = fastrnn.train(text, fastrnn.Config(), updates=3).last.smooth_loss
    for environment in (python, places):
        ended = command(*TRAIN, NUMBA_CACHE_DIR=str(kernel_folder().parent), **environment)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert fastrnn.load_checkpoint(tmp_path / "model.h5").last.smooth_loss == expected
        (tmp_path / "model.h5").unlink()
