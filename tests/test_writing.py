"""Texts side by side: what is drawn, from what, and that nothing but the seed decides."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from fastrnn import model as models
from fastrnn import reference
from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.kernels.writing import Choice
from fastrnn.model import Model
from fastrnn.network import Weights
from fastrnn.parameters import parameter_shapes, state_shape
from fastrnn.text.vocabulary import Vocabulary
from fastrnn.writing import Writer

VOCABULARY = Vocabulary("\n !'-?abcdefg")
K = len(VOCABULARY)
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
MODELS = ("rnn × 1", "lstm × 2", "gru × 3")


def parameters_of(kind, m=17, dtype="float64"):
    cell, _, layers = kind.partition(" × ")
    config = Config(cell=cell, layers=int(layers), hidden=m, dtype=dtype)
    rng = np.random.default_rng(1)
    shapes = parameter_shapes(config, K)
    return config, {k: rng.normal(0, 1 / np.sqrt(m), s) for k, s in shapes.items()}


def model(kind="gru × 2", **changes):
    return Model(*(lambda c, p: (c, VOCABULARY, p))(*parameters_of(kind, **changes)))


def probabilities(parameters, state, codes):
    """Of the reference, after each of the codes: (len(codes), K)."""
    parameters = {k: v.astype(np.float64) for k, v in parameters.items()}
    padded = np.append(codes, 0)[:, None]
    return reference.forward(parameters, state[:, None].astype(np.float64), padded).p[:, 0]


def drawn(p, uniform, choice):
    """The character that a uniform number stands for, in plain NumPy."""
    if choice.temperature == 0:
        return int(np.argmax(p))
    p = p ** (1 / choice.temperature)
    order = np.argsort(-p, kind="stable")
    if choice.top_k:
        p[order[choice.top_k :]] = 0
    if choice.top_p < 1:
        enough = np.searchsorted(np.cumsum(p[order]), choice.top_p * p.sum()) + 1
        p[order[enough:]] = 0
    return int(np.searchsorted(np.cumsum(p), uniform * p.sum(), side="right"))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", MODELS)
def test_every_character_is_what_its_random_number_says(kind, dtype):
    config, parameters = parameters_of(kind, dtype=dtype)
    weights = Weights(config, K)
    weights.set_parameters(parameters)
    rng = np.random.default_rng(2)
    state = rng.uniform(-1, 1, state_shape(config, 1))[:, 0].astype(dtype)
    for choice in (
        Choice(),
        Choice(0.0),
        Choice(0.6),
        Choice(top_k=3),
        Choice(1.3, top_k=K),
        Choice(top_p=0.7),
        Choice(1.5, top_k=5, top_p=0.5),
        Choice(top_p=1e-9),
    ):
        writer = Writer(weights, state)
        writer.read(np.array([3, 1, 4]))
        writer = writer.copies(5)
        uniforms = rng.random((40, 5))
        codes = writer.write(uniforms, choice)
        for text, text_uniforms in zip(codes.T, uniforms.T, strict=True):
            p = probabilities(parameters, state, np.array([3, 1, 4, *text[:-1]]))[2:]
            wanted = [drawn(row, u, choice) for row, u in zip(p, text_uniforms, strict=True)]
            assert text.tolist() == wanted


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_ends_of_the_random_numbers(dtype):
    """They are the first and the last of the characters that may be drawn, also where a random
    number times the sum of all is rounded up to it."""
    config, parameters = parameters_of("rnn × 1", dtype=dtype)
    weights = Weights(config, K)
    weights.set_parameters(parameters)
    state = np.zeros(17, dtype)[None]
    for code in range(K):
        writer = Writer(weights, texts=2)
        writer.read(np.array([code]))
        first, last = writer.write(np.array([[0.0, 1 - 2.0**-53]]), Choice(top_k=3))[0]
        likeliest = np.argsort(-probabilities(parameters, state, np.array([code]))[0])[:3]
        assert (first, last) == (min(likeliest), max(likeliest))


@pytest.mark.parametrize("kind", ["rnn × 1", "lstm × 2"])
def test_texts_depend_on_seed_and_number_only(kind, monkeypatch):
    writer = model(kind, dtype="float32")
    options = {"seed": 5, "prime": "abc", "temperature": 0.9, "top_k": 9, "top_p": 0.95}
    expected = list(writer.samples(7, 90, **options, threads=1))
    assert len(set(expected)) == 7 and set(map(len, expected)) == {90}
    assert writer.sample(90, **options) == expected[0]
    stop = expected[0][20:22]
    stopped = [text.partition(stop)[0] for text in expected]
    assert len(set(map(len, stopped))) > 2
    for at_once, threads, piece in itertools.product((1, 2, 64), (1, 3), (1, 7, 1000)):
        monkeypatch.setattr(models, "TEXTS_AT_ONCE", at_once)
        monkeypatch.setattr(models, "usable_threads", int)
        monkeypatch.setattr(Writer, "piece", piece)
        assert list(writer.samples(7, 90, **options, threads=threads)) == expected
        assert list(writer.samples(7, 90, stop=stop, **options, threads=threads)) == stopped
        assert "".join(writer.stream(90, stop=stop, **options)) == stopped[0]
    assert list(writer.samples(0)) == [] and list(writer.samples(2, 0)) == ["", ""]


def test_lines(monkeypatch):
    """Each is the start of a text after a line end, and none after it is changed by the others."""
    writer = model("lstm × 1", m=30)
    lines = list(itertools.islice(writer.lines(300, seed=3, prime="b"), 300))
    assert len(lines) == 300 and all(line[0] == "b" and "\n" not in line for line in lines)
    # The first of each of the texts that they are the lines of.
    texts = [text.partition("\n") for text in writer.samples(64, 200, seed=3, prime="\nb")]
    assert lines[:64] == ["b" + line for line, end, _ in texts if end]
    monkeypatch.setattr(Writer, "piece", 3)
    monkeypatch.setattr(models, "usable_threads", int)
    assert list(writer.lines(300, seed=3, prime="b", threads=3)) == lines
    assert list(writer.lines(5, seed=3, prime="b")) == lines[:5]

    known = set(lines[::2])
    others = [line for line in lines if line not in known]
    assert list(writer.lines(len(others), seed=3, prime="b", novel=known)) == others
    distinct = list(dict.fromkeys(lines))
    assert len(distinct) < 300
    assert list(writer.lines(len(distinct), seed=3, prime="b", unique=True)) == distinct
    short = list(writer.lines(300, seed=3, longest=4))
    assert max(map(len, short)) == 4 and min(map(len, short)) == 1


def test_lines_that_are_not_to_be_had(monkeypatch):
    monkeypatch.setattr(models, "MORE_TRIES", 50)
    lines = model().lines(3, seed=1, temperature=0, unique=True)
    assert next(lines)
    message = "only 1 of the 350 lines that the model wrote can be taken; the others are empty"
    with pytest.raises(FastrnnError, match=message):
        next(lines)


def test_unknown_characters_of_the_prime():
    writer = model()
    expected = writer.sample(40, seed=1, prime="a'B-é b".replace("B", "b").replace("é", "e"))
    assert writer.sample(40, seed=1, prime="a’B–é\tb", unknown="replace") == expected
    assert writer.sample(40, seed=1, prime="ΩaΩb", unknown="skip") == writer.sample(
        40, seed=1, prime="ab"
    )
    assert VOCABULARY.fit("ΩzΩ", "replace") == ("???", 3)
    assert Vocabulary("ab").fit("az", "replace") == ("aa", 1)
    with pytest.raises(FastrnnError, match="the character 'Ω'"):
        writer.sample(40, prime="Ω")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k is 0, but must be a whole number from 1 on"),
        ({"top_p": 1.5}, "top_p is 1.5, but must be a positive number up to 1"),
        ({"top_p": 0}, "top_p is 0, but must be a positive number"),
        ({"stop": ""}, "stop is empty; give the text to stop before, or leave it out"),
        (
            {"prime": "a", "unknown": "drop"},
            "unknown is 'drop', but must be error, skip or replace",
        ),
    ],
)
def test_bad_arguments(options, message):
    for work in (model().sample, lambda **given: model().samples(2, **given)):
        with pytest.raises(FastrnnError) as error:
            work(**options)
        assert str(error.value) == message


def test_lines_of_a_model_without_any_are_refused():
    plain = Vocabulary(VOCABULARY.characters.replace("\n", "~")[::-1][:K][::-1].replace("~", ""))
    config, parameters = parameters_of("rnn × 1")
    parameters = {k: v[: len(plain)] if k in "Vc" else v for k, v in parameters.items()}
    parameters["U"] = parameters["U"][:, : len(plain)]
    with pytest.raises(FastrnnError, match="the model knows no line end"):
        Model(replace(config), plain, parameters).lines(3)
    with pytest.raises(FastrnnError, match="prime has a line end, but a line has none"):
        model().lines(3, prime="a\nb")
