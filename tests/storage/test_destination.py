"""What a training replaces, what it keeps, and what it never touches."""

import errno
import os
import re
import stat
from dataclasses import replace

import pytest
from test_checkpoint import example, failing, refusal

from fastrnn.storage import atomic
from fastrnn.storage.checkpoint import load, save
from fastrnn.storage.destination import Destination

CONTENTS = (
    "a vanilla RNN, 5 hidden units, 107 parameters, float32, smooth loss 41.2500 after update 20"
)


def checkpoint(seconds):
    """A checkpoint that is told from others by its seconds."""
    return replace(example(), seconds=float(seconds))


def contents(folder):
    """Of every file of a folder: the seconds of a checkpoint, or the text."""
    return {path.name: content(path) for path in folder.iterdir()}


def content(path):
    data = path.read_bytes()
    return load(path).seconds if data.startswith(b"\x93FASTRNN") else data.decode()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "best.h5"


@pytest.fixture(params=[True, False], ids=["links", "no links"])
def links(request, monkeypatch):
    """With hard links, and as on a file system without."""
    if not request.param:
        error = OSError(errno.EPERM, "Operation not permitted")
        monkeypatch.setattr(os, "link", failing(error))


# What is found at the start


def test_free_path(path, tmp_path, links):
    destination = Destination(path)
    destination.check(checkpoint(1), growth=10**5)
    assert destination.notices == []
    assert os.listdir(tmp_path) == []
    for seconds in (1, 2):
        assert destination.save(checkpoint(seconds)) is None
        assert contents(tmp_path) == {"best.h5": seconds}
    assert destination.path == str(path)


def test_checkpoint_that_is_there_is_kept(path, tmp_path, links):
    save(path, checkpoint(1))
    destination = Destination(path)
    assert destination.notices == [
        f"{path} holds {CONTENTS}; it will be kept as {tmp_path / 'best.1.h5'}"
    ]
    destination.check(checkpoint(2))
    assert contents(tmp_path) == {"best.h5": 1}
    for seconds in (2, 3):
        assert destination.save(checkpoint(seconds)) is None
        assert contents(tmp_path) == {"best.h5": seconds, "best.1.h5": 1}
    assert destination.path == str(path)

    destination = Destination(path)
    assert destination.notices[0].endswith(f"kept as {tmp_path / 'best.2.h5'}")
    destination.save(checkpoint(4))
    assert contents(tmp_path) == {"best.h5": 4, "best.1.h5": 1, "best.2.h5": 3}


def test_overwrite(path, tmp_path, links):
    save(path, checkpoint(1))
    destination = Destination(path, overwrite=True)
    assert destination.notices == [f"{path} holds {CONTENTS}; it will be replaced"]
    destination.check(checkpoint(2))
    assert contents(tmp_path) == {"best.h5": 1}
    assert destination.save(checkpoint(2)) is None
    assert contents(tmp_path) == {"best.h5": 2}


@pytest.mark.parametrize("overwrite", [False, True])
def test_read_only_file_stays(path, tmp_path, overwrite):
    save(path, checkpoint(1))
    path.chmod(0o444)
    destination = Destination(path, overwrite)
    beside = tmp_path / "best.1.h5"
    assert destination.notices == [
        f"{path} is read-only; it stays as it is, and this training is saved in {beside}"
    ]
    destination.check(checkpoint(2))
    for seconds in (2, 3):
        assert destination.save(checkpoint(seconds)) is None
        assert contents(tmp_path) == {"best.h5": 1, "best.1.h5": seconds}
    assert destination.path == str(beside)
    assert beside.stat().st_mode & stat.S_IWUSR


def test_file_of_another_user_in_a_sticky_folder(path, tmp_path, monkeypatch):
    save(path, checkpoint(1))
    tmp_path.chmod(0o1777)
    stranger = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: stranger)
    assert "belongs to another user; it stays as it is" in Destination(path).notices[0]


def test_damaged_checkpoint_is_kept(path, tmp_path):
    save(path, checkpoint(1))
    damaged = path.read_bytes()[:-9]
    path.write_bytes(damaged)
    destination = Destination(path)
    assert destination.notices == [
        f"{path} holds a checkpoint that cannot be loaded; "
        f"it will be kept as {tmp_path / 'best.1.h5'}"
    ]
    destination.save(checkpoint(2))
    assert load(path).seconds == 2
    assert (tmp_path / "best.1.h5").read_bytes() == damaged


