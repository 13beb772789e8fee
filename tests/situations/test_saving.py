"""Saving on full disks and odd mounts, beside other processes, and through kills."""

import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from test_checkpoint import example

from fastrnn.storage.checkpoint import load, save
from fastrnn.storage.destination import Destination

START = """
import mmap, os, random, resource, signal, struct, sys, time
from dataclasses import replace
from fastrnn.storage.checkpoint import load, save
from fastrnn.storage.destination import Destination
path, ck = sys.argv[1], load(sys.argv[2])

def attempt(action, *arguments):
    try:
        print(action(*arguments))
    except ValueError as error:
        print(error)
"""


@pytest.fixture
def path(tmp_path):
    """Where to save, in a folder of its own."""
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "best.h5"


@pytest.fixture
def run(tmp_path):
    """Run code, which has a path and a checkpoint, in a process of its own."""
    model = tmp_path / "model.h5"
    save(model, example())

    def run(path, code, mounts=None):
        command = [sys.executable, "-c", START + code, str(path), str(model)]
        if mounts is not None:
            command = ["unshare", "--mount", "sh", "-ec", f'{mounts}\nexec "$@"', "sh", *command]
        env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        result = subprocess.run(command, env=env, text=True, capture_output=True, timeout=60)
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()

    run.size = model.stat().st_size
    return run


def seconds(folder):
    """The seconds of every checkpoint of a folder by its name; there may be nothing else."""
    return {file.name: load(file).seconds for file in folder.iterdir()}


def can_mount():
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return shutil.which("unshare") and subprocess.run(command, capture_output=True).returncode == 0


needs_mounts = pytest.mark.skipif(not can_mount(), reason="needs a user who may mount")


# Disks


def test_limit_on_the_file_size_is_found_at_the_start(path, run):
    code = """
size = os.path.getsize(sys.argv[2])
destination = Destination(path)
for limit in (0, 1, 4096, size - 1, size, size + 999, size + 1000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    attempt(destination.check, ck, 1000)
    assert os.listdir(os.path.dirname(path)) == []
"""
    problem = f"cannot save {path}: File too large; raise the limit on file sizes (ulimit -f)"
    # What is printed meanwhile waits in a buffer, so the limit does not concern it.
    assert run(path, code) == [problem] * 6 + ["None"]


@needs_mounts
@pytest.mark.parametrize(("room", "enough"), [(0.5, False), (1.5, False), (3.0, True)])
def test_full_disk_is_found_at_the_start(path, run, room, enough):
    """There has to be room for two: while a checkpoint is written, the one before is there."""
    disk = f"mount -t tmpfs -o size={int(room * run.size)} tmpfs {path.parent}"
    code = """
destination = Destination(path)
attempt(destination.check, ck)
print(os.listdir(os.path.dirname(path)))
"""
    problem = f"cannot save {path}: No space left on device; free some disk space"
    assert run(path, code, disk) == ["None" if enough else problem, "[]"]


@needs_mounts
def test_overwriting_needs_room_for_one_more(path, run):
    disk = f"mount -t tmpfs -o size={int(2.5 * run.size)} tmpfs {path.parent}"
    code = """
for overwrite in (False, True):
    save(path, ck)
    attempt(Destination(path, overwrite).check, ck)
"""
    problem = f"cannot save {path}: No space left on device; free some disk space"
    assert run(path, code, disk) == [problem, "None"]


@needs_mounts
def test_file_that_is_mounted_by_itself(path, run, tmp_path):
    outside = tmp_path / "outside.h5"
    save(outside, example())
    before = outside.read_bytes()
    path.touch()
    mount = f"mount --bind {outside} {path}"
    code = """
attempt(Destination, path)
attempt(Destination, path, True)
attempt(save, path, ck)
print(os.listdir(os.path.dirname(path)))
"""
    remedy = "mount its folder instead of the single file"
    early = f"cannot save {path}: it is mounted by itself, so nothing can replace it; {remedy}"
    late = f"cannot save {path}: Device or resource busy; {remedy}"
    assert run(path, code, mount) == [early, early, late, "['best.h5']"]
    assert outside.read_bytes() == before

    read_only = f"{mount}\nmount -o remount,ro,bind {path}"
    notice = (
        f"['{path} is read-only; it stays as it is, and this training is saved in "
        f"{path.with_name('best.1.h5')}']"
    )
    assert run(path, "print(Destination(path).notices)", read_only) == [notice]


