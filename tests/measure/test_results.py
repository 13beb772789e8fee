"""The schema of results, and what is read off them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.measure.operations import BACKWARD, FORWARD, PHASES, operations
from fastrnn.measure.results import (
    LIMIT,
    VERSION,
    Case,
    Result,
    Row,
    by_case,
    describe_limits,
    digits,
    find,
    load,
    share_of_limit,
)

TINY = Case(Config(hidden=7, seq_length=3, batch=2), characters=5)
MACHINE = {
    "cpu": "A Processor",
    "cores": 2,
    "instructions": "AVX2",
    "system": "Linux x86_64",
    "load": 0.5,
}
VERSIONS = {
    "fastrnn": "0.1",
    "python": "3.12.1",
    "numpy": "2.0.0",
    "numba": "0.61.0",
    "llvmlite": "0.44.0",
}


def result_of(rows: list[Row], command: str, **more: str) -> Result:
    """What some rows were measured with."""
    return Result(
        command=command,
        date="2025-01-02T03:04:05+00:00",
        machine=MACHINE,
        versions={**VERSIONS, **more},
        blas={"name": "openblas", "version": "0.3.27"},
        environment={},
        rounds=3,
        left_out={},
        rows=rows,
    )


def limit_of(case: Case, threads: int, rate: float, rounds: int = 3) -> Row:
    """A limit of so many operations a second."""
    return Row(LIMIT, case, threads, "step", [case.operations() / rate] * rounds)


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    other = Case(Config(hidden=9, dtype="float64"), characters=80)
    rows = [
        Row("fastrnn", TINY, 2, "step", [0.5, 0.25], {"first": 1.5, "compiled": True}),
        Row("numpy", other, 1, "forward", [1.0, 2.0]),
    ]
    result = result_of(rows, "fastrnn bench")
    result.save(tmp_path / "a.json")
    assert load(tmp_path / "a.json") == result
    lines = (tmp_path / "a.json").read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith('  {"method"') for line in lines) == 2


@pytest.mark.parametrize("version", [None, VERSION + 1])
def test_a_file_of_another_schema(tmp_path: Path, version: int | None) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**result_of([], "x").to_json(), "version": version}))
    with pytest.raises(FastrnnError) as error:
        load(path)
    assert str(error.value) == (
        f"cannot read {path}: these measurements have version {version} instead of {VERSION}; "
        "measure again"
    )


def test_a_setting_that_a_file_lacks_has_its_default() -> None:
    values = TINY.to_json()
    for name in ("cell", "dtype", "optimizer"):
        del values[name]
    assert Case.from_json(values) == TINY


def test_cases_are_told_by_their_configuration() -> None:
    rows = [Row("numpy", case, 1, "step", [1.0]) for case in (TINY, replace(TINY, characters=6))]
    assert [(case, len(found)) for case, found in by_case([*rows, *rows])] == [
        (TINY, 2),
        (replace(TINY, characters=6), 2),
    ]
    assert find(rows, "numpy", 2) is find(rows, "fastrnn") is find(rows, "numpy", 1, "x") is None


def test_ratios_are_medians_over_rounds() -> None:
    slow = Row("numpy", TINY, 1, "step", [8.0, 4.0, 3.0])
    fast = Row("fastrnn", TINY, 1, "step", [1.0, 2.0, 1.0])
    assert fast.times_as_fast_as(slow) == 3.0  # of 8, 2 and 3
    assert slow.per_character == 4.0 / 6
    assert slow.spread == pytest.approx(8 / 3)


def test_the_share_of_the_limit() -> None:
    rows = [limit_of(TINY, 1, 100.0), limit_of(TINY, 2, 200.0)]
    seconds = [TINY.operations("backward") / 50.0] * 3
    backward = Row("fastrnn", TINY, 1, "backward", seconds)
    assert share_of_limit(backward, rows) == pytest.approx(0.5)
    assert share_of_limit(replace(backward, threads=2), rows) == pytest.approx(0.25)
    assert share_of_limit(replace(backward, phase="update"), rows) is None
    assert share_of_limit(backward, []) is None
    assert describe_limits([*rows, limit_of(TINY, 1, 3e9)]) == (
        "Limit of fused multiply-adds on one core: 3.00 GFLOP/s in float32."
    )


def test_operations_by_hand() -> None:
    # 2 characters in 3 steps; 7·7 and 7·5 multiply-adds of two operations each.
    assert TINY.operations("forward") == 2 * 3 * (49 + 35) * 2
    assert TINY.operations("backward") == 2 * (2 * 49 + 3 * (49 + 35 + 35)) * 2
    assert TINY.operations("update") == 0
    assert TINY.operations() == 1008 + 1820


def test_operations_of_gates_and_layers_by_hand() -> None:
    case = Case(Config(cell="gru", layers=2, hidden=7, seq_length=3, batch=2), 5)
    # Three gates; the second layer multiplies what the first gives, too.
    assert case.operations("forward") == 2 * 2 * 3 * (2 * 3 * 49 + 3 * 49 + 35)
    backward = 2 * 2 * 3 * 49 + 3 * (3 * 49 + 35) + 3 * (3 * 3 * 49 + 35)
    assert case.operations("backward") == 2 * 2 * backward
    # In the limit of long sequences an update is three times its forward pass.
    long = Case(Config(cell="lstm", hidden=64, seq_length=10**6), 65)
    assert long.operations() / long.operations("forward") == pytest.approx(3)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_parts_have_all_operations(cell: str) -> None:
    case = Case(Config(cell=cell, layers=3, hidden=7, seq_length=3, batch=2), 5)
    parts = sum(operations(case.config, case.characters, part) for part in FORWARD + BACKWARD)
    phases = sum(case.operations(phase) for phase in PHASES if phase != "step")
    assert parts == phases == case.operations()
    assert case.operations("softmax and loss") == 0


def test_cases_in_words() -> None:
    assert str(TINY) == "m=7 K=5 T=3 B=2"
    case = Case(Config(cell="lstm", layers=2, seq_length=64, dropout=0.25), 65)
    assert str(case) == "LSTM L=2 m=100 K=65 T=64 B=1 dropout=0.25 adam"
    assert Case.from_json(case.to_json()) == case


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1.00"),
        (0.8, "0.800"),
        (9.996, "10.0"),
        (27.34, "27.3"),
        (999.6, "1,000"),
        (1504.4, "1,500"),
        (1234567.0, "1,230,000"),
        (0.01234, "0.0123"),
    ],
)
def test_three_significant_digits(number: float, text: str) -> None:
    assert digits(number) == text