def test_refused_at_the_start(path, tmp_path):
    path.write_text("a poem")
    for overwrite in (False, True):
        assert refusal(Destination, path, overwrite) == (
            f"cannot save {path}: there is a file that is no checkpoint; "
            "choose another path, or move it away"
        )
    assert refusal(Destination, tmp_path) == (
        f"cannot save {tmp_path}: Is a directory; name a file"
    )
    assert "name a file" in refusal(Destination, f"{tmp_path}/new/")
    missing = tmp_path / "missing" / "best.h5"
    assert refusal(Destination, missing) == (
        f"cannot save {missing}: No such file or directory; create its folder first"
    )
    assert "Not a directory" in refusal(Destination, path / "best.h5")
    assert "File name too long" in refusal(Destination, tmp_path / ("x" * 256))
    os.mkfifo(tmp_path / "pipe")
    assert "Invalid argument" in refusal(Destination, tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    assert "symbolic links" in refusal(Destination, tmp_path / "loop")
    assert sorted(os.listdir(tmp_path)) == ["best.h5", "loop", "pipe"]
    assert path.read_text() == "a poem"


def test_check_refuses_what_save_would(path, tmp_path):
    large = checkpoint(1)
    large.corpus.name = "x" * 70000
    assert "corpus is longer than 65536 bytes" in refusal(Destination(path).check, large)
    assert os.listdir(tmp_path) == []


def after(update):
    return replace(example(), last=replace(example().last, update=update))


def test_the_last_ones_are_kept(path, tmp_path, links):
    """Whatever else has such a name stays, and an update that is saved twice is kept once."""
    (tmp_path / "best.update-50.h5").write_text("mine")
    save(path, checkpoint(1))
    destination = Destination(path, keep=2)
    seen = []
    for update in (40, 50, 60, 60, 70):
        destination.save(after(update))
        seen.append(sorted(set(os.listdir(tmp_path)) - {"best.h5", "best.1.h5"}))
    mine, forties = "best.update-50.h5", "best.update-40.h5"
    fifties, sixties = "best.update-50.1.h5", "best.update-60.h5"
    assert seen == [
        [mine],
        [forties, mine],
        [forties, fifties, mine],
        [forties, fifties, mine],
        [fifties, mine, sixties],
    ]
    assert [load(tmp_path / name).last.update for name in (fifties, sixties)] == [50, 60]
    assert (load(path).last.update, load(tmp_path / "best.1.h5").seconds) == (70, 1)

    (tmp_path / fifties).write_text("mine by now")
    destination.save(after(80))
    assert (tmp_path / fifties).read_text() == "mine by now"


def test_those_kept_before_an_interruption_count(path, tmp_path):
    destination = Destination(path, keep=3)
    for update in (40, 90, 100, 110):
        destination.save(after(update))
    other = replace(after(50), config=replace(example().config, seed=9))
    save(tmp_path / "best.update-50.h5", other)  # of another training, and a later one
    save(tmp_path / "best.update-120.h5", after(120))
    os.link(path, tmp_path / "best.update-110.h5")  # as a kill leaves it
    destination = Destination(path, overwrite=True, keep=2)
    destination.go_on(load(path))
    destination.save(replace(after(130), config=replace(example().config, updates=200)))
    kept = {int(file.name.split("-")[1][:-3]) for file in tmp_path.glob("best.update-*.h5")}
    assert kept == {50, 100, 110, 120}
    assert load(path).last.update == 130


def test_none_is_removed_before_the_newest_is_safe(path, tmp_path, monkeypatch):
    destination = Destination(path, keep=1)
    for update in (40, 50):
        destination.save(after(update))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing(OSError(errno.EIO, "Input/output error")))
        refusal(destination.save, after(60))
    assert {load(file).last.update for file in tmp_path.iterdir()} == {40, 50}
    destination.save(after(70))
    assert {load(file).last.update for file in tmp_path.iterdir()} == {50, 70}


# What happens meanwhile


def test_file_that_appears(path, tmp_path, links):
    destination = Destination(path)
    path.write_text("a poem")
    beside = tmp_path / "best.1.h5"
    assert destination.save(checkpoint(1)) == (
        f"another file has come to {path}; "
        f"it stays as it is, and this training is saved in {beside}"
    )
    assert destination.save(checkpoint(2)) is None
    assert destination.path == str(beside)
    assert contents(tmp_path) == {"best.h5": "a poem", "best.1.h5": 2}

    beside.write_text("prose")
    assert f"another file has come to {beside}; " in destination.save(checkpoint(3))
    assert contents(tmp_path) == {"best.h5": "a poem", "best.1.h5": "prose", "best.2.h5": 3}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("saves", [0, 1])
