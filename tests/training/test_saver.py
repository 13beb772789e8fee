"""A training whose checkpoint cannot be written goes on, says so, and loses nothing."""

import errno
import os
import shutil
import tempfile
from dataclasses import replace

import pytest
from test_checkpoint import example, failing, refusal

from fastrnn.errors import FastrnnError
from fastrnn.storage.checkpoint import load
from fastrnn.storage.destination import Destination
from fastrnn.training.observers import Observer
from fastrnn.training.saver import Saver

FULL = OSError(errno.ENOSPC, "No space left on device")
QUOTA = OSError(errno.EDQUOT, "Disk quota exceeded")


class Told(Observer):
    def __init__(self):
        self.lines = []

    def noted(self, message):
        self.lines.append(f"note: {message}")

    def warned(self, message):
        self.lines.append(f"warning: {message}")


def after(update):
    checkpoint = example()
    return replace(checkpoint, last=replace(checkpoint.last, update=update))


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder" / "best.h5"


@pytest.fixture
def saver(path):
    return Saver(Destination(path), Told())


def test_a_failure_is_told_once_for_each_reason_and_when_it_is_over(path, saver, monkeypatch):
    def save(update, error=None):
        with monkeypatch.context() as patch:
            if error is not None:
                patch.setattr(os, "fsync", failing(error))
            saver.start(after(update))
            saver.wait()

    save(40)
    for update, error in [(41, FULL), (42, FULL), (43, QUOTA), (44, None), (45, None), (46, FULL)]:
        save(update, error)
    on = "the training goes on, and tries again"
    full = f"warning: cannot save {path}: No space left on device; free some disk space; {on}"
    assert saver._tell.lines == [
        f"{full}; {path} stays as it was after update 40",
        f"warning: cannot save {path}: Disk quota exceeded; free some disk space; {on}; "
        f"{path} stays as it was after update 40",
        f"note: {path} can be written again: it is of update 44 now",
        f"{full}; {path} stays as it was after update 45",
    ]
    assert load(path).last.update == 45


def test_a_failure_before_anything_is_saved(path, saver, monkeypatch):
    monkeypatch.setattr(os, "fsync", failing(FULL))
    saver.start(after(40))
    saver.wait()
    assert saver._tell.lines[0].endswith("the training goes on, and tries again")


def test_no_thread_to_save_in(path, saver, monkeypatch):
    monkeypatch.setattr("threading.Thread.start", failing(RuntimeError("can't start new thread")))
    saver.start(after(40))
    assert not saver.is_busy and load(path).last.update == 40


def test_the_last_checkpoint_goes_beside_it(path, saver, monkeypatch):
    saver.finish(after(40))
    monkeypatch.setattr(os, "replace", failing(OSError(errno.EPERM, "Operation not permitted")))
    beside, error = saver.finish(after(41))
    assert str(error) == (
        f"cannot save {path}: Operation not permitted; change the permissions or choose another "
        f"path; the training is saved in {beside} instead"
    )
    assert beside == str(path.with_name("best.1.h5"))
    assert load(path).last.update == 40 and load(beside).last.update == 41
    assert sorted(os.listdir(path.parent)) == ["best.1.h5", "best.h5"]


def test_or_into_the_temporary_folder(path, saver, tmp_path):
    shutil.rmtree(path.parent)
    for number in (1, 2):
        elsewhere = str(tmp_path / "temporary" / f"best.{number}.h5")
        found, error = saver.finish(after(40))
        assert found == elsewhere and load(found).last.update == 40
        assert str(error) == (
            f"cannot save {path}: No such file or directory; create its folder first; "
            f"the training is saved in {elsewhere} instead"
        )


def test_or_nowhere(path, saver, monkeypatch):
    monkeypatch.setattr(os, "fsync", failing(FULL))
    found, error = saver.finish(after(40))
    assert found is None and isinstance(error, FastrnnError)
    assert str(error).endswith("free some disk space; nor beside it or in the temporary folder")
    assert "No space left" in refusal(saver.destination.rescue, after(40))
    assert os.listdir(path.parent) == []
