"""Vectors of 64 bytes: 16 float32 or 8 float64, on every processor.

LLVM maps such a vector to one register of AVX-512, to two of AVX2, to four of SSE or NEON. The
arithmetic is written out lane by lane in a fixed order, so the results have the same bits on all of
them; only the speed differs.

There are two faces of a vector. In compiled code it is a value: `x = load(H, i)`, `fma(x, y, z)`,
`x * 0.5 + y`, `store(H, i, x)`, where `i` counts elements from the start of a contiguous array.
While code is generated it is a `Lanes` object with operators of its own, in which elementwise
functions are written (see elementwise.py); `unary`, `binary` and `ternary` turn such a function
into one for compiled code.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator

from llvmlite import ir
from numba import types
from numba.core.datamodel import PrimitiveModel
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, register_model

from fastrnn.kernels.compile import jit

VECTOR_BYTES = 64

INT32 = ir.IntType(32)
ELEMENT_BYTES = {ir.FloatType: 4, ir.DoubleType: 8}


def lanes(dtype, vector_bytes: int = VECTOR_BYTES) -> int:
    """Elements of a vector, for a NumPy or Numba float type."""
    bits = dtype.bitwidth if isinstance(dtype, types.Type) else 8 * dtype.itemsize
    return 8 * vector_bytes // bits


def padded(count: int, dtype) -> int:
    """`count` elements rounded up to whole vectors."""
    return -(-count // lanes(dtype)) * lanes(dtype)


def row_length(count: int, dtype) -> int:
    """Elements from one row of a matrix of `count` columns to the next.

    Whole vectors, and from 8 on an odd number of them: rows that are a power of two apart would all
    compete for the same few places of the cache.
    """
    vectors = padded(count, dtype) // lanes(dtype)
    return (vectors if vectors < 8 else vectors | 1) * lanes(dtype)


# --- vectors while code is generated ------------------------------------------------------------


class Lanes:
    """A vector of floats, of integers of the same width, or of truth values, being computed."""

    def __init__(self, builder: ir.IRBuilder, value: ir.Value):
        self.builder = builder
        self.value = value

    @property
    def count(self) -> int:
        return self.value.type.count

    @property
    def bitwidth(self) -> int:
        element = self.value.type.element
        return {ir.FloatType: 32, ir.DoubleType: 64}.get(type(element)) or element.width

    def _broadcast(self, other: Lanes | float) -> ir.Value:
        """`other` as a value of this vector's type, a number in all lanes."""
        if isinstance(other, Lanes):
            return other.value
        return ir.Constant(self.value.type, [other] * self.count)

    def _new(self, value: ir.Value) -> Lanes:
        return Lanes(self.builder, value)

    def _apply(self, float_name: str, integer_name: str, other: Lanes | float) -> Lanes:
        is_integer = isinstance(self.value.type.element, ir.IntType)
        build = getattr(self.builder, integer_name if is_integer else float_name)
        return self._new(build(self.value, self._broadcast(other)))

    def __add__(self, other):
        return self._apply("fadd", "add", other)

    def __sub__(self, other):
        return self._apply("fsub", "sub", other)

    def __mul__(self, other):
        return self._apply("fmul", "mul", other)

    def __truediv__(self, other):
        return self._new(self.builder.fdiv(self.value, self._broadcast(other)))

    def __neg__(self):
        return self._new(self.builder.fneg(self.value))

    def __xor__(self, other):
        return self._new(self.builder.xor(self.value, self._broadcast(other)))

    def __and__(self, other):
        return self._new(self.builder.and_(self.value, self._broadcast(other)))

    def __or__(self, other):
        return self._new(self.builder.or_(self.value, self._broadcast(other)))

    def __lshift__(self, bits: int):
        return self._new(self.builder.shl(self.value, self._broadcast(bits)))

    def __rshift__(self, bits: int):
        """Shift of unsigned integers."""
        return self._new(self.builder.lshr(self.value, self._broadcast(bits)))

    def arithmetic_shift(self, bits: int) -> Lanes:
        """Shift right of signed integers."""
        return self._new(self.builder.ashr(self.value, self._broadcast(bits)))

    def __rsub__(self, other: float):
        return self._new(self._broadcast(other)) - self

    def __lt__(self, other):
        return self._new(self.builder.fcmp_ordered("<", self.value, self._broadcast(other)))

    def __le__(self, other):
        return self._new(self.builder.fcmp_ordered("<=", self.value, self._broadcast(other)))

    def __gt__(self, other):
        return self._new(self.builder.fcmp_ordered(">", self.value, self._broadcast(other)))

    def where(self, yes: Lanes | float, no: Lanes) -> Lanes:
        """`yes` in the lanes where this one is true, elsewhere `no`."""
        return self._new(self.builder.select(self.value, no._broadcast(yes), no.value))

    def bits(self) -> Lanes:
        """The same bits as integers."""
        integers = ir.VectorType(ir.IntType(self.bitwidth), self.count)
        return self._new(self.builder.bitcast(self.value, integers))

    def floats(self) -> Lanes:
        """The same bits as floating-point numbers."""
        element = {32: ir.FloatType(), 64: ir.DoubleType()}[self.bitwidth]
        return self._new(self.builder.bitcast(self.value, ir.VectorType(element, self.count)))

    def to_floats(self) -> Lanes:
        """Signed integers converted to floating-point numbers of the same width."""
        element = {32: ir.FloatType(), 64: ir.DoubleType()}[self.bitwidth]
        return self._new(self.builder.sitofp(self.value, ir.VectorType(element, self.count)))

    def fma(self, factor: Lanes | float, term: Lanes | float) -> Lanes:
        """self · factor + term with one rounding."""
        arguments = [self.value, self._broadcast(factor), self._broadcast(term)]
        return self._new(self.builder.call(fma_function(self.builder, self.value.type), arguments))

    def sqrt(self) -> Lanes:
        """The square root, which IEEE 754 rounds in one way."""
        name = f"llvm.sqrt.{vector_suffix(self.value.type)}"
        kind = ir.FunctionType(self.value.type, [self.value.type])
        known = self.builder.module.globals.get(name)
        function = known or ir.Function(self.builder.module, kind, name)
        return self._new(self.builder.call(function, [self.value]))

    def polynomial(self, coefficients: list[float]) -> Lanes:
        """coefficients[0] + coefficients[1]·self + …, by Horner's rule."""
        result = self._new(self._broadcast(coefficients[-1]))
        for coefficient in reversed(coefficients[:-1]):
            result = result.fma(self, coefficient)
        return result


