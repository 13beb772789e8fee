"""Trainings that go on, on the command line, and the signals that end or save them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import COMMAND, TEXT, error_of, run_here

from fastrnn.storage.checkpoint import Checkpoint, load

EXAMPLE = ("train", "book.txt", "--hidden", "7", "--seq-length", "5", "--sample-every", "1000")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "book.txt").write_text(TEXT)
    return tmp_path


@pytest.fixture
def half(folder: Path) -> Path:
    """A folder with a training that is not complete."""
    assert run_here(folder, *EXAMPLE, "--updates", "400", "--log", "log").returncode == 0
    return folder


def result(checkpoint: Checkpoint) -> tuple:
    last = checkpoint.last
    samples = checkpoint.history.samples
    return last.smooth_loss, last.parameters["W"].tobytes(), last.generator, samples


def test_resumed_is_the_same(half: Path) -> None:
    ended = run_here(
        half, "train", "--resume", "best.h5", "--updates", "1200", "--ckpt", "./best.h5"
    )
    assert ended.returncode == 0
    assert ended.stderr.startswith("Resumed after update 400 of 1,200.\nbook.txt: 1,500 characters")
    assert "\n1,200 updates in " in ended.stdout
    run_here(half, *EXAMPLE, "--updates", "1200", "--ckpt", "whole.h5", "--log", "whole")
    assert result(load(half / "best.h5")) == result(load(half / "whole.h5"))
    rows = [json.loads(line) for line in (half / "log").read_text().splitlines()]
    assert [row["event"] for row in rows if row["event"] != "progress"] == [
        "start", "sample", "resume", "sample", "end",
    ]  # fmt: skip
    ended = run_here(half, "train", "--resume", "best.h5")
    assert (
        ended.stderr == "best.h5 is complete, after 1,200 updates; give more epochs or updates.\n"
    )
    assert (ended.returncode, ended.stdout) == (0, "")
    assert sorted(os.listdir(half)) == ["best.h5", "book.txt", "log", "whole", "whole.h5"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            ("--hidden", "8"),
            "--hidden is 8, but the training in best.h5 has 7; leave it out, or start another "
            "training",
        ),
        (("--cell", "lstm"), "--cell is lstm, but the training in best.h5 has rnn; leave it out"),
        (("--preset", "small"), "--cell is lstm, but the training in best.h5 has rnn; leave it"),
        (("--sample-every", "9"), "--sample-every is 9, but the training in best.h5 has 1000; "),
        (("--ckpt", "new.h5"), "--ckpt is new.h5, but the training in best.h5 has best.h5; leave"),
        (
            ("--patience", "3"),
            "--patience is 3, but the training in best.h5 has none; leave it out",
        ),
        (
            ("--keep", str(2**63)),
            f"--keep is {2**63}, but must be a whole number from 0 to {2**63 - 1}",
        ),
        (("--encoding", "latin-1"), "--encoding is iso8859-1, but the training in best.h5 has utf"),
        (
            ("--overwrite",),
            "--overwrite is of no use with --resume, which goes on with what is in best.h5; leave "
            "one of the two out",
        ),
        (("--init-from", "best.h5"), "--init-from is of no use with --resume, which goes on with "),
        (
            ("--updates", "399"),
            "--updates is 399, but the training in best.h5 has made 400 updates, 1.34 epochs; "
            "give more, or leave it out",
        ),
        (("--epochs", "1"), "--epochs is 1, but the training in best.h5 has made 400 updates, "),
        (("--ckpt-every", "nan"), "--ckpt-every is nan, but must be"),
    ],
    ids=str,
)
def test_contradictions(half: Path, options: tuple[str, ...], problem: str) -> None:
    before = (half / "best.h5").read_bytes()
    assert error_of(half, "train", "--resume", "best.h5", *options, code=2).startswith(problem)
    assert (half / "best.h5").read_bytes() == before


def test_more_updates_do_not_help_without_patience(folder: Path) -> None:
    held_out = ("--val-fraction", "0.1", "--val-every", "10", "--patience", "1", "--quiet")
    run_here(folder, *EXAMPLE, *held_out, "--learning-rate", "5")
    done = load(folder / "best.h5").last.update
    ended = run_here(folder, "train", "--resume", "best.h5", "--updates", "9000")
    assert ended.stderr == (
        f"best.h5 is complete, after {done} updates, as 1 validation had no lower loss; another "
        "training can start from its model, with --init-from best.h5.\n"
    )


def test_the_folder_of_the_log_is_gone(folder: Path) -> None:
    (folder / "logs").mkdir()
    run_here(folder, *EXAMPLE, "--updates", "9", "--log", "logs/log")
    shutil.rmtree(folder / "logs")
    resumed = ("train", "--resume", "best.h5", "--updates", "19")
    assert error_of(folder, *resumed) == (
        f"cannot write {folder / 'logs' / 'log'}: there is no such folder; choose another path "
        "with --log"
    )
    assert run_here(folder, *resumed, "--log", "log").returncode == 0


def test_the_log_of_a_training_in_its_folder_of_texts(folder: Path) -> None:
    assert (
        run_here(folder, "train", ".", *EXAMPLE[2:], "--updates", "9", "--log", "log").returncode
        == 0
    )
    resumed = ("train", "--resume", "best.h5", "--updates")
    assert run_here(folder, *resumed, "19", ".").returncode == 0
    assert (folder / "log").read_text().count('"resume"') == 1
    assert error_of(folder, *resumed, "29", "--log", "book.txt", "book.txt") == (
        "cannot write book.txt: it is a checkpoint or a text in use; choose another path with --log"
    )
    ended = run_here(folder, *resumed, "29", "--log", "book.txt")
    assert ended.returncode == 1
    assert "cannot write the log book.txt: it is no log of a training, so it stays" in ended.stderr
    assert (folder / "book.txt").read_text() == TEXT


def test_a_text_that_cannot_be_read_again(folder: Path) -> None:
    piped = ("train", "-", *EXAMPLE[2:], "--updates")
    ended = run_here(folder, *piped, "20", input=TEXT.encode())
    assert ended.returncode == 0
    assert error_of(folder, "train", "--resume", "best.h5", "--updates", "30") == (
        "the text of best.h5 came from standard input; give it once more, as in fastrnn train "
        "--resume best.h5 TEXT"
    )
    again = ("train", "--resume", "best.h5", "--quiet", "--updates")
    assert run_here(folder, *again, "30", "-", input=TEXT.encode()).returncode == 0
    assert run_here(folder, *again, "40", "book.txt").returncode == 0
    assert run_here(folder, *again, "50").returncode == 0
    assert load(folder / "best.h5").last.update == 50
    (folder / "other.txt").write_text(TEXT[1:])
    assert error_of(folder, *again, "60", "other.txt").startswith(
        "best.h5 was trained on book.txt, 1,500 characters, but other.txt, 1,499 characters, is not"
    )


# Signals


def start(folder: Path, *options: str) -> subprocess.Popen:
    """A long training that has made some updates."""
    arguments = (*EXAMPLE, "--updates", str(10**9), "--sample-every", "0", "--log", "log", *options)
    training = subprocess.Popen(
        [COMMAND, *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not ((folder / "log").exists() and "progress" in (folder / "log").read_text()):
        assert training.poll() is None, training.stderr.read()
        time.sleep(0.02)
    return training


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signal_tells_how_to_resume(folder: Path, number: int, code: int) -> None:
    training = start(folder, "--ckpt", "my best.h5")
    training.send_signal(number)
    *_, line = training.communicate(timeout=100)[1].removesuffix("Interrupted.\n").splitlines()
    assert line == "Go on with: fastrnn train --resume 'my best.h5'"
    assert training.returncode == code
    done = load(folder / "my best.h5").last.update
    again = ("train", "--resume", "my best.h5", "--quiet", "--updates", str(done + 7))
    assert run_here(folder, *again).returncode == 0
    assert load(folder / "my best.h5").last.update == done + 7


def test_signals_while_the_checkpoint_is_written(folder: Path) -> None:
    """Two thousand signals leave a whole checkpoint, which goes on."""
    training = start(folder, "--ckpt-every", "0.001")
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    for turn in range(2000):
        if training.poll() is not None:
            break
        training.send_signal(numbers[turn % 3])
    training.communicate(timeout=100)
    # After the training has ended a signal may end the process itself.
    assert training.returncode in (*(128 + one for one in numbers), *(-one for one in numbers))
    done = load(folder / "best.h5").last.update
    assert (
        run_here(
            folder, "train", "--resume", "best.h5", "--quiet", "--updates", str(done + 1)
        ).returncode
        == 0
    )
    assert sorted(os.listdir(folder)) == ["best.h5", "book.txt", "log"]


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no SIGUSR1")
def test_a_signal_to_save(folder: Path) -> None:
    training = start(folder, "--ckpt-every", "1000")
    assert not (folder / "best.h5").exists()
    training.send_signal(signal.SIGUSR1)
    while not (folder / "best.h5").exists():
        assert training.poll() is None
        time.sleep(0.02)
    saved = load(folder / "best.h5").last.update
    training.send_signal(signal.SIGTERM)
    assert f"Saved after update {saved:,}, as SIGUSR1 asked.\n" in training.communicate()[1]
    assert training.returncode == 143
    assert load(folder / "best.h5").last.update > saved


COMPILING = """
import sys, time
from fastrnn.cli import main
from fastrnn.training import loop

def compile_for_long(*_):
    print(flush=True)
    for _ in range(5000):
        time.sleep(0.02)

loop.Trainer = compile_for_long
main()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no SIGUSR1")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_while_kernels_are_compiled(folder: Path, number: int, code: int) -> None:
    """That which asks to save ends no training that has nothing yet; the others leave nothing."""
    command = [sys.executable, "-c", COMPILING, *EXAMPLE]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE) as training:
        training.stdout.readline()
        assert sorted(os.listdir(folder)) == ["best.h5.lock", "book.txt"]
        training.send_signal(signal.SIGUSR1)
        time.sleep(0.1)
        training.send_signal(number)
        assert training.wait(100) == code
    assert os.listdir(folder) == ["book.txt"]
