"""A disk that fills, a limit, a folder that goes: the training goes on, and nothing is lost."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from amount import amount
from command import TEXT

from fastrnn.storage.checkpoint import load
from fastrnn.storage.destination import Destination

HOME = Path(__file__).parents[2]
FILLED = """
import os, shutil, sys, time
import fastrnn

path, what = sys.argv[1:]
folder = os.path.dirname(path)

class Fault(fastrnn.Observer):
    \"\"\"What happens to the disk during the training, and what it says of that.\"\"\"
    looks, over = 0, False

    def progressed(self, trainer):
        self.looks += 1
        time.sleep(0.02)  # for the saver to come to its end
        if self.looks == 8:
            self.fault()
        elif self.looks == 16 and what.endswith("mended"):
            self.mend()

    def fault(self):
        if what.startswith("full"):
            with open(folder + "/filler", "wb", buffering=0) as file:
                try:
                    while file.write(bytes(4096)):
                        pass
                except OSError:
                    pass
        elif what.startswith("gone"):
            os.rename(folder, folder + ".gone")
        elif what.startswith("limit"):
            import resource
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

    def mend(self):
        if what.startswith("full"):
            os.unlink(folder + "/filler")
        elif what.startswith("gone"):
            os.rename(folder + ".gone", folder)
        else:
            import resource
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)

    def noted(self, message):
        print("note:", message, flush=True)

    def warned(self, message):
        print("warning:", message, flush=True)

    def ended(self, checkpoint, path):
        print("ended:", checkpoint.last.update, path, flush=True)

corpus = fastrnn.read_corpus("text.txt")
config = fastrnn.Config(hidden=30, seq_length=5, updates=24, val_fraction=0.1, val_every=1)
options = {"checkpoint_every": 0.0, "sample_every": 0, "observers": [Fault()]}
try:
    fastrnn.train(corpus, config, path=path, **options)
except fastrnn.FastrnnError as error:
    print("error:", error)
"""


def train(folder, what, mount=False):
    """The lines that a training says whose disk has a fault after its eighth look."""
    (folder / "text.txt").write_text(TEXT)
    for name in ("disk", "temporary"):
        (folder / name).mkdir()
    path = folder / "disk" / "best.h5"
    command = [sys.executable, "-c", FILLED, str(path), what]
    copy = f"cp -r {path.parent}/. {folder}/seen"  # what is mounted is gone with its process
    if mount:
        tmpfs = f"mount -t tmpfs -o size=1m tmpfs {path.parent}"
        script = f'{tmpfs}; "$@"; {copy}'
        command = ["unshare", "--mount", "sh", "-ec", script, "sh", *command]
    env = os.environ | {"PYTHONPATH": str(HOME), "TMPDIR": str(folder / "temporary")}
    ended = subprocess.run(
        command, cwd=folder, env=env, text=True, capture_output=True, timeout=100
    )
    assert ended.returncode == 0, ended.stderr
    return path, ended.stdout.splitlines()


def can_mount():
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return shutil.which("unshare") and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("what", "problem"),
    [("full", "No space left on device"), ("gone", "No such file or directory")],
)
def test_until_the_end(tmp_path, what, problem):
    if what == "full" and not can_mount():
        pytest.skip("needs a user who may mount")
    path, (warning, end, error) = train(tmp_path, what, mount=what == "full")
    elsewhere = tmp_path / "temporary" / "best.1.h5"
    assert warning.startswith(f"warning: cannot save {path}: {problem}; ")
    assert "; the training goes on, and tries again; " in warning
    assert warning.rsplit("; ", 1)[1].startswith(f"{path} stays as it was after update ")
    assert end == f"ended: 24 {elsewhere}"
    assert error.startswith(f"error: cannot save {path}: {problem}; ")
    assert error.endswith(f"; the training is saved in {elsewhere} instead")
    assert load(elsewhere).last.update == 24
    before = tmp_path / ("seen" if what == "full" else "disk.gone") / "best.h5"
    assert 0 < load(before).last.update < 24


@pytest.mark.parametrize("what", ["gone, mended", "limit, mended"][: amount(1, 2)])
def test_for_a_while(tmp_path, what):
    path, (warning, note, end) = train(tmp_path, what)
    assert warning.startswith(f"warning: cannot save {path}: ")
    assert note.startswith(f"note: {path} can be written again: it is of update ")
    assert end == f"ended: 24 {path}"
    assert load(path).last.update == 24
    Destination(path)  # removes what was being written when the folder went
    assert os.listdir(path.parent) == ["best.h5"]
