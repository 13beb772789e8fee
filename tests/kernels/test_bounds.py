"""No kernel touches what lies beside its arrays.

NUMBA_BOUNDSCHECK cannot see it, as vectors are read and written at addresses. So here every array
lies between two pages that nobody may touch, right after the first or right before the second, in a
process that a step too far ends.
"""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="protects pages as Linux does")

GUARDED = """
import ctypes, mmap, sys
import numpy as np
from fastrnn import layout, memory
from fastrnn.config import Config
from fastrnn.evaluation import Evaluator
from fastrnn.kernels.entries import Record
from fastrnn.kernels.writing import Choice
from fastrnn.parameters import initial_parameters
from fastrnn.training.schedule import dropout_keys, steps
from fastrnn.network import Network
from fastrnn.writing import Writer

PAGE = mmap.PAGESIZE
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
place = sys.argv[1]

def guarded(shape, dtype):
    '''Zeros that begin right after a page that nobody may touch, or end right before one.'''
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    room = -(-size // PAGE) * PAGE
    pages = mmap.mmap(-1, room + 2 * PAGE)
    first = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    for guard in (first, first + PAGE + room):
        assert LIBC.mprotect(guard, PAGE, 0) == 0, ctypes.get_errno()
    start = PAGE if place == "after" else PAGE + room - size
    return np.frombuffer(pages, np.uint8, size, start).view(dtype).reshape(shape)

def copied(array):
    copy = guarded(array.shape, array.dtype)
    copy[...] = array
    return copy
"""

STRAY = """
address = guarded((5, 3), np.float32).ctypes.data + int(sys.argv[2])
print("there", flush=True)
ctypes.string_at(address, 1)
"""

UPDATES = """
memory.aligned_zeros = guarded
random = np.random.default_rng(0)
for case in range(20):
    layout.STREAMS = int(random.integers(1, 5))
    m, K, T, B, threads = map(int, random.integers(1, (150, 150, 20, 10, 4)))
    cell, layers = random.choice(["rnn", "lstm", "gru"]), int(random.integers(1, 4))
    dropout, optimizer = random.choice([0.0, 0.5]), random.choice(["adagrad", "adam", "rmsprop"])
    for dtype in ("float32", "float64"):
        print(f"{cell} m={m} L={layers} K={K} T={T} B={B} threads={threads} {dtype}", flush=True)
        family = dict(cell=str(cell), layers=layers, dropout=dropout, optimizer=str(optimizer))
        config = Config(hidden=m, seq_length=T, batch=B, dtype=dtype, **family)
        net = Network(config, K, threads)
        net.set_parameters(initial_parameters(config, K))
        codes = copied(random.integers(0, K, (3 * T + 1, B)).astype(np.int32))
        # The lowest smooth loss is that of the weights before the first update: they are copied.
        numbers = copied(steps(config, 0, 3, 3)), copied(dropout_keys(0, 0, 3, layers))
        net.train(codes, *numbers, Record(1.0, 1.0, -1, True), guarded((3,), np.float64))
        chunk = copied(codes[: T + 1])
        net.loss(chunk)
        net.loss_and_gradient(chunk, numbers[1][:1])
        net.update(numbers[0][0])
        evaluator = Evaluator(net, T + 3, B, threads)
        evaluator.losses(codes)
        writer = Writer(net, texts=B, threads=threads)
        writer.read(np.zeros(3, np.int32))
        uniforms = copied(random.random((5, B)))
        for choice in (Choice(0.0), Choice(end=0, longest=2), Choice(top_k=2, top_p=0.5)):
            writer.write(uniforms, choice)
print("finished")
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-X", "faulthandler", "-c", GUARDED + script, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("place", ["before", "after"])
def test_kernels_stay_within_their_arrays(place: str) -> None:
    done = run(UPDATES, place)
    last = done.stdout.splitlines()[-1:]
    assert last == ["finished"], f"{last}, exit status {done.returncode}\n{done.stderr}"


@pytest.mark.parametrize(("place", "offset"), [("before", 60), ("after", -1)])
def test_a_step_too_far_ends_the_process(place: str, offset: int) -> None:
    done = run(STRAY, place, str(offset))
    assert (done.returncode, done.stdout) == (-11, "there\n"), done.stderr