def vector_suffix(vector: ir.VectorType) -> str:
    """How the names of LLVM's functions end for this type."""
    letter = {ir.FloatType: "f32", ir.DoubleType: "f64"}[type(vector.element)]
    return f"v{vector.count}{letter}"


def fma_function(builder: ir.IRBuilder, vector: ir.VectorType) -> ir.Function:
    """LLVM's fused multiply-add of vectors, declared in the module under construction."""
    name = f"llvm.fma.{vector_suffix(vector)}"
    return builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(vector, [vector] * 3), name
    )


# --- vectors in compiled code -------------------------------------------------------------------


class Vector(types.Type):
    """Numba's type of a vector, by the type of its elements."""

    def __init__(self, dtype: types.Float):
        self.dtype = dtype
        super().__init__(f"Vector({dtype})")


@register_model(Vector)
class VectorModel(PrimitiveModel):
    def __init__(self, manager, vector):
        element = manager.lookup(vector.dtype).get_value_type()
        super().__init__(manager, vector, ir.VectorType(element, lanes(vector.dtype)))


def address(context, builder, array_type, array, offset) -> ir.Value:
    """Pointer to the element `offset` places after the first of a contiguous array, or after that
    of a pointer."""
    if isinstance(array_type, types.CPointer):
        return builder.gep(array, [offset])
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [offset])


def load_vector(builder, pointer: ir.Value, width: int) -> ir.Value:
    """The vector that begins where `pointer` points to, at any place in memory."""
    element = pointer.type.pointee
    vector = ir.VectorType(element, width).as_pointer()
    return builder.load(builder.bitcast(pointer, vector), align=ELEMENT_BYTES[type(element)])


def store_vector(builder, value: ir.Value, pointer: ir.Value) -> None:
    """The same, the other way."""
    vector = value.type.as_pointer()
    align = ELEMENT_BYTES[type(value.type.element)]
    builder.store(value, builder.bitcast(pointer, vector), align=align)


