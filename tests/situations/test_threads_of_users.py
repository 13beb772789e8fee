"""Whatever a program does in several threads at once comes out as if done alone."""

import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

import fastrnn
from fastrnn import threads
from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.gradcheck import check_gradients
from fastrnn.model import Model, load
from fastrnn.parameters import initial_parameters
from fastrnn.storage import checkpoint as checkpoints
from fastrnn.text.corpus import Corpus
from fastrnn.text.vocabulary import Vocabulary
from fastrnn.training.loop import train
from fastrnn.training.trainer import Trainer

THREADS = 8


def corpus_of(text: str) -> Corpus:
    vocabulary = Vocabulary.from_text(text)
    return Corpus("text", vocabulary.encode(text), vocabulary, "0" * 64)


CORPUS = corpus_of("".join(np.random.default_rng(1).choice(list("abcdefg \n"), 3000)))
CONFIG = Config(hidden=60, sigma=0.3)
MODEL = Model(CONFIG, CORPUS.vocabulary, initial_parameters(CONFIG, len(CORPUS.vocabulary)))


def together(*works: Callable[[], object]) -> list:
    """What each gives, each in a thread of its own, which all begin at the same moment."""
    start = threading.Barrier(len(works))

    def begin(work: Callable[[], object]) -> object:
        start.wait(60)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result(60) for future in [pool.submit(begin, work) for work in works]]


def sample(seed: int) -> str:
    return MODEL.sample(300, seed=seed, prime="abc " * (seed % 50 + 1))


def checked() -> list:
    return list(islice(check_gradients(CORPUS, seed=2), 15))


def trained(folder: Path, name: str, config: Config, threads: int = 1) -> bytes:
    """The checkpoint of a training, but for the time it took."""
    result = train(CORPUS, config, updates=150, sample_every=40, threads=threads)
    checkpoints.save(folder / name, replace(result, seconds=0.0))
    return (folder / name).read_bytes()


def test_one_model_writes_in_many_threads() -> None:
    alone = [sample(seed) for seed in range(200)]
    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(sample, range(200))) == alone


def test_streams_of_one_model_take_turns() -> None:
    streams = [MODEL.stream(200, seed=seed) for seed in range(3)]
    texts = ["".join(pieces) for pieces in zip(*zip(*streams, strict=True), strict=True)]
    assert texts == [MODEL.sample(200, seed=seed) for seed in range(3)]


def test_trainings_samples_and_checks_at_once(tmp_path: Path) -> None:
    other = replace(CONFIG, hidden=33, batch=3, dtype="float64")
    alone = [
        trained(tmp_path, "a", CONFIG),
        trained(tmp_path, "b", other, threads=2),
        [sample(seed) for seed in range(50)],
        checked(),
    ]
    assert alone == together(
        lambda: trained(tmp_path, "c", CONFIG),
        lambda: trained(tmp_path, "d", other, threads=2),
        lambda: [sample(seed) for seed in range(50)],
        checked,
    )


def test_everything_that_may_be_shared(tmp_path: Path) -> None:
    """A corpus, a vocabulary before its first use, a configuration, a checkpoint, a file."""
    checkpoint = train(CORPUS, CONFIG, updates=20, path=tmp_path / "a.h5")
    vocabulary = Vocabulary("".join(map(chr, range(100, 50_000))))
    text = vocabulary.characters[::-1]
    expected = vocabulary.encode(text)
    fresh = Vocabulary(vocabulary.characters)
    wanted = Model.from_checkpoint(checkpoint).sample(60, seed=1)
    for codes in together(*[lambda: fresh.encode(text)] * THREADS):
        np.testing.assert_array_equal(codes, expected)
    texts = together(
        *[lambda: load(tmp_path / "a.h5").sample(60, seed=1)] * 4,
        *[lambda: Model.from_checkpoint(checkpoint).sample(60, seed=1)] * 4,
    )
    assert texts == [wanted] * THREADS


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (lambda: MODEL.stream(10**9, seed=1), "stream of text"),
        (lambda: check_gradients(CORPUS), "gradient check"),
    ],
    ids=["stream", "check_gradients"],
)
def test_an_iterator_belongs_to_one_thread(made: Callable, name: str) -> None:
    expected = list(islice(made(), 2))
    shared, refused = made(), threading.Event()

    def read() -> list | str:
        found, end = [], time.monotonic() + 30
        try:
            while not refused.is_set() and time.monotonic() < end:
                found.append(next(shared))
        except FastrnnError as error:
            refused.set()
            return str(error)
        return found

    first, second = sorted(together(read, read), key=lambda result: isinstance(result, str))
    assert isinstance(first, list)  # goes on, in the order
    assert second == f"another thread is reading this {name}; let each thread make its own"
    assert list(islice(made(), 2)) == expected


def test_counting_cores_leaves_the_warnings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def count(only_physical_cores: bool) -> int:
        time.sleep(0.01 * (threading.get_ident() % 7))
        return 1

    monkeypatch.setattr("loky.cpu_count", count)
    before = list(warnings.filters)
    for _ in range(5):
        together(*[threads.available_cores.__wrapped__] * 4)
        assert warnings.filters == before


COLD = """
import threading
import fastrnn
begin = threading.Barrier(4)
failed = []

def use(name):
    try:
        begin.wait(60)
        getattr(fastrnn, name)
    except BaseException as error:
        failed.append(error)

names = "Model", "train", "check_gradients", "plot_loss"
threads = [threading.Thread(target=use, args=(name,)) for name in names]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(failed)
"""


def test_first_imports_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", COLD], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
    assert fastrnn.Model is Model


def test_a_long_sample_asks_often_enough() -> None:
    """At m = 2000 a character takes a millisecond or more: fewer of them pass unasked."""
    trainer = Trainer(CORPUS, Config(hidden=2000, seq_length=5))
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) == 3

    assert trainer.sample(10**6, stop) is None


def test_another_thread_does_not_keep_signals_from_output_that_blocks(tmp_path: Path) -> None:
    """Its own output has nothing to do with that of the main thread, which waits for a reader."""
    program = (
        "import threading, time, fastrnn\n"
        "from fastrnn.console import ERR\n"
        "def write():\n"
        "    while True:\n"
        "        ERR.write('')\n"
        "        time.sleep(0.005)\n"
        "threading.Thread(target=write, daemon=True).start()\n"
        "corpus = fastrnn.corpus_from_text('to be or not to be ' * 99)\n"
        "config = fastrnn.Config(hidden=5)\n"
        "options = {'sample_every': 1, 'sample_length': 5000, 'path': 'a.h5'}\n"
        "fastrnn.train(corpus, config, observers=[fastrnn.Progress()], **options)\n"
    )
    training = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert training.stdout is not None and training.stdout.read(5)
    time.sleep(1)  # the pipe is full by now
    training.terminate()
    try:
        assert training.wait(30) in (143, -15)
    finally:
        training.kill()
        training.stdout.close()
    assert (tmp_path / "a.h5").exists()
