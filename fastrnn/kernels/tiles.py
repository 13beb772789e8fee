"""Matrix products in register tiles, and the packing of weights for them.

A tile is R rows by N vectors of C, kept in registers while k runs over the whole sum: per k it
takes N vector loads of B, and R numbers of A, each spread over a vector. Every element of a product
is one chain of fused multiply-adds in the order of k, whatever the tile; so all tile shapes, and
all processors, give the same bits.

The vectors here are as long as a register of the processor. B is read fastest when it lies in
panels, each one vector wide and with its rows one after the other: then a tile reads N streams of
memory, which the processor foresees, instead of pieces that are a row apart.

Tiles in registers over packed panels are the method of K. Goto and R. van de Geijn (Anatomy of
High-Performance Matrix Multiplication, ACM Transactions on Mathematical Software 34, 2008) and of
BLIS (F. Van Zee and R. van de Geijn, ibid. 41, 2015). Their panels are as wide as a tile, and both
matrices are packed in every product; here B is packed when it changes, for tiles of all widths, and
A is read where it is.
"""

from __future__ import annotations

from functools import cache
from operator import itemgetter
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastrnn.kernels.compile import cpu_features, jit, shared
from fastrnn.kernels.simd import (
    ELEMENT_BYTES,
    INT32,
    advance,
    at,
    broadcast_element,
    fma_function,
    lanes,
    load_vector,
    store_vector,
)

INT64 = ir.IntType(64)
BYTES = ir.IntType(8).as_pointer()
LINE_BYTES = 64  # of the caches of most processors

# The most vectors of a tile by its number of rows, from 0 on: so many that their sums, and what is
# loaded for them, fit in the registers, of which AVX2 has 16 and AVX-512 and NEON have 32; and that
# enough sums are in progress to hide the latency of the multiply-add. (SSE2 alone has no fused
# multiply-add, and is only right, not fast.)
if "+avx512f" in cpu_features():
    REGISTER_BYTES, WIDEST = 64, (0, 8, 4, 4, 4, 4, 4)
elif "+avx2" in cpu_features():
    REGISTER_BYTES, WIDEST = 32, (0, 8, 6, 4, 3)
elif "+neon" in cpu_features():
    REGISTER_BYTES, WIDEST = 16, (0, 8, 4, 4, 4, 4, 4)
else:
    REGISTER_BYTES, WIDEST = 16, (0, 8, 6, 4, 3)
TILE_ROWS = len(WIDEST) - 1
VECTORS = max(WIDEST)
# Tiles of so many rows fetch ahead. A is as wide as a batch's gates where its columns are the rows
# of the tile (the gradient of a matrix): the processor foresees none of its lines, each in another
# page. With AVX-512 that took a sixth off the gradients of an LSTM with 256 units; with AVX2, which
# computes half as fast, nothing.
FETCHING_ROWS = 3 if REGISTER_BYTES == 64 else TILE_ROWS + 1


def register_lanes(dtype) -> int:
    """Elements of a vector of the tiles, for a NumPy or Numba float type."""
    return lanes(dtype, REGISTER_BYTES)


@intrinsic
def register_lanes_of(typing, array):
    """Elements of an array, or of what a pointer points to, that make a vector of the tiles."""

    def codegen(context, builder, signature, args):
        return context.get_constant(types.intp, register_lanes(array.dtype))

    return types.intp(array), codegen


class Matrix(NamedTuple):
    """A matrix in memory; element (i, j) is i·row + j·column elements after the first."""

    first: Any  # pointer (simd.at)
    row: int
    column: int


class Panels(NamedTuple):
    """A matrix in panels; vector v of row k begins k·row + v·panel elements after the first.

    Of a matrix that has not been packed, the panels are its columns, and `panel` is a vector.
    """

    first: Any  # pointer (simd.at)
    row: int
    panel: int


@jit
def panels_of(array, layer):
    """A packed matrix, whose panels are the rows of `array[layer]`."""
    first = at(array, layer * array.shape[1] * array.shape[2])
    return Panels(first, register_lanes_of(array), array.shape[2])


@jit
def unpacked(first, row):
    """Panels of a matrix whose rows are `row` elements apart."""
    return Panels(first, row, register_lanes_of(first))


@jit
def rows_from(B, k):
    """The rows of B, which is in panels, from row k on."""
    return Panels(advance(B.first, k * B.row), B.row, B.panel)


