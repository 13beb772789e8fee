"""Standard output, standard error and logs that are closed, full, left or not read."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import COMMAND, EXAMPLE, TEXT, run

import fastrnn
from fastrnn.storage.checkpoint import load

pytestmark = pytest.mark.skipif(os.name != "posix", reason="these situations are POSIX's")

SHORT = (*EXAMPLE, "--updates", "3000", "--sample-every", "1000")
# A text with the sequences that colour a terminal, clear it, and name its window.
DRIVING = "\x1b[31mred\x1b[0m\tand \x1b[2J\x1b]0;title\x07 \x9b1m\x7f so on\n" * 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a text.txt").write_text(TEXT)
    return tmp_path


@pytest.fixture(scope="module")
def driving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("driving")
    (folder / "text").write_text(DRIVING, encoding="utf-8")
    ended = run(folder, "train", "text", "--updates", "600", "--quiet")
    assert ended.returncode == 0, ended.stderr
    return folder


def shell(folder: Path, line: str):
    """A line of shell; $fastrnn is the command."""
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=os.environ | {"fastrnn": COMMAND},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )


TRAIN = '"$fastrnn" train ' + " ".join(f"'{argument}'" for argument in SHORT)


@pytest.mark.parametrize(
    ("redirection", "code", "warnings"),
    [
        ("2>&-", 0, 0),
        ("2>/dev/full", 0, 0),
        (">&-", 1, 1),
        (">/dev/full", 1, 1),
        ("<&- >&- 2>&-", 1, 0),
        ("--log /dev/full", 1, 1),
        ("--log /dev/full >/dev/full 2>/dev/full", 1, 0),
    ],
)
def test_training_goes_on(folder: Path, redirection: str, code: int, warnings: int) -> None:
    ended = shell(folder, f"{TRAIN} {redirection}")
    assert load(folder / "best.h5").last.update == 3000
    assert ended.returncode == code
    assert ended.stderr.count("Warning: cannot write") == warnings
    assert "Traceback" not in ended.stderr and "xception" not in ended.stderr


def test_training_goes_on_without_its_reader(folder: Path) -> None:
    ended = shell(folder, f"{TRAIN} | head -n 1; exit ${{PIPESTATUS[0]}}")
    assert load(folder / "best.h5").last.update == 3000
    assert ended.returncode == 1
    assert ended.stdout.startswith("iter = 1,") and ended.stdout.count("\n") == 1
    assert ended.stderr.count("Warning: cannot write the output any more: Broken pipe\n") == 1


def check(ended, code: int) -> None:
    assert ended.returncode == code
    if code:
        assert re.fullmatch("Error: cannot write the output: [^\n]+\n", ended.stderr)
    else:
        assert ended.stdout and not ended.stderr


@pytest.mark.parametrize(
    ("command", "redirection", "code"),
    [("synth", "2>&-", 0), ("synth", ">&-", 1), ("info", ">/dev/full", 1)],
)
def test_other_commands(driving: Path, command: str, redirection: str, code: int) -> None:
    check(shell(driving, f'"$fastrnn" {command} best.h5 {redirection}'), code)


def test_gradcheck(folder: Path) -> None:
    (folder / "small.py").write_text(
        "from fastrnn import cli, gradcheck\n"
        "gradcheck.REPORTED = {5: {'b': 1.0, 'c': 1.0}}\n"
        "cli.main()"
    )
    check(shell(folder, f'"{sys.executable}" small.py gradcheck >/dev/full'), 1)


@pytest.mark.parametrize("arguments", ["--help", "--version", "train --help"])
def test_help_into_a_full_device(folder: Path, arguments: str) -> None:
    ended = shell(folder, f'"$fastrnn" {arguments} >/dev/full')
    assert ended.returncode == 1
    assert ended.stderr == "Error: cannot write the output: No space left on device\n"


# What the model wrote


def test_a_pipe_gets_what_was_drawn(driving: Path) -> None:
    drawn = fastrnn.load(driving / "best.h5").sample(100, seed=1)
    assert "\x1b[" in drawn
    arguments = [COMMAND, "synth", driving / "best.h5", "--seed", "1", "--length", "100"]
    assert subprocess.check_output(arguments) == drawn.encode() + b"\n"

    training = [COMMAND, "train", "text", "--updates", "9", "--ckpt", "other.h5"]
    shown = subprocess.check_output(training, cwd=driving, stderr=subprocess.DEVNULL)
    sample = load(driving / "other.h5").history.samples[0].text
    assert "\x1b" in sample and sample.encode() in shown


def test_a_terminal_gets_no_control_characters(driving: Path) -> None:
    drawn = fastrnn.load(driving / "best.h5").sample(400, seed=1)
    master, slave = pty.openpty()
    arguments = [COMMAND, "synth", driving / "best.h5", "--seed", "1", "--length", "400"]
    synth = subprocess.Popen(arguments, stdout=slave)
    os.close(slave)
    shown = b""
    try:
        while piece := os.read(master, 10000):
            shown += piece
    except OSError:  # Linux: all has been read
        pass
    os.close(master)
    assert synth.wait(100) == 0
    for character in "\x1b", "\x07", "\x7f", "\x9b":
        assert character in drawn
        drawn = drawn.replace(character, f"\\x{ord(character):02x}")
    assert shown.decode() == drawn.replace("\n", "\r\n") + "\r\n"


# Signals


def stop(training: subprocess.Popen, number: int) -> float:
    """How long the training goes on after the signal."""
    start = time.monotonic()
    training.send_signal(number)
    training.wait(30)
    return time.monotonic() - start


def wait_for(condition, training: subprocess.Popen) -> None:
    for _ in range(3000):
        if condition():
            return
        assert training.poll() is None
        time.sleep(0.02)
    pytest.fail("what the test waits for does not happen")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_while_nobody_reads_the_samples(folder: Path, number: int, code: int) -> None:
    arguments = (*EXAMPLE, "--updates", "1000000", "--sample-every", "1", "--ckpt-every", "0.05")
    training = subprocess.Popen(
        [COMMAND, "train", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )

    def asleep() -> bool:
        before = saved_at()
        time.sleep(1)
        return before is not None and saved_at() == before

    def saved_at() -> int | None:
        return (folder / "best.h5").stat().st_mtime_ns if (folder / "best.h5").exists() else None

    wait_for(asleep, training)
    before = saved_at()
    stop(training, number)
    training.stdout.close()
    assert training.returncode == code
    assert saved_at() != before and load(folder / "best.h5").last.update > 0
    assert sorted(os.listdir(folder)) == ["a text.txt", "best.h5"]


def test_signal_while_a_log_has_no_reader(folder: Path) -> None:
    os.mkfifo(folder / "log")
    training = subprocess.Popen(
        [COMMAND, "train", *EXAMPLE, "--updates", "1000000", "--log", "log"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert training.stderr.readline().startswith(b"a text.txt: ")
    time.sleep(0.5)
    stop(training, signal.SIGTERM)
    training.stderr.close()
    assert training.returncode == 143
    assert load(folder / "best.h5").last.update == 0


def test_signal_during_a_long_sample(folder: Path) -> None:
    training = subprocess.Popen(
        [COMMAND, "train", *EXAMPLE, "--sample-every", "7", "--sample-length", "1000000000"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert training.stderr.readline().startswith(b"a text.txt: ")
    time.sleep(0.5)
    stop(training, signal.SIGINT)
    training.stderr.close()
    assert training.returncode == 130
    assert load(folder / "best.h5").history.samples == []


@pytest.mark.parametrize("delay", [0.0, 0.3, 1.0])
def test_many_interruptions(folder: Path, delay: float) -> None:
    # Before its first line a Python program can only end with a traceback.
    program = (
        "import os, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); os.write(2, b'.\\n')\n"
        "from fastrnn.__main__ import main; main()"
    )
    arguments = ["train", *EXAMPLE, "--updates", "100000000", "--quiet"]
    training = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], cwd=folder, stderr=subprocess.PIPE, text=True
    )
    assert training.stderr.readline() == ".\n"
    time.sleep(delay)
    for _ in range(30):
        training.send_signal(signal.SIGINT)
        time.sleep(0.01)
    _, errors = training.communicate(timeout=30)
    assert training.returncode in (130, -signal.SIGINT)
    assert errors in ("", "Interrupted.\n")


def test_help_without_docstrings(folder: Path) -> None:
    for command in ("", "train", "synth"):
        plain = run(folder, *command.split(), "--help").stdout
        assert run(folder, *command.split(), "--help", PYTHONOPTIMIZE="2").stdout == plain
        assert "Example:" in plain
