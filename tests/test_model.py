"""Models write what their probabilities say, the same for the same seed."""

import math
import pickle
import tracemalloc
from copy import copy, deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastrnn import layout, reference
from fastrnn.checks import shown_value
from fastrnn.config import Architecture, Config
from fastrnn.errors import FastrnnError
from fastrnn.model import Model, load
from fastrnn.parameters import Parameters, initial_parameters
from fastrnn.storage import checkpoint as checkpoints
from fastrnn.storage.checkpoint import Best, Checkpoint, CorpusInfo, History, Last
from fastrnn.text.vocabulary import Vocabulary
from fastrnn.writing import Writer

VOCABULARY = Vocabulary("\nabcdeñ")
# Weights large enough that every character depends on those before; batch and T have no influence.
CONFIG = Config(hidden=11, seq_length=4, batch=3, sigma=0.7, dtype="float64")


def model(**changes: object) -> Model:
    config = replace(CONFIG, **changes)
    return Model(config, VOCABULARY, initial_parameters(config, len(VOCABULARY)))


def probabilities(model: Model, text: str, temperature: float = 1.0) -> np.ndarray:
    """What the reference gives for every character of `text` but the first."""
    parameters = dict(model.parameters)
    parameters["V"] = parameters["V"] / temperature
    parameters["c"] = parameters["c"] / temperature
    codes = VOCABULARY.encode(text).astype(int)[:, None]
    return reference.forward(parameters, np.zeros((1, 1, 11)), codes).p[:, 0]


def test_seed_decides() -> None:
    texts = [model().sample(100, seed=seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert model().sample(100) != model().sample(100)


@pytest.mark.parametrize("piece", [1, 7, 64, 1000])
def test_pieces_join_to_the_same_text(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = model().sample(200, seed=3, prime="abba")
    monkeypatch.setattr(Writer, "piece", piece)
    pieces = list(model().stream(200, seed=3, prime="abba"))
    assert "".join(pieces) == expected
    assert len(expected) == 200
    assert [len(text) for text in pieces[:-1]] == [piece] * ((200 - 1) // piece)


def test_an_architecture_is_enough() -> None:
    architecture = Architecture(hidden=11, dtype="float64")
    parameters = initial_parameters(CONFIG, len(VOCABULARY))
    writer = Model(architecture, VOCABULARY, parameters)
    assert writer.sample(100, seed=1) == model().sample(100, seed=1)
    assert pickle.loads(pickle.dumps(writer)).architecture == architecture
    assert repr(writer) == (
        "<fastrnn.Model: vanilla RNN, 11 hidden units, 293 parameters, float64>"
    )


def test_nothing_to_write() -> None:
    assert model().sample(0) == model().sample(0, prime="abc") == ""
    assert list(model().stream(0)) == []


@pytest.mark.parametrize("prime", ["a", "\n", "bñd", "abcde" * 40])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_temperature_zero_takes_the_likeliest(prime: str, dtype: str) -> None:
    text = prime + model(dtype=dtype).sample(70, prime=prime, temperature=0)
    p = probabilities(model(dtype=dtype), text[:-1] + "a")
    likeliest = VOCABULARY.decode(p.argmax(axis=1))
    assert text[len(prime) :] == likeliest[len(prime) - 1 :]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_draws_follow_the_probabilities(temperature: float) -> None:
    text = "b" + model().sample(4000, seed=5, prime="b", temperature=temperature)
    p = probabilities(model(), text, temperature)
    drawn = np.eye(len(VOCABULARY))[VOCABULARY.encode(text[1:])]
    # After every character apart, as the distribution depends on it.
    for code in range(len(VOCABULARY)):
        after = VOCABULARY.encode(text[:-1]) == code
        deviation = (drawn[after] - p[after]).sum(axis=0)
        spread = np.sqrt((p[after] * (1 - p[after])).sum(axis=0))
        assert (np.abs(deviation) <= 4 * spread + 1).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_temperatures(dtype: str) -> None:
    writer = model(dtype=dtype)
    likeliest = writer.sample(50, prime="a", temperature=0)
    for temperature in (1e-9, 1e-38, 1e-300, 5e-324):
        assert writer.sample(50, seed=1, prime="a", temperature=temperature) == likeliest
    uniform = writer.sample(700, seed=1, prime="a", temperature=1e20)
    assert min(map(uniform.count, VOCABULARY.characters)) > 50
    for temperature in (1e40, 1e308):
        assert writer.sample(700, seed=1, prime="a", temperature=temperature) == uniform


def test_start_is_a_line_end_or_a_space() -> None:
    def after(prime: str, characters: str) -> str:
        vocabulary = Vocabulary(characters)
        parameters = initial_parameters(CONFIG, len(vocabulary))
        return Model(CONFIG, vocabulary, parameters).sample(40, seed=1, prime=prime)

    assert after("", "\n ab") == after("\n", "\n ab") != after(" ", "\n ab")
    assert after("", " ab") == after(" ", " ab")
    assert after("", "abc") == after("a", "abc")


def test_unknown_character_is_refused_before_anything_is_written() -> None:
    with pytest.raises(FastrnnError) as error:
        model().stream(10, prime="abz")
    assert str(error.value) == (
        "the character 'z' (U+007A) at position 2, counted from 0, is not among the 7 characters "
        "of the vocabulary; leave it out, or train on a text that has it"
    )


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"length": -1}, "length is -1, but must be a whole number from 0 on"),
        ({"length": 2.0}, "length is 2.0, but must be a whole number from 0 on"),
        ({"length": "a\nb"}, r"length is 'a\nb', but must be a whole number from 0 on"),
        ({"length": True}, "length is True, but must be a whole number from 0 on"),
        ({"seed": -1}, "seed is -1, but must be a whole number from 0 on"),
        ({"seed": 1.5}, "seed is 1.5, but must be a whole number from 0 on"),
        ({"prime": None}, "prime is None, but must be a str"),
        ({"prime": b"ab"}, "prime is 'ab', but must be a str"),
        ({"temperature": -0.1}, "temperature is -0.1, but must be zero or a positive number"),
        ({"temperature": math.nan}, "temperature is nan, but must be zero or a positive number"),
        ({"temperature": math.inf}, "temperature is inf, but must be zero or a positive number"),
        ({"temperature": 10**400}, "temperature is a number of about 400 digits, but must be zero"),
        ({"temperature": "1"}, "temperature is '1', but must be zero or a positive number"),
    ],
)
def test_wrong_arguments(options: dict, refusal: str) -> None:
    for write in (model().stream, model().sample):
        with pytest.raises(FastrnnError) as error:
            write(**options)
        assert str(error.value).startswith(refusal)


