"""A training on disk: one HDF5 file with the best model and all that resuming needs.

`h5ls -r best.h5` shows the attributes of `Checkpoint` under their own names:

    /config, /corpus, /version, /last/generator      JSON, as fixed-length text
    /vocabulary, /history/samples/text               Unicode code points
    /best/parameters/U, /last/memory/U, ...          arrays in the shapes of fastrnn.parameters
    /best/update, /last/smooth_loss, /seconds, ...   numbers

`_layout` is the one description of this, for writing and for reading. Two rules keep files safe:

- The file is sealed by a checksum, which is verified before HDF5 sees a byte (sealed.py).
- HDF5 never touches the disk. The file is built in memory and put in place in one step (atomic.py),
  so at every moment the path holds a complete file, and a full disk is an ordinary error. (HDF5
  itself, out of disk space, takes the whole process down.)

A newer fastrnn reads the files of all older ones: what their format lacks is in `ADDED`.

A seal says that nothing changed by accident, not who made the file. So reading also expects every
object exactly as `_layout` describes it: no links to elsewhere, no compression, no other type.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any

import h5py
import numpy as np

from fastrnn import checks
from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.parameters import Parameters, parameter_shapes, per_character
from fastrnn.parameters import describe as describe_model
from fastrnn.storage import atomic
from fastrnn.storage.files import AnyPath, shown
from fastrnn.storage.sealed import (
    AGAIN,
    MAGIC,
    USER_BLOCK,
    require,
    seal,
    unseal,
)

MAX_JSON = 2**16  # bytes

# What each format after the first has added to which part: the values that older files stand for.
ADDED: dict[int, dict[str, dict[str, Any]]] = {2: {"corpus": {"encoding": "utf-8"}}}


@dataclass
class CorpusInfo:
    """The text: its `length` in characters, and the SHA-256 of its normalised form in UTF-8.

    The encoding is that of the files it came from: the name of a Python text codec, or "bytes"
    if every character stands for a byte.
    """

    name: str
    length: int
    sha256: str
    encoding: str = "utf-8"


@dataclass(eq=False)  # arrays have no single answer
class Best:
    """The model with the lowest smooth loss, as it was after `update`; 0 is the initial one."""

    update: int
    smooth_loss: float
    parameters: Parameters


@dataclass(eq=False)  # arrays have no single answer
class Last:
    """Where training stopped, and everything needed to go on as if it had not."""

    update: int
    epoch: int
    chunk: int  # index of the next chunk within the epoch
    smooth_loss: float
    parameters: Parameters
    memory: Parameters  # the optimizer's running sums, one for every parameter
    hidden: np.ndarray  # (B, m)
    generator: dict[str, Any]  # bit_generator.state of the PCG64 that draws the samples


@dataclass
class Sample:
    """Text the model wrote after `update`."""

    update: int
    smooth_loss: float
    text: str


@dataclass(eq=False)  # arrays have no single answer
class History:
    """How training went: the smooth loss after some updates, and samples."""

    update: np.ndarray  # (N,) int64, strictly increasing
    smooth_loss: np.ndarray  # (N,) float64
    samples: list[Sample]


@dataclass(repr=False, eq=False)
class Checkpoint:
    """All of a training; see the classes of its parts."""

    config: Config
    vocabulary: str  # its K characters in the order of their codes, which is that of Unicode
    corpus: CorpusInfo
    best: Best
    last: Last
    history: History
    seconds: float  # of training so far, by the clock on the wall
    version: str  # of the fastrnn that wrote this

    def __repr__(self) -> str:
        kind = describe_model(self.config, len(self.vocabulary))
        best, last = self.best, self.last
        return (
            f"<fastrnn.Checkpoint: {kind}; after {last.update:,} updates, "
            f"lowest smooth loss {best.smooth_loss:.4f} at update {best.update:,}>"
        )


def save(path: AnyPath, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, replacing the file at `path` in one step.

    Whatever happens, the path afterwards holds the complete old file or the complete new one. A
    symbolic link stays, the file it points to is replaced; an existing file's permissions are kept.

    Parameters
    ----------
    path : str, bytes or path-like
        Where to; its folder has to exist.
    checkpoint : Checkpoint
        What to write. Equal checkpoints give equal bytes.

    Raises
    ------
    FastrnnError
        If the file cannot be written, an older one is read-only, or the checkpoint is one that
        `load` would refuse.
    """
    with save_errors(path):
        atomic.replace_file(atomic.real_path(path), to_bytes(checkpoint))


