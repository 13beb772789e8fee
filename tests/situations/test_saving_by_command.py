"""What becomes of models that are there already, on the command line."""

import os
from pathlib import Path

import pytest
from command import EXAMPLE, TEXT, run

from fastrnn.checkpoint import load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a text.txt").write_text(TEXT)
    assert run(tmp_path, "train", *EXAMPLE, "--updates", "2000", "--quiet").returncode == 0
    return tmp_path


def train(folder: Path, *options: str):
    ended = run(folder, "train", *EXAMPLE, "--updates", "3", "--sample-every", "0", *options)
    assert ended.returncode == 0
    return ended


def updates(folder: Path) -> dict[str, int]:
    return {name: load(folder / name).last.update for name in os.listdir(folder) if ".h5" in name}


def test_an_older_model_is_kept(folder: Path) -> None:
    ended = train(folder)
    first = ended.stderr.splitlines()[0]
    assert first.startswith("best.h5 holds a vanilla RNN, 7 hidden units, ")
    assert first.endswith("; it will be kept as best.1.h5")
    assert updates(folder) == {"best.h5": 3, "best.1.h5": 2000}
    train(folder, "--quiet")
    assert updates(folder) == {"best.h5": 3, "best.1.h5": 2000, "best.2.h5": 3}


def test_an_older_model_is_replaced_on_demand(folder: Path) -> None:
    ended = train(folder, "--overwrite")
    assert ended.stderr.splitlines()[0].endswith("; it will be replaced")
    assert updates(folder) == {"best.h5": 3}


@pytest.mark.parametrize("options", [["--quiet"], ["--quiet", "--overwrite"]])
def test_a_read_only_model_stays(folder: Path, options: list[str]) -> None:
    (folder / "best.h5").chmod(0o444)
    ended = train(folder, *options)
    assert ended.stderr == (
        "Warning: best.h5 is read-only; it stays as it is, and this training is saved in "
        "best.1.h5\n"
    )
    assert updates(folder) == {"best.h5": 2000, "best.1.h5": 3}


def test_the_last_model_writes(folder: Path) -> None:
    train(folder, "--learning-rate", "3", "--updates", "500")
    trained = load(folder / "best.h5")
    assert trained.best.update < trained.last.update == 500
    best, last = (
        run(folder, "synth", "best.h5", "--seed", "1", *options).stdout
        for options in ([], ["--last"])
    )
    assert best != last
