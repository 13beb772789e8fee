"""Matrix products in register tiles, and transposition in registers.

A tile is R rows by N vectors of C, kept in registers while k runs over the whole sum: per k it
takes N vector loads of B, and R numbers of A, each spread over a vector. Every element of a product
is one chain of fused multiply-adds in the order of k, whatever the tile; so all tile shapes, and
all processors, give the same bits.

Matrices lie anywhere in contiguous arrays; their rows, but for those of A, are whole vectors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastrnn.kernels.compile import cpu_features, inline, jit
from fastrnn.kernels.simd import (
    INT32,
    at,
    beyond,
    fma_function,
    lanes,
    lanes_of,
    spread_element,
)

INT64 = ir.IntType(64)
BYTES = ir.IntType(8).as_pointer()

# The largest tiles whose sums, loads and spread numbers fit in the registers: AVX2 has 16
# registers of half a vector, NEON 32 of a quarter. A single row takes more vectors, enough to hide
# the latency of the fused multiply-add. (SSE2 alone has neither the registers nor that operation,
# and is only right, not fast.)
if "+avx512f" in cpu_features():
    TILE_ROWS, TILE_VECTORS, ROW_VECTORS = 6, 4, 8
else:
    TILE_ROWS, TILE_VECTORS, ROW_VECTORS = 6, 1, 6


# Rows of B that are asked for ahead of their use, in tiles that have the time for it: one of few
# rows is busy loading. The processor itself does not foresee rows that are far apart. Measured at
# m = 512 and 1024: up to 20 % faster with 8, less with 4 or 16.
AHEAD = 8
AHEAD_ROWS = 4


class _Matrix:
    """A matrix in memory while code is generated, from its element `offset` on."""

    def __init__(self, context, builder, pointer_type, pointer, offset):
        self.builder = builder
        self.align = pointer_type.dtype.bitwidth // 8
        self.width = lanes(pointer_type.dtype)
        self.vector = ir.VectorType(context.get_value_type(pointer_type.dtype), self.width)
        self.first = builder.gep(pointer, [offset])

    def _pointer(self, offset: ir.Value, v: int) -> ir.Value:
        pointer = self.builder.gep(self.first, [self.builder.add(offset, INT64(v * self.width))])
        return self.builder.bitcast(pointer, self.vector.as_pointer())

    def load(self, offset: ir.Value, v: int = 0) -> ir.Value:
        return self.builder.load(self._pointer(offset, v), align=self.align)

    def store(self, value: ir.Value, offset: ir.Value, v: int = 0) -> None:
        self.builder.store(value, self._pointer(offset, v), align=self.align)

    def prefetch(self, offset: ir.Value, v: int) -> None:
        name, function = "llvm.prefetch.p0i8", ir.FunctionType(ir.VoidType(), [BYTES, *[INT32] * 3])
        prefetch = self.builder.module.globals.get(name)
        prefetch = prefetch or ir.Function(self.builder.module, function, name)
        pointer = self.builder.bitcast(self._pointer(offset, v), BYTES)
        read, into_all_caches, data = INT32(0), INT32(3), INT32(1)
        self.builder.call(prefetch, [pointer, read, into_all_caches, data])

    def load_spread(self, offset: ir.Value) -> ir.Value:
        return spread_element(
            self.builder, self.builder.load(self.builder.gep(self.first, [offset])), self.width
        )


def _emit_tile(builder, R, N, A, a_row, a_k, B, b_k, C, c_row, n, add):
    """Code of a tile: C[:R, :N] = A[:R, :n] B[:n, :N], added to what C holds if `add`."""
    fma = fma_function(builder, C.vector)
    elements = [(r, v) for r in range(R) for v in range(N)]
    c_rows = [builder.mul(c_row, INT64(r)) for r in range(R)]
    a_rows = [builder.mul(a_row, INT64(r)) for r in range(R)]
    zero = ir.Constant(C.vector, [0.0] * C.width)

    entry = builder.block
    load, loop, end = (
        builder.function.append_basic_block(f"tile{R}x{N}.{name}")
        for name in ("load", "loop", "end")
    )
    builder.cbranch(add, load, loop)
    builder.position_at_end(load)
    loaded = {(r, v): C.load(c_rows[r], v) for r, v in elements}
    if R >= AHEAD_ROWS:  # what the tile below this one will load
        below = builder.mul(c_row, INT64(R))
        for r, v in elements:
            C.prefetch(builder.add(c_rows[r], below), v)
    builder.branch(loop)

    builder.position_at_end(loop)
    k = builder.phi(INT64)
    sums = {element: builder.phi(C.vector) for element in elements}
    b_vectors = [B.load(builder.mul(k, b_k), v) for v in range(N)]
    if R >= AHEAD_ROWS:
        for v in range(N):
            B.prefetch(builder.mul(builder.add(k, INT64(AHEAD)), b_k), v)
        A.prefetch(builder.mul(builder.add(k, INT64(AHEAD)), a_k), 0)
    after = {}
    for r in range(R):
        a_spread = A.load_spread(builder.add(builder.mul(k, a_k), a_rows[r]))
        for v in range(N):
            after[r, v] = builder.call(fma, [a_spread, b_vectors[v], sums[r, v]])
    next_k = builder.add(k, INT64(1))
    for phi, at_entry, at_load, at_loop in [
        (k, INT64(0), INT64(0), next_k),
        *((sums[e], zero, loaded[e], after[e]) for e in elements),
    ]:
        phi.add_incoming(at_entry, entry)
        phi.add_incoming(at_load, load)
        phi.add_incoming(at_loop, loop)
    builder.cbranch(builder.icmp_signed("<", next_k, n), loop, end)

    builder.position_at_end(end)
    for r, v in elements:
        C.store(after[r, v], c_rows[r], v)


@intrinsic
def tile(typing, rows, vectors, A, a, a_row, a_k, B, b, b_k, C, c, c_row, n, add):
    """One tile: at most TILE_ROWS by TILE_VECTORS, or 1 by ROW_VECTORS."""
    i = types.intp
    signature = types.void(i, i, A, i, i, i, B, i, i, C, i, i, i, types.boolean)

    def codegen(context, builder, signature, args):
        rows, vectors, a_start, a, a_row, a_k, b_start, b, b_k, c_start, c, c_row, n, add = args
        a_matrix = _Matrix(context, builder, A, a_start, a)
        b_matrix = _Matrix(context, builder, B, b_start, b)
        c_matrix = _Matrix(context, builder, C, c_start, c)
        shapes = [(r, v) for r in range(1, TILE_ROWS + 1) for v in range(1, TILE_VECTORS + 1)]
        shapes += [(1, v) for v in range(TILE_VECTORS + 1, ROW_VECTORS + 1)]
        end = builder.function.append_basic_block("tiles.end")
        number = builder.add(builder.mul(rows, INT64(ROW_VECTORS + 1)), vectors)
        switch = builder.switch(number, end)
        for R, N in shapes:
            block = builder.function.append_basic_block(f"tile{R}x{N}")
            switch.add_case(INT64(R * (ROW_VECTORS + 1) + N), block)
            builder.position_at_end(block)
            operands = a_matrix, a_row, a_k, b_matrix, b_k, c_matrix, c_row
            _emit_tile(builder, R, N, *operands, n, add)
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return signature, codegen


class Matrix(NamedTuple):
    """A matrix in memory; element (i, j) is i·row + j·column elements behind the first."""

    first: Any  # pointer (simd.at)
    row: int
    column: int


@jit
def from_row(A, i):
    """The rows of A from row i on."""
    return Matrix(beyond(A.first, i * A.row), A.row, A.column)


@jit
def from_column(A, j):
    """The columns of A from column j on."""
    return Matrix(beyond(A.first, j * A.column), A.row, A.column)


@inline
def product(A, B, C, rows, n, columns, add):
    """C = A B, or C += A B if `add`; for n ≥ 1 and columns that are whole vectors.

    A   (rows, n)        in   Matrix; of any strides, so Aᵀ needs no copy
    B   (n, columns)     in   Matrix whose rows are contiguous
    C   (rows, columns)  out  Matrix whose rows are contiguous
    """
    _product(A, B, C, rows, n, columns, at_run_time(add))


@intrinsic
def at_run_time(typing, value):
    """The same number, as one that the compiler does not know.

    Numba compiles a function once more for each constant that it is called with. The tiles are
    large, and take seconds.
    """

    def codegen(context, builder, signature, args):
        return context.cast(builder, args[0], signature.args[0], signature.return_type)

    return types.unliteral(value)(value), codegen


@jit
def _product(A, B, C, rows, n, columns, add):
    width = lanes_of(C.first)
    vectors = columns // width
    # Rows and vectors are dealt out as evenly as possible: 25 rows are 5 tiles of 5, not 4 of 6 and
    # a slow one of 1.
    strips = -(-vectors // (ROW_VECTORS if rows == 1 else TILE_VECTORS))
    blocks = -(-rows // TILE_ROWS)
    v = 0
    for strip in range(strips, 0, -1):
        strip_vectors = (vectors - v) // strip if strip > 1 else vectors - v
        r = 0
        for block in range(blocks, 0, -1):
            block_rows = (rows - r) // block if block > 1 else rows - r
            tile(
                block_rows,
                strip_vectors,
                A.first,
                r * A.row,
                A.row,
                A.column,
                B.first,
                v * width,
                B.row,
                C.first,
                r * C.row + v * width,
                C.row,
                n,
                add,
            )
            r += block_rows
        v += strip_vectors


@intrinsic
def transpose_block(typing, A, a_row, B, b_row):
    """A square of one vector's width: B[j, i] = A[i, j], in log2(width) rounds of shuffles."""
    signature = types.void(A, types.intp, B, types.intp)

    def codegen(context, builder, signature, args):
        a, a_row, b, b_row = args
        source = _Matrix(context, builder, A, a, INT64(0))
        target = _Matrix(context, builder, B, b, INT64(0))
        width = source.width
        rows = [source.load(builder.mul(a_row, INT64(r))) for r in range(width)]
        half = 1
        while half < width:
            # Swap the upper right and lower left quarters of each square of 2·half.
            upper = [j if not j & half else width + j - half for j in range(width)]
            lower = [j + half if not j & half else width + j for j in range(width)]
            for r in range(width):
                if not r & half:
                    pair = rows[r], rows[r + half]
                    rows[r], rows[r + half] = (
                        builder.shuffle_vector(
                            *pair, ir.Constant(ir.VectorType(INT32, width), mask)
                        )
                        for mask in (upper, lower)
                    )
            half *= 2
        for r in range(width):
            target.store(rows[r], builder.mul(b_row, INT64(r)))
        return context.get_dummy_value()

    return signature, codegen


@jit
def transpose(A, B, first, last, columns):
    """B[:, first:last] = A[first:last].T, for whole vectors of rows and columns.

    A   (I, J)  in
    B   (J, I)  out
    """
    width = lanes_of(A)
    a_row, b_row = A.shape[1], B.shape[1]
    for i in range(first, last, width):
        for j in range(0, columns, width):
            transpose_block(at(A, i * a_row + j), a_row, at(B, j * b_row + i), b_row)