def to_bytes(checkpoint: Checkpoint) -> bytes:
    """The file that `save` writes; FastrnnError if it is one that `load` would refuse."""
    return seal(_build(checkpoint))


def load(path: AnyPath) -> Checkpoint:
    """Read a checkpoint, and refuse anything that `save` would not have written.

    Parameters
    ----------
    path : str, bytes or path-like
        A file written by `save`.

    Returns
    -------
    Checkpoint
        Bit for bit what was saved, in arrays of its own.

    Raises
    ------
    FastrnnError
        If the file cannot be read, is none of ours, is damaged, or comes from a newer fastrnn.
    """
    path = checks.path("path", path)
    try:
        return _parse(*unseal(path))
    except ValueError as error:
        raise FastrnnError(f"cannot load {shown(path)}: {error}") from error
    except MemoryError as error:
        raise FastrnnError(f"cannot load {shown(path)}: {_NO_MEMORY}") from error
    except OSError as error:
        remedy = _LOAD_REMEDIES.get(error.errno or 0, "check the path and its permissions")
        raise FastrnnError(f"cannot load {shown(path)}: {error.strerror}; {remedy}") from error


def is_checkpoint(path: AnyPath) -> bool:
    """Whether a file starts like a checkpoint, so that replacing it takes nothing else away.

    Parameters
    ----------
    path : str, bytes or path-like
        Any path.

    Returns
    -------
    bool
        False also for what cannot be read or is no file. A damaged checkpoint still is one.
    """
    try:
        if not os.path.isfile(path):  # opening a named pipe would wait for ever
            return False
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def describe(checkpoint: Checkpoint) -> str:
    """What a checkpoint holds, in lines for people to read."""
    config, corpus = checkpoint.config, checkpoint.corpus
    best, last = checkpoint.best, checkpoint.last

    def loss(value: float) -> str:
        nats, bits = per_character(value, config.seq_length)
        return f"{value:.4f} ({nats:.4f} nats, {bits:.4f} bits per character)"

    rows = {
        "model": describe_model(config, len(checkpoint.vocabulary)),
        "corpus": f"{corpus.name}, {corpus.encoding}, {corpus.length:,} characters, "
        f"SHA-256 {corpus.sha256}",
        "vocabulary": f"{len(checkpoint.vocabulary)} characters: {checkpoint.vocabulary!r}",
        "training": ", ".join(
            f"{name.replace('_', ' ')} {value}"
            for name, value in asdict(config).items()
            if name not in ("hidden", "dtype")
        ),
        "best model": f"after update {best.update:,}, smooth loss {loss(best.smooth_loss)}",
        "last state": f"after update {last.update:,}, smooth loss {loss(last.smooth_loss)}",
        "epochs": f"{last.epoch} complete, then {last.chunk:,} updates",
        "history": f"{len(checkpoint.history.update):,} smooth losses, "
        f"{len(checkpoint.history.samples)} samples",
        "time": f"{checkpoint.seconds:.1f} s",
        "written by": f"fastrnn {checkpoint.version}",
    }
    return "\n".join(f"{name:12}{row}" for name, row in rows.items())


_NO_MEMORY = "too little memory; close other programs or use a smaller model"
_SAVE_REMEDIES = {
    errno.ENOENT: "create its folder first",
    errno.EISDIR: "name a file",
    errno.EACCES: "change the permissions or choose another path",
    errno.EPERM: "change the permissions or choose another path",
    errno.EBUSY: "mount its folder instead of the single file",
    errno.ENOSPC: "free some disk space",
    errno.EDQUOT: "free some disk space",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
}
_LOAD_REMEDIES = {
    errno.ENOENT: "check the path, or train a model first",
    errno.EISDIR: "name a file",
}


@contextmanager
def save_errors(path: AnyPath) -> Iterator[None]:
    """Let what prevents a save to `path` be told in one line."""
    try:
        yield
    except ValueError as error:
        raise FastrnnError(
            f"cannot save {shown(path)}: {error}; an older file is unchanged"
        ) from error
    except MemoryError as error:
        raise FastrnnError(f"cannot save {shown(path)}: {_NO_MEMORY}") from error
    except OSError as error:
        remedy = _SAVE_REMEDIES.get(error.errno or 0, "choose another path")
        problem = error.strerror or error
        raise FastrnnError(f"cannot save {shown(path)}: {problem}; {remedy}") from error


