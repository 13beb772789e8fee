"""A training that is interrupted and resumed is the one that was not."""

import copy
import json
import math
import os
import re
import shutil
import signal
from contextlib import suppress
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.report.summary import describe
from fastrnn.storage.checkpoint import Best, Checkpoint, History, Last, Run, load, save
from fastrnn.text.corpus import Corpus, corpus_from_text, read_corpus
from fastrnn.text.sources import found_again, unmistakable
from fastrnn.training import loop, trainer
from fastrnn.training.loop import resume, train
from fastrnn.training.observers import Observer
from fastrnn.training.pace import Pace
from fastrnn.training.progress import JsonLog
from fastrnn.writing import Writer

RNG = np.random.default_rng(8)
LETTERS = list("abcdef\n")
CORPUS = corpus_from_text("".join(RNG.choice(LETTERS, 700, p=[0.3, *[0.1] * 4, 0.05, 0.25])))
# Sizes are all different, so that no swapped axis goes unnoticed: m = 5, T = 4, K = 7, B = 3.
SMALL = {"hidden": 5, "seq_length": 4, "updates": 60}
HELD_OUT = {"val_fraction": 0.2, "test_fraction": 0.1, "val_every": 7}
CONFIGS = [
    Config(**SMALL, dtype="float64", learning_rate=0.5),
    Config(
        **SMALL,
        **HELD_OUT,
        cell="lstm",
        layers=2,
        dropout=0.3,
        schedule="cosine",
        warmup=9,
        batch=3,
    ),
    Config(**SMALL, cell="gru", optimizer="rmsprop", momentum=0.8, order="chunks", batch=3),
    Config(**SMALL, **HELD_OUT, optimizer="sgd", momentum=0.9, nesterov=True, lines=True),
    Config(**SMALL, **HELD_OUT, cell="gru", optimizer="adamw", order="random", patience=2, batch=2),
]
DATA = Path(__file__).parents[1] / "storage" / "data"
OPTIONS = {"sample_every": 11, "sample_length": 20, "observers": []}


def bits(checkpoint: Checkpoint, folder: Path) -> bytes:
    """All of a checkpoint but what does not belong to its result: the time, and the threads."""
    run = Run(checkpoint.run.sample_every, checkpoint.run.sample_length)
    save(folder / "bits.h5", replace(checkpoint, seconds=0.0, run=run))
    return (folder / "bits.h5").read_bytes()


class Interrupted:
    """Signals of which one comes after so many looks, wherever that is."""

    save = False

    def __init__(self, looks: int):
        self.left = looks

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    @property
    def received(self):
        self.left -= 1
        return signal.SIGINT if self.left < 0 else None


@pytest.fixture
def restless(monkeypatch):
    """Trainings with odd slices and samples, and how to have them interrupted at random places."""

    class Restless(Pace):
        @property
        def updates(self):
            return int(rng.integers(1, 9))

        @updates.setter
        def updates(self, value):
            pass

    rng = np.random.default_rng(3)
    monkeypatch.setattr(loop, "Pace", Restless)
    monkeypatch.setattr(Writer, "piece", 7)

    def interrupt(looks: int) -> None:
        monkeypatch.setattr(loop, "Signals", lambda can_save: Interrupted(int(rng.integers(looks))))

    return interrupt


def to_the_end(path: Path, corpus: Corpus, **options) -> tuple[Checkpoint, int]:
    """Resume a training until it is complete; the result, and how often it was interrupted."""
    for times in range(1000):
        try:
            return resume(path, corpus, observers=[], **options), times
        except KeyboardInterrupt:
            pass
    pytest.fail("it never ends")


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.cell} {config.optimizer}")
def test_interrupted_anywhere(config, tmp_path, restless):
    expected = train(CORPUS, config, **OPTIONS)
    restless(9)
    path = tmp_path / "best.h5"
    with pytest.raises(KeyboardInterrupt):
        train(CORPUS, config, path=path, threads=1, **OPTIONS)
    found, times = to_the_end(path, CORPUS, threads=2)
    assert times > 5
    assert bits(found, tmp_path) == bits(load(path), tmp_path) == bits(expected, tmp_path)
    assert found.run == Run(11, 20, threads=2)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best.h5", "bits.h5"]


