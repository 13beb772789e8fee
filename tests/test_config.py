"""A configuration is right, or is refused in one line."""

import json
import math

import numpy as np
import pytest

from fastrnn.checks import shown_value
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
        ("learning_rate", np.float32("nan"), "a positive number"),
        ("learning_rate", True, "a positive number"),
        ("learning_rate", np.bool_(True), "a positive number"),
        ("learning_rate", "0.1", "a positive number"),
        ("hidden", np.float64(5.0), "a whole number from 1 to 2147483647"),
        ("hidden", np.bool_(True), "a whole number from 1 to 2147483647"),
        ("hidden", np.int64(2**31), "a whole number from 1 to 2147483647"),
        ("clip", -1.0, "a positive number"),
        ("clip", 10**400, "a positive number"),
        ("sigma", -1e-9, "zero or a positive number"),
        ("dtype", "float16", "float32 or float64"),
        ("dtype", np.dtype("float32"), "float32 or float64"),
        ("dtype", np.array(["float32"]), "float32 or float64"),
    ],
)
def test_refused(field: str, value: object, wanted: str) -> None:
    with pytest.raises(FastrnnError) as error:
        Config(**{field: value})
    assert str(error.value) == (
        f"{field.replace('_', '-')} is {shown_value(value)}, but must be {wanted}"
    )


def test_limits() -> None:
    Config(hidden=1, seq_length=1, batch=1, seed=2**31 - 1, sigma=0.0, clip=math.inf)


def test_whole_numbers_for_real_ones() -> None:
    config = Config(learning_rate=1, sigma=0, clip=5)
    assert [type(value) for value in (config.learning_rate, config.sigma, config.clip)] == [
        float
    ] * 3
    assert config == Config(learning_rate=1.0, sigma=0.0, clip=5.0)


def test_numpy_numbers_are_stored_as_plain_ones() -> None:
    config = Config(
        hidden=np.int64(7),
        seq_length=np.uint8(3),
        batch=np.int32(2),
        seed=np.uint32(1),
        learning_rate=np.float64(0.5),
        sigma=np.float32(0.25),
        clip=np.int16(4),
        dtype=np.str_("float64"),
    )
    assert config == Config(7, 3, 2, 0.5, 0.25, 4.0, 1, "float64")
    kinds = [int, int, int, float, float, float, int, str]
    assert [type(value) for value in vars(config).values()] == kinds
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config


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