# What a checkpoint contains

JSON, TEXT, WHOLE, REAL = "json", "uint32", "int64", "float64"


def _layout(
    config: Config, K: int, N: int, S: int, L: int
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The kind and shape of every dataset by name, for K characters and a history of N points.

    The S samples have L characters together; they are stored as one text and their lengths.
    """
    weights = {name: (config.dtype, s) for name, s in parameter_shapes(config, K).items()}

    def group(path: str) -> dict[str, tuple[str, tuple[int, ...]]]:
        return {f"{path}/{name}": row for name, row in weights.items()}

    return {
        "version": (JSON, ()),
        "config": (JSON, ()),
        "corpus": (JSON, ()),
        "vocabulary": (TEXT, (K,)),
        "seconds": (REAL, ()),
        "best/update": (WHOLE, ()),
        "best/smooth_loss": (REAL, ()),
        **group("best/parameters"),
        "last/update": (WHOLE, ()),
        "last/epoch": (WHOLE, ()),
        "last/chunk": (WHOLE, ()),
        "last/smooth_loss": (REAL, ()),
        **group("last/parameters"),
        **group("last/memory"),
        "last/hidden": (config.dtype, (config.batch, config.hidden)),
        "last/generator": (JSON, ()),
        "history/update": (WHOLE, (N,)),
        "history/smooth_loss": (REAL, (N,)),
        "history/samples/update": (WHOLE, (S,)),
        "history/samples/smooth_loss": (REAL, (S,)),
        "history/samples/length": (WHOLE, (S,)),
        "history/samples/text": (TEXT, (L,)),
    }


def _check(name: str, array: np.ndarray, kind: str, shape: tuple[int, ...]) -> None:
    require(array.dtype == kind, f"{name} is {array.dtype} instead of {kind}")
    require(array.shape == shape, f"{name} has the shape {array.shape} instead of {shape}")
    if array.dtype.kind == "f":
        require(np.isfinite(array).all(), f"{name} contains NaN or infinity")


def _validate(checkpoint: Checkpoint) -> None:
    """Check what types and shapes do not tell."""
    vocabulary, corpus, best = checkpoint.vocabulary, checkpoint.corpus, checkpoint.best
    last, history, version = checkpoint.last, checkpoint.history, checkpoint.version
    require(vocabulary, "the vocabulary is empty")
    increasing = list(vocabulary) == sorted(set(vocabulary))
    require(increasing, "the vocabulary is not in strictly increasing order")
    require(type(version) is str, "version is no text")
    require(type(corpus.name) is str, "the name of the corpus is no text")
    good = type(corpus.length) is int and 0 < corpus.length < 2**63
    require(good, "the length of the corpus is no positive number")
    good = type(corpus.sha256) is str and bool(re.fullmatch("[0-9a-f]{64}", corpus.sha256))
    require(good, "the SHA-256 of the corpus is not 64 hexadecimal digits")
    require(type(corpus.encoding) is str, "the encoding of the corpus is no text")
    good = corpus.encoding != "bytes" or vocabulary[-1] <= "\xff"
    require(good, "the corpus is of bytes, but the vocabulary has characters above U+00FF")
    require(checkpoint.seconds >= 0, "seconds is negative")

    require(0 <= best.update <= last.update, "best/update is not between 0 and last/update")
    require(last.epoch >= 0, "last/epoch is negative")
    step = checkpoint.config.batch * checkpoint.config.seq_length
    require(0 <= last.chunk * step <= corpus.length, "last/chunk is outside the corpus")
    for name, array in last.memory.items():
        require((array >= 0).all(), f"last/memory/{name} is negative")
    updates = np.asarray(history.update)
    require((updates[1:] > updates[:-1]).all(), "history/update is not strictly increasing")
    for update in (*updates[:1], *updates[-1:], *(sample.update for sample in history.samples)):
        require(0 <= update <= last.update, "history is not between 0 and last/update")
    _validate_generator(last.generator)


def _validate_generator(generator: Any) -> None:
    """NumPy itself takes any numbers; with a wrong one PCG64 repeats itself, or never changes."""
    try:
        state, increment = generator["state"]["state"], generator["state"]["inc"]
        flag, half = generator["has_uint32"], generator["uinteger"]
        good = (
            generator.keys() == {"bit_generator", "state", "has_uint32", "uinteger"}
            and generator["state"].keys() == {"state", "inc"}
            and generator["bit_generator"] == "PCG64"
            and all(type(number) is int for number in (state, increment, flag, half))
            and 0 <= state < 2**128
            and 0 <= increment < 2**128
            and increment % 2 == 1
            and flag in (0, 1)
            and 0 <= half < 2**32
        )
    except (TypeError, KeyError, AttributeError):
        good = False
    require(good, "last/generator is no state of a PCG64 generator")


# From a checkpoint to HDF5 ...


def _build(checkpoint: Checkpoint) -> io.BytesIO:
    """The HDF5 file, with an empty user block."""
    samples, history = checkpoint.history.samples, checkpoint.history
    text = "".join(sample.text for sample in samples)
    columns = {
        "update": [sample.update for sample in samples],
        "smooth_loss": [sample.smooth_loss for sample in samples],
        "length": [len(sample.text) for sample in samples],
        "text": text,
    }
    tree = vars(checkpoint) | {
        "config": checkpoint.config.to_json(),
        "corpus": asdict(checkpoint.corpus),
        "history": vars(history) | {"samples": columns},
    }
    layout = _layout(
        checkpoint.config,
        K=len(checkpoint.vocabulary),
        N=len(history.update),
        S=len(samples),
        L=len(text),
    )
    leaves = dict(_leaves(tree, layout))
    require(leaves.keys() == layout.keys(), f"unexpected {sorted(leaves.keys() ^ layout.keys())}")
    arrays = {name: _encode(name, leaves[name], *row) for name, row in layout.items()}
    _validate(checkpoint)

    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=USER_BLOCK) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
    return buffer


def _leaves(tree: Any, layout: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """`best/parameters/U` and `checkpoint.best.parameters["U"]`, and so on for all there is."""
    for key, value in (vars(tree) if is_dataclass(tree) else tree).items():
        name = path + key
        if name not in layout and (is_dataclass(value) or isinstance(value, dict)):
            yield from _leaves(value, layout, name + "/")
        else:
            yield name, value


def _encode(name: str, value: Any, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    if kind == JSON:
        text = _to_json(value)
        require(len(text) <= MAX_JSON, f"{name} is longer than {MAX_JSON} bytes")
        return np.asarray(np.bytes_(text))
    if kind == TEXT:  # encoding refuses lone surrogates, which are no characters
        array = np.frombuffer(value.encode("utf-32-le"), kind)
    else:
        array = np.asarray(value)
        if array.size == 0:  # an empty list has no type yet
            array = array.astype(kind)
    _check(name, array, kind, shape)
    return array


def _to_json(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False).encode("ascii")


# ... and back


def _parse(data: bytes, version: int) -> Checkpoint:
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            return _read_all(file.id, len(data), version)
    except MemoryError:
        raise
    except Exception as error:  # h5py and json know a dozen kinds for the contents of strange files
        problem = " ".join(str(error).split()) or type(error).__name__
        raise FastrnnError(f"its contents are invalid, {problem}; {AGAIN}") from error


def _read_all(root: h5py.h5g.GroupID, end: int, version: int) -> Checkpoint:
    """Read what `_layout` lists from a file of `end` bytes; there must be nothing else.

    `version` is that of the format.
    """
    config = Config.from_json(_complete("config", _read(root, end, "config", JSON, ()), version))

    def length(name: str) -> int:
        return math.prod(_open_dataset(root, end, name).shape)

    layout = _layout(
        config,
        K=length("vocabulary"),
        N=length("history/update"),
        S=length("history/samples/update"),
        L=length("history/samples/text"),
    )
    members: dict[str, set[str]] = {}
    tree: dict[str, Any] = {}
    for name, row in layout.items():
        group, tip = tree, name.split("/")
        for depth, part in enumerate(tip):
            members.setdefault("/".join(tip[:depth]), set()).add(part)
        for part in tip[:-1]:
            group = group.setdefault(part, {})
        group[tip[-1]] = _read(root, end, name, *row)
    for name, names in members.items():
        require(len(_open(root, name)) == len(names), f"/{name} has unknown members")

    columns = tree["history"]["samples"]
    lengths, text = columns["length"].tolist(), columns["text"]
    require(all(n >= 0 for n in lengths) and sum(lengths) == len(text), "samples have gaps")
    ends = np.cumsum(columns["length"]).tolist()
    texts = [text[stop - n : stop] for n, stop in zip(lengths, ends, strict=True)]
    rows = (columns["update"].tolist(), columns["smooth_loss"].tolist(), texts)
    tree["history"]["samples"] = [Sample(*row) for row in zip(*rows, strict=True)]

    tree["config"] = config
    parts = {"corpus": CorpusInfo, "best": Best, "last": Last, "history": History}
    tree["corpus"] = _complete("corpus", tree["corpus"], version)
    tree |= {name: _record(part, tree[name]) for name, part in parts.items()}
    checkpoint = _record(Checkpoint, tree)
    _validate(checkpoint)
    return checkpoint


def _complete(part: str, values: Any, version: int) -> Any:
    """The values of a part with those that a file of this format lacks."""
    for newer, parts in ADDED.items():
        if newer > version and part in parts and isinstance(values, dict):
            require(not values.keys() & parts[part].keys(), f"{part} has fields of format {newer}")
            values = values | parts[part]
    return values


def _record(kind: type, values: Any) -> Any:
    """A dataclass from exactly its fields; none may be left to its default."""
    names = [field.name for field in fields(kind)]
    good = isinstance(values, dict) and values.keys() == set(names)
    require(good, f"{kind.__name__} has other fields than {', '.join(names)}")
    return kind(**values)


def _read(root: h5py.h5g.GroupID, end: int, name: str, kind: str, shape: tuple[int, ...]) -> Any:
    dataset = _open_dataset(root, end, name)
    stored = dataset.get_type()
    dtype = np.dtype(f"S{stored.get_size()}" if kind == JSON else kind)
    require(dataset.shape == shape, f"{name} has the shape {dataset.shape} instead of {shape}")
    require(stored.equal(h5py.h5t.py_create(dtype)), f"{name} is not of type {kind}")
    array = np.empty(shape, dtype)
    if array.size:
        dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, array)
    if kind == JSON:
        return _from_json(name, array.item())
    _check(name, array, kind, shape)
    if kind == TEXT:
        return array.tobytes().decode("utf-32-le")
    return array if shape else array.item()


def _from_json(name: str, text: bytes) -> Any:
    require(len(text) <= MAX_JSON, f"{name} is longer than {MAX_JSON} bytes")
    value = json.loads(text)
    # This single comparison refuses repeated keys, NaN, 1e999 and whatever else one reader of JSON
    # takes differently from another.
    require(_to_json(value) == text, f"{name} is not the JSON that fastrnn writes")
    return value


def _open_dataset(root: h5py.h5g.GroupID, end: int, name: str) -> h5py.h5d.DatasetID:
    """A dataset whose bytes all lie in the file, as they are; its size is therefore harmless."""
    dataset = _open(root, name)
    require(isinstance(dataset, h5py.h5d.DatasetID), f"{name} is no dataset")
    storage = dataset.get_create_plist()
    plain = dataset.shape is not None and storage.get_layout() == h5py.h5d.CONTIGUOUS
    plain = plain and storage.get_external_count() == 0 and storage.get_nfilters() == 0
    require(plain, f"{name} is not stored contiguously")
    size = math.prod(dataset.shape) * dataset.get_type().get_size()
    inside = dataset.get_storage_size() == size and (
        size == 0 or dataset.get_offset() + size <= end  # an empty array has no offset
    )
    require(inside, f"{name} is not stored completely")
    return dataset


def _open(root: h5py.h5g.GroupID, name: str) -> Any:
    """Follow a name over hard links only; others lead to other files, or round in circles."""
    found = root
    for part in name.encode().split(b"/") if name else ():
        good = isinstance(found, h5py.h5g.GroupID) and found.links.exists(part)
        require(good, f"{name} is missing")
        require(found.links.get_info(part).type == h5py.h5l.TYPE_HARD, f"{name} is a link")
        found = h5py.h5o.open(found, part)
    require(h5py.h5a.get_num_attrs(found) == 0, f"/{name} has attributes")
    return found
