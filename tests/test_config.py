"""A configuration is right, or is refused in one line."""

import json
import math
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.checks import Real, Whole, setting, shown_value
from fastrnn.config import (
    CHOICES,
    LOSSES,
    MODELS,
    Architecture,
    Config,
    default_in_words,
    describe_training,
    model_kind,
    option_name,
    state_names,
)
from fastrnn.errors import FastrnnError

FIELDS = {field.name: field for field in fields(Config)}


def refusal(**settings) -> str:
    with pytest.raises(FastrnnError) as error:
        Config(**settings)
    return str(error.value)


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("hidden", 0, "a whole number from 1 to 2147483647"),
        ("hidden", 2**31, "a whole number from 1 to 2147483647"),
        ("hidden", 5.0, "a whole number from 1 to 2147483647"),
        ("hidden", None, "a whole number from 1 to 2147483647"),
        ("layers", 0, "a whole number from 1 to 1000"),
        ("batch", True, "a whole number from 1 to 2147483647"),
        ("seed", -1, "a whole number from 0 to 2147483647"),
        ("seq_length", "25", "a whole number from 1 to 2147483647"),
        ("epochs", -1, "a whole number from 0 to 2147483647"),
        ("updates", 2**63, "a whole number from 0 to 9223372036854775807"),
        ("warmup", 1.5, "a whole number from 0 to 2147483647"),
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
        ("clip_norm", 0, "a positive number"),
        ("sigma", -1e-9, "zero or a positive number"),
        ("dropout", 1, "zero or a positive number below 1"),
        ("dropout", math.nan, "zero or a positive number below 1"),
        ("beta1", -0.1, "zero or a positive number below 1"),
        ("nesterov", 1, "True or False"),
        ("dtype", "float16", "float32 or float64"),
        ("dtype", np.dtype("float32"), "float32 or float64"),
        ("dtype", np.array(["float32"]), "float32 or float64"),
        ("cell", None, "rnn, lstm or gru"),
        ("cell", "LSTM", "rnn, lstm or gru"),
        ("optimizer", "Adam", "adagrad, rmsprop, adam, adamw or sgd"),
        ("schedule", 3, "constant, exponential or cosine"),
        ("init", "", "normal, torch or orthogonal"),
    ],
)
def test_refused(field: str, value: object, wanted: str) -> None:
    message = refusal(**{field: value})
    assert message == f"{field.replace('_', '-')} is {shown_value(value)}, but must be {wanted}"


def test_limits() -> None:
    Config(hidden=1, seq_length=1, batch=1, seed=2**31 - 1, sigma=0.0, clip=math.inf)
    Config(optimizer="adam", beta1=0, beta2=0, warmup=0, epochs=0, updates=2**63 - 1)
    last = math.nextafter(1, 0)
    Config(schedule="cosine", final_rate=0, dropout=last, clip_norm=math.inf, dtype="float64")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_that_the_type_has(dtype: str) -> None:
    kind = np.dtype(dtype).type
    info, one = np.finfo(kind), kind(1)
    below_one = float(np.nextafter(one, kind(0)))
    Config(optimizer="adam", dtype=dtype, epsilon=float(info.tiny), beta2=below_one)
    Config(optimizer="adam", dtype=dtype, weight_decay=float(info.max))
    if dtype == "float64":
        return
    for name, value in {
        "epsilon": 1e-39,
        "beta2": 0.99999999,
        "weight_decay": 1e39,
        "input_rate": 1e39,
    }.items():
        most = below_one if name == "beta2" else info.max
        assert refusal(optimizer="adam", **{name: value}) == (
            f"{option_name(name)} is {value}, but float32 has numbers from {info.tiny:.8g} to "
            f"{most:.8g} for it; give one of these, or take the dtype float64"
        )
        Config(optimizer="adam", dtype="float64", **{name: value})


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
    assert config == Config(
        hidden=7,
        seq_length=3,
        batch=2,
        learning_rate=0.5,
        sigma=0.25,
        clip=4.0,
        seed=1,
        dtype="float64",
    )
    assert {type(value) for value in vars(config).values()} == {int, float, str, type(None), bool}
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config


# Defaults