def broadcast_element(builder, element: ir.Value, count: int) -> ir.Value:
    """A vector with `element` in all of its `count` lanes."""
    undefined = ir.Constant(ir.VectorType(element.type, count), ir.Undefined)
    first = builder.insert_element(undefined, element, INT32(0))
    zeros = ir.Constant(ir.VectorType(INT32, count), [0] * count)
    return builder.shuffle_vector(first, undefined, zeros)


def broadcast(context, builder, vector: Vector, kind, value) -> ir.Value:
    """A value of Numba type `kind` as a vector: a number goes to every lane."""
    if isinstance(kind, Vector):
        return value
    return broadcast_element(
        builder, context.cast(builder, value, kind, vector.dtype), lanes(vector.dtype)
    )


@intrinsic
def lanes_of(typing, array):
    """Elements of an array, or of what a pointer points to, that make a vector."""

    def codegen(context, builder, signature, args):
        return context.get_constant(types.intp, lanes(array.dtype))

    return types.intp(array), codegen


@jit
def round_up(count, width):
    """`count` rounded up to a multiple of `width`."""
    return -(-count // width) * width


@intrinsic
def at(typing, array, offset):
    """Pointer to element `offset` of a contiguous array of any shape."""

    def codegen(context, builder, signature, args):
        return address(context, builder, array, *args)

    return types.CPointer(array.dtype)(array, types.intp), codegen


@intrinsic
def advance(typing, pointer, count):
    """Pointer to the element `count` places after the one that `pointer` points to."""

    def codegen(context, builder, signature, args):
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.intp), codegen


@intrinsic
def load(typing, array, offset):
    """The vector at element `offset` of a contiguous array, or from a pointer."""
    vector = Vector(array.dtype)

    def codegen(context, builder, signature, args):
        return load_vector(builder, address(context, builder, array, *args), lanes(array.dtype))

    return vector(array, types.intp), codegen


@intrinsic
def store(typing, array, offset, vector):
    """Write the vector to element `offset` of an array, as `load`, and to the following ones."""

    def codegen(context, builder, signature, args):
        store_vector(builder, args[2], address(context, builder, array, args[0], args[1]))
        return context.get_dummy_value()

    return types.void(array, types.intp, Vector(array.dtype)), codegen


def _as_lanes(context, builder, vector: Vector, signature, args) -> Iterator[Lanes]:
    """The arguments of a function of vectors and numbers, for its Lanes form."""
    for kind, value in zip(signature.args, args, strict=True):
        yield Lanes(builder, broadcast(context, builder, vector, kind, value))


def _wrap(emit: Callable[..., Lanes]) -> Callable:
    """Type and code of a function of vectors and scalars whose Lanes form is `emit`."""

    def define(*arguments):
        vector = next((a for a in arguments if isinstance(a, Vector)), None)
        if vector is None or not all(isinstance(a, Vector | types.Number) for a in arguments):
            return None

        def codegen(context, builder, signature, args):
            return emit(*_as_lanes(context, builder, vector, signature, args)).value

        return vector(*arguments), codegen

    return define


def unary(emit: Callable[[Lanes], Lanes]) -> Callable:
    """`emit` for vectors in compiled code."""
    define = _wrap(emit)
    return intrinsic(lambda typing, x: define(x))


def binary(emit: Callable[[Lanes, Lanes], Lanes]) -> Callable:
    """`emit` for vectors in compiled code; one of the two may be a number."""
    define = _wrap(emit)
    return intrinsic(lambda typing, x, y: define(x, y))


def ternary(emit: Callable[[Lanes, Lanes, Lanes], Lanes]) -> Callable:
    """`emit` for vectors in compiled code; any but one may be numbers."""
    define = _wrap(emit)
    return intrinsic(lambda typing, x, y, z: define(x, y, z))


def _define_operator(function: Callable) -> None:
    """An operator of vectors, one of which may be a number. (`overload` would compile a function
    for each pair of types, which takes longer.)"""
    define = _wrap(function)

    @infer_global(function)
    class VectorOperator(AbstractTemplate):
        def generic(self, args, kws):
            defined = define(*args)
            return None if defined is None else defined[0]

    def lower(context, builder, signature, args):
        return define(*signature.args)[1](context, builder, signature, args)

    for kinds in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(function, *kinds)(lower)


