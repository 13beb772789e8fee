"""What becomes of models that are there already, on the command line."""

import os
import re
import shutil
from pathlib import Path

import pytest
from command import EXAMPLE, TEXT, run, run_here

import fastrnn
from fastrnn import Config
from fastrnn.storage.checkpoint import load
from fastrnn.storage.lock import only_training


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text and a model of it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "a text.txt").write_text(TEXT)
    config = Config(hidden=7, seq_length=5)
    corpus = fastrnn.read_corpus(folder / "a text.txt")
    fastrnn.train(corpus, config, updates=2000, path=folder / "best.h5", observers=[])
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "folder"))


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


def test_an_older_model_is_replaced_on_demand(folder: Path) -> None:
    ended = train(folder, "--overwrite")
    assert ended.stderr.splitlines()[0].endswith("; it will be replaced")
    assert updates(folder) == {"best.h5": 3}


def test_a_read_only_model_stays(folder: Path) -> None:
    (folder / "best.h5").chmod(0o444)
    ended = train(folder, "--quiet", "--overwrite")
    assert ended.stderr == (
        "Warning: best.h5 is read-only; it stays as it is, and this training is saved in "
        "best.1.h5\n"
    )
    assert updates(folder) == {"best.h5": 2000, "best.1.h5": 3}


def test_the_last_model_writes(folder: Path) -> None:
    corpus = fastrnn.read_corpus(folder / "a text.txt")
    config = Config(hidden=7, seq_length=5, learning_rate=3.0)
    fastrnn.train(corpus, config, updates=500, path=folder / "new.h5", observers=[])
    written = run(folder, "synth", "new.h5", "--seed", "1", "--last").stdout
    assert written == fastrnn.load(folder / "new.h5", last=True).sample(seed=1) + "\n"
    assert written != fastrnn.load(folder / "new.h5").sample(seed=1) + "\n"


def test_a_second_training_is_refused(folder: Path) -> None:
    with only_training(folder / "best.h5"):
        ended = run(folder, "train", *EXAMPLE, "--updates", "3")
    assert ended.returncode == 1
    assert re.fullmatch(
        rf"Error: cannot save best\.h5: process {os.getpid()} on \S+, since \d{{4}}-\S+ \S+, "
        r"trains and saves there; let it end, or choose another path\n",
        ended.stderr,
    )
    assert updates(folder) == {"best.h5": 2000}


def test_the_last_checkpoints_are_kept(folder: Path) -> None:
    train(folder, "--keep", "1", "--ckpt-every", "1e-9", "--updates", "2000", "--overwrite")
    found = updates(folder)
    assert found.pop("best.h5") == 2000
    ((name, update),) = found.items()
    assert name == f"best.update-{update}.h5"


def test_verify(folder: Path) -> None:
    good = (folder / "best.h5").read_bytes()
    (folder / "cut.h5").write_bytes(good[:-9])
    (folder / "changed.h5").write_bytes(good[:-9] + b"123456789")
    ended = run_here(folder, "verify", "best.h5", "cut.h5", "none.h5", "changed.h5", "best.h5")
    assert ended.returncode == 1
    assert ended.stdout == "best.h5: sound, after 2,000 updates\n" * 2
    size = len(good)
    assert ended.stderr.splitlines() == [
        f"Error: cannot load cut.h5: it is damaged, it has {size - 9} bytes instead of {size}; "
        "use a backup or train again",
        "Error: cannot load none.h5: No such file or directory; "
        "check the path, or train a model first",
        "Error: cannot load changed.h5: it is damaged, its contents do not match their checksum; "
        "use a backup or train again",
    ]
    assert run_here(folder, "verify", "best.h5").returncode == 0
