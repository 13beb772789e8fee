"""Every option of every command with wrong values, from the commands themselves.

A new option cannot be forgotten: what it takes says what is wrong for it.
"""

import os
from pathlib import Path

import click
import pytest
from amount import figure
from command import TEXT, run_here

import fastrnn
from fastrnn.cli import cli

# What a command needs to be complete; all are small, where a wrong value is none after all. Some
# run for long unless something is wrong, and get only what is wrong for certain.
GOOD: dict[str, list[str]] = {
    "bench": [],
    "gradcheck": [],
    "info": ["best.h5"],
    "novelty": ["best.h5", "text.txt", "--length", "20"],
    "plot": ["best.h5"],
    "presets": [],
    "score": ["best.h5", "text.txt"],
    "synth": ["best.h5", "--length", "20"],
    "train": ["text.txt", "--hidden", "5", "--updates", "2", "--ckpt", "new.h5", "--quiet"],
    "verify": ["best.h5"],
    "warmup": [],
}
LONG = {"bench", "gradcheck", "warmup"}
FILES = ["missing/file", "missing.h5", "folder", "noise.h5", "cut.h5", "latin.txt", "", "a\nb" * 99]
TEXTS = ["", "nonsense", "\udcff", "[", "x" * 5000]


def wrong_values(type_):
    """Values that this type of an option refuses, or that what reads them might stumble on."""
    if isinstance(type_, (click.IntRange, click.types.IntParamType)):
        low, high = type_.min, type_.max
        return [
            "",
            "x",
            "1.5",
            "-1",
            "\u0663x",
            *([low - 1] if low else []),
            *([high + 1] if high else []),
        ]
    if isinstance(type_, (click.FloatRange, click.types.FloatParamType)):
        return ["", "x", "nan", "-1", "-inf"]
    if isinstance(type_, click.Choice):
        return ["", "nonsense", str(type_.choices[0]).upper()]
    return FILES if isinstance(type_, click.Path) else TEXTS


def cases(name):
    """The options and arguments of a command, and it with a wrong value of each."""
    good = GOOD[name]
    yield "--nonsense", [*good, "--nonsense"]
    for one in cli.commands[name].params:
        option = one.opts[0]
        if getattr(one, "is_flag", False):
            yield option, [*good, f"{option}=x"]
            continue
        values = wrong_values(one.type)
        if name in LONG and values in (FILES, TEXTS):
            values = ["missing/file"]
        for value in values:
            if one.param_type_name == "argument":
                yield option, [str(value), *good[1:]]
            else:
                yield option, [*good, option, str(value)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "text.txt").write_text(TEXT)
    (folder / "latin.txt").write_bytes("Größe".encode("latin-1") * 40)
    (folder / "folder").mkdir()
    config = fastrnn.Config(hidden=7, seq_length=5, updates=9)
    corpus = fastrnn.read_corpus(folder / "text.txt")
    fastrnn.train(corpus, config, path=folder / "best.h5", observers=[])
    (folder / "noise.h5").write_bytes(bytes(range(256)) * 9)
    (folder / "cut.h5").write_bytes((folder / "best.h5").read_bytes()[:-9])
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {file: (folder / file).read_bytes() for file in os.listdir(folder) if file != "folder"}


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_wrong_values(folder, name):
    """One line and an exit code; or, where the value is none that is wrong, what it stands for."""
    before, refused, tried = contents(folder), set(), []
    for option, arguments in cases(name):
        tried.append(option)
        ended = run_here(folder, name, *arguments)
        after = contents(folder)
        # A training whose log cannot be written ends with 1, and has its model.
        if ended.returncode == 0 or "Warning: cannot write the log" in ended.stderr:
            for file in after.keys() - before.keys():
                (folder / file).unlink()
            for file, data in before.items():
                (folder / file).write_bytes(data)
            continue
        refused.add(option)
        assert ended.returncode in (1, 2), arguments
        lines = ended.stderr.splitlines()
        assert any(line.startswith("Error: ") for line in lines), (arguments, lines)
        assert after == before, arguments
    figure(f"{name}: {len(tried)} wrong values of {len(refused)} options")
    assert refused == set(tried)
