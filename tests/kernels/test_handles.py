"""Named tuples in memory against what kernels read there."""

from typing import NamedTuple

import numba
import numpy as np

from fastrnn.kernels.compile import ENTRY
from fastrnn.kernels.handles import Reference


class Fields(NamedTuple):
    number: float
    matrix: np.ndarray
    count: int
    vector: np.ndarray
    nothing: np.ndarray


@numba.njit(**ENTRY)
def read(fields, out):
    matrix, vector = fields.matrix, fields.vector
    out[0], out[1] = fields.number, fields.count
    out[2], out[3] = matrix[1, 2], vector[3]
    out[4], out[5], out[6] = matrix.size, vector.itemsize, fields.nothing.shape[1]
    vector[0] = 7.0


def test_kernels_read_the_fields_of_a_reference():
    matrix, vector = np.arange(6, dtype=np.int32).reshape(2, 3), np.arange(4.0) / 2
    fields = Reference(Fields(-0.5, matrix, -3, vector, np.empty((0, 9), np.float32)))
    out = np.empty(7)
    read(fields, out)
    assert out.tolist() == [-0.5, -3, 5, 1.5, 6, 8, 9]
    assert fields.vector[0] == 7.0
