"""Compiling the kernels ahead."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

from fastrnn.config import DTYPES, Config
from fastrnn.evaluation import Evaluator
from fastrnn.kernels.entries import Record
from fastrnn.layout import CELLS
from fastrnn.network import Network
from fastrnn.writing import Writer


def compile_all(cells: Iterable[str] = tuple(CELLS)) -> None:
    """Compile every kernel that a network of these cells uses, in every dtype, or load it from the
    cache."""
    for kind, dtype in itertools.product(cells, DTYPES):
        config = Config(cell=kind, hidden=1, seq_length=1, dtype=dtype)
        network = Network(config, characters=1)
        codes = np.zeros((2, 1), np.int32)
        steps, keys = np.ones((1, 4)), np.zeros((1, 1, 2), np.int64)
        network.pack()
        network.loss(codes)
        network.loss_and_gradient(codes)
        network.update(steps[0])
        network.train(codes, steps, keys, Record(0.0, 0.0, -1, False), np.empty(1))
        Evaluator(network, 1, 1).losses(codes)
        Writer(network).read(codes[:, 0])
