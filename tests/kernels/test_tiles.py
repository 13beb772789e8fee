"""Products and transposition against NumPy, over shapes that need every tile."""

import numba
import numpy as np
import pytest

from fastrnn.kernels import tiles
from fastrnn.kernels.compile import ENTRY
from fastrnn.kernels.simd import at, padded
from fastrnn.memory import aligned_zeros


@numba.njit(**ENTRY)
def product(A, row, column, B, C, rows, n, add):
    a, c = tiles.Matrix(at(A, 0), row, column), tiles.Matrix(at(C, 0), C.shape[1], 1)
    tiles.product(a, tiles.unpacked(at(B, 0), B.shape[1]), c, rows, n, C.shape[1], add)


@numba.njit(**ENTRY)
def panels_of(array):
    return tiles.Panels(at(array, 0), tiles.register_lanes_of(array), array.shape[1])


@numba.njit(**ENTRY)
def product_in_panels(A, B, C, columns, first, backwards):
    """C = A B[:, first:], of a B in panels."""
    a, c = tiles.Matrix(at(A, 0), A.shape[1], 1), tiles.Matrix(at(C, 0), C.shape[1], 1)
    b = tiles.columns_from(panels_of(B), first)
    tiles.product(a, b, c, A.shape[0], A.shape[1], columns, False, backwards)


@numba.njit(**ENTRY)
def pack(A, first, last, packed, transposed):
    matrix = tiles.Matrix(at(A, 0), A.shape[1], 1)
    tiles.pack(matrix, first, last, A.shape[1], panels_of(packed), panels_of(transposed))


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
def test_packing(dtype):
    """Panels are columns of whole vectors; packed by rows, and of the transpose by panels."""
    rng = np.random.default_rng(2)
    lanes = tiles.register_lanes(np.dtype(dtype))
    A = random(rng, 32, 80, dtype)
    packed, transposed = (
        np.zeros((columns // lanes, rows * lanes + 16), dtype)
        for rows, columns in ((32, 80), (80, 32))
    )
    pack(A, 0, 16, packed, transposed)
    pack(A, 16, 32, packed, transposed)
    for X, panels in ((A, packed), (A.T, transposed)):
        assert not panels[:, X.shape[0] * lanes :].any()
        for v, panel in enumerate(panels):
            columns = panel[: X.shape[0] * lanes].reshape(-1, lanes)
            assert np.array_equal(columns, X[:, v * lanes : (v + 1) * lanes])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_of_panels(dtype):
    """The same bits as of rows, in either direction."""
    rng = np.random.default_rng(3)
    lanes = tiles.register_lanes(np.dtype(dtype))
    A, B = random(rng, 7, 32, dtype), random(rng, 32, 160, dtype)
    expected = np.zeros((7, 160), dtype)
    product(A, A.shape[1], 1, B, expected, 7, 32, False)
    panels, transposed = (
        np.zeros((columns // lanes, rows * lanes), dtype)
        for rows, columns in ((32, 160), (160, 32))
    )
    pack(B, 0, 32, panels, transposed)
    for first, backwards in ((0, False), (0, True), (16, False), (144, True)):
        C = np.zeros((7, 160), dtype)
        product_in_panels(A, panels, C, 160 - first, first, backwards)
        assert np.array_equal(C[:, : 160 - first], expected[:, first:])
        assert not C[:, 160 - first :].any()
