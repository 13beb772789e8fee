"""Well-formed files that ask for far more than they are: refused at once, with little memory."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
from amount import FULL, figure
from test_checkpoint import U, example, hostile, put

from fastrnn.storage.checkpoint import save

LOAD = """
import resource, sys, time
import h5py
from fastrnn.storage.checkpoint import load

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000

for path in sys.argv[1:]:
    before, began = peak(), time.monotonic()
    try:
        load(path)
        print("loaded")
    except ValueError as error:
        print(error)
    print(peak() - before, time.monotonic() - began)
"""


def empty_gzip(shape):
    return put(U, None, shape=shape, dtype="f4", chunks=(1000, 1000), compression="gzip")


def one_large_chunk(file):
    """5 × 7 numbers in a chunk of a gigabyte, one megabyte in the file."""
    del file[U]
    chunks = (2**14, 2**14)
    data = file.create_dataset(
        U, (5, 7), "f4", maxshape=(None, None), chunks=chunks, compression="gzip"
    )
    data[...] = 0


def deep(file):
    group = file["best/parameters"]
    for _ in range(10_000):
        group = group.create_group("x")


def doubled(file):
    group = file["best/parameters"]
    for _ in range(19):
        inner = group.create_group("x")
        group["y"] = inner
        group = inner


def many_attributes(file):
    for number in range(20_000):
        file["best"].attrs[f"a{number}"] = 1


def large_attribute(file):
    # Only groups of the newest format may have one.
    file.move("best", "old")
    best = file.create_group("best")
    for name in list(file["old"]):
        file.move(f"old/{name}", f"best/{name}")
    del file["old"]
    best.attrs.create("note", np.zeros(2**27, np.float32))


def pipe(file):
    os.mkfifo("pipe.h5")
    put(U, h5py.ExternalLink("pipe.h5", "x"))(file)


def unknown_filter(file):
    del file[U]
    storage = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    storage.set_chunk((5, 7))
    storage.set_filter(40000, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple((5, 7))
    h5py.h5d.create(file["best/parameters"].id, b"U", h5py.h5t.IEEE_F32LE, space, storage)


BOMBS = {
    "a text of 10 MB": (put("config", np.bytes_(b"[" * 10**7)), "config is longer than 65536"),
    "chunks never written": (empty_gzip((15811, 15811)), "is not stored contiguously"),
    "links doubled 19 times": (doubled, "/best/parameters has unknown members"),
    "a link to a pipe": (pipe, f"{U} is a link"),
    "an unknown filter": (unknown_filter, "is not stored contiguously"),
}
SLOW_TO_MAKE = {
    "one large chunk": (one_large_chunk, "is not stored contiguously"),
    "groups nested 10,000 deep": (deep, "/best/parameters has unknown members"),
    "20,000 attributes": (many_attributes, "/best has attributes"),
    "an attribute of 512 MB": (large_attribute, "/best has attributes"),
}
if FULL:
    BOMBS |= SLOW_TO_MAKE


def test_bombs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = []
    for name, (change, _) in BOMBS.items():
        paths.append(tmp_path / f"{name}.h5")
        save(paths[-1], example())
        hostile(paths[-1], change)
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", LOAD, *map(str, paths)]
    ended = subprocess.run(command, env=env, text=True, capture_output=True, timeout=100)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    for (name, (_, problem)), path in zip(BOMBS.items(), paths, strict=True):
        message, numbers = lines.pop(0), lines.pop(0)
        memory, seconds = map(float, numbers.split())
        size = path.stat().st_size / 1e6
        figure(f"{name}, {size:.1f} MB: refused in {seconds:.2f} s and {memory:.0f} MB")
        assert problem in message, name
        assert memory < 300, name
