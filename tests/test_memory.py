"""What a network takes is known before it is taken, and is not more than there may be."""

import gc
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastrnn import memory, network, writing
from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.layout import model_memory, training_memory
from fastrnn.memory import shown_bytes
from fastrnn.model import Model
from fastrnn.network import Network, Weights
from fastrnn.parameters import initial_parameters
from fastrnn.text.corpus import Corpus
from fastrnn.text.vocabulary import Vocabulary
from fastrnn.training.loop import train
from fastrnn.training.trainer import Trainer
from fastrnn.writing import Writer

GB = 10**9
TEXT = "abcdefg" * 40
VOCABULARY = Vocabulary.from_text(TEXT)
CORPUS = Corpus("text", VOCABULARY.encode(TEXT), VOCABULARY, "0" * 64)
MODEL = Model(Config(hidden=3), VOCABULARY, initial_parameters(Config(hidden=3), 7))


@pytest.fixture
def little(monkeypatch):
    """A machine of 25 GB."""
    monkeypatch.setattr(memory, "allowed", lambda: 25 * GB)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "sizes",  # m, K, T, B, threads
    [(1, 1, 1, 1, 1), (100, 80, 25, 1, 1), (130, 517, 9, 70, 2), (17, 3, 400, 129, 3)],
    ids=str,
)
def test_the_memory_that_is_taken(sizes, dtype) -> None:
    m, K, T, B, threads = sizes
    config = Config(hidden=m, seq_length=T, batch=B, dtype=dtype)
    taken = []

    def take(allocating) -> object:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        made = allocating()
        taken.append(tracemalloc.get_traced_memory()[0] - before)
        return made

    Network(config, K, threads)  # what Python itself keeps of the first time
    tracemalloc.start()
    try:
        weights = take(lambda: Weights(config, K))
        training = take(lambda: Network(config, K, threads))
        copied = take(training.copy_state)
        writer = take(lambda: Writer(weights))
    finally:
        tracemalloc.stop()
    small = 60_000  # for objects, threads among them, and for vector boundaries
    assert 0 <= taken[0] - model_memory(config, K) < small
    assert 0 <= taken[1] + taken[2] - training_memory(config, K, threads) < small
    assert taken[3] < small + 20 * (m + K) * np.dtype(dtype).itemsize
    assert copied and writer


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"hidden": 2**31 - 1},
            "hidden is 2147483647: the training would take 166,020,700 TB of memory, and this "
            "process may have 25 GB; use fewer hidden units",
        ),
        (
            {"batch": 2**31 - 1, "hidden": 300},
            "batch is 2147483647: the training would take 7.9 TB of memory, and this "
            "process may have 25 GB; use a smaller batch",
        ),
        (
            {"seq_length": 2**31 - 1},
            "seq-length is 2147483647: the training would take 2.1 TB of memory, and this "
            "process may have 25 GB; use a shorter sequence length",
        ),
    ],
)
def test_the_setting_to_blame(changes, message, little, monkeypatch) -> None:
    monkeypatch.setattr(network, "allocate", None)
    with pytest.raises(FastrnnError) as error:
        Network(Config(**changes), 7)
    assert str(error.value) == message


def test_a_training_that_does_not_fit_begins_nothing(tmp_path: Path, little, monkeypatch) -> None:
    monkeypatch.setattr(network, "allocate", None)
    monkeypatch.setattr(network, "Workers", None)
    for threads in (None, 2):
        with pytest.raises(FastrnnError, match=r"^hidden is 2147483647: the training would take"):
            train(CORPUS, Config(hidden=2**31 - 1), path=tmp_path / "a.h5", threads=threads)
    assert not list(tmp_path.iterdir())
    with pytest.raises(FastrnnError, match="but batch 2147483647 and sequence length 2147483647"):
        train(CORPUS, Config(batch=2**31 - 1, seq_length=2**31 - 1))


def test_a_model_that_does_not_fit(monkeypatch) -> None:
    parameters = initial_parameters(Config(), 7)
    needed = model_memory(Config(), 7)
    monkeypatch.setattr(memory, "allowed", lambda: needed)
    Model(Config(), VOCABULARY, parameters)
    monkeypatch.setattr(memory, "allowed", lambda: needed - 1)
    with pytest.raises(FastrnnError, match=r"^hidden is 100: the model would take 18\d kB of mem"):
        Model(Config(), VOCABULARY, parameters)


