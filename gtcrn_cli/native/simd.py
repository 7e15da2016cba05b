"""Vectors of float32 for Numba code: 16, 8 or 4 numbers in one value, whatever the CPU.

Numba leaves it to LLVM to find what can run side by side in scalar loops, and for loops as short as
ours (16 channels, 33 bands) it rarely finds it. Here a vector is a value of its own that LLVM keeps
in registers and splits into what the machine has: two AVX registers, one of AVX-512, four of NEON.

Memory is reached through plain pointers (`Floats`): no shape, no bounds, no reference count.
All that touches Numba's private parts is in this one file, hence its length.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeVar

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

Floats = Any  # to type checkers; to Numba a pointer to float32
Vector = Any  # to type checkers; to Numba a `_VectorType`

FLOATS = types.CPointer(types.float32)
FLOAT = ir.FloatType()
ALIGN = 4  # bytes; vectors are loaded from wherever a float32 may be

F = TypeVar("F", bound=Callable[..., Any])


# Nothing here is called from Python: the wrappers for that would take a third of the compiling.
_OPTIONS: Any = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def function(f: F) -> F:
    """Compile `f` for itself."""
    return njit(**_OPTIONS)(f)


def inline(f: F) -> F:
    """Compile `f` into each place that calls it: constants among its arguments stay constants."""
    return njit(forceinline=True, **_OPTIONS)(f)


def _generate(f: Callable[..., Any]) -> Callable[..., Any]:
    """Numba's `intrinsic`: `f` takes types, and returns a signature and what writes LLVM code."""
    return intrinsic(f)


class _VectorType(types.Type):  # type: ignore[misc]
    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"float32x{lanes}")


@register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: _VectorType) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(FLOAT, fe_type.lanes))


FLOAT32X4, FLOAT32X8, FLOAT32X16 = _VectorType(4), _VectorType(8), _VectorType(16)


def _constant(numbers: list[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(numbers)), numbers)


def _spread(builder: Any, scalar: Any, lanes: int) -> Any:
    vector = ir.VectorType(FLOAT, lanes)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.IntType(32)(0))
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), _constant([0] * lanes))


def _call(builder: Any, name: str, arguments: list[Any]) -> Any:
    """An LLVM intrinsic that takes and returns one type."""
    kind = arguments[0].type
    suffix = f"v{kind.count}f32" if isinstance(kind, ir.VectorType) else "f32"
    signature = ir.FunctionType(kind, [kind] * len(arguments))
    callee = cgutils.get_or_insert_function(builder.module, signature, f"llvm.{name}.{suffix}")
    return builder.call(callee, arguments)


# Memory


@_generate
def stack(typing: Any, count: Any) -> Any:
    """Room for `count` (a literal) numbers until the calling function returns; not cleared."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.ArrayType(FLOAT, count.literal_value)
        with builder.goto_entry_block():  # `cgutils.alloca_once` would clear it
            place = builder.alloca(kind)
        place.align = 64
        return builder.bitcast(place, FLOAT.as_pointer())

    return (FLOATS(count), build) if isinstance(count, types.IntegerLiteral) else None


@_generate
def at(typing: Any, pointer: Any, index: Any) -> Any:
    """The pointer that many numbers further."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.gep(arguments[0], [arguments[1]])

    return FLOATS(FLOATS, types.int64), build


@_generate
def load(typing: Any, pointer: Any, index: Any) -> Any:
    """The number at an index."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(builder.gep(arguments[0], [arguments[1]]))

    return types.float32(FLOATS, types.int64), build


def _load_vector(result: _VectorType) -> Any:
    @_generate
    def load(typing: Any, pointer: Any, index: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            place = builder.gep(arguments[0], [arguments[1]])
            kind = ir.VectorType(FLOAT, result.lanes)
            return builder.load(builder.bitcast(place, kind.as_pointer()), align=ALIGN)

        return result(FLOATS, types.int64), build

    return load


load4, load8, load16 = (
    _load_vector(FLOAT32X4), _load_vector(FLOAT32X8), _load_vector(FLOAT32X16)
)  # fmt: skip


@_generate
def store(typing: Any, pointer: Any, index: Any, value: Any) -> Any:
    """Write a number or a vector at an index."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.gep(arguments[0], [arguments[1]])
        place = builder.bitcast(place, arguments[2].type.as_pointer())
        builder.store(arguments[2], place, align=ALIGN)
        return context.get_dummy_value()

    kind = value if isinstance(value, _VectorType) else types.float32
    return types.void(FLOATS, types.int64, kind), build