def test_folder_where_nothing_can_be_renamed(path, run):
    if subprocess.run(["chattr", "+a", path.parent], capture_output=True).returncode != 0:
        pytest.skip("needs root and a file system with append-only folders")
    try:
        lines = run(path, "attempt(Destination, path)")
    finally:
        subprocess.run(["chattr", "-a", path.parent], check=True)
    assert lines == [
        f"cannot save {path}: Operation not permitted; "
        "change the permissions or choose another path"
    ]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_file_of_another_user_in_a_sticky_folder(path, run):
    save(path, example())
    path.chmod(0o666)
    path.parent.chmod(0o1777)
    code = """
os.chroot(os.path.dirname(path))  # others may not search the folders above
os.chdir("/")
os.setuid(65534)
for overwrite in (False, True):
    destination = Destination("best.h5", overwrite)
    print(*destination.notices)
    print(destination.save(replace(ck, seconds=99.0)), destination.path)
"""
    notice = "best.h5 belongs to another user; it stays as it is, and this training is saved in "
    assert run(path, code) == [
        notice + "best.1.h5",
        "None best.1.h5",
        notice + "best.2.h5",
        "None best.2.h5",
    ]
    old = example().seconds
    assert seconds(path.parent) == {"best.h5": old, "best.1.h5": 99, "best.2.h5": 99}


# Several at once


@pytest.mark.parametrize("old", [False, True])
def test_processes_that_save_to_one_path(path, run, old):
    """Nothing is lost, neither an old checkpoint nor anybody's last."""
    code = f"""
replace_now = os.replace

def replace_slowly(*arguments):
    time.sleep(0.005)  # after a look at what is there
    replace_now(*arguments)

os.replace = replace_slowly

def train(number, ready, go):
    destination = Destination(path)
    os.write(ready, b".")
    os.read(go, 1)
    for step in (1, 2):
        destination.save(replace(ck, seconds=100.0 * number + step))
    assert load(destination.path).seconds == 100 * number + 2

folder = os.path.dirname(path)
for attempt in range(3):
    if {old}:
        save(path, replace(ck, seconds=1.0))
    done, ready = os.pipe()
    go, start = os.pipe()
    children = []
    for number in (1, 2, 3):
        children.append(os.fork())
        if children[-1] == 0:
            status = 1
            try:
                train(number, ready, go)
                status = 0
            finally:
                os._exit(status)
    for _ in children:
        os.read(done, 1)
    os.write(start, b"...")
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    found = sorted(load(f"{{folder}}/{{name}}").seconds for name in os.listdir(folder))
    assert found == [1.0] * {old} + [102.0, 202.0, 302.0], (attempt, found)
    for name in os.listdir(folder):
        os.unlink(f"{{folder}}/{{name}}")
"""
    assert run(path, code) == []


def test_threads_that_save_to_one_path(path, monkeypatch):
    replace_now = os.replace

    def replace_slowly(*arguments):
        time.sleep(0.005)
        replace_now(*arguments)

    monkeypatch.setattr(os, "replace", replace_slowly)
    for _ in range(3):
        save(path, example())
        destinations = [Destination(path) for _ in range(4)]
        barrier = threading.Barrier(4)

        def work(number, destinations=destinations, barrier=barrier):
            barrier.wait(60)
            for step in (1, 2):
                destinations[number].save(replace(example(), seconds=100.0 * number + step))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = seconds(path.parent)
        assert sorted(found.values()) == sorted([2, 102, 202, 302, example().seconds])
        for number, destination in enumerate(destinations):
            assert load(destination.path).seconds == 100 * number + 2
        for name in found:
            path.with_name(name).unlink()


# Kills


def test_kill_at_any_moment(path, run):
    """The path always holds what was saved last, older models are kept, leftovers are removed."""
    code = """
folder = os.path.dirname(path)
saved = mmap.mmap(-1, 8)  # shared with the children

def training(number, function, when, step):
    destination = Destination(path)
    original = getattr(os, function)

    def killed(*arguments):
        try:
            if when == "after":
                original(*arguments)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)

    seconds = 1000.0 * number
    while True:
        if seconds % 1000 == step:
            setattr(os, function, killed)
        destination.save(replace(ck, seconds=seconds))
        saved[:] = struct.pack("d", seconds)
        seconds += 1

# In the first save, in the second, which makes no link, and at random.
functions = "fsync", "chmod", "link", "replace", "unlink"
points = [(function, when, 0) for function in functions for when in ("before", "after")]
points += [(function, when, 1) for function, when, _ in points if function != "link"]
points += [("fsync", "never", None)] * 12

kept, leftovers = {1.0}, 0
save(path, replace(ck, seconds=1.0))
for number, point in enumerate(points, 1):
    saved[:] = bytes(8)
    child = os.fork()
    if child == 0:
        training(number, *point)
    if point[-1] is None:
        while saved[:] == bytes(8):
            time.sleep(0.001)
        time.sleep(random.random() / 50)
        os.kill(child, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    (last,), now = struct.unpack("d", saved), load(path).seconds
    assert now in kept or now >= last, (point, now, last)
    kept.add(now)
    leftovers += sum(name.endswith(".tmp") for name in os.listdir(folder))
Destination(path)
names = os.listdir(folder)
assert not any(name.endswith(".tmp") for name in names), names
found = [load(f"{folder}/{name}").seconds for name in names]
assert kept == set(found), (kept, found)
assert leftovers >= 8, leftovers
"""
    assert run(path, code) == []
