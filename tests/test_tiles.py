"""Products and transposition against NumPy, over shapes that need every tile."""

import numpy as np
import pytest

from fastrnn.kernels import tiles
from fastrnn.kernels.compile import jit
from fastrnn.kernels.simd import at, padded
from fastrnn.network import aligned_zeros


@jit
def product(A, row, column, B, C, rows, n, add):
    a = tiles.Matrix(at(A, 0), row, column)
    b, c = tiles.Matrix(at(B, 0), B.shape[1], 1), tiles.Matrix(at(C, 0), C.shape[1], 1)
    tiles.product(a, b, c, rows, n, C.shape[1], add)


@jit
def transpose(A, B, first, last):
    tiles.transpose(A, B, first, last, A.shape[1])


def random(rng, rows, columns, dtype):
    """Random numbers in rows padded with zeros."""
    matrix = aligned_zeros((rows, padded(columns, np.dtype(dtype))), np.dtype(dtype))
    matrix[:, :columns] = rng.standard_normal((rows, columns))
    return matrix


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("transposed", [False, True])
def test_products(dtype, transposed):
    rng = np.random.default_rng(0)
    tolerance = 50 * np.finfo(dtype).eps
    rows = (1, 2, 3, 4, 5, 6, 7, 12, 13, 25)
    # 1 to 13 vectors, which no tile takes at once.
    columns = [
        vectors * 64 // np.dtype(dtype).itemsize - 3 for vectors in (1, 2, 3, 4, 5, 7, 8, 9, 13)
    ]
    for I in rows:
        for J in columns:
            n = int(rng.integers(1, 40))
            A = random(rng, *((n, I) if transposed else (I, n)), dtype)
            B = random(rng, n, J, dtype)
            C = random(rng, I, J, dtype)
            strides = (1, A.shape[1]) if transposed else (A.shape[1], 1)
            exact = (A.T if transposed else A)[:I, :n].astype(float) @ B.astype(float)
            before = C.astype(float)
            product(A, *strides, B, C, I, n, True)
            assert np.abs(C - (before + exact)).max() <= tolerance * (1 + np.abs(exact).max())
            product(A, *strides, B, C, I, n, False)
            assert np.abs(C - exact).max() <= tolerance * (1 + np.abs(exact).max())
            assert not C[:, J:].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_element_does_not_depend_on_its_tile(dtype):
    """Rows alone, in tiles of all heights, and in two halves of k: the same bits."""
    rng = np.random.default_rng(1)
    A, B = random(rng, 23, 31, dtype), random(rng, 31, 200, dtype)
    whole = random(rng, 23, 200, dtype)
    product(A, A.shape[1], 1, B, whole, 23, 31, False)
    for height in range(1, 8):
        for r in range(0, 23 - height):
            part = np.zeros_like(whole[:height])
            product(A[r:], A.shape[1], 1, B, part, height, 14, False)
            rest = A[r:, 14:].copy()
            product(rest, rest.shape[1], 1, B[14:], part, height, 17, True)
            assert np.array_equal(part, whole[r : r + height])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transpose(dtype):
    rng = np.random.default_rng(2)
    A = random(rng, 32, 80, dtype)
    B = np.zeros((80, 32), dtype)
    transpose(A, B, 0, 16)
    assert np.array_equal(B[:, :16], A[:16].T) and not B[:, 16:].any()
    transpose(A, B, 16, 32)
    assert np.array_equal(B, A.T)