@_generate
def copy(typing: Any, target: Any, source: Any, count: Any) -> Any:
    """Copy `count` numbers between places that do not overlap."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        cgutils.raw_memcpy(builder, arguments[0], arguments[1], arguments[2], 4)
        return context.get_dummy_value()

    return types.void(FLOATS, FLOATS, types.int64), build


@inline
def clear_ends(pointer: Floats, count: int, ends: int) -> None:
    """Zeros in the first and the last `ends` of `count` numbers; `ends` a multiple of 4."""
    for n in range(0, ends, 4):
        store(pointer, n, splat4(0.0))
        store(pointer, count - ends + n, splat4(0.0))


# From numbers to vectors and back


def _splat(result: _VectorType) -> Any:
    @_generate
    def splat(typing: Any, number: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _spread(builder, arguments[0], result.lanes)

        return result(types.float32), build

    return splat


splat4, splat8, splat16 = _splat(FLOAT32X4), _splat(FLOAT32X8), _splat(FLOAT32X16)


def _shuffle(operands: int, lanes: list[int], from_: _VectorType, to: _VectorType) -> Any:
    """A fixed choice of lanes out of one vector, or of two laid end to end."""

    @_generate
    def shuffle1(typing: Any, a: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.shuffle_vector(arguments[0], arguments[0], _constant(lanes))

        return to(from_), build

    @_generate
    def shuffle2(typing: Any, a: Any, b: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.shuffle_vector(*arguments, _constant(lanes))

        return to(from_, from_), build

    return shuffle1 if operands == 1 else shuffle2


evens = _shuffle(1, list(range(0, 16, 2)), FLOAT32X16, FLOAT32X8)
"""Lanes 0, 2, 4, ..."""
odds = _shuffle(1, list(range(1, 16, 2)), FLOAT32X16, FLOAT32X8)
"""Lanes 1, 3, 5, ..."""
reversed8 = _shuffle(1, list(range(7, -1, -1)), FLOAT32X8, FLOAT32X8)
"""The last lane first."""
join = _shuffle(2, list(range(16)), FLOAT32X8, FLOAT32X16)
"""Two vectors of 8 as one of 16."""
interleave = _shuffle(2, [n // 2 + 8 * (n % 2) for n in range(16)], FLOAT32X8, FLOAT32X16)
"""``a0 b0 a1 b1 ...``"""
pairs_low = _shuffle(
    2, [n // 4 * 2 + n % 2 + 8 * (n % 4 & 2) for n in range(16)], FLOAT32X16, FLOAT32X16
)
"""``a0 a1 b0 b1 a2 a3 b2 b3 ...`` up to ``b7``."""
pairs_high = _shuffle(
    2, [n // 4 * 2 + n % 2 + 8 * (n % 4 & 2) + 8 for n in range(16)], FLOAT32X16, FLOAT32X16
)
"""The same from ``a8 a9 b8 b9`` on."""
low_half = _shuffle(1, list(range(8)), FLOAT32X16, FLOAT32X8)
"""Lanes 0-7."""
alternate_fours = _shuffle(2, [n + 16 * (n // 4 % 2) for n in range(16)], FLOAT32X16, FLOAT32X16)
"""Lanes 0-3 and 8-11 of the first, 4-7 and 12-15 of the second."""
spread0, spread1, spread2, spread3 = (
    _shuffle(1, [n // 4 * 4 + lane for n in range(16)], FLOAT32X16, FLOAT32X16) for lane in range(4)
)
"""In each group of four lanes, one of them in all four."""
in_halves = [
    _shuffle(1, [n // 8 * 8 + lane for n in range(16)], FLOAT32X16, FLOAT32X16) for lane in range(8)
]
half0, half1, half2, half3, half4, half5, half6, half7 = in_halves
"""In each half, one of its lanes in all eight."""


# Steps of a transposition, as every CPU with vectors of 8 has them.
_low1 = _shuffle(2, [0, 8, 1, 9, 4, 12, 5, 13], FLOAT32X8, FLOAT32X8)
_high1 = _shuffle(2, [2, 10, 3, 11, 6, 14, 7, 15], FLOAT32X8, FLOAT32X8)
_low2 = _shuffle(2, [0, 1, 8, 9, 4, 5, 12, 13], FLOAT32X8, FLOAT32X8)
_high2 = _shuffle(2, [2, 3, 10, 11, 6, 7, 14, 15], FLOAT32X8, FLOAT32X8)
_low4 = _shuffle(2, [0, 1, 2, 3, 8, 9, 10, 11], FLOAT32X8, FLOAT32X8)
_high4 = _shuffle(2, [4, 5, 6, 7, 12, 13, 14, 15], FLOAT32X8, FLOAT32X8)


@inline
def transpose8(
    a: Vector, b: Vector, c: Vector, d: Vector, e: Vector, f: Vector, g: Vector, h: Vector
) -> tuple[Vector, Vector, Vector, Vector, Vector, Vector, Vector, Vector]:
    """Eight vectors of eight: lane n of vector m goes to lane m of vector n."""
    ab, ab_high = _low1(a, b), _high1(a, b)
    cd, cd_high = _low1(c, d), _high1(c, d)
    ef, ef_high = _low1(e, f), _high1(e, f)
    gh, gh_high = _low1(g, h), _high1(g, h)
    p0, p1 = _low2(ab, cd), _high2(ab, cd)
    p2, p3 = _low2(ab_high, cd_high), _high2(ab_high, cd_high)
    q0, q1 = _low2(ef, gh), _high2(ef, gh)
    q2, q3 = _low2(ef_high, gh_high), _high2(ef_high, gh_high)
    low = _low4(p0, q0), _low4(p1, q1), _low4(p2, q2), _low4(p3, q3)
    high = _high4(p0, q0), _high4(p1, q1), _high4(p2, q2), _high4(p3, q3)
    return low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]


@_generate
def total(typing: Any, vector: Any) -> Any:
    """The sum over all lanes, pairwise."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (part,) = arguments
        while part.type.count > 1:
            half = part.type.count // 2
            low, high = list(range(half)), list(range(half, 2 * half))
            part = builder.fadd(
                builder.shuffle_vector(part, part, _constant(low)),
                builder.shuffle_vector(part, part, _constant(high)),
            )
        return builder.extract_element(part, ir.IntType(32)(0))

    return types.float32(vector), build


