"""Models write what their probabilities say, the same for the same seed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastrnn import checkpoint as checkpoints
from fastrnn import reference, synthesis
from fastrnn.checkpoint import Best, Checkpoint, CorpusInfo, History, Last
from fastrnn.config import Config
from fastrnn.corpus import Vocabulary
from fastrnn.errors import FastrnnError
from fastrnn.model import initial_parameters
from fastrnn.synthesis import Model, load

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
    return reference.forward(parameters, np.zeros((1, 11)), codes).p[:, 0]


def test_seed_decides() -> None:
    texts = [model().sample(100, seed=seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert model().sample(100) != model().sample(100)


@pytest.mark.parametrize("piece", [1, 7, 64, 1000])
def test_pieces_join_to_the_same_text(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = model().sample(200, seed=3, prime="abba")
    monkeypatch.setattr(synthesis, "PIECE", piece)
    pieces = list(model().stream(200, seed=3, prime="abba"))
    assert "".join(pieces) == expected
    assert len(expected) == 200
    assert [len(text) for text in pieces[:-1]] == [piece] * ((200 - 1) // piece)


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
    "options",
    [
        {"length": -1},
        {"seed": -1},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
    ],
)
def test_values_out_of_range(options: dict) -> None:
    with pytest.raises(FastrnnError) as error:
        model().stream(**options)
    length, seed, temperature = (
        options.get(name, default)
        for name, default in (("length", 1000), ("seed", None), ("temperature", 1.0))
    )
    assert str(error.value) == (
        f"length {length}, seed {seed} and temperature {temperature} must be finite "
        "and not negative"
    )


def test_load_gives_the_best_model(tmp_path: Path) -> None:
    best, last = (
        initial_parameters(replace(CONFIG, seed=seed), len(VOCABULARY)) for seed in (1, 2)
    )
    zeros = {name: np.zeros_like(array) for name, array in last.items()}
    generator = np.random.default_rng(0).bit_generator.state
    saved = Checkpoint(
        config=CONFIG,
        vocabulary=VOCABULARY.characters,
        corpus=CorpusInfo("text", 1000, "0" * 64),
        best=Best(3, 1.0, best),
        last=Last(9, 0, 9, 2.0, last, zeros, np.zeros((3, 11)), generator),
        history=History(np.empty(0, np.int64), np.empty(0), []),
        seconds=0.0,
        version="0",
    )
    checkpoints.save(tmp_path / "a.h5", saved)
    text = load(tmp_path / "a.h5").sample(100, seed=1)
    assert text == Model(CONFIG, VOCABULARY, best).sample(100, seed=1)
    assert text != Model(CONFIG, VOCABULARY, last).sample(100, seed=1)