def test_numpy_numbers() -> None:
    options = {"seed": np.int64(3), "temperature": np.float32(0.5)}
    expected = model().sample(70, seed=3, temperature=0.5)
    assert model().sample(np.uint16(70), **options) == expected


def test_line_ends_of_the_prime_are_those_of_a_corpus() -> None:
    expected = model().sample(40, seed=1, prime="a\nb\nc\n\nd")
    assert model().sample(40, seed=1, prime="a\r\nb\rc\r\r\nd") == expected
    # A model that knows them learnt them from a text that was read as it is.
    characters = Vocabulary("\n\rab")
    writer = Model(CONFIG, characters, initial_parameters(CONFIG, 4))
    assert writer.sample(40, seed=1, prime="a\r\n") != writer.sample(40, seed=1, prime="a\n")


PARAMETERS = initial_parameters(CONFIG, len(VOCABULARY))


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (({}, VOCABULARY, PARAMETERS), "architecture is of type dict, but must be an Architecture"),
        (
            (Config, VOCABULARY, PARAMETERS),
            "architecture is the class Config, but must be an Architecture",
        ),
        ((CONFIG, "abc", PARAMETERS), "vocabulary is 'abc', but must be a Vocabulary"),
        (
            (CONFIG, Vocabulary(""), PARAMETERS),
            "the vocabulary is empty; a model needs at least one character",
        ),
        (
            (CONFIG, VOCABULARY, None),
            "parameters is None, but must be a dictionary of U, W, V, b, c",
        ),
        (
            (CONFIG, VOCABULARY, {"U": PARAMETERS["U"]}),
            "parameters lack W; they must be U, W, V, b, c",
        ),
        (
            (CONFIG, VOCABULARY, PARAMETERS | {"V": PARAMETERS["V"].T}),
            "V is an array of float64 in the shape (11, 7), but must be one of real numbers in the "
            "shape (7, 11)",
        ),
        (
            (CONFIG, VOCABULARY, PARAMETERS | {"c": np.full(7, "a")}),
            "c is an array of <U1 in the shape (7,), but must be one of real numbers in the "
            "shape (7,)",
        ),
        (
            (CONFIG, VOCABULARY, PARAMETERS | {"c": 1j * PARAMETERS["c"]}),
            "c is an array of complex128 in the shape (7,), but must be one of real numbers in the "
            "shape (7,)",
        ),
    ],
)
def test_what_no_model_is_made_of(arguments: tuple, refusal: str) -> None:
    with pytest.raises(FastrnnError) as error:
        Model(*arguments)
    assert str(error.value) == refusal


