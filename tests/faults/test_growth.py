"""Memory does not grow with what was done before."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from amount import amount, figure

GROWTH = """
import os, sys
import fastrnn

def megabytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

folder, trainings, loads = sys.argv[1], *map(int, sys.argv[2:])
corpus = fastrnn.corpus_from_text("so it goes, on and on\\n" * 99)
config = fastrnn.Config(hidden=100, seq_length=25, batch=2, val_fraction=0.1)

def train():
    options = {"overwrite": True, "checkpoint_every": 0.0, "keep": 1, "observers": []}
    fastrnn.train(corpus, config, updates=20, path=folder + "/best.h5", **options)

def load():
    fastrnn.load_checkpoint(folder + "/best.h5")
    fastrnn.load(folder + "/best.h5").sample(10, seed=1)

for work, count in (train, trainings), (load, loads):
    for _ in range(5):
        work()
    before = megabytes()
    for _ in range(count):
        work()
    print(megabytes() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_memory_does_not_grow(tmp_path):
    trainings, loads = amount(4, 200), amount(20, 1000)
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", GROWTH, str(tmp_path), str(trainings), str(loads)]
    ended = subprocess.run(command, env=env, text=True, capture_output=True, timeout=1800)
    assert ended.returncode == 0, ended.stderr
    by_training, by_loading = map(float, ended.stdout.split())
    figure(
        f"memory after {trainings} trainings: {by_training:+.1f} MB; "
        f"after {loads} loads: {by_loading:+.1f} MB"
    )
    assert max(by_training, by_loading) < amount(1, 20)