@jit
def columns_from(B, j):
    """The columns of B, which is in panels, from column j on, the first of a panel."""
    return Panels(advance(B.first, j // register_lanes_of(B.first) * B.panel), B.row, B.panel)


@jit
def product(A, B, C, rows, n, columns, add, backwards=False):
    """C = A B, or C += A B if `add`; for n ≥ 1.

    C and B have whole vectors of columns, beyond `columns` too. If `backwards`, their last columns
    come first: of a B that is larger than a cache, and used over and over, every other time, a part
    is still there.

    A   (rows, n)        in   Matrix; of any strides, so Aᵀ needs no copy
    B   (n, columns)     in   Panels
    C   (rows, columns)  out  Matrix whose rows are contiguous
    """
    product_of_pointers(
        A.first,
        A.row,
        A.column,
        B.first,
        B.row,
        B.panel,
        C.first,
        C.row,
        rows,
        n,
        columns,
        add,
        backwards,
    )


@shared
def product_of_pointers(
    a, a_row, a_column, b, b_row, b_panel, c, c_row, rows, n, columns, add, backwards
):
    """`product`, compiled once for each dtype: the tiles are large, and take seconds."""
    A, B, C = Matrix(a, a_row, a_column), Panels(b, b_row, b_panel), Matrix(c, c_row, 1)
    width = register_lanes_of(C.first)
    vectors = -(-columns // width)
    # Rows and vectors are shared out as evenly as possible: 13 rows are tiles of 3, 3, 3 and 4, not
    # three of 4 and a slow one of 1. A division takes as long as a piece of a small product.
    blocks = -(-rows // TILE_ROWS)
    low = rows if blocks == 1 else rows // blocks
    higher = rows - low * blocks
    strips = -(-vectors // WIDEST[low + (higher > 0)])
    narrow = vectors // strips
    wider = vectors - narrow * strips
    for i in range(strips):
        strip = strips - 1 - i if backwards else i
        v = strip * narrow + max(strip - (strips - wider), 0)
        strip_vectors = narrow + (strip >= strips - wider)
        r = 0
        for block in range(blocks):
            block_rows = low + (block >= blocks - higher)
            tile(
                block_rows,
                strip_vectors,
                advance(A.first, r * A.row),
                A.row,
                A.column,
                advance(B.first, v * B.panel),
                B.row,
                B.panel,
                advance(C.first, r * C.row + v * width),
                C.row,
                n,
                add,
            )
            r += block_rows


@intrinsic
def tile(typing, rows, vectors, A, a_row, a_k, B, b_k, b_panel, C, c_row, n, add):
    """C[:rows, :vectors] = A[:rows, :n] B[:n, :vectors], added to what C holds if `add`."""
    i = types.intp
    signature = types.void(i, i, A, i, i, B, i, i, C, i, i, types.boolean)

    def codegen(context, builder, signature, args):
        rows, vectors, *rest = args
        width = register_lanes(A.dtype)
        end = builder.function.append_basic_block("tiles.end")
        number = builder.add(builder.mul(rows, INT64(VECTORS + 1)), vectors)
        switch = builder.switch(number, end)
        for R in range(1, TILE_ROWS + 1):
            for N in range(1, WIDEST[R] + 1):
                block = builder.function.append_basic_block(f"tile{R}x{N}")
                switch.add_case(INT64(R * (VECTORS + 1) + N), block)
                builder.position_at_end(block)
                _emit_tile(builder, width, R, N, *rest)
                builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return signature, codegen


def _emit_tile(builder, width, R, N, A, a_row, a_k, B, b_k, b_panel, C, c_row, n, add):
    """Code of `tile` for R rows and N vectors."""
    element = A.type.pointee
    vector = ir.VectorType(element, width)
    fma = fma_function(builder, vector)
    a_rows = [builder.mul(a_row, INT64(r)) for r in range(R)]
    b_panels = [builder.mul(b_panel, INT64(v)) for v in range(N)]
    a_end = builder.gep(A, [builder.mul(n, a_k)])
    c_rows = [builder.gep(C, [builder.mul(c_row, INT64(r))]) for r in range(R)]
    pairs = [(r, v) for r in range(R) for v in range(N)]
    places = {(r, v): builder.gep(c_rows[r], [INT64(v * width)]) for r, v in pairs}
    zero = ir.Constant(vector, [0.0] * width)
    first = {
        pair: builder.select(add, load_vector(builder, places[pair], width), zero) for pair in pairs
    }
    for row in c_rows:  # what the tile below this one will load
        below = builder.gep(row, [builder.mul(c_row, INT64(R))])
        for j in range(0, N * width, LINE_BYTES // ELEMENT_BYTES[type(element)]):
            prefetch(builder, builder.gep(below, [INT64(j)]))
    entry = builder.block
    loop, end = (
        builder.function.append_basic_block(f"tile{R}x{N}.{name}") for name in ("loop", "end")
    )
    builder.branch(loop)

    builder.position_at_end(loop)
    a, b = builder.phi(A.type), builder.phi(B.type)
    before = {pair: builder.phi(vector) for pair in pairs}
    load_a = cache(
        lambda r: broadcast_element(builder, builder.load(builder.gep(a, [a_rows[r]])), width)
    )
    load_b = cache(lambda v: load_vector(builder, builder.gep(b, [b_panels[v]]), width))
    # By rows, or by vectors where these are more: so the fewest registers hold what is used again.
    after = {
        (r, v): builder.call(fma, [load_a(r), load_b(v), before[r, v]])
        for r, v in (pairs if N <= R else sorted(pairs, key=itemgetter(1)))
    }
    if R >= FETCHING_ROWS:
        line = LINE_BYTES // ELEMENT_BYTES[type(element)]
        prefetch(builder, builder.gep(a, [builder.mul(a_row, INT64(R + line))]))
    next_a, next_b = opaque(builder, builder.gep(a, [a_k])), opaque(builder, builder.gep(b, [b_k]))
    for phi, at_entry, at_loop in [
        (a, A, next_a),
        (b, B, next_b),
        *((before[pair], first[pair], after[pair]) for pair in pairs),
    ]:
        phi.add_incoming(at_entry, entry)
        phi.add_incoming(at_loop, loop)
    builder.cbranch(builder.icmp_unsigned("!=", next_a, a_end), loop, end)

    builder.position_at_end(end)
    for pair in pairs:
        store_vector(builder, after[pair], places[pair])


def opaque(builder, value: ir.Value) -> ir.Value:
    """The same value, as one that the compiler knows nothing of.

    Of a loop it understands it makes another one, with a pointer for each row and panel, unrolled:
    these are more than there are registers, and are loaded from memory in between.
    """
    return builder.asm(ir.FunctionType(value.type, [value.type]), "", "=r,0", [value], False)


def prefetch(builder, pointer: ir.Value) -> None:
    """Have the line of memory that `pointer` points to brought into the first-level cache."""
    kind = ir.FunctionType(ir.VoidType(), [BYTES, INT32, INT32, INT32])
    name = "llvm.prefetch.p0i8"
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    to_read, to_all_caches, data = INT32(0), INT32(3), INT32(1)
    builder.call(function, [builder.bitcast(pointer, BYTES), to_read, to_all_caches, data])


@intrinsic
def pack_block(typing, A, a_row, copy, transposed):
    """A square of one vector's width: copied, and transposed, each to contiguous rows."""
    signature = types.void(A, types.intp, copy, transposed)

    def codegen(context, builder, signature, args):
        source, a_row, *targets = args
        width = register_lanes(A.dtype)
        rows = [
            load_vector(builder, builder.gep(source, [builder.mul(a_row, INT64(r))]), width)
            for r in range(width)
        ]
        for target, values in zip(targets, (rows, transpose(builder, rows)), strict=True):
            for r, value in enumerate(values):
                store_vector(builder, value, builder.gep(target, [INT64(r * width)]))
        return context.get_dummy_value()

    return signature, codegen


def transpose(builder, rows: list[ir.Value]) -> list[ir.Value]:
    """The columns of a square of vectors, in log2 of its width rounds of shuffles."""
    rows, width = list(rows), len(rows)
    half = 1
    while half < width:
        # Swap the upper right and lower left quarters of each square of 2·half.
        upper = [j if not j & half else width + j - half for j in range(width)]
        lower = [j + half if not j & half else width + j for j in range(width)]
        for r in range(width):
            if not r & half:
                pair = rows[r], rows[r + half]
                rows[r], rows[r + half] = (
                    builder.shuffle_vector(*pair, ir.Constant(ir.VectorType(INT32, width), mask))
                    for mask in (upper, lower)
                )
        half *= 2
    return rows


@jit
def pack(A, first, last, columns, packed, transposed):
    """The rows of A from first to last - 1, whole vectors of them, into panels of A and of Aᵀ.

    A           (I, columns)  in   Matrix whose rows are contiguous
    packed      (I, columns)  out  Panels of A, of which these are some rows
    transposed  (columns, I)  out  Panels of Aᵀ, of which these are some whole ones
    """
    width = register_lanes_of(A.first)
    for i in range(first, last, width):
        row = advance(A.first, i * A.row)
        in_packed = advance(packed.first, i * packed.row)
        in_transposed = advance(transposed.first, i // width * transposed.panel)
        for j in range(0, columns, width):
            pack_block(
                advance(row, j),
                A.row,
                advance(in_packed, j // width * packed.panel),
                advance(in_transposed, j * width),
            )
