"""Checkpoints come back bit for bit, or with one line that says why not."""

import errno
import hashlib
import io
import json
import os
import random
import re
import signal
import stat
import struct
import subprocess
import sys
import time
from dataclasses import is_dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn.storage.sealed as sealed_module
from fastrnn.config import CELLS, OPTIMIZERS, Config, state_names
from fastrnn.errors import FastrnnError
from fastrnn.layout import model_memory
from fastrnn.memory import shown_bytes
from fastrnn.parameters import initial_parameters, state_shape
from fastrnn.report.summary import describe
from fastrnn.storage.checkpoint import (
    Best,
    Checkpoint,
    CorpusInfo,
    History,
    Last,
    Run,
    Sample,
    is_checkpoint,
    load,
    save,
)

# Sizes are all different, so that no swapped axis goes unnoticed: m = 5, T = 4, B = 3, K = 7.
VOCABULARY = "\0\n ae\u0301\U0001f600"


def example(vocabulary=VOCABULARY, **options):
    config = Config(**{"hidden": 5, "seq_length": 4, "batch": 3} | options)
    rng = np.random.default_rng(7)

    def parameters(seed):
        return initial_parameters(replace(config, seed=seed), len(vocabulary))

    squares = {name: value**2 for name, value in parameters(3).items()}
    buffers = {"squares": squares, "momentum": parameters(4)}
    sampling = np.random.default_rng(3)
    sampling.integers(10, dtype=np.uint32)  # leaves half of a 64-bit draw in the state
    return Checkpoint(
        config=config,
        vocabulary=vocabulary,
        corpus=CorpusInfo(
            "tiny.txt", 1000, "0123456789abcdef" * 4, "utf-16", sources=["t.txt"], folder="/a"
        ),
        best=Best(20, 41.25, parameters(1)),
        last=Last(
            update=30,
            epoch=2,
            chunk=11,
            smooth_loss=0.1 + 0.2,
            parameters=parameters(2),
            optimizer={name: buffers[name] for name in state_names(config)},
            state=rng.uniform(-1, 1, state_shape(config, config.batch)).astype(config.dtype),
            generator=sampling.bit_generator.state,
        ),
        history=History(
            update=np.array([0, 10, 20, 30]),
            smooth_loss=np.array([48.0, 45.5, 41.25, 0.3]),
            samples=[
                Sample(10, 45.5, "a\0"),
                Sample(20, 41.25, ""),
                Sample(30, 0.3, "\U0001f600é"),
            ],
        ),
        seconds=12.5,
        version="1.2.3",
        run=Run(500, 70, None, 3, "train.log", init_from="older.h5"),
    )


