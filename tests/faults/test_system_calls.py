"""Every system call of a save fails in turn: the path holds the old state, or the new one."""

import errno
import io
import os
from dataclasses import replace
from itertools import count

import pytest
from amount import FULL, figure
from test_checkpoint import bits, example

from fastrnn.errors import FastrnnError
from fastrnn.storage import atomic
from fastrnn.storage.checkpoint import load
from fastrnn.storage.destination import Destination

OLD = example()
NEW = replace(OLD, seconds=2.0, last=replace(OLD.last, update=31))
ERRORS = [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENOENT]
CALLS = ["open", "fsync", "replace", "link", "unlink", "close", "chmod", "stat", "lstat"]
CALLS += ["FileIO", "write", "FileIO.close", "flock"]


class Failing:
    """Lets the `number`-th of some calls fail."""

    def __init__(self, number, code):
        self.left, self.code, self.failed = number, code, False

    def __call__(self, original):
        def call(*arguments, **options):
            self.left -= 1
            if self.left == -1:
                self.failed = True
                raise OSError(self.code, os.strerror(self.code))
            return original(*arguments, **options)

        return call


def patched(patch, name, failing, path):
    """Let one kind of call fail, as far as the module that writes makes it."""
    if name in ("FileIO", "write", "FileIO.close"):

        class File(io.FileIO):
            def write(self, data):  # a part at a time, as a disk that gets full does
                some = super().write
                return failing(some)(data[:5000]) if name == "write" else some(data)

            def close(self):
                closing = not self.closed and name == "FileIO.close"
                super().close()
                if closing:
                    failing(lambda: None)()

        patch.setattr(atomic.io, "FileIO", failing(File) if name == "FileIO" else File)
    elif name == "flock":
        patch.setattr(atomic.fcntl, "flock", failing(atomic.fcntl.flock))
    else:
        patch.setattr(os, name, failing(getattr(os, name)))


@pytest.mark.parametrize("name", CALLS)
def test_every_call_of_a_save(tmp_path, name, monkeypatch):
    # A folder that could not be closed stays locked.
    monkeypatch.setattr(atomic, "LOCK_SECONDS", 0.02)
    tried = 0
    for code in ERRORS if FULL else ERRORS[:1]:
        for number in count():
            path = tmp_path / f"{name}-{code}-{number}" / "best.h5"
            path.parent.mkdir()
            destination = Destination(path, keep=1)
            destination.save(OLD)
            failing = Failing(number, code)
            refused = False
            with pytest.MonkeyPatch.context() as patch:
                patched(patch, name, failing, path)
                try:
                    destination.save(NEW)
                except FastrnnError as error:
                    assert str(error).isprintable()
                    refused = True
            if not failing.failed:
                break
            tried += 1
            found = bits(load(path)) if path.exists() else None
            saved = bits(load(destination.path))
            assert bits(NEW) in (found, saved) or (refused and found == bits(OLD))
            for seconds in (3.0, 4.0):  # and the next saves work
                destination.save(replace(NEW, seconds=seconds))
                assert load(destination.path).seconds == seconds
            Destination(path)
            assert not [file for file in os.listdir(path.parent) if file.endswith(".tmp")]
    figure(f"{name}: {tried} failures, the old state or the new after each")
    assert tried