class At(Observer):
    """Saves the training as it is after an update to another place."""

    def __init__(self, update: int, path: Path):
        self.update, self.path = update, path

    def progressed(self, trainer):
        if trainer.update > self.update and not self.path.exists():
            save(self.path, trainer.checkpoint())


def forgotten(name: str, value):
    """What a part of a checkpoint would be if it were not saved."""
    if isinstance(value, dict) and name == "generator":
        return np.random.default_rng([0, 1]).bit_generator.state
    if isinstance(value, dict):
        return {key: forgotten(key, one) for key, one in value.items()}
    if isinstance(value, np.ndarray):
        return value[:0] if name.startswith(("update", "smooth", "valid")) else 0 * value
    if isinstance(value, list):
        return []
    if isinstance(value, float):
        return float(np.float32(value))
    return 0


PARTS = [("last", Last), ("best", Best), ("history", History)]
ITEMS = [(part, one.name) for part, kind in PARTS for one in fields(kind)]
# Of the text, made at the end, and tested below.
NOT_NEEDED = {
    ("last", "chunks"), ("best", "test_loss"), ("last", "above"), ("history", "rollbacks"),
}  # fmt: skip


def test_nothing_that_is_saved_may_be_forgotten(tmp_path):
    """Else the result is another, or it is noticed."""
    path, half = tmp_path / "whole.h5", tmp_path / "half.h5"
    config = replace(CONFIGS[1], seq_length=8, learning_rate=0.5)
    options = OPTIONS | {"observers": [At(30, half)], "updates": 50}
    expected = train(CORPUS, config, path=path, checkpoint_every=0, **options)
    found = load(half)
    assert min(found.last.chunk, found.last.epoch) > 0 and found.last.update < 50
    assert 0 < found.best.update == expected.best.update and len(found.history.samples) > 1

    def result(checkpoint: Checkpoint) -> bytes:
        save(half, checkpoint)
        return bits(resume(half, CORPUS, checkpoint_every=math.inf, observers=[]), tmp_path)

    assert result(found) == bits(expected, tmp_path)
    for part, name in ITEMS:
        if (part, name) in NOT_NEEDED:
            continue
        lacking = copy.deepcopy(found)
        there = vars(getattr(lacking, part))
        there[name] = forgotten(name, there[name])
        with suppress(FastrnnError):
            assert result(lacking) != bits(expected, tmp_path), (part, name)


def test_a_higher_goal(tmp_path):
    path = tmp_path / "best.h5"
    train(CORPUS, CONFIGS[0], updates=25, path=path, **OPTIONS)
    found = resume(path, CORPUS, updates=60, observers=[])
    assert bits(found, tmp_path) == bits(train(CORPUS, CONFIGS[0], **OPTIONS), tmp_path)
    assert resume(path, CORPUS, observers=[]).last.update == 60  # it is complete
    epochs = resume(path, CORPUS, epochs=1, observers=[])
    assert (epochs.last.epoch, epochs.config.updates) == (1, None)
    with pytest.raises(FastrnnError) as error:
        resume(path, CORPUS, updates=60)
    assert str(error.value) == (
        f"updates is 60, but the training in {path} has made 174 updates, 1.00 epochs; give more, "
        "or leave it out"
    )


class Notes(Observer):
    def __init__(self):
        self.notes = []

    def noted(self, message):
        self.notes.append(message)


@pytest.mark.parametrize("name", ["shakespeare", "stdlib", "-"])
def test_a_name_is_no_path_and_a_path_no_name(tmp_path, name):
    (tmp_path / name).mkdir()
    assert found_again([name], str(tmp_path)) == [name]
    (again,) = found_again([unmistakable(Path(name))], str(tmp_path))
    assert Path(again) == tmp_path / name


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_read_again(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_text, args=("abc\n" * 99,))
    writer.start()
    assert read_corpus(pipe).sources is None
    writer.join()


