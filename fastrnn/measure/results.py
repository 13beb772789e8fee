"""What was measured, keyed by configuration: one schema for every benchmark.

A limit of the processor is measured like a method: "multiply-adds" makes as many of them as an
update of the configuration has, on the same number of threads, without touching memory. So the
share of the limit is a ratio between two rows, as is any other comparison. All ratios are medians
over rounds: times are compared that were taken one right after the other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any

from fastrnn.checks import counted
from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.measure.operations import operations
from fastrnn.storage.files import AnyPath, shown, write

VERSION = 1  # of the schema
LIMIT = "multiply-adds"  # the method that does nothing else

# What of a Config decides how long an update takes.
SETTINGS = (*("cell", "hidden", "layers", "dtype", "seq_length", "batch", "dropout", "optimizer"),)


@dataclass(frozen=True)
class Case:
    """What is trained: a configuration, and the size K of its vocabulary."""

    config: Config
    characters: int

    def __str__(self) -> str:
        """All but the dtype; what is as in the reference experiment goes without saying."""
        config, words = self.config, []
        if config.cell != "rnn":
            words.append(config.cell.upper())
        if config.layers > 1:
            words.append(f"L={config.layers}")
        words += [f"m={config.hidden}", f"K={self.characters}"]
        words += [f"T={config.seq_length}", f"B={config.batch}"]
        if config.dropout:
            words.append(f"dropout={config.dropout:g}")
        if config.optimizer != "adagrad":
            words.append(config.optimizer)
        return " ".join(words)

    @property
    def characters_read(self) -> int:
        """In an update."""
        return self.config.seq_length * self.config.batch

    def operations(self, phase: str = "step") -> int:
        return operations(self.config, self.characters, phase)

    def to_json(self) -> dict[str, Any]:
        values = {name: getattr(self.config, name) for name in SETTINGS}
        return {**values, "characters": self.characters}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Case:
        """The inverse of `to_json`; a setting that is missing has its default."""
        settings = dict(values)
        characters = settings.pop("characters")
        return cls(Config(**settings), characters)


@dataclass(frozen=True)
class Row:
    """The times of one method at one case: element i of `seconds` is from round i."""

    method: str  # "fastrnn", "numpy", a peer's name, or a limit's
    case: Case
    threads: int
    phase: str  # of operations.PHASES, or a part of one
    seconds: list[float]  # of one update's
    details: dict[str, Any] = field(default_factory=dict)  # what else there is to tell

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def per_character(self) -> float:
        """Seconds of an update for each character that it reads."""
        return self.median / self.case.characters_read

    @property
    def spread(self) -> float:
        """How many times as long as the fastest round the slowest took."""
        return max(self.seconds) / min(self.seconds)

    def times_as_fast_as(self, other: Row) -> float:
        return median(b / a for a, b in zip(self.seconds, other.seconds, strict=True))

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "case": self.case.to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Row:
        return cls(**{**values, "case": Case.from_json(values["case"])})


@dataclass(frozen=True)
class Result:
    """What was measured, where and with what."""

    command: str
    date: str
    machine: dict[str, Any]  # cpu, cores, instructions, system, load
    versions: dict[str, str]
    blas: dict[str, str]  # of NumPy
    environment: dict[str, str]  # variables of the measuring processes that concern libraries
    rounds: int
    left_out: dict[str, str]  # methods that could not run, and why
    rows: list[Row]

    def to_json(self) -> dict[str, Any]:
        """All times, in seconds, for the json module."""
        rows = [row.to_json() for row in self.rows]
        return {"version": VERSION, **vars(self), "rows": rows}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Result:
        """The inverse of `to_json`.

        Raises
        ------
        FastrnnError
            If it has another schema.
        """
        if data.get("version") != VERSION:
            raise FastrnnError(
                f"these measurements have version {data.get('version')} instead of {VERSION}; "
                "measure again"
            )
        values = {one.name: data[one.name] for one in fields(cls)}
        return cls(**{**values, "rows": [Row.from_json(row) for row in data["rows"]]})

    def save(self, path: AnyPath) -> None:
        save(self.to_json(), path)


def save(data: dict[str, Any], path: AnyPath) -> None:
    """Write a result, a row a line."""
    rows = ",\n".join(f"  {json.dumps(row)}" for row in data["rows"])
    head = json.dumps({key: value for key, value in data.items() if key != "rows"}, indent=1)
    head = head.removesuffix("\n}")
    write(path, f'{head},\n "rows": [\n{rows}\n ]\n}}\n'.encode())


def load(path: Path) -> Result:
    try:
        return Result.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FastrnnError as error:
        raise FastrnnError(f"cannot read {shown(path)}: {error}") from error


# --- looking up -----------------------------------------------------------------------------------


def by_case(rows: Iterable[Row]) -> Iterator[tuple[Case, list[Row]]]:
    """The rows of every case, in the order of their first ones."""
    found: dict[Case, list[Row]] = {}
    for row in rows:
        found.setdefault(row.case, []).append(row)
    yield from found.items()


def find(
    rows: Iterable[Row], method: str, threads: int | None = None, phase: str = "step"
) -> Row | None:
    """The first row of a method, on so many threads or on any number."""
    for row in rows:
        if row.method == method and row.phase == phase and threads in (None, row.threads):
            return row
    return None


def share_of_limit(row: Row, rows: Iterable[Row]) -> float | None:
    """What share of the multiply-adds that its threads could make it makes; None if none counts.

    `rows` are those of its case, among them the limit's.
    """
    limit = find(rows, LIMIT, row.threads)
    share = row.case.operations(row.phase) / row.case.operations()
    return share * row.times_as_fast_as(limit) if limit and share else None


# --- words ----------------------------------------------------------------------------------------


def digits(number: float) -> str:
    """Three significant digits of a positive number, without an exponent."""
    rounded = float(f"{number:.2e}")
    return f"{rounded:,.{max(0, 2 - math.floor(math.log10(rounded)))}f}"


def percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


NAMES = {"python": "Python", "numpy": "NumPy", "numba": "Numba", "torch": "PyTorch", "jax": "JAX"}


def describe_origin(origin: dict[str, Any], *more: str) -> str:
    """Where and with what it was measured: the machine, the versions, and of libraries `more`."""
    machine, versions = origin["machine"], origin["versions"]
    cores = counted(machine["cores"], "core")
    named = [
        f"{NAMES.get(name, name)} {versions[name]}"
        for name in ("fastrnn", "python", "numpy", "numba", *more)
        if name in versions
    ]
    where = f"{machine['cpu']} ({machine['instructions']}), {cores}, {machine['system']}"
    return f"{where}; {', '.join(named)}"


def describe_limits(rows: Sequence[Row]) -> str:
    """The multiply-adds that one core can make, in a sentence."""
    limits: dict[str, float] = {}
    for row in rows:
        if row.method == LIMIT and row.threads == 1:
            dtype, rate = row.case.config.dtype, row.case.operations() / min(row.seconds)
            limits[dtype] = max(limits.get(dtype, 0.0), rate)
    measured = ", ".join(f"{digits(rate / 1e9)} GFLOP/s in {t}" for t, rate in limits.items())
    return f"Limit of fused multiply-adds on one core: {measured}."
