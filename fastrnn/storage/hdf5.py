"""Named values in an HDF5 file, which is built in memory.

Both sides are told the kind and the shape of every dataset by its name. Whatever is not exactly
like that is refused: no links to elsewhere, no compression, no other type, nothing besides.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import h5py
import numpy as np

from fastrnn.storage.sealed import USER_BLOCK, require

# Kinds of datasets; any other is the dtype of an array. JSON is fixed-length text, a text is an
# array of Unicode code points.
JSON, TEXT, WHOLE, REAL = "json", "uint32", "int64", "float64"
Layout = dict[str, tuple[str, tuple[int, ...]]]
"""The kind and shape of every dataset by its path."""

MAX_JSON = 2**16  # bytes
ROOM = 2**16  # bytes for what HDF5 writes besides the datasets


def encode(values: Mapping[str, Any], layout: Layout) -> dict[str, np.ndarray]:
    """The datasets of these values.

    Raises
    ------
    FastrnnError
        If a value is not what the layout says.
    """
    return {name: _encode(name, values[name], *row) for name, row in layout.items()}


def write(datasets: Mapping[str, np.ndarray]) -> memoryview:
    """An HDF5 file of them, with an empty user block."""
    memory = _Memory(sum(array.nbytes for array in datasets.values()) + ROOM)
    with h5py.File(memory, "w", userblock_size=USER_BLOCK) as file:
        for name, array in datasets.items():
            file.create_dataset(name, data=array)
    return memory.contents


class _Memory(io.RawIOBase):
    """A file in memory. NumPy copies large pieces without Python's lock, a BytesIO with it, which
    would keep the thread that trains waiting."""

    def __init__(self, size: int) -> None:
        self._bytes = np.zeros(size, np.uint8)
        self._size = self._position = 0

    @property
    def contents(self) -> memoryview:
        return self._bytes.data[: self._size]

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def truncate(self, size: int | None = None) -> int:
        size = self._position if size is None else size
        if size > len(self._bytes):
            self._bytes = np.append(self._bytes, np.zeros(size + ROOM - len(self._bytes), np.uint8))
        self._bytes[size : self._size] = 0
        self._size = size
        return size

    def write(self, data: Any) -> int:
        piece = np.frombuffer(data, np.uint8)
        end = self._position + len(piece)
        if end > self._size:
            self.truncate(end)
        self._bytes[self._position : end] = piece
        self._position = end
        return len(piece)

    def readinto(self, buffer: Any) -> int:
        piece = self._bytes[self._position : min(self._position + len(buffer), self._size)]
        buffer[: len(piece)] = piece.tobytes()
        self._position += len(piece)
        return len(piece)


def _check(name: str, array: np.ndarray, kind: str, shape: tuple[int, ...]) -> None:
    require(array.dtype == kind, f"{name} is {array.dtype} instead of {kind}")
    require(array.shape == shape, f"{name} has the shape {array.shape} instead of {shape}")
    if array.dtype.kind == "f":
        require(np.isfinite(array).all(), f"{name} contains NaN or infinity")


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


def _from_json(name: str, text: bytes) -> Any:
    value = json.loads(text)
    # This single comparison refuses repeated keys, NaN, 1e999 and whatever else one reader of JSON
    # takes differently from another.
    require(_to_json(value) == text, f"{name} is not the JSON that fastrnn writes")
    return value


@contextmanager
def reading(file: BinaryIO, size: int) -> Iterator[Reader]:
    """A reader of an HDF5 file of so many bytes.

    Raises
    ------
    Exception
        Whatever h5py and json think of the contents of a strange file, and FastrnnError if a
        dataset is not what is asked for.
    """
    with h5py.File(file, "r") as tree:
        yield Reader(tree.id, size)


class Reader:
    """Reads the values in an HDF5 file of `end` bytes."""

    def __init__(self, root: h5py.h5g.GroupID, end: int) -> None:
        self._root = root
        self._end = end

    def length(self, name: str) -> int:
        """How many numbers or characters a dataset has."""
        return math.prod(self._dataset(name).shape)

    def read(self, name: str, kind: str, shape: tuple[int, ...] = ()) -> Any:
        """An array, a number, a text or what JSON stands for."""
        dataset = self._dataset(name)
        stored = dataset.get_type()
        dtype = np.dtype(f"S{stored.get_size()}" if kind == JSON else kind)
        short = kind != JSON or stored.get_size() <= MAX_JSON
        require(short, f"{name} is longer than {MAX_JSON} bytes")
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

    def require_only(self, names: Iterable[str]) -> None:
        """Refuse a file in which there is more than these datasets."""
        members: dict[str, set[str]] = {}
        for name in names:
            parts = name.split("/")
            for depth, part in enumerate(parts):
                members.setdefault("/".join(parts[:depth]), set()).add(part)
        for name, known in members.items():
            require(len(self._open(name)) == len(known), f"/{name} has unknown members")

    def _dataset(self, name: str) -> h5py.h5d.DatasetID:
        """A dataset whose bytes all lie in the file, as they are; its size is thus harmless."""
        dataset = self._open(name)
        require(isinstance(dataset, h5py.h5d.DatasetID), f"{name} is no dataset")
        storage = dataset.get_create_plist()
        plain = dataset.shape is not None and storage.get_layout() == h5py.h5d.CONTIGUOUS
        plain = plain and storage.get_external_count() == 0 and storage.get_nfilters() == 0
        require(plain, f"{name} is not stored contiguously")
        size = math.prod(dataset.shape) * dataset.get_type().get_size()
        inside = dataset.get_storage_size() == size and (
            size == 0 or dataset.get_offset() + size <= self._end  # an empty array has no offset
        )
        require(inside, f"{name} is not stored completely")
        return dataset

    def _open(self, name: str) -> Any:
        """Follow a name over hard links only; others lead to other files, or round in circles."""
        found = self._root
        for part in name.encode().split(b"/") if name else ():
            good = isinstance(found, h5py.h5g.GroupID) and found.links.exists(part)
            require(good, f"{name} is missing")
            require(found.links.get_info(part).type == h5py.h5l.TYPE_HARD, f"{name} is a link")
            found = h5py.h5o.open(found, part)
        require(h5py.h5a.get_num_attrs(found) == 0, f"/{name} has attributes")
        return found