@pytest.mark.parametrize(
    ("length", "shown", "bytes"),
    [
        (10**23, "100000000000000000000000", "800,000,000,000 TB"),
        (10**5000, "a number of about 5000 digits", "more than 1,000,000,000,000,000,000 TB"),
    ],
    ids=["23", "5000"],
)
def test_texts_that_do_not_fit(length, shown, bytes, little) -> None:
    rest = f"would take {bytes} of memory, and this process may have 25 GB; write"
    with pytest.raises(FastrnnError) as error:
        MODEL.sample(length)
    assert str(error.value) == f"length is {shown}: the text {rest} a shorter one, or use stream"
    assert next(MODEL.stream(length)) and train(CORPUS, updates=1, sample_every=0)


def test_samples_that_do_not_fit(little) -> None:
    with pytest.raises(FastrnnError) as error:
        train(CORPUS, sample_length=10**18)
    assert str(error.value) == (
        "sample_length is 1000000000000000000: a sample would take 8,000,000 TB of memory, and "
        "this process may have 25 GB; write shorter samples"
    )
    with pytest.raises(FastrnnError, match="a whole number from 0 to 9223372036854775807"):
        train(CORPUS, sample_length=2**63)


def test_memory_that_runs_out_all_the_same(monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError("Unable to allocate 8.00 GiB")

    def message(work, *arguments: object) -> str:
        with pytest.raises(FastrnnError) as error:
            work(*arguments)
        assert isinstance(error.value.__cause__, MemoryError)
        return str(error.value)

    start = "there is too little memory for the"
    detail = "(Unable to allocate 8.00 GiB)"
    less = "use fewer hidden units or fewer layers or a smaller batch or a shorter sequence length"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "advance", refuse)
        assert message(train, CORPUS) == f"{start} training {detail}; {less}"
    monkeypatch.setattr(network, "allocate", refuse)
    assert message(train, CORPUS) == f"{start} training {detail}; {less}"
    made = Config(hidden=3), VOCABULARY, MODEL.parameters
    assert message(Model, *made) == f"{start} model {detail}; use one of fewer hidden units"
    monkeypatch.setattr(writing, "allocate", refuse)
    shorter = "write a shorter one, or use stream"
    assert message(MODEL.sample, 5) == f"{start} text {detail}; {shorter}"


def test_limits_of_control_groups(tmp_path: Path) -> None:
    def limits(groups: str, **files: str) -> list[int]:
        (tmp_path / "proc/self").mkdir(parents=True, exist_ok=True)
        (tmp_path / "proc/self/cgroup").write_text(groups)
        for name, content in files.items():
            path = tmp_path / "sys/fs/cgroup" / name.replace("__", "/").replace("_max", ".max")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return list(memory._cgroup_limits(tmp_path))

    assert list(memory._cgroup_limits(tmp_path)) == []  # no Linux
    assert limits("0::/\n", memory_max="max\n") == []
    assert limits("0::/\n", memory_max="4096\n") == [4096]
    assert limits("0::/a/b\n", a__b__memory_max="max\n", a__memory_max="99\n") == [99, 4096]
    (tmp_path / "sys/fs/cgroup/memory/docker").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes").write_text("77\n")
    # The second version without a limit; of the first, a group that a container does not see.
    assert limits("5:cpu,memory:/docker/x\n4:cpu:/\n0::/none\n", memory_max="max\n") == [77]


def test_this_process_may_have_some() -> None:
    assert 10**8 < memory.allowed() < 2**63


def test_shown_bytes() -> None:
    shown = [shown_bytes(n) for n in (0, 999, 1000, 9_950_000, 12_345_678, 25 * 10**9, 10**16)]
    assert shown == ["0 B", "999 B", "1.0 kB", "9.9 MB", "12 MB", "25 GB", "10,000 TB"]


def test_defaults_take_little() -> None:
    """And every setting adds to it."""
    least = training_memory(Config(), 80)
    assert least < 2 * 10**6
    for change in ({"hidden": 200}, {"batch": 2}, {"seq_length": 50}, {"dtype": "float64"}):
        assert training_memory(replace(Config(), **change), 80) > least