def test_checkpoint_of_somebody_else(path, tmp_path, saves, overwrite):
    save(path, checkpoint(1))
    destination = Destination(path, overwrite)
    for _ in range(saves):
        destination.save(checkpoint(2))
    before = contents(tmp_path)
    save(path, checkpoint(9))
    assert "another file has come" in destination.save(checkpoint(3))
    after = contents(tmp_path)
    assert after.pop(os.path.basename(destination.path)) == 3
    assert after == before | {"best.h5": 9}


def test_older_state_that_the_user_puts_back(path, tmp_path):
    destination = Destination(path)
    destination.save(checkpoint(1))
    good = tmp_path / "good.h5"
    good.write_bytes(path.read_bytes())
    destination.save(checkpoint(2))
    good.rename(path)
    destination.save(checkpoint(3))
    assert contents(tmp_path) == {"best.h5": 1, "best.1.h5": 3}


@pytest.mark.parametrize("what", ["folder", "link", "pipe", "dangling link"])
def test_what_is_no_file_appears(path, tmp_path, what):
    destination = Destination(path)
    destination.save(checkpoint(1))
    path.rename(tmp_path / "moved.h5")
    make = {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path)}
    make.get(what, lambda: path.symlink_to("moved.h5" if what == "link" else "none"))()
    before = os.lstat(path)
    assert "another file has come" in destination.save(checkpoint(2))
    assert os.path.samestat(os.lstat(path), before)
    assert load(tmp_path / "moved.h5").seconds == 1
    assert load(tmp_path / "best.1.h5").seconds == 2
    assert sorted(os.listdir(tmp_path)) == ["best.1.h5", "best.h5", "moved.h5"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("saves", [0, 1])
def test_made_read_only_meanwhile(path, tmp_path, saves, overwrite):
    save(path, checkpoint(1))
    destination = Destination(path, overwrite)
    for _ in range(saves):
        destination.save(checkpoint(2))
    before = contents(tmp_path)
    path.chmod(0o444)
    assert f"{path} is read-only; it stays as it is" in destination.save(checkpoint(3))
    after = contents(tmp_path)
    assert after.pop(os.path.basename(destination.path)) == 3
    assert after == before


def test_file_that_vanishes(path, tmp_path, links):
    destination = Destination(path)
    for seconds in (1, 2):
        assert destination.save(checkpoint(seconds)) is None
        assert contents(tmp_path) == {"best.h5": seconds}
        path.unlink()
    tmp_path.rmdir()
    assert refusal(destination.save, checkpoint(3)).endswith("create its folder first")
    tmp_path.mkdir()
    assert destination.save(checkpoint(3)) is None


def test_kept_under_another_name_than_announced(path, tmp_path, links):
    save(path, checkpoint(1))
    destination = Destination(path)
    first, second = tmp_path / "best.1.h5", tmp_path / "best.2.h5"
    first.write_text("mine")
    assert destination.save(checkpoint(2)) == (
        f"what {path} held is kept as {second}, because {first} is there by now"
    )
    assert destination.save(checkpoint(3)) is None
    assert contents(tmp_path) == {"best.h5": 3, "best.1.h5": "mine", "best.2.h5": 1}


def test_two_trainings_at_once(path, tmp_path, links):
    save(path, checkpoint(1))
    one, other = Destination(path), Destination(path, overwrite=True)
    assert one.save(checkpoint(2)) is None
    assert "another file has come" in other.save(checkpoint(3))
    assert one.save(checkpoint(4)) is None
    assert contents(tmp_path) == {"best.h5": 4, "best.1.h5": 1, "best.2.h5": 3}


def test_file_that_comes_between_look_and_save(path, tmp_path, monkeypatch, links):
    destination = Destination(path)
    claim = atomic.claim

    def late(source, target):
        if not path.exists():
            path.write_text("a poem")
        claim(source, target)

    monkeypatch.setattr(atomic, "claim", late)
    assert "another file has come" in destination.save(checkpoint(1))
    assert contents(tmp_path) == {"best.h5": "a poem", "best.1.h5": 1}


# Failures and interruptions


def test_failed_save_changes_nothing_and_is_tried_again(path, tmp_path, monkeypatch):
    save(path, checkpoint(1))
    destination = Destination(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(OSError(errno.ENOSPC, "No space left on device")))
        assert refusal(destination.save, checkpoint(2)) == (
            f"cannot save {path}: No space left on device; free some disk space"
        )
    assert contents(tmp_path) == {"best.h5": 1}
    assert destination.save(checkpoint(3)) is None
    assert contents(tmp_path) == {"best.h5": 3, "best.1.h5": 1}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("saves", "function"),
    [
        *((0, name) for name in ("fsync", "chmod", "link", "replace", "unlink")),
        *((1, name) for name in ("fsync", "chmod", "replace", "unlink")),
    ],
)
def test_interruption_anywhere(path, tmp_path, monkeypatch, saves, function, when):
    save(path, checkpoint(1))
    destination = Destination(path)
    for _ in range(saves):
        destination.save(checkpoint(2))
    original = getattr(os, function)

    def interrupted(*arguments):
        try:
            if when == "after":
                original(*arguments)
        finally:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, function, interrupted)
        with pytest.raises(KeyboardInterrupt):
            destination.save(checkpoint(3))
    assert load(path).seconds in (1, 2, 3)
    for seconds in (4, 5):
        destination.save(checkpoint(seconds))
    Destination(path)  # removes what an interrupted removal has left
    assert destination.path == str(path)
    files = contents(tmp_path)
    assert files.pop("best.h5") == 5
    assert set(files.values()) == {1}


