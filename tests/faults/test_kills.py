"""SIGKILL at random moments: a checkpoint is that of some update, whole, whichever it is; and the
training goes on from it as if nothing had been."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from amount import amount, figure

# Children are forks of a process that has the kernels already: a start would take a second.
KILLS = """
import os, random, signal, sys, time
from dataclasses import replace
import numpy as np
import fastrnn
from fastrnn.config import CELLS, OPTIMIZERS
from fastrnn.storage.checkpoint import Run, load, to_pieces
from fastrnn.training.trainer import Trainer

folder, count = sys.argv[1], int(sys.argv[2])
rng = random.Random(count)
text = "".join(rng.choice("abcdefg\\n") for _ in range(700))
corpus = fastrnn.corpus_from_text(text)


def bits(checkpoint):
    return b"".join(to_pieces(replace(checkpoint, seconds=0.0)))


def some_config():
    optimizer = rng.choice(sorted(OPTIMIZERS))
    return fastrnn.Config(
        cell=rng.choice(sorted(CELLS)),
        layers=rng.choice([1, 2]),
        hidden=rng.choice([5, 17, 150]),
        seq_length=4,
        batch=rng.choice([1, 3]),
        dropout=rng.choice([0.0, 0.3]),
        optimizer=optimizer,
        **rng.choice([{"order": "chunks"}, {"order": "random"}, {"lines": True}, {}]),
        val_fraction=rng.choice([0.0, 0.2]),
        updates=100_000,
        seed=rng.randrange(99),
    )


def train(path, config):
    options = {"checkpoint_every": 0.0, "sample_every": 300, "sample_length": 9, "threads": 1}
    fastrnn.train(corpus, config, path=path, overwrite=True, observers=[], **options)


def advanced(trainer, update, seen=10**9):
    \"\"\"A training as it is after the update, with so many samples at most.\"\"\"
    while True:
        due = trainer.update == 0 or (trainer.update + 1) % 300 == 0
        written = trainer.samples and trainer.samples[-1].update == trainer.update
        if due and not written and len(trainer.samples) < seen:
            trainer.sample(9)
        if trainer.update == update:
            return bits(trainer.checkpoint())
        trainer.advance(1)
        trainer.validate()


for cell in CELLS:  # compiles what the children need
    Trainer(corpus, fastrnn.Config(cell=cell, hidden=5, val_fraction=0.2)).advance(1)

killed = unreadable = mixed = others = moved = 0
while killed < count:
    config = some_config()
    path = f"{folder}/{killed}.h5"
    child = os.fork()
    if child == 0:
        try:
            train(path, config)
        except fastrnn.FastrnnError:
            pass
        finally:
            os._exit(1)
    status = 0
    while not os.path.exists(path) and status == 0:
        time.sleep(0.001)
        status = os.waitpid(child, os.WNOHANG)[1]
    if status == 0:
        time.sleep(rng.random() * 0.06)
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status):  # it diverged, or its settings do not go together
        if os.path.exists(path):
            os.unlink(path)
        continue
    killed += 1
    try:
        found = load(path)
    except fastrnn.FastrnnError as error:
        unreadable += 1
        print(config, error)
        continue
    update = found.last.update
    moved += update > 0
    never_interrupted = Trainer(corpus, config, run=found.run)
    if bits(found) != advanced(never_interrupted, update, len(found.history.samples)):
        mixed += 1
        print(config, update)
    resumed = Trainer.resume(corpus, found)
    if advanced(resumed, update + 20) != advanced(never_interrupted, update + 20):
        others += 1
        print("resumed", config, update)
    os.unlink(path)
    # What a kill leaves is removed at the next start.
    fastrnn.train(corpus, fastrnn.Config(hidden=5, updates=1), path=path, observers=[])
    if os.listdir(folder) != [os.path.basename(path)]:
        print("left", os.listdir(folder))
        mixed += 1
    os.unlink(path)
print(killed, unreadable, mixed, others, moved)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills(tmp_path):
    count = amount(4, 1000)
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-W", "ignore", "-c", KILLS, str(tmp_path), str(count)]
    ended = subprocess.run(command, env=env, text=True, capture_output=True, timeout=3600)
    assert ended.returncode == 0, ended.stderr
    *problems, numbers = ended.stdout.splitlines()
    killed, unreadable, mixed, others, moved = map(int, numbers.split())
    figure(
        f"{killed} kills: {unreadable} checkpoints unreadable, {mixed} mixed, {others} that resume "
        "to other bits"
    )
    assert (killed, unreadable, mixed, others) == (count, 0, 0, 0), problems
    assert moved > count // 2  # or nothing was tried