def test_a_model_keeps_its_parameters() -> None:
    given = {name: array.copy() for name, array in PARAMETERS.items()}
    writer = Model(CONFIG, VOCABULARY, given)
    expected = writer.sample(50, seed=1)
    for array in given.values():
        array[...] = 0
    assert writer.sample(50, seed=1) == expected
    for name, array in writer.parameters.items():
        np.testing.assert_array_equal(array, PARAMETERS[name])
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_copies_and_pickles_write_the_same() -> None:
    writer = model(dtype="float32")
    expected = writer.sample(50, seed=1)
    copies = [pickle.loads(pickle.dumps(writer)), deepcopy(writer), copy(writer)]
    assert [other.sample(50, seed=1) for other in copies] == [expected] * 3


def test_a_model_allocates_nothing_for_training(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, hidden=200, batch=10**6, seq_length=10**6)
    parameters = initial_parameters(config, len(VOCABULARY))
    monkeypatch.setattr("fastrnn.network.Workers", None)
    tracemalloc.start()
    try:
        writer = Model(config, VOCABULARY, parameters)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert writer.sample(9, seed=1)
    assert taken <= layout.model_memory(config, len(VOCABULARY)) + 20_000


def test_repr() -> None:
    assert repr(model()) == (
        "<fastrnn.Model: vanilla RNN, 11 hidden units, 293 parameters, float64>"
    )


def checkpoint(best: Parameters, last: Parameters) -> Checkpoint:
    zeros = {name: np.zeros_like(array) for name, array in last.items()}
    generator = np.random.default_rng(0).bit_generator.state
    return Checkpoint(
        config=CONFIG,
        vocabulary=VOCABULARY.characters,
        corpus=CorpusInfo("text", 1000, "0" * 64),
        best=Best(3, 1.0, best),
        last=Last(9, 0, 9, 2.0, last, {"squares": zeros}, np.zeros((1, 3, 11)), generator),
        history=History(np.empty(0, np.int64), np.empty(0), []),
        seconds=0.0,
        version="0",
    )


def test_models_of_a_checkpoint(tmp_path: Path) -> None:
    best, last = (
        initial_parameters(replace(CONFIG, seed=seed), len(VOCABULARY)) for seed in (1, 2)
    )
    saved = checkpoint(best, last)
    path = tmp_path / "a.h5"
    checkpoints.save(path, saved)
    texts = [Model(CONFIG, VOCABULARY, model).sample(100, seed=1) for model in (best, last)]
    assert texts[0] != texts[1]
    for found in (load(path), load(bytes(path)), Model.from_checkpoint(saved)):
        assert found.sample(100, seed=1) == texts[0]
    for found in (load(path, last=True), Model.from_checkpoint(saved, last=True)):
        assert found.sample(100, seed=1) == texts[1]


@pytest.mark.parametrize("wrong", ["best.h5", None, PARAMETERS])
def test_what_is_no_checkpoint(wrong: object) -> None:
    with pytest.raises(FastrnnError) as error:
        Model.from_checkpoint(wrong)
    assert str(error.value) == (
        f"checkpoint is {shown_value(wrong)}, but must be a Checkpoint, from fastrnn.train or "
        "fastrnn.load_checkpoint"
    )


def test_repr_of_a_checkpoint() -> None:
    assert repr(checkpoint(PARAMETERS, PARAMETERS)) == (
        "<fastrnn.Checkpoint: vanilla RNN, 11 hidden units, 293 parameters, float64; "
        "after 9 updates, lowest smooth loss 1.0000 at update 3>"
    )
