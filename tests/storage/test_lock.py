"""One training at a time saves to a path."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_checkpoint import example, failing, refusal

from fastrnn.storage.checkpoint import load, save
from fastrnn.storage.lock import only_training

HOLDER = """
import sys
from fastrnn.storage.lock import only_training
with only_training(sys.argv[1]):
    print(flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "best.h5"


def attempt(path):
    with only_training(path) as turn:
        return turn.warning


@pytest.fixture
def holder(path):
    """Another process that has the lock."""
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", HOLDER, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=env, **pipes) as process:
        process.stdout.readline()
        yield process
        process.kill()


def test_another_process(path, holder):
    lock = path.with_name("best.h5.lock")
    who = json.loads(lock.read_text())
    assert who["pid"] == holder.pid
    assert refusal(attempt, path) == (
        f"cannot save {path}: process {holder.pid} on {os.uname().nodename}, since "
        f"{who['since']}, trains and saves there; let it end, or choose another path"
    )
    save(path, example())
    assert load(path).seconds == example().seconds  # nobody waits to read
    holder.communicate()
    assert not lock.exists()
    assert attempt(path) is None


def test_a_killed_one_has_no_lock(path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert path.with_name("best.h5.lock").exists()
    assert attempt(path) is None
    assert os.listdir(path.parent) == []


def test_within_a_process_and_over_links(path):
    other = path.with_name("link.h5")
    other.symlink_to(path)
    with only_training(path):
        assert f"process {os.getpid()} on " in refusal(attempt, other)
    assert attempt(other) is None


def test_no_folder(path, tmp_path):
    missing = tmp_path / "missing" / "best.h5"
    assert refusal(attempt, missing) == (
        f"cannot save {missing}: No such file or directory; create its folder first"
    )
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("text", ["", "a poem", "[]", '{"pid": 1}', "\xff" * 9000])
def test_a_holder_that_says_nothing(path, text):
    with only_training(path):
        path.with_name("best.h5.lock").write_text(text)
        assert f"cannot save {path}: another process trains and saves there; " in refusal(
            attempt, path
        )


def test_a_lock_of_somebody_else_stays(path):
    lock = path.with_name("best.h5.lock")
    with only_training(path):
        lock.unlink()
        lock.write_text("mine")
    assert lock.read_text() == "mine"


@pytest.mark.parametrize("text", ["mine", "[]", '{"pip": 3}'])
def test_a_file_that_is_no_lock_stays(path, text):
    lock = path.with_name("best.h5.lock")
    lock.write_text(text)
    assert attempt(path) == (
        f"{path} cannot be locked ({lock} is there, and no lock of fastrnn); let no other training "
        "save there meanwhile"
    )
    assert lock.read_text() == text


@pytest.mark.parametrize("text", ["", '{"p'])
def test_a_full_disk(path, text, monkeypatch):
    """It has room for no word of who has the lock, and had none when another was killed."""
    monkeypatch.setattr("os.write", failing(OSError(errno.ENOSPC, "No space left on device")))
    lock = path.with_name("best.h5.lock")
    lock.write_text(text)
    with only_training(path) as turn:
        assert turn.warning is None
        assert f"cannot save {path}: another process trains" in refusal(attempt, path)
    assert not lock.exists()


def test_no_locks(path, monkeypatch):
    """As on some network file systems: a training is better than none."""
    monkeypatch.setattr("fcntl.flock", failing(OSError(errno.ENOLCK, "No locks available")))
    assert attempt(path) == (
        f"{path} cannot be locked (No locks available); let no other training save there meanwhile"
    )