def test_a_schedule_with_another_end_is_told(tmp_path):
    path, notes = tmp_path / "best.h5", Notes()
    train(CORPUS, CONFIGS[1], path=path, **OPTIONS)
    resume(path, CORPUS, updates=61, observers=[notes])
    assert notes.notes[-1].startswith("The learning rate goes down to another end than before")
    resume(path, CORPUS, observers=[notes])
    assert notes.notes[-1] == f"{path} is complete, after 61 updates; give more epochs or updates."


def test_the_text_is_found_again(tmp_path, monkeypatch):
    (tmp_path / "old").mkdir()
    monkeypatch.chdir(tmp_path / "old")
    text = CORPUS.vocabulary.decode(CORPUS.codes)
    Path("book.txt").write_text(text, encoding="utf-16")
    corpus = read_corpus("book.txt", "utf-16")
    half = {"path": tmp_path / "best.h5", "updates": 20} | OPTIONS
    train(corpus, CONFIGS[0], **half)
    assert load(half["path"]).corpus.sources == ["book.txt"]
    monkeypatch.chdir(tmp_path)
    updates = iter(range(21, 99))

    def again(corpus: Corpus | None = None) -> int:
        found = resume(half["path"], corpus, updates=next(updates), observers=[])
        assert found.corpus.encoding == "utf-16"
        return found.last.update

    assert again() == 21
    shutil.move("old/book.txt", "book.txt")  # found in the current folder
    assert again() == 22
    shutil.move("book.txt", "moved.txt")
    with pytest.raises(FastrnnError, match=r"cannot read the text of .*best.h5 again: there is no"):
        again()
    assert again(read_corpus("moved.txt", "utf-16")) == 24
    assert again() == 25
    Path("moved.txt").write_text(text + "!", encoding="utf-16")
    with pytest.raises(FastrnnError) as error:
        again()
    assert str(error.value).startswith(
        f"{half['path']} was trained on moved.txt, 700 characters, but moved.txt, 701 "
        "characters, is not that text, or was changed; give the same text"
    )
    assert again(CORPUS) == 27
    train(CORPUS, CONFIGS[0], **half | {"overwrite": True})
    with pytest.raises(FastrnnError, match="does not say where its text was read from; give it"):
        again()


def test_a_file_of_format_4(tmp_path):
    """Goes on to the parameters that a training of today reaches."""
    path = shutil.copy(DATA / "format-4.h5", tmp_path / "best.h5")
    corpus = corpus_from_text("die alte dame döst; der kater auch, noch.\n" * 6)
    found = resume(path, corpus, updates=40, observers=[])
    expected = train(corpus, found.config, observers=[])
    for name, array in expected.last.parameters.items():
        assert (found.last.parameters[name] == array).all()
    assert found.last.update == 40
    assert found.history.smooth_loss.tolist() == expected.history.smooth_loss.tolist()


def test_another_vocabulary(tmp_path):
    """That of a model from which the training started, which its text does not have."""
    first = train(corpus_from_text("abc\nxyz" * 20), CONFIGS[0], updates=9, **OPTIONS)
    start = {"init_from": first, "path": tmp_path / "best.h5"} | OPTIONS
    train(CORPUS, CONFIGS[0], updates=20, **start)
    found = resume(tmp_path / "best.h5", CORPUS, updates=60, observers=[])
    expected = train(CORPUS, CONFIGS[0], **OPTIONS, init_from=first)
    assert found.vocabulary == "\nabcdefxyz"
    assert bits(found, tmp_path) == bits(expected, tmp_path)