def test_the_reference_experiment() -> None:
    values = {name: value for name, value in asdict(Config()).items() if value is not None}
    assert values == {
        "cell": "rnn",
        "hidden": 100,
        "layers": 1,
        "dtype": "float32",
        "seq_length": 25,
        "batch": 1,
        "dropout": 0.0,
        "optimizer": "adagrad",
        "learning_rate": 0.1,
        "input_rate": 1.0,
        "epsilon": 1e-8,
        "weight_decay": 0.0,
        "loss": "sum",
        "clip": 5.0,
        "clip_norm": math.inf,
        "schedule": "constant",
        "warmup": 0,
        "init": "normal",
        "sigma": 0.01,
        "seed": 0,
        "epochs": 9,
        "val_fraction": 0.0,
        "test_fraction": 0.0,
        "order": "sequential",
        "lines": False,
        "on_divergence": "stop",
    }
    assert describe_training(Config()) == (
        "adagrad, learning rate 0.1, clip 5, normal initial weights"
    )


@pytest.mark.parametrize("model", [{"cell": "lstm"}, {"cell": "gru"}, {"layers": 2}], ids=str)
def test_gated_and_deep_models_have_defaults_of_their_own(model: dict) -> None:
    config = Config(**model, seq_length=50)
    defaults = config.optimizer, config.clip, config.clip_norm, config.init, config.sigma
    assert defaults == ("adam", math.inf, 50.0, "torch", None)
    assert describe_training(config) == (
        "adam, learning rate 0.002, clip norm 50, torch initial weights"
    )
    kept = Config(**model, optimizer="adagrad", clip=5, clip_norm=math.inf, init="normal")
    assert kept == replace(Config(), **model)


def test_loss_as_a_mean() -> None:
    """Then the norm is clipped to that of one character."""
    config = Config(cell="lstm", seq_length=50, loss="mean", input_rate=50)
    assert (config.clip_norm, config.loss_length, Config().loss_length) == (1.0, 1, 25)
    assert describe_training(config) == (
        "adam, learning rate 0.002, input rate 50, mean loss, clip norm 1, torch initial weights"
    )


def test_sgd_makes_the_same_steps_for_a_sum_and_a_mean() -> None:
    """The gradient of a sum over T characters is T times as large."""
    assert Config(optimizer="sgd").learning_rate == 0.005
    for T in (25, 50):
        summed, mean = (Config(optimizer="sgd", loss=loss, seq_length=T) for loss in LOSSES)
        assert summed.learning_rate * T == mean.learning_rate == 0.125


def test_every_default_is_within_its_bounds() -> None:
    tables = [*MODELS.values(), *(row for options in CHOICES.values() for row in options.values())]
    for name, value in ((name, value) for table in tables for name, value in table.items()):
        assert setting(name, value, FIELDS[name].metadata["bounds"]) == value
        assert FIELDS[name].default is None
        assert default_in_words(name)


def test_defaults_in_words() -> None:
    assert default_in_words("beta1") == "0.9 with adam and adamw"
    assert default_in_words("clip") == "5 for one vanilla layer; inf for gated or deep models"
    assert default_in_words("clip_norm") == (
        "inf for one vanilla layer; 1 (times --seq-length for a sum) for gated or deep models"
    )
    assert default_in_words("learning_rate") == (
        "0.1 with adagrad; 0.002 with rmsprop, adam and adamw; "
        "0.125 (over --seq-length for a sum) with sgd"
    )
    assert default_in_words("epochs") == "9, unless --updates"
    assert default_in_words("hidden") is None


@pytest.mark.parametrize(
    ("given", "epochs", "updates"),
    [({}, 9, None), ({"updates": 5}, None, 5), ({"epochs": 0}, 0, None)],
)
def test_length(given: dict, epochs: int | None, updates: int | None) -> None:
    config = Config(**given)
    assert (config.epochs, config.updates) == (epochs, updates)


# Settings that go together


@pytest.mark.parametrize("choice", CHOICES)
def test_what_a_choice_does_not_use_is_refused(choice: str) -> None:
    options = CHOICES[choice]
    names = {name for used in options.values() for name in used}
    for chosen, used in options.items():
        for name in names - used.keys():
            value = next(row[name] for row in options.values() if name in row)
            message = refusal(**{choice: chosen, name: value})
            start = f"{name.replace('_', '-')} is {value}, but {choice} {chosen} does not use it; "
            assert message.startswith(start + "leave it out, or take ")
            for other, row in options.items():
                assert (f" {other}" in message.removeprefix(start).replace(",", "")) == (
                    name in row
                )
            assert getattr(Config(**{choice: chosen}), name) is None


