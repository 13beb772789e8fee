"""A configuration is right, or is refused in one line."""

import json
import math

import pytest

from fastrnn.config import Config
from fastrnn.errors import FastrnnError


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("hidden", 0, "a whole number from 1 to 2147483647"),
        ("hidden", 2**31, "a whole number from 1 to 2147483647"),
        ("hidden", 5.0, "a whole number from 1 to 2147483647"),
        ("batch", True, "a whole number from 1 to 2147483647"),
        ("seed", -1, "a whole number from 0 to 2147483647"),
        ("seq_length", "25", "a whole number from 1 to 2147483647"),
        ("learning_rate", 0, "a positive number"),
        ("learning_rate", math.inf, "a positive number"),
        ("learning_rate", math.nan, "a positive number"),
        ("learning_rate", 10**400, "a positive number"),
        ("clip", -1.0, "a positive number"),
        ("clip", 10**400, "a positive number"),
        ("sigma", -1e-9, "zero or a positive number"),
        ("dtype", "float16", "float32 or float64"),
    ],
)
def test_refused(field: str, value: object, wanted: str) -> None:
    with pytest.raises(FastrnnError) as error:
        Config(**{field: value})
    assert str(error.value) == f"{field.replace('_', '-')} is {value!r}, but must be {wanted}"


def test_limits() -> None:
    Config(hidden=1, seq_length=1, batch=1, seed=2**31 - 1, sigma=0.0, clip=math.inf)


def test_whole_numbers_for_real_ones() -> None:
    config = Config(learning_rate=1, sigma=0, clip=5)
    assert [type(value) for value in (config.learning_rate, config.sigma, config.clip)] == [
        float
    ] * 3
    assert config == Config(learning_rate=1.0, sigma=0.0, clip=5.0)


@pytest.mark.parametrize("config", [Config(), Config(hidden=3, clip=math.inf, dtype="float64")])
def test_json(config: Config) -> None:
    text = json.dumps(config.to_json(), allow_nan=False)
    assert Config.from_json(json.loads(text)) == config


@pytest.mark.parametrize("change", [{"hidden": None}, {"more": 1}])
def test_json_has_exactly_the_fields(change: dict) -> None:
    values = Config().to_json() | change
    if None in change.values():
        del values["hidden"]
    with pytest.raises(FastrnnError) as error:
        Config.from_json(values)
    assert str(error.value) == (
        "the configuration has other fields than "
        "batch, clip, dtype, hidden, learning_rate, seed, seq_length, sigma"
    )