# Arithmetic


def _binary(operation: Callable[[Any, Any, Any], Any]) -> Any:
    @_generate
    def apply(typing: Any, a: Any, b: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return operation(builder, *arguments)

        return a(a, b), build

    return apply


larger = _binary(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))
"""Lane by lane the larger; `b` where either is not a number."""
smaller = _binary(lambda builder, a, b: builder.select(builder.fcmp_ordered("<", a, b), a, b))
"""Lane by lane the smaller; `b` where either is not a number."""


@_generate
def where_less(typing: Any, a: Any, b: Any, then: Any, otherwise: Any) -> Any:
    """Lane by lane `then` where a < b, else (also where one is not a number) `otherwise`."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b, then, otherwise = arguments
        return builder.select(builder.fcmp_ordered("<", a, b), then, otherwise)

    return a(a, b, then, otherwise), build


@_generate
def absolute(typing: Any, number: Any) -> Any:
    """The magnitude of each lane."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, "fabs", list(arguments))

    return number(number), build


def _cut(builder: Any, vector: Any, bits: int) -> Any:
    """Round to nearest, ties to even, so that the last `bits` bits of the mantissa are zero."""
    integer = ir.VectorType(ir.IntType(32), vector.type.count)

    def constant(number: int) -> ir.Constant:
        return ir.Constant(integer, [number] * vector.type.count)

    word = builder.bitcast(vector, integer)
    odd = builder.and_(builder.lshr(word, constant(bits)), constant(1))
    word = builder.add(word, builder.add(odd, constant((1 << (bits - 1)) - 1)))
    return builder.bitcast(builder.and_(word, constant(-1 << bits)), vector.type)


@_generate
def as_bfloat16(typing: Any, vector: Any) -> Any:
    """The nearest numbers that bfloat16 has."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _cut(builder, arguments[0], 16)

    return vector(vector), build


@_generate
def as_float16(typing: Any, vector: Any) -> Any:
    """The nearest numbers that float16 has, for numbers in its range.

    By hand, because not every CPU has an instruction for it.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (x,) = arguments
        shift = _spread(builder, FLOAT(0.75), x.type.count)  # brings the last bit to 2**-24
        small = builder.fsub(builder.fadd(x, shift), shift)
        smallest_normal = _spread(builder, FLOAT(2.0**-14), x.type.count)
        is_normal = builder.fcmp_ordered(">=", _call(builder, "fabs", [x]), smallest_normal)
        return builder.select(is_normal, _cut(builder, x, 13), small)

    return vector(vector), build


def _operator(operation: Any, build: Callable[[Any, Any, Any], Any]) -> None:
    class Template(AbstractTemplate):  # type: ignore[misc]
        def generic(self, args: Any, kws: Any) -> Any:
            if isinstance(args[0], _VectorType) and args == (args[0], args[0]):
                return args[0](*args)
            return None

    infer_global(operation)(Template)
    lower_builtin(operation, _VectorType, _VectorType)(
        lambda context, builder, signature, arguments: build(builder, *arguments)
    )


_operator(operator.add, lambda builder, a, b: builder.fadd(a, b))
_operator(operator.sub, lambda builder, a, b: builder.fsub(a, b))
_operator(operator.mul, lambda builder, a, b: builder.fmul(a, b))
_operator(operator.truediv, lambda builder, a, b: builder.fdiv(a, b))


@_generate
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``, rounded once where the CPU can."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, "fmuladd", list(arguments))

    return c(a, b, c), build


@_generate
def sqrt(typing: Any, number: Any) -> Any:
    """The square root of a number, or of each lane."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, "sqrt", list(arguments))

    return number(number), build