def test_settings_that_contradict_each_other() -> None:
    assert refusal(optimizer="sgd", nesterov=True) == (
        "nesterov is True, but there is no momentum; give one, such as 0.9"
    )
    assert Config(optimizer="sgd", nesterov=True, momentum=0.9).nesterov is True
    assert refusal(input_rate=1e38, learning_rate=100.0) == (
        "input-rate is 1e+38 times the learning rate 100.0, which is too large for float32; give a "
        "smaller one"
    )
    Config(optimizer="adamw", learning_rate=0.5, weight_decay=2, input_rate=0.1)
    assert refusal(optimizer="adamw", learning_rate=0.5, weight_decay=2, input_rate=50.0) == (
        "weight-decay is 2.0, which at the highest learning rate, 25, takes more from the weights "
        "than they are; give at most 0.04"
    )
    assert refusal(schedule="exponential", final_rate=0) == (
        "final-rate is 0, which an exponential never reaches; give a positive number, or take the "
        "schedule cosine"
    )


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"optimizer": "adagrad"}, ("squares",)),
        ({"optimizer": "rmsprop"}, ("squares",)),
        ({"optimizer": "rmsprop", "momentum": 0.5}, ("squares", "momentum")),
        ({"optimizer": "adam"}, ("momentum", "squares")),
        ({"optimizer": "adamw"}, ("momentum", "squares")),
        ({"optimizer": "sgd"}, ()),
        ({"optimizer": "sgd", "momentum": 0.5}, ("momentum",)),
    ],
    ids=str,
)
def test_state_of_the_optimizer(settings: dict, names: tuple[str, ...]) -> None:
    assert state_names(Config(**settings)) == names


def test_an_architecture_is_what_configurations_of_one_model_share() -> None:
    architecture = Architecture(cell="gru", hidden=7, layers=2)
    config = Config(**asdict(architecture), batch=3)
    assert isinstance(config, Architecture) and model_kind(config) == model_kind(architecture)
    assert asdict(config).items() >= asdict(architecture).items()
    with pytest.raises(FastrnnError, match=r"^cell is 'elman', but must be rnn, lstm or gru$"):
        Architecture(cell="elman")


# Any configuration


def values_of(name: str) -> st.SearchStrategy:
    """All values within the bounds of a field."""
    bounds = FIELDS[name].metadata["bounds"]
    if isinstance(bounds, Whole):
        return st.integers(bounds.lowest, bounds.highest)
    if isinstance(bounds, Real):
        numbers = st.floats(1e-30, 0.999)
        special = [0.0] * bounds.zero + [math.inf] * bounds.infinity
        return numbers | st.sampled_from(special) if special else numbers
    return st.sampled_from(bounds) if isinstance(bounds, tuple) else st.booleans()


@st.composite
def settings(draw: st.DrawFn) -> dict:
    """What a user may give: any fields, but of the optimizer, schedule and init only their own."""
    given = draw(st.fixed_dictionaries({}, optional={name: values_of(name) for name in FIELDS}))
    model = "one vanilla layer"
    if given.get("cell", "rnn") != "rnn" or given.get("layers", 1) > 1:
        model = "gated or deep models"
    for choice, options in CHOICES.items():
        default = MODELS[model].get(choice, FIELDS[choice].default)
        used = options[given.get(choice, default)]
        for name in {name for row in options.values() for name in row} - used.keys():
            given.pop(name, None)
    if given.get("momentum", 0) == 0:
        given.pop("nesterov", None)
    if given.get("schedule") == "exponential" and given.get("final_rate") == 0:
        given.pop("final_rate")
    if given.get("lines"):
        given.pop("order", None)
    if given.get("val_fraction", 0) + given.get("test_fraction", 0) >= 1:
        given.pop("test_fraction")
    if given.get("val_fraction", 0) == 0:
        given.pop("val_every", None)
        given.pop("patience", None)
    return given


@given(settings())
def test_any(given: dict) -> None:
    config = Config(**given)
    assert asdict(config).items() >= given.items()
    assert replace(config) == config
    text = json.dumps(config.to_json(), allow_nan=False)
    assert Config.from_json(json.loads(text)) == config
    for choice, options in CHOICES.items():
        used = options[getattr(config, choice)]
        for name in {name for row in options.values() for name in row}:
            assert (getattr(config, name) is None) == (name not in used)
    assert describe_training(config).isprintable()


# JSON


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
    names = ", ".join(sorted(FIELDS))
    assert str(error.value) == f"the configuration has other fields than {names}"


@pytest.mark.parametrize("field", ["learning_rate", "optimizer", "init", "epsilon", "sigma"])
def test_json_leaves_nothing_to_defaults(field: str) -> None:
    with pytest.raises(FastrnnError, match=f"^{field.replace('_', '-')} has no value$"):
        Config.from_json(Config().to_json() | {field: None})
