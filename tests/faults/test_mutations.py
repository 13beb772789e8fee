"""Checkpoints that were changed: refused in one line, or exactly what is in the file."""

import faulthandler
import io
import random
import time

import h5py
import numpy as np
import pytest
from amount import amount, figure
from test_checkpoint import bits, damaged, example, sealed

from fastrnn.errors import FastrnnError
from fastrnn.storage.checkpoint import load, save

HANG = 120.0  # seconds after which the test ends, with a traceback of where it hangs


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "best.h5"
    save(path, example())
    return path


def attempt(path, data):
    """What loads, or None, and the seconds of the processor it took."""
    path.write_bytes(data)
    faulthandler.dump_traceback_later(HANG, exit=True)
    began = time.process_time()
    try:
        found = load(path)
    except FastrnnError as error:
        assert str(error).isprintable()
        found = None
    finally:
        faulthandler.cancel_dump_traceback_later()
    return found, time.process_time() - began


def test_damage(path):
    """Bits, bytes, splices and cuts: the seal shows them all."""
    data, rng, longest = path.read_bytes(), random.Random(3), 0.0
    tried = amount(30, 4000)
    for _ in range(tried):
        found, seconds = attempt(path, damaged(data, rng))
        assert found is None
        longest = max(longest, seconds)
    figure(f"{tried} damaged files: all refused, in {1000 * longest:.0f} ms at most")


def change(file, names, rng):
    """Some change of the structure, with h5py."""
    name = rng.choice(names)
    old = file[name][()]
    array = np.asarray(old)
    kind = rng.randrange(12)
    if kind == 0:
        del file[name]
        return
    if kind == 1:
        file[name].attrs["note"] = 1
        return
    if kind == 2:
        file.move(name, rng.choice([name + "2", "more/" + name]))
        return
    if kind == 3:
        other = file[rng.choice([one for one in names if one != name])]
        link = rng.choice([h5py.SoftLink(other.name), h5py.ExternalLink("o.h5", "x"), other])
        del file[name]
        file[name] = link
        return
    del file[name]
    if kind == 4 and array.ndim:
        file.create_dataset(name, data=array, chunks=True, compression=rng.choice([None, "gzip"]))
    elif kind == 5:
        file.create_dataset(name, shape=(rng.choice([0, 3, 10**12]), 10**6), dtype="f4")
    elif kind == 6 and array.dtype.kind in "fiu":
        with np.errstate(all="ignore"):
            array = array.astype(rng.choice(["f2", ">f4", "f8", "i4", "u4"]))
        file.create_dataset(name, data=array)
    elif kind == 7:
        file.create_group(name)
    elif kind == 8 and array.dtype.kind == "S":
        text = bytearray(array.tobytes())
        text[rng.randrange(len(text))] = rng.randrange(32, 127)
        file.create_dataset(name, data=np.bytes_(bytes(text)))
    elif kind == 9 and array.size:
        file.create_dataset(name, data=np.append(array.ravel(), array.ravel()[:1]))
    elif array.dtype.kind == "f" and array.size:
        flat = array.astype(array.dtype).reshape(-1).copy()
        flat[rng.randrange(len(flat))] = rng.choice([np.nan, np.inf, -9.0, 0.5, -0.0])
        file.create_dataset(name, data=flat.reshape(array.shape))
    elif array.dtype.kind in "iu" and array.size:
        flat = array.reshape(-1).copy()
        flat[rng.randrange(len(flat))] = rng.choice([0, 1, 2**31 - 1])
        file.create_dataset(name, data=flat.reshape(array.shape))
    else:
        file.create_dataset(name, data=b"")


def test_changes_under_a_new_seal(path):
    """What loads is what an ordinary reader of HDF5 finds in the file, and all of it."""
    data, rng, longest, loaded = path.read_bytes(), random.Random(4), 0.0, 0
    names: list[str] = []
    with h5py.File(io.BytesIO(data)) as file:
        file.visititems(lambda name, one: names.append(name) if "shape" in dir(one) else None)
    tried = amount(30, 4000)
    for _ in range(tried):
        buffer = io.BytesIO(data)
        with h5py.File(buffer, "r+") as file:
            for _ in range(rng.choice([1, 1, 1, 2])):
                present = [name for name in names if isinstance(file.get(name), h5py.Dataset)]
                change(file, [n for n in present if (file[n].size or 0) < 10**6], rng)
        changed = sealed(buffer.getvalue())
        found, seconds = attempt(path, changed)
        longest = max(longest, seconds)
        if found is not None:
            loaded += 1
            with h5py.File(io.BytesIO(changed)) as file:
                for part in ("best", "last"):
                    for name, array in getattr(found, part).parameters.items():
                        stored = file[f"{part}/parameters/{name}"][()]
                        assert bits(stored) == bits(array)
                assert file["last/update"][()] == found.last.update
                assert file["seconds"][()] == found.seconds
    figure(
        f"{tried} files changed under a new seal: {tried - loaded} refused, {loaded} hold other "
        f"numbers and load as just these, in {1000 * longest:.0f} ms at most"
    )
    assert 0 < loaded < tried


def test_changed_bytes_under_a_new_seal(path):
    """HDF5's own bytes: no crash, no hang."""
    data, rng, longest, refused = path.read_bytes(), random.Random(5), 0.0, 0
    tried = amount(30, 4000)
    for _ in range(tried):
        found, seconds = attempt(path, sealed(damaged(data, rng).ljust(513, b"\0")))
        refused += found is None
        longest = max(longest, seconds)
    figure(
        f"{tried} files with damage under a new seal: {refused} refused, 0 crashes, "
        f"{1000 * longest:.0f} ms at most"
    )
    assert refused