def bits(value):
    """A value that equals another one's only if type, shape and every bit are the same."""
    if is_dataclass(value):
        return type(value).__name__, bits(vars(value))
    if isinstance(value, dict):
        return [(key, bits(item)) for key, item in value.items()]
    if isinstance(value, list):
        return [bits(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return type(value), value.hex() if isinstance(value, float) else value


@pytest.fixture
def path(tmp_path):
    """A saved example, alone in its folder."""
    path = tmp_path / "best.h5"
    save(path, example())
    return path


def refusal(function, *arguments):
    with pytest.raises(FastrnnError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert message.isprintable()  # so it is one line
    return message


# Round trips


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("clip", [5.0, float("inf")])
def test_round_trip(tmp_path, dtype, clip):
    checkpoint = example(dtype=dtype, clip=clip)
    save(tmp_path / "a.h5", checkpoint)
    assert bits(load(tmp_path / "a.h5")) == bits(checkpoint)


@pytest.mark.parametrize(
    "options",
    [
        *({"cell": cell, "layers": layers} for cell in CELLS for layers in (1, 3)),
        *({"optimizer": optimizer, "clip_norm": 2.5} for optimizer in OPTIMIZERS),
        {"optimizer": "rmsprop", "momentum": 0.5, "init": "orthogonal"},
        {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "updates": 30},
        {"cell": "lstm", "schedule": "cosine", "final_rate": 0.1, "warmup": 7, "dropout": 0.4},
    ],
    ids=str,
)
def test_every_model_and_optimizer(tmp_path, options):
    checkpoint = example(**options)
    save(tmp_path / "a.h5", checkpoint)
    loaded = load(tmp_path / "a.h5")
    assert bits(loaded) == bits(checkpoint)
    assert loaded.last.optimizer.keys() == set(state_names(checkpoint.config))


def test_generator_continues_where_it_was(path):
    original, resumed = np.random.default_rng(), np.random.default_rng()
    original.bit_generator.state = example().last.generator
    resumed.bit_generator.state = load(path).last.generator
    for dtype in (np.uint32, np.uint64, np.uint32):
        draws = original.integers(2**32, size=5, dtype=dtype)
        assert (resumed.integers(2**32, size=5, dtype=dtype) == draws).all()


def test_before_the_first_update(tmp_path):
    checkpoint = example(vocabulary="x")
    checkpoint.best.update = checkpoint.last.update = checkpoint.last.chunk = 0
    checkpoint.history = History(np.array([], np.int64), np.array([]), [])
    save(tmp_path / "a.h5", checkpoint)
    assert bits(load(tmp_path / "a.h5")) == bits(checkpoint)


def test_array_in_another_memory_order(tmp_path):
    checkpoint = example()
    expected = bits(checkpoint)
    U = checkpoint.best.parameters["U"]
    checkpoint.best.parameters["U"] = np.asfortranarray(U)
    save(tmp_path / "a.h5", checkpoint)
    assert bits(load(tmp_path / "a.h5")) == expected


def test_loaded_arrays_are_writable_and_separate(path):
    checkpoint = load(path)
    checkpoint.last.parameters["U"][:] = 1
    checkpoint.last.optimizer["squares"]["U"][:] = 2
    assert bits(checkpoint.best) == bits(example().best)
    assert (checkpoint.last.parameters["U"] == 1).all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("round_trips")


characters = st.characters(exclude_categories=["Cs"])


@settings(max_examples=60)
@given(st.data())
def test_round_trip_of_anything(folder, data):
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    finite = st.floats(allow_nan=False, allow_infinity=False)
    weight = st.floats(allow_nan=False, allow_infinity=False, width=int(dtype[-2:]))
    vocabulary = "".join(sorted(data.draw(st.sets(characters, min_size=1, max_size=9))))
    checkpoint = example(vocabulary, dtype=dtype, seed=data.draw(st.integers(0, 2**31 - 1)))

    weights = data.draw(st.lists(weight, min_size=1, max_size=9))
    for arrays in (checkpoint.best.parameters, checkpoint.last.parameters):
        for array in arrays.values():
            array.flat = weights
    for array in checkpoint.last.optimizer["squares"].values():
        array.flat = np.abs(weights)
    checkpoint.last.state.flat = weights
    checkpoint.corpus.name = data.draw(st.text())
    checkpoint.last.smooth_loss = data.draw(finite)
    checkpoint.last.generator["state"] = {
        "state": data.draw(st.integers(0, 2**128 - 1)),
        "inc": data.draw(st.integers(0, 2**127 - 1)) * 2 + 1,
    }
    texts = data.draw(st.lists(st.text(characters), max_size=4))
    checkpoint.history.samples = [Sample(30, data.draw(finite), text) for text in texts]

    save(folder / "a.h5", checkpoint)
    assert bits(load(folder / "a.h5")) == bits(checkpoint)


# The file


def test_same_content_gives_same_bytes(path):
    save(path.with_name("b.h5"), example())
    save(path.with_name("c.h5"), load(path))
    assert path.read_bytes() == path.with_name("b.h5").read_bytes()
    assert path.read_bytes() == path.with_name("c.h5").read_bytes()


def test_ordinary_hdf5_with_natural_names(path):
    with h5py.File(path, "r") as file:
        names = []
        file.visititems(lambda name, item: names.append((name, getattr(item, "shape", None))))
        assert json.loads(file["config"][()])["hidden"] == 5
        assert "".join(map(chr, file["vocabulary"])) == VOCABULARY
        assert (file["best/parameters/U"][()] == example().best.parameters["U"]).all()
    parameters = [("U", (5, 7)), ("V", (7, 5)), ("W", (5, 5)), ("b", (5,)), ("c", (7,))]
    assert names == [
        ("best", None),
        ("best/parameters", None),
        *((f"best/parameters/{name}", shape) for name, shape in parameters),
        ("best/smooth_loss", ()),
        ("best/test_loss", ()),
        ("best/update", ()),
        ("best/validation_loss", ()),
        ("config", ()),
        ("corpus", ()),
        ("history", None),
        ("history/rollbacks", ()),
        ("history/samples", None),
        ("history/samples/length", (3,)),
        ("history/samples/smooth_loss", (3,)),
        ("history/samples/text", (4,)),
        ("history/samples/update", (3,)),
        ("history/smooth_loss", (4,)),
        ("history/update", (4,)),
        ("history/validation_loss", (0,)),
        ("history/validation_update", (0,)),
        ("last", None),
        ("last/above", ()),
        ("last/chunk", ()),
        ("last/chunks", ()),
        ("last/epoch", ()),
        ("last/generator", ()),
        ("last/optimizer", None),
        ("last/optimizer/squares", None),
        *((f"last/optimizer/squares/{name}", shape) for name, shape in parameters),
        ("last/parameters", None),
        *((f"last/parameters/{name}", shape) for name, shape in parameters),
        ("last/smooth_loss", ()),
        ("last/state", (1, 3, 5)),
        ("last/update", ()),
        ("run", None),
        ("run/checkpoint_every", ()),
        ("run/init_from", ()),
        ("run/keep", ()),
        ("run/log", ()),
        ("run/sample_every", ()),
        ("run/sample_length", ()),
        ("run/threads", ()),
        ("seconds", ()),
        ("version", ()),
        ("vocabulary", (7,)),
    ]


def test_description():
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in describe(example()).splitlines())
    assert lines["model"] == "vanilla RNN, 5 hidden units, 107 parameters, float32"
    assert lines["memory"] == f"{shown_bytes(model_memory(Config(hidden=5), 7))} to write with"
    assert lines["history"] == "4 smooth losses, 3 samples"
    assert lines["training"] == (
        "seq length 4, batch 3, order sequential, lines False, dropout 0.0, optimizer adagrad, "
        "learning rate 0.1, "
        "input rate 1.0, epsilon 1e-08, "
        "weight decay 0.0, loss sum, clip 5.0, clip norm inf, schedule constant, warmup 0, "
        "init normal, sigma 0.01, seed 0, epochs 9, val fraction 0.0, test fraction 0.0, "
        "on divergence stop"
    )
    assert "validation" not in lines
    deep = example(cell="gru", layers=2, optimizer="adamw", updates=30)
    assert repr(deep) == (
        "<fastrnn.Checkpoint: GRU, 2 × 5 hidden units, 412 parameters, float32; after 30 updates, "
        "lowest smooth loss 41.2500 at update 20>"
    )
    assert (
        "optimizer adamw, learning rate 0.002, input rate 1.0, beta1 0.9, beta2 0.999, "
        in describe(deep)
    )


def test_is_checkpoint(path, tmp_path):
    assert is_checkpoint(path)
    path.write_bytes(path.read_bytes()[:100])
    assert is_checkpoint(path)
    path.write_bytes(b"")
    assert not is_checkpoint(path)
    path.write_text("a poem")
    assert not is_checkpoint(path)
    assert not is_checkpoint(tmp_path)
    assert not is_checkpoint(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    assert not is_checkpoint(tmp_path / "pipe")


def test_permissions(tmp_path):
    path = tmp_path / "a.h5"
    old = os.umask(0o027)
    try:
        save(path, example())
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        save(path, example())
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
    finally:
        os.umask(old)


def test_symbolic_link_stays(path, tmp_path):
    link, dangling = tmp_path / "link", tmp_path / "dangling"
    link.symlink_to("best.h5")
    dangling.symlink_to("new.h5")
    newer = replace(example(), seconds=99.0)
    save(link, newer)
    save(dangling, newer)
    assert link.is_symlink() and dangling.is_symlink()
    assert load(path).seconds == load(tmp_path / "new.h5").seconds == 99.0


def test_path_of_bytes(tmp_path):
    path = os.fsencode(tmp_path / "\xe9.h5")
    save(path, example())
    assert is_checkpoint(path)
    assert bits(load(path)) == bits(example())
    assert os.listdir(tmp_path) == ["\xe9.h5"]


@pytest.mark.parametrize("stem", ["a" * 252, "\u20ac" * 84], ids=["ASCII", "UTF-8"])
def test_longest_names(tmp_path, stem):
    path = tmp_path / f"{stem}.h5"
    for _ in range(2):
        save(path, example())
    assert os.listdir(tmp_path) == [path.name]
    load(path)


def test_read_only_file_stays(path):
    before = path.read_bytes()
    path.chmod(0o444)
    assert refusal(save, path, example()) == (
        f"cannot save {path}: Permission denied; change the permissions or choose another path"
    )
    assert os.listdir(path.parent) == ["best.h5"]
    assert path.read_bytes() == before


# Formats


def test_format_1():
    """A file that the fastrnn of format 1 wrote."""
    checkpoint = load(Path(__file__).parent / "data" / "format-1.h5")
    best, last, history = checkpoint.best, checkpoint.last, checkpoint.history
    assert checkpoint.config == Config(
        hidden=3, seq_length=5, batch=2, learning_rate=0.65, seed=9, dtype="float64", updates=14
    )
    assert bits(vars(checkpoint.config)) == bits(
        {
            "cell": "rnn",
            "hidden": 3,
            "layers": 1,
            "dtype": "float64",
            "seq_length": 5,
            "batch": 2,
            "order": "sequential",
            "lines": False,
            "dropout": 0.0,
            "optimizer": "adagrad",
            "learning_rate": 0.65,
            "input_rate": 1.0,
            "momentum": None,
            "nesterov": None,
            "rho": None,
            "beta1": None,
            "beta2": None,
            "epsilon": 1e-8,
            "weight_decay": 0.0,
            "loss": "sum",
            "clip": 5.0,
            "clip_norm": float("inf"),
            "schedule": "constant",
            "warmup": 0,
            "final_rate": None,
            "init": "normal",
            "sigma": 0.01,
            "seed": 9,
            "epochs": None,
            "updates": 14,
            "val_fraction": 0.0,
            "test_fraction": 0.0,
            "val_every": None,
            "patience": None,
            "on_divergence": "stop",
        }
    )
    assert checkpoint.vocabulary == "\n !,3TbcdehilmnorstuwyÀœ\U0001f42d"
    assert checkpoint.corpus == CorpusInfo(
        name="réime.txt",
        length=44,
        sha256="6d1ba7a329112c06ee820671782d18d94e8acbaac983c71b7665104ddc525e66",
        encoding="utf-8",
    )
    assert (best.update, best.smooth_loss) == (13, 16.092312739060777)
    assert (last.update, last.epoch, last.chunk, last.smooth_loss) == (14, 3, 2, 16.09232828624219)
    assert last.state.tolist() == [
        [
            [0.6012074302605139, -0.9913238176244092, -0.7461870499194432],
            [0.9909818294422726, 0.8914140126757233, -0.9633691966235237],
        ]
    ]
    assert best.parameters["W"].tolist() == [
        [-0.668792568707185, -0.046171599842096185, 0.2176213881174825],
        [-0.19431973773348638, -1.815843629862193, 1.774982509436597],
        [0.05445212954800919, -2.4272095851049045, -0.3622799099798237],
    ]
    digests = [
        hashlib.sha256(b"".join(group[name].astype("<f8").tobytes() for name in "UVWbc"))
        for group in (best.parameters, last.parameters, last.optimizer["squares"])
    ]
    assert [digest.hexdigest() for digest in digests] == [
        "03bd995d7814732d6afd4ec653f5a40d089cb1d1d006c094bb16289c2adcdefa",
        "d57283111ba6c6854fd12860889b67db59b4758c2cb1f8eb67d0a25b49ce818d",
        "cb417a2ef63f0ca68eefe95df027a404c217de1f2f3ab5c0b53cbe472fe2bde2",
    ]
    assert last.generator == {
        "bit_generator": "PCG64",
        "state": {
            "state": 254006840425851848980437166454697026437,
            "inc": 210554441082389327479993656945054459349,
        },
        "has_uint32": 0,
        "uinteger": 0,
    }
    assert history.update.tolist() == list(range(1, 15))
    assert history.smooth_loss[[0, 4, 10, 12, 13]].tolist() == [
        16.09447474915234,
        16.101490601252923,
        16.101000419589138,
        16.092312739060777,
        16.09232828624219,
    ]
    assert history.samples == [
        Sample(0, 16.09447474915234, "weœdlyybdl"),
        Sample(5, 16.101490601252923, "oeeh\U0001f42de, t "),
        Sample(11, 16.101000419589138, " beurt ne "),
    ]
    assert (checkpoint.seconds, checkpoint.version) == (0.0015631760006726836, "0.1.0")


def test_format_2():
    """A file that the fastrnn of format 2 wrote."""
    checkpoint = load(Path(__file__).parent / "data" / "format-2.h5")
    best, last, history = checkpoint.best, checkpoint.last, checkpoint.history
    assert checkpoint.config == Config(
        hidden=4,
        seq_length=3,
        batch=2,
        learning_rate=1.5,
        sigma=0.2,
        clip=float("inf"),
        seed=5,
        updates=20,
    )
    assert checkpoint.vocabulary == "\n .FNabcefghilnrstzßü"
    assert checkpoint.corpus == CorpusInfo(
        name="füchse.txt",
        length=54,
        sha256="ef71396fad23bcbe6dc878fde7a79ff6ce5b51329d18c018cf938f0f833d0ba7",
        encoding="iso8859-1",
    )
    assert (best.update, best.smooth_loss) == (0, 9.002475261688232)
    assert (last.update, last.epoch, last.chunk, last.smooth_loss) == (20, 2, 4, 9.109721017487956)
    assert last.state.tolist() == [
        [
            [-0.9999988079071045, -0.9999999403953552, -0.9677492380142212, 0.3016710579395294],
            [-0.9999999403953552, 0.2908218502998352, -0.9992722868919373, 0.9999996423721313],
        ]
    ]
    digests = [
        hashlib.sha256(b"".join(group[name].astype("<f4").tobytes() for name in "UVWbc"))
        for group in (best.parameters, last.parameters, last.optimizer["squares"])
    ]
    assert [digest.hexdigest() for digest in digests] == [
        "668890802af6e349adbd6784e2e51b71319e4570afbafc1c63c7994ad9274b66",
        "0bd8dd58456bd81b0e31b6c466ab1f05fc382e59682eda830f04883cf40b862d",
        "5cfff65a80aa0168c5b4e1db730fe9d4d2ac3420f590e419e7636fa0300d83f3",
    ]
    assert last.generator["state"]["state"] == 230054307336091171387556812434314939807
    assert history.update.tolist() == list(range(1, 21))
    assert history.smooth_loss[[0, 10, 19]].tolist() == [
        9.002475261688232,
        9.08887182096174,
        9.109721017487956,
    ]
    assert [sample.text for sample in history.samples] == ["sfnthg", "  rüsß", " N n n"]


def test_format_3():
    """A file that the fastrnn of format 3 wrote."""
    checkpoint = load(Path(__file__).parent / "data" / "format-3.h5")
    best, last, history = checkpoint.best, checkpoint.last, checkpoint.history
    assert checkpoint.config == Config(
        cell="lstm",
        layers=2,
        hidden=3,
        seq_length=5,
        batch=2,
        dropout=0.25,
        optimizer="adamw",
        schedule="cosine",
        warmup=2,
        learning_rate=0.02,
        updates=9,
        seed=4,
    )
    assert (best.update, best.smooth_loss) == (9, 12.009485917624335)
    assert (best.validation_loss, best.test_loss) == (None, None)
    assert best.parameters["X2"][1].tolist() == [
        0.4137716293334961,
        -0.04570712149143219,
        0.24532188475131989,
    ]
    assert last.state[3, 1].tolist() == [
        -0.12886367738246918,
        0.5243552923202515,
        1.2057929039001465,
    ]
    assert last.optimizer["momentum"]["V"][0, 2] == 0.14753752946853638
    assert (history.update[-1], history.smooth_loss[4]) == (9, 12.01224670169248)
    assert (len(history.validation_update), len(history.validation_loss)) == (0, 0)
    assert [sample.text for sample in history.samples] == ["r, \nb\n", "b,,c\na", "cc!aac"]


def test_format_4():
    """A file that the fastrnn of format 4 wrote."""
    checkpoint = load(Path(__file__).parent / "data" / "format-4.h5")
    best, last, history = checkpoint.best, checkpoint.last, checkpoint.history
    assert checkpoint.config == Config(
        cell="gru",
        hidden=3,
        seq_length=5,
        batch=2,
        order="chunks",
        loss="mean",
        input_rate=2.0,
        val_fraction=0.2,
        test_fraction=0.1,
        val_every=5,
        patience=9,
        updates=23,
        seed=2,
        learning_rate=0.05,
    )
    assert checkpoint.corpus == CorpusInfo(
        name="kater.txt",
        length=252,
        sha256="b3646b607f22b0b40045bdb748f0f3ceee5955f77580a361f27ddb402e09d26b",
        validation=50,
        test=26,
        sources=None,
    )
    assert checkpoint.run == Run(10_000, 200, 60.0, threads=None, log=None)
    assert (best.update, best.smooth_loss) == (23, 2.9335002108622317)
    assert (best.validation_loss, best.test_loss) == (1.9840579288346427, 2.0671550250053405)
    assert best.parameters["W"][0].tolist() == [
        0.36565306782722473,
        0.8156423568725586,
        0.4200356602668762,
    ]
    assert (last.update, last.epoch, last.chunk, last.chunks) == (23, 1, 6, 17)
    assert history.validation_update.tolist() == [5, 10, 15, 20, 23]
    assert [sample.text for sample in history.samples] == ["tt;u i n", "  ua.oön", "iöme l d"]


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_older_formats_saved_again(tmp_path, version):
    checkpoint = load(Path(__file__).parent / "data" / f"format-{version}.h5")
    save(tmp_path / "a.h5", checkpoint)
    assert bits(load(tmp_path / "a.h5")) == bits(checkpoint)


@pytest.mark.parametrize(
    ("version", "taken_for", "problem"),
    [
        (1, 2, "CorpusInfo has other fields than name, length, sha256, encoding"),
        (1, 3, "the configuration has other fields than"),
        (2, 1, "corpus has fields of format 2"),
        (2, 3, "the configuration has other fields than"),
        (3, 4, "the configuration has other fields than"),
        (4, 5, "the configuration has other fields than"),
    ],
)
def test_formats_do_not_mix(tmp_path, version, taken_for, problem):
    data = (Path(__file__).parent / "data" / f"format-{version}.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(sealed(data, taken_for))
    assert problem in refusal(load, tmp_path / "a.h5")


@pytest.mark.parametrize(("version", "newer"), [(1, 3), (2, 3), (3, 4), (4, 5)])
def test_a_newer_file_under_an_older_seal(path, version, newer):
    path.write_bytes(sealed(path.read_bytes(), version))
    assert f"config has fields of format {newer}" in refusal(load, path)


def validated(**options):
    """The example with three validations and a test."""
    checkpoint = example(val_fraction=0.1, test_fraction=0.05, **options)
    checkpoint.history.validation_update = np.array([10, 20, 30])
    checkpoint.history.validation_loss = np.array([3.5, 2.0, 2.25])
    checkpoint.best.validation_loss, checkpoint.best.test_loss = 2.0, 2.125
    checkpoint.corpus.validation, checkpoint.corpus.test = 100, 50
    return checkpoint


def test_validations(tmp_path):
    save(tmp_path / "a.h5", validated())
    loaded = load(tmp_path / "a.h5")
    assert bits(loaded) == bits(validated())
    assert loaded.updates_per_epoch == (1000 // 3 - 1) // 4
    assert repr(loaded).endswith("lowest validation loss 2.0000 nats at update 20>")
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in describe(loaded).splitlines())
    assert lines["parts"] == (
        "training 850 characters, validation 100 characters, test 50 characters"
    )
    assert lines["validation"] == (
        "3 times, lowest 2.0000 nats (2.8854 bits) per character after update 20, "
        "last 2.2500 nats (3.2461 bits) per character"
    )
    assert lines["test"] == "2.1250 nats (3.0657 bits) per character"


def test_validations_that_contradict_each_other(tmp_path):
    for change, problem in (
        (set_("best", "update", 30), "best is not that of a validation in the history"),
        (set_("best", "validation_loss", 2.5), "best is not that of a validation in the history"),
        (set_("best", "validation_loss", None), "best is not that of a validation in the history"),
        (set_("best", "test_loss", "2"), "best/test_loss is no loss"),
        (set_("best", "test_loss", -1.0), "best/test_loss is no loss"),
        (set_("history", "validation_update", np.array([20, 20, 30])), "is not strictly increasi"),
        (set_("history", "validation_update", np.array([10, 20, 31])), "is not between 0 and last"),
        (set_("history", "validation_loss", np.array([1.0, 2.0])), "validation_loss has the shape"),
    ):
        checkpoint = validated()
        change(checkpoint)
        assert problem in refusal(save, tmp_path / "a.h5", checkpoint)


def test_older_files_have_nothing_of_newer_ones(tmp_path):
    older = tmp_path / "format-2.h5"
    older.write_bytes((Path(__file__).parent / "data" / "format-2.h5").read_bytes())
    hostile(older, put("last/state", np.zeros((1, 2, 4), np.float32)), version=2)
    assert "/last has unknown members" in refusal(load, older)


def test_corpus_of_bytes(path):
    checkpoint = example("".join(map(chr, range(256))))
    checkpoint.corpus.encoding = "bytes"
    save(path, checkpoint)
    assert load(path).corpus.encoding == "bytes"


# Messages of everyday mistakes


def test_messages_of_load(path, tmp_path):
    data = path.read_bytes()
    other = tmp_path / "other"

    assert refusal(load, other) == (
        f"cannot load {other}: No such file or directory; check the path, or train a model first"
    )
    assert refusal(load, tmp_path) == f"cannot load {tmp_path}: Is a directory; name a file"

    def message(content):
        other.write_bytes(content)
        return refusal(load, other).removeprefix(f"cannot load {other}: ")

    none = "it is no fastrnn checkpoint; choose a file that fastrnn saved"
    again = "; use a backup or train again"
    assert message(b"") == "it is empty" + again
    assert message(b"a poem") == none
    assert message(data[512:]) == none
    assert message(data[:3]) == none
    assert message(data[:8]) == "it is damaged, only 8 bytes are left" + again
    assert message(data[:511]) == "it is damaged, only 511 bytes are left" + again
    size = len(data)
    assert message(data[:-1]) == f"it is damaged, it has {size - 1} bytes instead of {size}" + again
    assert message(data + b"\0") == (
        f"it is damaged, it has {size + 1} bytes instead of {size}" + again
    )
    damaged = bytearray(data)
    damaged[200] = 1
    assert message(damaged) == "it is damaged in its header" + again
    damaged = bytearray(data)
    damaged[-1] ^= 1
    assert message(damaged) == ("it is damaged, its contents do not match their checksum" + again)
    assert message(sealed(data, version=6)) == (
        "it has format 6, this fastrnn reads formats 1, 2, 3, 4 and 5; upgrade fastrnn"
    )
    assert message(sealed(data[:512] + b"no HDF5")).startswith("its contents are invalid, ")

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert refusal(load, pipe) == (
        f"cannot load {pipe}: it is no regular file; choose a file that fastrnn saved"
    )
    wrong = r"path is 'a\x00b', but must be a path, and those have no NUL"
    assert refusal(load, "a\0b") == wrong
    assert refusal(load, 3) == "path is 3, but must be a path"
    assert refusal(load, io.BytesIO()) == "path is of type BytesIO, but must be a path"
    assert refusal(load, "a\nb").startswith("cannot load 'a\\nb': No such file or directory; ")


def test_edited_with_h5py_in_place(path):
    with h5py.File(path, "r+") as file:
        file["best/smooth_loss"][()] = 1.0
    assert "it is damaged" in refusal(load, path)


def test_messages_of_save(path, tmp_path):
    missing, name = tmp_path / "missing" / "a.h5", tmp_path / ("x" * 300)
    assert refusal(save, missing, example()) == (
        f"cannot save {missing}: No such file or directory; create its folder first"
    )
    assert (
        refusal(save, tmp_path, example()) == f"cannot save {tmp_path}: Is a directory; name a file"
    )
    assert refusal(save, name, example()) == (
        f"cannot save {name}: File name too long; choose another path"
    )
    os.mkfifo(tmp_path / "pipe")
    assert "Invalid argument" in refusal(save, tmp_path / "pipe", example())

    before = path.read_bytes()
    checkpoint = example()
    checkpoint.last.parameters["W"][1, 2] = np.nan
    assert refusal(save, path, checkpoint) == (
        f"cannot save {path}: last/parameters/W contains NaN or infinity; "
        "an older file is unchanged"
    )
    assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["best.h5", "pipe"]


def set_(part, field, value):
    """A change of one field, of the checkpoint itself or of a part of it."""
    return lambda ck: setattr(getattr(ck, part) if part else ck, field, value)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (set_("", "vocabulary", "aabcdef"), "the vocabulary is not in strictly increasing order"),
        (set_("", "vocabulary", "abcdef\ud800"), "surrogates not allowed"),
        (set_("", "vocabulary", "abc"), "best/parameters/U has the shape (5, 7) instead of (5, 3)"),
        (set_("", "seconds", float("nan")), "seconds contains NaN or infinity"),
        (set_("", "seconds", -1.0), "seconds is negative"),
        (set_("", "version", None), "version is no text"),
        (set_("last", "above", -1), "last/above is negative"),
        (set_("history", "rollbacks", [[3]]), "history/rollbacks are no pairs of updates"),
        (set_("", "good", example().best), "good is not as on-divergence says"),
        (set_("run", "sample_every", -1), "run has a negative number"),
        (set_("run", "checkpoint_every", -1.0), "run/checkpoint_every is no number of seconds"),
        (set_("run", "threads", 0), "run/threads is no number of threads"),
        (set_("run", "log", 3), "run/log is no path"),
        (set_("run", "init_from", 3), "run/init_from is no name"),
        (set_("corpus", "sources", [3]), "the sources of the corpus are no texts"),
        (set_("corpus", "folder", None), "the sources of the corpus are no texts"),
        (set_("corpus", "name", None), "the name of the corpus is no text"),
        (set_("corpus", "name", "x" * 70000), "corpus is longer than 65536 bytes"),
        (set_("corpus", "length", 0), "the length of the corpus is no positive number"),
        (set_("corpus", "sha256", "A" * 64), "the SHA-256 of the corpus is not 64"),
        (set_("corpus", "validation", -1), "a part of the corpus is no number of characters"),
        (set_("corpus", "test", 1000), "the corpus has no characters to train on"),
        (set_("corpus", "encoding", None), "the encoding of the corpus is no text"),
        (set_("corpus", "encoding", "bytes"), "the vocabulary has characters above U+00FF"),
        (set_("best", "update", 31), "best/update is not between 0 and last/update"),
        (set_("best", "update", True), "best/update is bool instead of int64"),
        (set_("best", "smooth_loss", float("inf")), "best/smooth_loss contains NaN or infinity"),
        (set_("last", "epoch", -1), "last/epoch is negative"),
        (set_("last", "chunk", 84), "last/chunk is outside the epoch"),
        (set_("last", "update", 29), "history is not between 0 and last/update"),
        (set_("last", "state", np.zeros((1, 3, 5))), "last/state is float64 instead of float32"),
        (set_("last", "generator", {}), "last/generator is no state of a PCG64 generator"),
        (set_("last", "more", 1), "unexpected ['last/more']"),
        (set_("last", "state", np.zeros((3, 5), "f4")), "last/state has the shape (3, 5) instead"),
        (
            lambda ck: ck.last.optimizer["squares"]["V"].fill(-1),
            "last/optimizer/squares/V is negative",
        ),
        (
            lambda ck: ck.last.optimizer["squares"].pop("V"),
            "unexpected ['last/optimizer/squares/V']",
        ),
        (
            lambda ck: ck.last.optimizer.update(momentum={"c": ck.last.parameters["c"]}),
            "unexpected ['last/optimizer/momentum/c']",
        ),
        (set_("history", "update", np.array([0, 5, 5, 7])), "history/update is not strictly incr"),
        (set_("history", "update", np.array([-1, 5, 6, 7])), "history is not between 0 and last/"),
        (
            set_("history", "update", np.array([0, 1])),
            "history/smooth_loss has the shape (4,) inst",
        ),
        (set_("history", "samples", [Sample(31, 1.0, "a")]), "history is not between 0 and last/"),
        (set_("history", "samples", [Sample(1.5, 1.0, "a")]), "history/samples/update is float64"),
        (set_("history", "samples", [Sample(1, 1.0, "\udc00")]), "surrogates not allowed"),
    ],
)
def test_save_refuses_what_load_would(path, change, problem):
    before = path.read_bytes()
    checkpoint = example()
    change(checkpoint)
    assert problem in refusal(save, path, checkpoint)
    assert path.read_bytes() == before


def test_empty_vocabulary(path):
    assert "the vocabulary is empty" in refusal(save, path, example(""))


@pytest.mark.parametrize(
    "change",
    [
        {"bit_generator": "MT19937"},
        {"has_uint32": 2},
        {"has_uint32": True},
        {"uinteger": 2**32},
        {"uinteger": -1},
        {"more": 1},
        {"state": None},
        {"state": {"state": 2**128, "inc": 1}},
        {"state": {"state": -1, "inc": 1}},
        {"state": {"state": 1.5, "inc": 1}},
        {"state": {"state": 1, "inc": 2}},
        {"state": {"state": 1, "inc": 2**128 + 1}},
        {"state": {"state": 1, "inc": 1, "more": 1}},
    ],
)
def test_generator_that_numpy_would_take(path, change):
    checkpoint = example()
    checkpoint.last.generator |= change
    problem = "last/generator is no state of a PCG64 generator"
    assert problem in refusal(save, path, checkpoint)
    text = json.dumps(checkpoint.last.generator).encode()
    hostile(path, put("last/generator", np.bytes_(text)))
    assert problem in refusal(load, path)


# Damage


def sealed(data, version=5):
    """The file with a valid seal, from the description of the format and not from its code."""
    digest = hashlib.sha256(data[512:]).digest()
    head = b"\x93FASTRNN" + struct.pack("<IIQ", version, 512, len(data)) + digest
    return (head + hashlib.sha256(head).digest()).ljust(512, b"\0") + data[512:]


def damaged(data, rng):
    """The file with a bit, a few bytes or a whole stretch changed, or cut, or with bytes moved."""
    result = bytearray(data)
    start = rng.randrange(len(data))
    if rng.random() < 0.5:
        result[start] ^= 1 << rng.randrange(8)
    elif rng.random() < 0.5:
        result[start : start + 64] = rng.randbytes(min(64, len(data) - start))
    elif rng.random() < 0.5:
        del result[start:]
    else:
        del result[start : start + rng.randrange(1, 100)]
    return bytes(result)


def test_every_damage_is_noticed(path):
    data, rng = path.read_bytes(), random.Random(1)
    assert sealed(data) == data
    for _ in range(400):
        change = damaged(data, rng)
        assert change != data
        path.write_bytes(change)
        refusal(load, path)


def test_damage_under_a_valid_seal_is_no_crash(path):
    data, rng = path.read_bytes(), random.Random(2)
    outcomes = []
    for _ in range(300):
        path.write_bytes(sealed(damaged(data, rng).ljust(513, b"\0")))
        try:
            load(path)
            outcomes.append("loaded")  # a weight was hit, or an unused byte
        except FastrnnError as error:
            assert str(error).isprintable()
            outcomes.append("refused")
    assert set(outcomes) == {"loaded", "refused"}


# Well-formed files that mean harm, with a valid seal


def hostile(path, *changes, version=5):
    buffer = io.BytesIO(path.read_bytes())
    with h5py.File(buffer, "r+", libver="latest") as file:
        for change in changes:
            change(file)
    path.write_bytes(sealed(buffer.getvalue(), version))


def put(name, value, **options):
    """Replace (or add) one dataset or link."""

    def change(file):
        if name in file:
            del file[name]
        if isinstance(value, (h5py.SoftLink, h5py.ExternalLink, np.dtype)):
            file[name] = value
        elif value is dict:
            file.create_group(name)
        elif value is None:
            file.create_dataset(name, **options)
        else:
            file.create_dataset(name, data=value, **options)

    return change


def compact(file):
    del file["best/parameters/U"]
    storage = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    storage.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((5, 7))
    group = file["best/parameters"].id
    dataset = h5py.h5d.create(group, b"U", h5py.h5t.IEEE_F32LE, space, storage)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.zeros((5, 7), np.float32))


def virtual(file):
    del file["best/parameters/U"]
    layout = h5py.VirtualLayout((5, 7), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "U", (5, 7))
    file.create_virtual_dataset("best/parameters/U", layout)


def cycle(file):
    file["best/parameters/again"] = file["best"]


def attribute(name):
    return lambda file: file[name].attrs.create("note", 1)


def config_json(**changes):
    return put("config", np.bytes_(json.dumps(example().config.to_json() | changes)))


def config_text(old, new):
    """Change the text of the configuration itself."""

    def change(file):
        text = file["config"][()].decode()
        assert old in text
        put("config", np.bytes_(text.replace(old, new)))(file)

    return change


U = "best/parameters/U"
u = example().best.parameters["U"]
NOT_OURS = "config is not the JSON that fastrnn writes"
FIELDS = "the configuration has other fields than batch, beta1, beta2, cell, clip, clip_norm, "
HOSTILE = {
    "external link": (put(U, h5py.ExternalLink("o.h5", "U")), f"{U} is a link"),
    "soft link": (put(U, h5py.SoftLink("/last/parameters/U")), f"{U} is a link"),
    "link cycle": (put(U, h5py.SoftLink(f"/{U}")), f"{U} is a link"),
    "linked group": (put("last", h5py.SoftLink("/best")), "last/update is a link"),
    "circle of groups": (cycle, "/best/parameters has unknown members"),
    "virtual": (virtual, f"{U} is not stored contiguously"),
    "external storage": (
        put(U, None, shape=(5, 7), dtype="f4", external=[("/etc/passwd", 0, 140)]),
        f"{U} is not stored contiguously",
    ),
    "compact": (compact, f"{U} is not stored contiguously"),
    "chunked": (put(U, u, chunks=(5, 7)), f"{U} is not stored contiguously"),
    "gzip": (put(U, u, compression="gzip"), f"{U} is not stored contiguously"),
    "checksum": (put(U, u, fletcher32=True), f"{U} is not stored contiguously"),
    "float64": (put(U, u.astype("f8")), f"{U} is not of type float32"),
    "float16": (put(U, u.astype("f2")), f"{U} is not of type float32"),
    "big-endian": (put(U, u.astype(">f4")), f"{U} is not of type float32"),
    "bool": (put(U, u > 0), f"{U} is not of type float32"),
    "int32": (put(U, u.astype("i4")), f"{U} is not of type float32"),
    "text": (put(U, u.astype("S4")), f"{U} is not of type float32"),
    "compound": (put(U, u.view([("x", "f4")])), f"{U} is not of type float32"),
    "objects": (put(U, None, shape=(5, 7), dtype=h5py.ref_dtype), f"{U} is not stored completely"),
    "transposed": (put(U, u.T), f"{U} has the shape (7, 5) instead of (5, 7)"),
    "one number": (put(U, u[:1, :1]), f"{U} has the shape (1, 1) instead of (5, 7)"),
    "scalar": (put(U, u[0, 0]), f"{U} has the shape () instead of (5, 7)"),
    "no space": (put(U, h5py.Empty("f4")), f"{U} is not stored contiguously"),
    "not written": (put(U, None, shape=(5, 7), dtype="f4"), f"{U} is not stored completely"),
    "huge": (put(U, None, shape=(10**6, 10**6), dtype="f4"), f"{U} is not stored completely"),
    "huge vocabulary": (
        put("vocabulary", None, shape=(10**12,), dtype="u4"),
        "vocabulary is not stored completely",
    ),
    "NaN": (put(U, u * np.float32("nan")), f"{U} contains NaN or infinity"),
    "infinity": (put(U, u + np.float32("inf")), f"{U} contains NaN or infinity"),
    "more at the top": (put("more", 1), "/ has unknown members"),
    "more below": (put("best/more", 1), "/best has unknown members"),
    "less": (lambda file: file.pop(U), f"{U} is missing"),
    "group": (put(U, dict), f"{U} is no dataset"),
    "named type": (put(U, np.dtype("f4")), f"{U} is no dataset"),
    "dataset as group": (put("best/parameters", 1), f"{U} is missing"),
    "attribute of a dataset": (attribute(U), f"/{U} has attributes"),
    "attribute of a group": (attribute("best"), "/best has attributes"),
    "attribute of the file": (attribute("/"), "/ has attributes"),
    "repeated key": (config_text('"seed": 0', '"seed": 1, "seed": 0'), NOT_OURS),
    "spaces": (config_text(" ", "  "), NOT_OURS),
    "1e999": (config_text("5.0", "1e999"), "Out of range float values are not JSON compliant"),
    "Infinity": (config_text("5.0", "Infinity"), "Out of range float values are not JSON"),
    "JSON NaN": (config_text("5.0", "NaN"), "Out of range float values are not JSON compliant"),
    "no JSON": (put("config", np.bytes_(b"hidden=5")), "Expecting value"),
    "not UTF-8": (put("config", np.bytes_(b'"\xff"')), "invalid start byte"),
    "nested": (put("config", np.bytes_(b"[" * 50000)), "while decoding a JSON array"),
    "many digits": (config_text('"seed": 0', '"seed": ' + "9" * 5000), "Exceeds the limit"),
    "long": (put("config", np.bytes_(b"[" * 65537)), "config is longer than 65536 bytes"),
    "array": (put("config", np.bytes_(b"[]")), FIELDS),
    "unknown key": (config_json(more=1), FIELDS),
    "missing key": (config_text(', "seed": 0', ""), FIELDS),
    "100.0": (config_json(hidden=5.0), "hidden is 5.0, but must be a whole number from 1 to"),
    "true": (config_json(batch=True), "batch is True, but must be a whole number from 1 to"),
    "no units": (config_json(hidden=0), "hidden is 0, but must be a whole number from 1 to"),
    "no rate": (config_json(learning_rate=None), "learning-rate has no value"),
    "unused": (config_json(beta1=0.5), "beta1 is 0.5, but optimizer adagrad does not use it"),
    "other cell": (config_json(cell="lstm"), f"{U} has the shape (5, 7) instead of (20, 7)"),
    "other optimizer": (
        config_json(optimizer="sgd", momentum=0.0, nesterov=False, epsilon=None),
        "/last has unknown members",
    ),
    "a tower": (config_json(layers=2**31 - 1), "layers is 2147483647, but must be a whole number"),
    "other size": (config_json(hidden=6), f"{U} has the shape (5, 7) instead of (6, 7)"),
    "huge size": (config_json(hidden=2**31 - 1), f"{U} has the shape (5, 7) instead of (2147"),
    "other type": (config_json(dtype="float64"), f"{U} is not of type float64"),
    "no type": (config_json(dtype="object"), "dtype is 'object', but must be float32 or float64"),
    "variable length": (
        put("config", "{}", dtype=h5py.string_dtype()),
        "config is not stored completely",
    ),
    "UTF-8 text": (
        put("config", np.bytes_(b"{}"), dtype=h5py.string_dtype("utf-8", 2)),
        "config is not of type json",
    ),
    "texts": (put("config", np.array([b"{}", b"{}"])), "config has the shape (2,) instead of ()"),
    "corpus": (put("corpus", np.bytes_(b"{}")), "CorpusInfo has other fields than name, length, s"),
    "version": (put("version", np.bytes_(b"1")), "version is no text"),
    "surrogate": (
        put("vocabulary", np.arange(0xD800, 0xD807, dtype="u4")),
        "code point in surrogate code point range",
    ),
    "no character": (
        put("vocabulary", np.arange(0x110000, 0x110007, dtype="u4")),
        "code point not in range(0x110000)",
    ),
    "order": (
        put("vocabulary", np.arange(7, 0, -1).astype("u4")),
        "the vocabulary is not in strictly increasing order",
    ),
    "no vocabulary": (
        put("vocabulary", np.array([], "u4")),
        f"{U} has the shape (5, 7) instead of (5, 0)",
    ),
    "best after last": (put("best/update", 31), "best/update is not between 0 and last/update"),
    "negative update": (put("best/update", -1), "best/update is not between 0 and last/update"),
    "negative sum": (
        put("last/optimizer/squares/b", np.full(5, -1, "f4")),
        "last/optimizer/squares/b is negative",
    ),
    "negative length": (put("history/samples/length", np.array([5, -2, 1])), "samples have gaps"),
    "length": (put("history/samples/length", np.array([2, 0, 1])), "samples have gaps"),
    "overflow": (put("history/samples/length", np.full(3, 2**63 - 1)), "samples have gaps"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file(path, name):
    change, problem = HOSTILE[name]
    hostile(path, change)
    message = refusal(load, path)
    assert message.startswith(f"cannot load {path}: its contents are invalid, ")
    assert message.endswith("; use a backup or train again")
    assert problem in message


def test_the_tools_of_hostile_files_alone_do_no_harm(path):
    hostile(path, put(U, u), config_json())
    assert bits(load(path)) == bits(example())


# Disks, interruptions and kills


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


def test_full_disk(path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", failing(OSError(errno.ENOSPC, "No space left on device")))
    assert refusal(save, path, replace(example(), seconds=99.0)) == (
        f"cannot save {path}: No space left on device; free some disk space"
    )
    assert os.listdir(path.parent) == ["best.h5"]
    assert path.read_bytes() == before


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_interruption(path, monkeypatch, function):
    before = path.read_bytes()
    monkeypatch.setattr(os, function, failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        save(path, replace(example(), seconds=99.0))
    assert os.listdir(path.parent) == ["best.h5"]
    assert path.read_bytes() == before


def test_order_that_survives_a_power_cut(path, monkeypatch):
    events, fsync, rename = [], os.fsync, os.replace

    def logged_fsync(number):
        events.append("folder" if stat.S_ISDIR(os.fstat(number).st_mode) else "file")
        fsync(number)

    def logged_replace(source, target):
        events.append("replace")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "replace", logged_replace)
    save(path, example())
    assert events == ["file", "replace", "folder"]


def test_folder_that_cannot_be_synced(path, monkeypatch):
    """The file is saved all the same, so this must not be reported as a failure."""
    fsync = os.fsync

    def files_only(number):
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(number)

    monkeypatch.setattr(os, "fsync", files_only)
    save(path, replace(example(), seconds=99.0))
    assert load(path).seconds == 99.0


def test_too_large(path, monkeypatch):
    size = path.stat().st_size
    monkeypatch.setattr(sealed_module, "MAX_FILE", size)
    save(path, load(path))
    monkeypatch.setattr(sealed_module, "MAX_FILE", size - 1)
    assert f"it would have more than {size - 1} bytes" in refusal(save, path, example())
    assert "it is damaged" in refusal(load, path)


def run(code, path):
    """Another process that has loaded the checkpoint at `path`."""
    start = (
        "import sys; from fastrnn.storage.checkpoint import *\n"
        "path = sys.argv[1]; ck = load(path)\n"
    )
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", start + code, str(path)]
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE)


def test_limit_on_the_file_size(path):
    before = path.read_bytes()
    code = """
import os, resource
ck.seconds = 99.0
for limit in [0, 1, 511, 512, 513, 4096, 8192, os.path.getsize(path) - 1]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        save(path, ck)
    except ValueError as error:
        os.write(1, f"{type(error).__name__} {error}\\n".encode())
"""
    process = run(code, path)
    output, _ = process.communicate(timeout=60)
    expected = (
        f"FastrnnError cannot save {path}: File too large; "
        "raise the limit on file sizes (ulimit -f)\n"
    )
    assert output == expected * 8
    assert process.returncode == 0
    assert os.listdir(path.parent) == ["best.h5"]
    assert path.read_bytes() == before


def test_kill_at_any_moment(path):
    code = """
while True:
    ck.seconds += 1
    save(path, ck)
    print("saved", flush=True)
"""
    rng = random.Random(4)
    for _ in range(5):
        before = load(path).seconds
        process = run(code, path)
        assert process.stdout.readline() == "saved\n"
        time.sleep(rng.uniform(0.05, 0.2))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert load(path).seconds > before