def events(path: Path) -> list[dict]:
    """What a log tells, but for what depends on the clock."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        for name in ("seconds", "path", "saved"):
            row.pop(name, None)
    return [row for row in rows if row["event"] not in ("progress", "resume")]


def test_the_log_goes_on(tmp_path, restless):
    """Exactly, also where it was ahead of the checkpoint when the machine went down."""
    logs, paths = ([tmp_path / f"{name}{end}" for name in "ab"] for end in (".log", ".h5"))
    copied = At(30, paths[1])
    options = OPTIONS | {"checkpoint_every": 0, "observers": [copied, JsonLog(logs[0])]}
    train(CORPUS, CONFIGS[1], path=paths[0], **options)
    half = load(paths[1])
    assert half.run.log == str(logs[0])
    assert half.last.update < 60
    whole = events(logs[0])
    with logs[0].open("a") as file:
        file.write('{"event": "progress", "upd')  # cut off by the crash
    before = logs[0].read_bytes()
    found = resume(paths[1], CORPUS)
    assert events(logs[0]) == whole
    assert before.startswith(logs[0].read_bytes().split(b'{"event": "resume"')[0])
    rows = [json.loads(line) for line in logs[0].read_text().splitlines()]
    assert [row["update"] for row in rows if row["event"] == "resume"] == [half.last.update]
    seconds = [row["seconds"] for row in rows if row["event"] in ("validation", "progress")]
    assert all(one >= 0 for one in seconds) and found.seconds >= half.seconds
    updates = [row["update"] for row in rows if row["event"] == "validation"]
    assert all(one < other for one, other in pairwise(updates))


def test_a_log_whose_last_line_was_cut_off_at_its_end(tmp_path):
    path, log = tmp_path / "best.h5", tmp_path / "log"
    train(CORPUS, CONFIGS[0], path=path, **OPTIONS | {"observers": [JsonLog(log)]})
    *rows, _ = log.read_text().splitlines()
    log.write_text("\n".join(rows))
    resume(path, CORPUS, updates=70)
    found = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert found.count("resume") == 1


OTHERS = (
    (CORPUS, replace(CONFIGS[0], seed=3)),
    (corpus_from_text("abc" * 700), CONFIGS[0]),
)


@pytest.mark.parametrize("other", [None, *OTHERS], ids=["poem", "config", "text"])
def test_a_file_that_is_no_log_of_this_training_stays(tmp_path, other):
    path, log = tmp_path / "best.h5", tmp_path / "log"
    train(CORPUS, CONFIGS[0], updates=20, path=path, **OPTIONS)
    log.write_text("a poem")
    if other is not None:
        train(*other, **OPTIONS | {"observers": [JsonLog(log)]})
    before, told = log.read_bytes(), []
    resume(path, CORPUS, updates=30, observers=[JsonLog(log, told.append)])
    assert log.read_bytes() == before
    (message,) = told
    kind = "no log of a training" if other is None else "the log of another training"
    assert message.startswith(f"cannot write the log {log}: it is {kind}, so it stays")


def test_a_place_that_its_text_does_not_have(tmp_path):
    path = tmp_path / "best.h5"
    train(CORPUS, CONFIGS[0], updates=20, path=path, **OPTIONS)
    found = load(path)
    found.last.chunk += 1
    save(path, found)
    with pytest.raises(FastrnnError, match="which its text of 174 chunks does not have"):
        resume(path, CORPUS, updates=30)


def test_the_same_training_names_resume(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text(CORPUS.vocabulary.decode(CORPUS.codes))
    corpus, config = read_corpus("book.txt"), CONFIGS[1]
    monkeypatch.setattr(loop, "Signals", lambda can_save: Interrupted(4))
    notes = Notes()
    with pytest.raises(KeyboardInterrupt):
        train(corpus, config, path="best.h5", checkpoint_every=0, observers=[notes])
    assert notes.notes[-1] == "Go on with: fastrnn train --resume best.h5"
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    for expected, options in ((True, {}), (False, {"seed": 1})):
        notes = Notes()
        train(corpus, replace(config, **options), path="best.h5", observers=[notes])
        told = any("train --resume best.1.h5 goes on" in note for note in notes.notes)
        assert told == expected


# Going back where the loss explodes


@pytest.fixture
def soon(monkeypatch):
    """What takes thousands of updates otherwise."""
    monkeypatch.setattr(trainer, "GOOD_EVERY", 10)
    monkeypatch.setattr(trainer, "WINDOW", 15)


WILD = Config(
    **SMALL, cell="lstm", optimizer="sgd", learning_rate=2.5, warmup=40, seed=1,
    on_divergence="rollback",
)  # fmt: skip
LONG = OPTIONS | {"updates": 90}


def test_going_back_is_exact(tmp_path, soon, restless):
    """However it is interrupted and divided, on the way there, and again."""
    logs = tmp_path / "whole.log", tmp_path / "log"
    expected = train(CORPUS, WILD, **LONG | {"observers": [JsonLog(logs[0])]})
    assert expected.history.rollbacks == [[71, 20]]
    assert expected.history.update.tolist() == list(range(1, 91))
    assert expected.good.last.update == 90
    restless(9)
    path = tmp_path / "best.h5"
    with pytest.raises(KeyboardInterrupt):
        train(CORPUS, WILD, path=path, **LONG | {"observers": [JsonLog(logs[1])]})
    seen = set()
    for _ in range(100):
        try:
            seen.add((load(path).last.update, len(load(path).history.rollbacks)))
            found = resume(path, CORPUS, observers=[JsonLog(logs[1])])
            break
        except KeyboardInterrupt:
            pass
    assert any(20 < update <= 71 and not times for update, times in seen)
    assert any(20 < update <= 71 and times for update, times in seen)
    assert bits(found, tmp_path) == bits(load(path), tmp_path) == bits(expected, tmp_path)
    whole, parts = ([row for row in events(log) if row["event"] != "warning"] for log in logs)
    assert parts == whole
    assert {"event": "rollback", "exploded": 71, "back_to": 20} in whole
    assert "went back   from update 71 to 20" in describe(found)


def test_it_goes_back_three_times_at_most(tmp_path, soon):
    class Warnings(Observer):
        def __init__(self):
            self.warnings = []

        def warned(self, message):
            self.warnings.append(message)

    told, path = Warnings(), tmp_path / "best.h5"
    config = replace(WILD, learning_rate=1e30)
    with pytest.raises(FastrnnError) as error:
        train(CORPUS, config, path=path, **LONG | {"observers": [told]})
    norms = r"with a gradient of norm [\d.e+]+ and parameters of norm [\d.e+]+"
    far = r"the loss, [\d.e+]+ on average, has been far above .* model for 15 updates"
    back = "the training goes back to update 0, and on with half of the learning rate"
    for message, rate in zip(told.warnings, ("5e+29", "2.5e+29", "1.25e+29"), strict=False):
        assert re.fullmatch(rf"{far} at update \d+, {norms}; {back}, {re.escape(rate)}", message)
    remedy = r"try a lower learning rate than 1.25e\+29 or a smaller clip-norm"
    assert re.fullmatch(rf"{far} at update \d+, {norms}; {remedy}", str(error.value))
    assert [back_to for _, back_to in load(path).history.rollbacks] == [0, 0, 0]


def test_one_huge_loss_stops_nothing(soon):
    """It takes the smooth loss thousands of updates to come down after it."""
    training = trainer.Trainer(CORPUS, replace(WILD, learning_rate=0.1))
    training.smooth_loss = 1e6
    for _ in range(4):
        training.advance(15)
    assert training.smooth_loss > 1e5 and training.above == 0


def test_a_loss_that_stays_high_stops_the_training(tmp_path, soon, restless):
    """At the same update however it is divided; and what is kept goes on to the same."""
    config = replace(WILD, on_divergence="stop")
    path, messages = tmp_path / "best.h5", []
    for _ in range(2):
        with pytest.raises(FastrnnError, match=r"far above .* at update 71, with a grad") as error:
            train(CORPUS, config, path=path, overwrite=True, **LONG)
        messages.append(str(error.value))
        assert (load(path).last.update, load(path).last.above) == (70, 14)
    with pytest.raises(FastrnnError) as error:
        resume(path, CORPUS, observers=[])
    assert {str(error.value)} == set(messages)