def test_no_moment_without_a_file(path, tmp_path, monkeypatch):
    save(path, checkpoint(1))
    destination = Destination(path)
    seen = []

    def looking(call):
        def wrapper(*arguments):
            seen.append(load(path).seconds)
            call(*arguments)
            seen.append(load(path).seconds)

        return wrapper

    for name in ("link", "replace", "chmod"):
        monkeypatch.setattr(os, name, looking(getattr(os, name)))
    destination.save(checkpoint(2))
    destination.save(checkpoint(3))
    assert seen == sorted(seen) and set(seen) == {1, 2, 3}


def test_permissions(path, tmp_path):
    old = os.umask(0o027)
    try:
        destination = Destination(path)
        destination.save(checkpoint(1))
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        destination.save(checkpoint(2))
        Destination(path).save(checkpoint(3))
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
        assert stat.S_IMODE((tmp_path / "best.1.h5").stat().st_mode) == 0o604
    finally:
        os.umask(old)


# Names


def test_symbolic_links_stay(path, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    path.symlink_to("folder/real.h5")
    destination = Destination(path)
    assert destination.notices == []
    destination.save(checkpoint(1))
    destination = Destination(path)
    assert destination.notices[0].endswith(f"kept as {folder / 'real.1.h5'}")
    destination.save(checkpoint(2))
    assert path.is_symlink() and destination.path == str(path)
    assert contents(folder) == {"real.h5": 2, "real.1.h5": 1}

    dangling = tmp_path / "dangling"
    dangling.symlink_to("folder/new.h5")
    destination = Destination(dangling)
    destination.save(checkpoint(3))
    assert dangling.is_symlink() and destination.path == str(dangling)
    assert load(folder / "new.h5").seconds == 3


def test_paths_as_they_are_given(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    save("folder/best.h5", checkpoint(1))
    for given in ("folder/best.h5", b"folder/best.h5"):
        destination = Destination(given)
        assert destination.notices == [
            f"folder/best.h5 holds {CONTENTS}; it will be kept as folder/best.1.h5"
        ]
        assert destination.path == "folder/best.h5"
    monkeypatch.chdir("folder")
    destination.save(checkpoint(2))  # where it was at the start
    assert contents(tmp_path / "folder") == {"best.h5": 2, "best.1.h5": 1}


@pytest.mark.parametrize("character", ["a", "é", "€", "\U0001f600", "\udcff"])
def test_names_of_any_length(tmp_path, character):
    size = len(os.fsencode(character))
    for length in (1, 200, *range(230, 253)):
        if length % size:
            continue
        folder = tmp_path / str(length)
        folder.mkdir()
        name = character * (length // size) + ".h5"
        Destination(folder / name).save(checkpoint(1))
        destination = Destination(folder / name)
        if length in (1, 200, 252):
            destination.check(checkpoint(1))
            destination.save(checkpoint(2))
            (beside,) = set(os.listdir(folder)) - {name}
            assert re.fullmatch(f"{character}+\\.1\\.h5", beside)
            assert contents(folder) == {name: 2, beside: 1}


def test_numbered_names(tmp_path, monkeypatch):
    def names(name):
        return [os.path.basename(atomic.numbered(str(tmp_path / name), n)) for n in (1, 23)]

    assert names("best.h5") == ["best.1.h5", "best.23.h5"]
    assert names("best") == ["best.1", "best.23"]
    assert names("a.b.h5") == ["a.b.1.h5", "a.b.23.h5"]
    assert names(".hidden") == [".hidden.1", ".hidden.23"]
    assert names("x." + "y" * 253) == ["x." + "y" * 251 + ".1", "x." + "y" * 250 + ".23"]
    monkeypatch.setattr(os, "pathconf", lambda folder, name: 9)
    assert names("longer.h5") == ["long.1.h5", "lon.23.h5"]


# What killed processes leave


TOKEN = "0123456789abcdef"


def test_leftovers_are_removed(path, tmp_path):
    save(path, checkpoint(1))
    data = path.read_bytes()
    for size in (0, 1, 7, 8, 88, 511, 512, 513, len(data)):
        leftover = tmp_path / f"best.h5.{TOKEN}.tmp"
        leftover.write_bytes(data[:size])
        Destination(path)
        assert os.listdir(tmp_path) == ["best.h5"], size


def test_what_is_no_leftover_stays(path, tmp_path):
    save(path, checkpoint(1))
    data = path.read_bytes()
    other = tmp_path / "other"
    other.write_bytes(data)
    for name in (
        f"best.h5.{TOKEN}.tmp.h5",
        f"best.h5.{TOKEN}",
        f"best.h5.{TOKEN[1:]}.tmp",
        f"best.h5.{TOKEN.upper()}.tmp",
        f"best_h5.{TOKEN}.tmp",
        f"other.h5.{TOKEN}.tmp",
        f"my.best.h5.{TOKEN}.tmp",
    ):
        (tmp_path / name).write_bytes(data)

    def temporary(number):
        return tmp_path / f"best.h5.{number:016x}.tmp"

    altered = data[:100] + b"?" + data[101:]
    for number, mine in enumerate([b"a poem", b"\x93FAST!", data[1:], altered, altered[:512]]):
        temporary(number).write_bytes(mine)
    temporary(10).mkdir()
    temporary(11).symlink_to(other)
    os.mkfifo(temporary(12))
    before = sorted(os.listdir(tmp_path))
    Destination(path)
    assert sorted(os.listdir(tmp_path)) == before
    assert other.read_bytes() == data


def test_leftovers_of_long_names(tmp_path):
    path = tmp_path / ("a" * 252 + ".h5")
    leftover = tmp_path / ("a" * 234 + f".{TOKEN}.tmp")
    leftover.touch()
    Destination(path)
    assert os.listdir(tmp_path) == []


def test_file_of_a_living_writer_stays(path, tmp_path):
    with atomic.temporary_file(str(path), b"\x93FAST") as temporary:
        Destination(path)
        assert os.listdir(tmp_path) == [os.path.basename(temporary)]
    assert os.listdir(tmp_path) == []


def test_writer_whose_file_was_taken_for_a_leftover(path, tmp_path, monkeypatch):
    lock, removed = atomic._lock, []

    def late(file, wait):
        if wait and not removed:
            (name,) = os.listdir(tmp_path)
            removed.append(name)
            os.unlink(tmp_path / name)  # as `remove_leftovers` does, which holds the lock
        lock(file, wait)

    destination = Destination(path)
    monkeypatch.setattr(atomic, "_lock", late)
    destination.save(checkpoint(1))
    assert contents(tmp_path) == {"best.h5": 1} and removed


def test_no_locks(path, tmp_path, monkeypatch):
    """Nothing is removed where no lock tells that a writer is gone; saving works."""
    monkeypatch.setattr(atomic, "_lock", failing(OSError(errno.ENOLCK, "No locks available")))
    leftover = tmp_path / f"best.h5.{TOKEN}.tmp"
    leftover.touch()
    Destination(path).save(checkpoint(1))
    assert contents(tmp_path) == {"best.h5": 1, leftover.name: ""}


def test_folder_that_somebody_else_has_locked(path, tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "LOCK_SECONDS", 0.02)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        atomic._lock(folder, wait=False)
        Destination(path).save(checkpoint(1))
    finally:
        os.close(folder)
    assert contents(tmp_path) == {"best.h5": 1}