for _operator in (operator.add, operator.sub, operator.mul, operator.truediv):
    _define_operator(_operator)

fma = ternary(lambda x, y, z: x.fma(y, z))
sqrt = unary(lambda x: x.sqrt())
# A NaN in x stays one: both comparisons are false then.
maximum = binary(lambda x, y: (x < y).where(y, x))
minimum = binary(lambda x, y: (x > y).where(y, x))


def _reduce(combine: Callable[[Lanes, Lanes], Lanes]) -> Callable:
    """Combine the lanes of a vector into one number, halving it: lane i with lane i + n/2."""

    def define(typing, x):
        def codegen(context, builder, signature, args):
            value = args[0]
            while (half := value.type.count // 2) > 0:
                low, high = (
                    Lanes(
                        builder,
                        builder.shuffle_vector(
                            value,
                            ir.Constant(value.type, ir.Undefined),
                            ir.Constant(
                                ir.VectorType(INT32, half), list(range(first, first + half))
                            ),
                        ),
                    )
                    for first in (0, half)
                )
                value = combine(low, high).value
            return builder.extract_element(value, INT32(0))

        return x.dtype(x), codegen

    return intrinsic(define)


sum_of_lanes = _reduce(lambda x, y: x + y)
max_of_lanes = _reduce(lambda x, y: (x < y).where(y, x))


def _compare(emit: Callable[[Lanes, Lanes], Lanes]) -> Callable:
    """An integer whose bit i tells whether `emit` is true of lane i; one of the two may be a
    number."""

    def define(typing, x, y):
        vector = x if isinstance(x, Vector) else y

        def codegen(context, builder, signature, args):
            truth = emit(*_as_lanes(context, builder, vector, signature, args)).value
            bits = builder.bitcast(truth, ir.IntType(truth.type.count))
            return builder.zext(bits, ir.IntType(64))

        return types.int64(x, y), codegen

    return intrinsic(define)


less = _compare(lambda x, y: x < y)
less_equal = _compare(lambda x, y: x <= y)

NOWHERE = 2**62


@intrinsic
def bit_count(typing, bits):
    """How many bits of an integer are set."""
    return types.int64(types.int64), lambda context, builder, signature, args: builder.ctpop(*args)


@intrinsic
def lowest_bit(typing, bits):
    """The number of the lowest bit that is set; NOWHERE if none is."""

    def codegen(context, builder, signature, args):
        lowest = builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))
        is_zero = builder.icmp_signed("==", args[0], args[0].type(0))
        return builder.select(is_zero, args[0].type(NOWHERE), lowest)

    return types.int64(types.int64), codegen


def _prefix_sums(x: Lanes) -> Lanes:
    distance = 1
    while distance < x.count:
        # Lane i of the shuffle is lane i - distance of x, or of zeros before its first.
        mask = [i if i < distance else x.count + i - distance for i in range(x.count)]
        zeros = ir.Constant(x.value.type, [0.0] * x.count)
        indices = ir.Constant(ir.VectorType(INT32, x.count), mask)
        x = x + Lanes(x.builder, x.builder.shuffle_vector(zeros, x.value, indices))
        distance *= 2
    return x


def _spread_last(x: Lanes) -> Lanes:
    last = ir.Constant(ir.VectorType(INT32, x.count), [x.count - 1] * x.count)
    return Lanes(x.builder, x.builder.shuffle_vector(x.value, x.value, last))


prefix_sums = unary(_prefix_sums)  # lane i is the sum of the lanes up to i
spread_last = unary(_spread_last)  # all lanes are the last one


@intrinsic
def mask_tail(typing, x, count, other):
    """The first `count` lanes of x, and the number `other` in the rest."""

    def codegen(context, builder, signature, args):
        value, count, other = args
        width = value.type.count
        number = broadcast(context, builder, x, types.float64, other)
        indices = ir.Constant(ir.VectorType(INT32, width), list(range(width)))
        limit = broadcast_element(builder, builder.trunc(count, INT32), width)
        return builder.select(builder.icmp_signed("<", indices, limit), value, number)

    return x(x, types.intp, types.float64), codegen
