"""Every example that is shown does what it is shown for.

Those of the README, the documentation and the help are collected from there, so that none can be
forgotten, and run as they are written.
"""

import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from command import COMMAND

import fastrnn
from fastrnn.cli import cli
from fastrnn.storage.checkpoint import load

HOME = Path(__file__).parents[1]
PAGES = [HOME / "README.md", *sorted((HOME / "docs").glob("*.md"))]
# Whether a training learns is seen before its end. Their text is part of the default corpus.
LENGTH, UPDATES, EPOCHS = 60_000, 5000, 2
# Bits per character. An untrained model takes 6.7, the frequencies of the characters alone 4.6, and
# these trainings 3.2 to 3.7 at the end.
LEARNT = 4.0
OF_A_PRESET = 150  # updates, each of which reads more
# One is downloaded, and the other large. What the command makes of a name is tested in test_corpus.
NAMED = ("shakespeare", "stdlib")


def shown() -> list[str]:
    """All commands in blocks of code and in the help, each once."""
    blocks = [cli.help, *(command.help for command in cli.commands.values())]
    for page in PAGES:
        blocks += re.findall(r"^```\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
        blocks += re.findall(r"`(fastrnn [^`]+)`", page.read_text("utf-8"))
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    found = [line for line in lines if re.match(r"(cat .* \| )?fastrnn [a-z]", line)]
    return list(dict.fromkeys(found))


def command_of(line: str) -> str:
    return line.split("fastrnn ")[1].split()[0]


RESUMED = [line for line in shown() if "--resume" in line]
TRAININGS = [
    line
    for line in shown()
    if command_of(line) == "train" and "--help" not in line and line not in RESUMED
]
# gradcheck takes ten seconds; .ci/run runs it as it is shown.
ELSEWHERE = [line for line in shown() if command_of(line) in ("bench", "gradcheck")]
OTHERS = [line for line in shown() if line not in TRAININGS + RESUMED + ELSEWHERE]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the texts and the model of which the examples speak."""
    folder = tmp_path_factory.mktemp("examples")
    corpus = fastrnn.read_corpus()
    text = corpus.vocabulary.decode(corpus.codes[:LENGTH])
    (folder / "book.txt").write_text(text, encoding="utf-8")
    (folder / "more.txt").write_text(text[:1000], encoding="utf-8")
    for name in ("new.txt", "play.txt", "access.log"):
        (folder / name).write_text(text[5000:9000], encoding="utf-8")
    names = "Ada\nBen\nClara\nDora\nEmil\n" * 99
    (folder / "names.txt").write_text(names, encoding="utf-8")
    ((listing, colours),) = re.findall(
        r'^\$ python -c "(.*?)" > (\S+)$', PAGES[0].read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    with (folder / colours).open("w") as file:
        subprocess.run([sys.executable, "-c", listing], stdout=file, check=True)
    lists = fastrnn.read_corpus(folder / "names.txt")
    models = {"best.h5": corpus, "python.h5": corpus, "names.h5": lists}
    models["colours.h5"] = fastrnn.read_corpus(folder / colours)
    for name, of in models.items():
        fastrnn.train(of, updates=300, path=folder / name, observers=[])
    return folder


def run(folder: Path, line: str, *options: str) -> str:
    """What a line prints; the command in it gets some more options."""
    before, _, rest = line.rpartition("fastrnn ")
    ended = subprocess.run(
        ["sh", "-c", f'{before}"{COMMAND}" {rest} {shlex.join(options)}'],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def bits(trained: fastrnn.Checkpoint) -> float:
    """Per character: of validation, or of the last updates, as the smooth loss still tells of the
    untrained model."""
    if trained.best.validation_loss is not None:
        return trained.best.validation_loss / math.log(2)
    last, count = trained.history.smooth_loss, 200
    old = 0.999**count
    loss = (last[-1] - old * last[-1 - count]) / (1 - old)
    return loss / trained.config.loss_length / math.log(2)


def test_something_is_found() -> None:
    assert "fastrnn train --epochs 9 --ckpt best.h5" in TRAININGS
    assert {command_of(line) for line in shown()} == {*cli.commands}


@pytest.mark.parametrize("line", TRAININGS)
def test_training_learns(folder: Path, line: str) -> None:
    for name in NAMED:
        line = re.sub(rf" {name}\b", " book.txt", line)
    # One thread, as a busy machine has no second one.
    updates, epochs = (OF_A_PRESET, 9) if "--preset" in line else (UPDATES, EPOCHS)
    length = ("--updates", str(updates), "--epochs", str(epochs))
    output = ("--ckpt", "trained.h5", "--overwrite", "--quiet")
    run(folder, line, *length, *output, "--threads", "1")
    assert bits(load(folder / "trained.h5")) < LEARNT


@pytest.mark.parametrize("line", RESUMED)
def test_training_goes_on(folder: Path, tmp_path: Path, line: str) -> None:
    shutil.copy(folder / "best.h5", tmp_path)
    shutil.copy(folder / "book.txt", tmp_path)
    run(tmp_path, line, "--updates", "320", "--quiet")
    assert load(tmp_path / "best.h5").last.update == 320


@pytest.mark.parametrize("line", OTHERS)
def test_command(folder: Path, line: str) -> None:
    options = []
    if command_of(line) == "synth" and "--seed" not in line:
        options = ["--seed", "1"]
    output = run(folder, line, *options)
    if command_of(line) == "synth":
        if written := re.search(r"--output (\S+)", line):
            output = (folder / written[1]).read_text()
        lines, length = (re.search(rf"--{name} (\d+)", line) for name in ("lines", "length"))
        if lines:
            assert output.count("\n") == int(lines[1])
        else:
            assert len(output) > int(length[1] if length else 1000)


def test_bench_is_shown_with_options_it_has() -> None:
    for line in shown():
        if command_of(line) == "bench":  # what it prints is tested in test_bench
            context = click.Context(cli.commands["bench"])
            cli.commands["bench"].parse_args(context, shlex.split(line)[2:])


def test_python(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGES[0].read_text("utf-8"), re.DOTALL)
    assert example.count("epochs=3") == 1
    monkeypatch.chdir(folder)
    exec(example.replace("epochs=3", f"updates={UPDATES}, threads=1"), {})
    assert os.path.exists("loss.svg")
    assert bits(load("best.h5")) < LEARNT
