"""A training on disk: one HDF5 file with the best model and all that resuming needs.

`h5ls -r best.h5` shows the attributes of `Checkpoint` under their own names:

    /config, /corpus, /version, /last/generator      JSON, as fixed-length text
    /run/threads, ...                                the same, and numbers
    /vocabulary, /history/samples/text               Unicode code points
    /best/parameters/U, /last/parameters/U, ...      arrays in the shapes of fastrnn.parameters
    /last/optimizer/squares/U, ...                   the buffers of the optimizer, in the same
    /good/best, /good/last, /good/history            the same of an earlier time, to go back to
    /best/update, /last/smooth_loss, /seconds, ...   numbers

`_layout` is the one description of this, for writing and for reading. Two rules keep files safe:

- The file is sealed by a checksum, which is verified before HDF5 sees a byte (sealed.py).
- HDF5 never writes to the disk. The file is built in memory and put in place in one step
  (atomic.py), so at every moment the path holds a complete file, and a full disk is an ordinary
  error. (HDF5 itself, out of disk space, takes the whole process down.)

A newer fastrnn reads the files of all older ones: what their format lacks is in `ADDED`, what it
has elsewhere in `MOVED`.

A seal says that nothing changed by accident, not who made the file. So reading also expects every
object exactly as `_layout` describes it (hdf5.py).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from fastrnn import checks
from fastrnn.checks import counted
from fastrnn.config import (
    CHECKPOINT_EVERY,
    MOST_THREADS,
    SAMPLE_EVERY,
    SAMPLE_LENGTH,
    Config,
    state_names,
)
from fastrnn.errors import FastrnnError
from fastrnn.parameters import Parameters, parameter_shapes, state_shape
from fastrnn.parameters import describe as describe_model
from fastrnn.storage import atomic
from fastrnn.storage.files import AnyPath, shown
from fastrnn.storage.hdf5 import JSON, REAL, TEXT, WHOLE, Layout, Reader, encode, reading, write
from fastrnn.storage.sealed import AGAIN, MAGIC, require, seal, unsealed
from fastrnn.text.streams import chunks_per_epoch

# What each format after the first has added to which part: the values that older files stand for,
# or where a file has them. Config and corpus are JSON; of other parts these are datasets.
ADDED: dict[int, dict[str, dict[str, Any]]] = {
    2: {"corpus": {"encoding": "utf-8"}},
    3: {
        "config": {
            "cell": "rnn",
            "layers": 1,
            "dropout": 0.0,
            "optimizer": "adagrad",
            "momentum": None,
            "nesterov": None,
            "rho": None,
            "beta1": None,
            "beta2": None,
            "epsilon": 1e-8,
            "weight_decay": 0.0,
            "clip_norm": None,
            "schedule": "constant",
            "warmup": 0,
            "final_rate": None,
            "init": "normal",
            "epochs": None,
            "updates": lambda file: file.read("last/update", WHOLE),  # all that is known
        }
    },
    4: {
        "config": {
            "input_rate": 1.0,
            "loss": "sum",
            "order": "sequential",
            "lines": False,
            "val_fraction": 0.0,
            "test_fraction": 0.0,
            "val_every": None,
            "patience": None,
        },
        "best": {"validation_loss": None, "test_loss": None},
        "last": {"chunks": lambda file: 0},  # as many as the text gives
        "corpus": {"validation": 0, "test": 0},
        "history": {
            "validation_update": lambda file: np.empty(0, np.int64),
            "validation_loss": lambda file: np.empty(0),
        },
    },
    5: {
        "config": {"on_divergence": "stop"},
        "corpus": {"sources": None, "folder": ""},
        "last": {"above": lambda file: 0},
        "history": {"rollbacks": lambda file: []},
        "run": {
            "sample_every": 10_000,
            "sample_length": 200,
            "checkpoint_every": 60.0,
            "threads": None,
            "log": None,
            "keep": 0,
            "init_from": None,
        },
    },
}

# What each format has moved: the former name of a dataset or group, and how many of its first axes,
# which have the length 1 there, it lacked.
MOVED: dict[int, dict[str, tuple[str, int]]] = {
    3: {"last/state": ("last/hidden", 1), "last/optimizer/squares": ("last/memory", 0)},
}


@dataclass
class CorpusInfo:
    """The text: its `length` in characters, and the SHA-256 of its normalised form in UTF-8.

    The encoding is that of the files it came from: the name of a Python text codec, or "bytes"
    if every character stands for a byte. `validation` and `test` are the characters at the end that
    are held out for each. `sources` are what `read_corpus` was given when the current folder was
    `folder`; None if nobody knows.
    """

    name: str
    length: int
    sha256: str
    encoding: str = "utf-8"
    validation: int = 0
    test: int = 0
    sources: list[str] | None = None
    folder: str = ""


@dataclass(eq=False)  # arrays have no single answer
class Best:
    """The model with the lowest loss, as it was after `update`; 0 is the initial one.

    That is the validation loss where there is one, and before it the smooth loss.
    """

    update: int
    smooth_loss: float  # after it
    parameters: Parameters
    validation_loss: float | None = None  # in nats per character
    test_loss: float | None = None  # the same of the text held out for the test, at the end


@dataclass(eq=False)  # arrays have no single answer
class Last:
    """Where training stopped, and everything needed to go on as if it had not."""

    update: int
    epoch: int
    chunk: int  # index of the next chunk within the epoch
    smooth_loss: float
    parameters: Parameters
    optimizer: dict[str, Parameters]  # its buffers by `config.state_names`
    state: np.ndarray  # (S·L, B, m), the hidden and cell states before the next chunk
    generator: dict[str, Any]  # bit_generator.state of the PCG64 that draws the samples
    chunks: int = 0  # of an epoch; 0 if it says nothing, as a file of a format before 4
    above: int = 0  # for how many updates the loss has been far above an untrained model's


@dataclass
class Sample:
    """Text the model wrote after `update`."""

    update: int
    smooth_loss: float
    text: str


@dataclass(eq=False)  # arrays have no single answer
class History:
    """How training went: the smooth loss after some updates, samples, and all validations."""

    update: np.ndarray  # (N,) int64, strictly increasing
    smooth_loss: np.ndarray  # (N,) float64
    samples: list[Sample]
    # (V,) int64, strictly increasing, and (V,) float64, nats per character
    validation_update: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    validation_loss: np.ndarray = field(default_factory=lambda: np.empty(0))
    # The update at which the loss exploded, and that to which the training went back. Each time the
    # learning rate was halved.
    rollbacks: list[list[int]] = field(default_factory=list)


@dataclass(eq=False)  # arrays have no single answer
class State:
    """A training at one time: a checkpoint is one, and may have an earlier one to go back to."""

    best: Best
    last: Last
    history: History


@dataclass
class Run:
    """How the training was asked to run; when it is resumed, it goes on like that."""

    sample_every: int = SAMPLE_EVERY  # updates
    sample_length: int = SAMPLE_LENGTH  # characters
    checkpoint_every: float | None = CHECKPOINT_EVERY  # seconds; None: only at the end
    threads: int | None = None  # None: as many as are useful
    log: str | None = None  # path of its log
    keep: int = 0  # older checkpoints beside the newest
    init_from: str | None = None  # the checkpoint or model that it started from, for people to read


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
    run: Run = field(default_factory=Run)
    good: State | None = None  # where it goes back to, if `config.on_divergence` says so

    @property
    def updates_per_epoch(self) -> int:
        """How many updates one pass over the training part of the text makes."""
        B, T = self.config.batch, self.config.seq_length
        return self.last.chunks or chunks_per_epoch(self.corpus.length, B, T)

    def __repr__(self) -> str:
        kind = describe_model(self.config, len(self.vocabulary))
        best, last = self.best, self.last
        if best.validation_loss is None:
            lowest = f"smooth loss {best.smooth_loss:.4f}"
        else:
            lowest = f"validation loss {best.validation_loss:.4f} nats"
        return (
            f"<fastrnn.Checkpoint: {kind}; after {counted(last.update, 'update')}, "
            f"lowest {lowest} at update {best.update:,}>"
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
        atomic.replace_file(atomic.real_path(path), *to_pieces(checkpoint))


def to_pieces(checkpoint: Checkpoint) -> tuple[bytes, memoryview]:
    """The file that `save` writes, its header and the rest.

    Raises
    ------
    FastrnnError
        If it is one that `load` would refuse.
    """
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
        with unsealed(path) as opened:
            return _parse(*opened)
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


class _Sizes(NamedTuple):
    """Those of a history: points of the curve, samples, their characters together, validations.

    Samples are stored as one text and their lengths.
    """

    N: int
    S: int
    L: int
    V: int


def _layout(config: Config, K: int, sizes: _Sizes, good: _Sizes | None) -> Layout:
    """The kind and shape of every dataset by name, for K characters."""
    return {
        "version": (JSON, ()),
        "config": (JSON, ()),
        "corpus": (JSON, ()),
        "vocabulary": (TEXT, (K,)),
        "seconds": (REAL, ()),
        "run/sample_every": (WHOLE, ()),
        "run/sample_length": (WHOLE, ()),
        "run/checkpoint_every": (JSON, ()),
        "run/threads": (JSON, ()),
        "run/log": (JSON, ()),
        "run/keep": (WHOLE, ()),
        "run/init_from": (JSON, ()),
        **_layout_of_state(config, K, sizes),
        **({} if good is None else _below("good", _layout_of_state(config, K, good))),
    }


def _below(path: str, layout: Layout) -> Layout:
    return {f"{path}/{name}": row for name, row in layout.items()}


def _layout_of_state(config: Config, K: int, sizes: _Sizes) -> Layout:
    N, S, L, V = sizes
    weights = {name: (config.dtype, s) for name, s in parameter_shapes(config, K).items()}

    def group(*paths: str) -> Layout:
        return {name: row for path in paths for name, row in _below(path, weights).items()}

    return {
        "best/update": (WHOLE, ()),
        "best/smooth_loss": (REAL, ()),
        "best/validation_loss": (JSON, ()),
        "best/test_loss": (JSON, ()),
        **group("best/parameters"),
        "last/update": (WHOLE, ()),
        "last/epoch": (WHOLE, ()),
        "last/chunk": (WHOLE, ()),
        "last/chunks": (WHOLE, ()),
        "last/above": (WHOLE, ()),
        "last/smooth_loss": (REAL, ()),
        **group("last/parameters"),
        **group(*(f"last/optimizer/{name}" for name in state_names(config))),
        "last/state": (config.dtype, state_shape(config, config.batch)),
        "last/generator": (JSON, ()),
        "history/update": (WHOLE, (N,)),
        "history/smooth_loss": (REAL, (N,)),
        "history/samples/update": (WHOLE, (S,)),
        "history/samples/smooth_loss": (REAL, (S,)),
        "history/samples/length": (WHOLE, (S,)),
        "history/samples/text": (TEXT, (L,)),
        "history/validation_update": (WHOLE, (V,)),
        "history/validation_loss": (REAL, (V,)),
        "history/rollbacks": (JSON, ()),
    }


def _validate(checkpoint: Checkpoint) -> None:
    """Check what types and shapes do not tell."""
    vocabulary, corpus, version = checkpoint.vocabulary, checkpoint.corpus, checkpoint.version
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
    for part in (corpus.validation, corpus.test):
        require(type(part) is int and part >= 0, "a part of the corpus is no number of characters")
    good = corpus.validation + corpus.test < corpus.length
    require(good, "the corpus has no characters to train on")
    good = corpus.encoding != "bytes" or vocabulary[-1] <= "\xff"
    require(good, "the corpus is of bytes, but the vocabulary has characters above U+00FF")
    sources = corpus.sources
    good = sources is None or (type(sources) is list and all(type(one) is str for one in sources))
    good = good and type(corpus.folder) is str
    require(good, "the sources of the corpus are no texts")
    require(checkpoint.seconds >= 0, "seconds is negative")
    _validate_run(checkpoint.run)
    _validate_state(checkpoint, checkpoint.updates_per_epoch)
    if checkpoint.good is not None:
        _validate_state(checkpoint.good, checkpoint.updates_per_epoch)


def _validate_state(state: State | Checkpoint, chunks: int) -> None:
    best, last, history = state.best, state.last, state.history
    require(0 <= best.update <= last.update, "best/update is not between 0 and last/update")
    require(last.epoch >= 0, "last/epoch is negative")
    good = last.chunks >= 0 and 0 <= last.chunk <= chunks
    require(good, "last/chunk is outside the epoch")
    require(last.above >= 0, "last/above is negative")
    good = type(history.rollbacks) is list and all(map(_is_rollback, history.rollbacks))
    require(good, "history/rollbacks are no pairs of updates")
    for name, array in last.optimizer.get("squares", {}).items():
        require((array >= 0).all(), f"last/optimizer/squares/{name} is negative")
    updates, validated = np.asarray(history.update), np.asarray(history.validation_update)
    for name, some in {"update": updates, "validation_update": validated}.items():
        require((some[1:] > some[:-1]).all(), f"history/{name} is not strictly increasing")
    samples = (sample.update for sample in history.samples)
    for update in (*updates[:1], *updates[-1:], *validated[:1], *validated[-1:], *samples):
        require(0 <= update <= last.update, "history is not between 0 and last/update")
    lowest = dict(zip(validated.tolist(), history.validation_loss.tolist(), strict=True))
    found = (best.update, best.validation_loss)
    good = found in lowest.items() if lowest else best.validation_loss is None
    require(good, "best is not that of a validation in the history")
    good = best.test_loss is None or (type(best.test_loss) is float and best.test_loss >= 0)
    require(good, "best/test_loss is no loss")
    _validate_generator(last.generator)


def _is_rollback(pair: Any) -> bool:
    numbers = type(pair) is list and len(pair) == 2 and all(type(one) is int for one in pair)
    return bool(numbers) and 0 <= pair[1] <= pair[0]


def _validate_run(run: Run) -> None:
    counts = run.sample_every, run.sample_length, run.keep
    require(min(counts) >= 0, "run has a negative number")
    every, threads = run.checkpoint_every, run.threads
    good = every is None or (type(every) is float and every >= 0)
    require(good, "run/checkpoint_every is no number of seconds")
    good = threads is None or (type(threads) is int and 1 <= threads <= MOST_THREADS)
    require(good, "run/threads is no number of threads")
    require(run.log is None or type(run.log) is str, "run/log is no path")
    good = run.init_from is None or type(run.init_from) is str
    require(good, "run/init_from is no name")


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


def _build(checkpoint: Checkpoint) -> memoryview:
    """The HDF5 file, with an empty user block."""
    history, good = checkpoint.history, checkpoint.good
    kind = State if checkpoint.config.on_divergence == "rollback" else type(None)
    require(type(good) is kind, "good is not as on-divergence says")
    tree = vars(checkpoint) | {
        "config": checkpoint.config.to_json(),
        "corpus": asdict(checkpoint.corpus),
        "history": _with_columns(history),
        "good": {},
    }
    if good is not None:
        tree["good"] = vars(good) | {"history": _with_columns(good.history)}
    earlier = None if good is None else _sizes_of(good.history)
    layout = _layout(checkpoint.config, len(checkpoint.vocabulary), _sizes_of(history), earlier)
    leaves = dict(_leaves(tree, layout))
    require(leaves.keys() == layout.keys(), f"unexpected {sorted(leaves.keys() ^ layout.keys())}")
    datasets = encode(leaves, layout)
    _validate(checkpoint)
    return write(datasets)


def _sizes_of(history: History) -> _Sizes:
    samples = history.samples
    characters = sum(len(sample.text) for sample in samples)
    return _Sizes(len(history.update), len(samples), characters, len(history.validation_update))


def _with_columns(history: History) -> dict[str, Any]:
    samples = history.samples
    columns = {
        "update": [sample.update for sample in samples],
        "smooth_loss": [sample.smooth_loss for sample in samples],
        "length": [len(sample.text) for sample in samples],
        "text": "".join(sample.text for sample in samples),
    }
    return vars(history) | {"samples": columns}


def _leaves(tree: Any, layout: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """`best/parameters/U` and `checkpoint.best.parameters["U"]`, and so on for all there is."""
    for key, value in (vars(tree) if is_dataclass(tree) else tree).items():
        name = path + key
        if name not in layout and (is_dataclass(value) or isinstance(value, dict)):
            yield from _leaves(value, layout, name + "/")
        else:
            yield name, value


# ... and back


def _parse(file: BinaryIO, size: int, version: int) -> Checkpoint:
    """The checkpoint in a file of the format `version`."""
    try:
        with reading(file, size) as reader:
            return _read_all(reader, version)
    except MemoryError:
        raise
    except Exception as error:  # h5py and json know a dozen kinds for the contents of strange files
        problem = " ".join(str(error).split()) or type(error).__name__
        raise FastrnnError(f"its contents are invalid, {problem}; {AGAIN}") from error


def _read_all(file: Reader, version: int) -> Checkpoint:
    """Read what `_layout` lists; there must be nothing else."""
    config = Config.from_json(_complete("config", file.read("config", JSON), file, version))
    goes_back = config.on_divergence == "rollback"
    good = _sizes_in(file, version, "good/") if goes_back else None
    layout = _layout(config, file.length("vocabulary"), _sizes_in(file, version), good)
    added = _added_datasets(version)
    layout = {name: row for name, row in layout.items() if name not in added}
    stored = {name: _as_stored(name, shape, version) for name, (_, shape) in layout.items()}
    # An optimizer may have no buffers, and an older file nothing of how the training was run.
    tree: dict[str, Any] = {
        "last": {"optimizer": {}},
        "run": {},
        "good": {"last": {"optimizer": {}}},
    }
    for name, (kind, shape) in layout.items():
        value = file.read(stored[name][0], kind, stored[name][1])
        *path, leaf = name.split("/")
        group = tree
        for part in path:
            group = group.setdefault(part, {})
        group[leaf] = value.reshape(shape) if isinstance(value, np.ndarray) else value
    file.require_only(name for name, _ in stored.values())

    tree["config"] = config
    good_tree = tree.pop("good")
    tree["good"] = None
    parts = {"corpus": CorpusInfo, "run": Run}
    tree |= {
        name: _record(part, _complete(name, tree[name], file, version))
        for name, part in parts.items()
    }
    tree |= _state_of(tree, file, version)
    if goes_back:
        tree["good"] = State(**_state_of(good_tree, file, version))
    checkpoint = _record(Checkpoint, tree)
    _validate(checkpoint)
    return checkpoint


def _sizes_in(file: Reader, version: int, at: str = "") -> _Sizes:
    return _Sizes(
        N=file.length(f"{at}history/update"),
        S=file.length(f"{at}history/samples/update"),
        L=file.length(f"{at}history/samples/text"),
        V=0 if version < 4 else file.length(f"{at}history/validation_update"),
    )


def _state_of(tree: dict[str, Any], file: Reader, version: int) -> dict[str, Any]:
    """The records of a `State`."""
    tree["history"]["samples"] = _samples_of(tree["history"]["samples"])
    parts = {"best": Best, "last": Last, "history": History}
    return {
        name: _record(part, _complete(name, tree[name], file, version))
        for name, part in parts.items()
    }


def _samples_of(columns: dict[str, Any]) -> list[Sample]:
    lengths, text = columns["length"].tolist(), columns["text"]
    require(all(n >= 0 for n in lengths) and sum(lengths) == len(text), "samples have gaps")
    ends = np.cumsum(columns["length"]).tolist()
    texts = [text[stop - n : stop] for n, stop in zip(lengths, ends, strict=True)]
    rows = (columns["update"].tolist(), columns["smooth_loss"].tolist(), texts)
    return [Sample(*row) for row in zip(*rows, strict=True)]


def _complete(part: str, values: Any, file: Reader, version: int) -> Any:
    """The values of a part with those that a file of this format lacks."""
    for newer, parts in ADDED.items():
        if newer > version and part in parts and isinstance(values, dict):
            require(not values.keys() & parts[part].keys(), f"{part} has fields of format {newer}")
            for name, value in parts[part].items():
                values[name] = value(file) if callable(value) else value
    return values


def _added_datasets(version: int) -> set[str]:
    """The datasets that a file of this format lacks."""
    newer = [parts for added, parts in ADDED.items() if added > version]
    return {f"{part}/{name}" for parts in newer for part in parts for name in parts[part]}


def _as_stored(name: str, shape: tuple[int, ...], version: int) -> tuple[str, tuple[int, ...]]:
    """The name and shape of a dataset in a file of this format."""
    for newer in sorted(MOVED, reverse=True):
        for start, (former, axes) in MOVED[newer].items():
            if newer > version and (name == start or name.startswith(f"{start}/")):
                name, shape = former + name.removeprefix(start), shape[axes:]
    return name, shape


def _record(kind: type, values: Any) -> Any:
    """A dataclass from exactly its fields; none may be left to its default."""
    names = [field.name for field in fields(kind)]
    good = isinstance(values, dict) and values.keys() == set(names)
    require(good, f"{kind.__name__} has other fields than {', '.join(names)}")
    return kind(**values)
