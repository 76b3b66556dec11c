"""SIMD vectors as values in compiled code: one instruction computes 8 numbers in float32, or 4 in float64.

With AVX-512 it is twice as many in wide arrays: the width of a vector is part of the type of the array that it is read
from, and `wide` changes this type.

The automatic vectorization of compilers does not work well for loops over small matrices. Here the SIMD vectors are
explicit: `load` and `broadcast` read one from an array, arithmetic acts on all its numbers, and `store` writes it. If
the processor has no instructions of this width, LLVM generates several narrower ones.

This module uses private interfaces of numba; `tests/kalman/backends/test_numba_interfaces.py` checks each of them.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

__all__ = [
    "CACHE_LINE",
    "VECTOR_BYTES",
    "WIDE_VECTOR_BYTES",
    "add_up",
    "broadcast",
    "choose_positive",
    "filled",
    "fma",
    "like",
    "load",
    "store",
    "store_first",
    "wide",
    "width",
]


def _has_avx512() -> bool:
    """Whether numba generates code for AVX-512, which the environment variables of numba can change."""
    settings: Any = config
    if settings.CPU_FEATURES is not None:
        return "+avx512f" in settings.CPU_FEATURES.split(",")
    return settings.CPU_NAME is None and binding.get_host_cpu_features().get("avx512f", False)


# Bytes of a line of the cache. A SIMD vector in two lines takes twice as long to load.
CACHE_LINE = 64
VECTOR_BYTES = 32
WIDE_VECTOR_BYTES = 64 if _has_avx512() else VECTOR_BYTES


class Vector(types.Type):
    """Numba's type of a vector of `width` floats."""

    def __init__(self, scalar: types.Float, size: int = VECTOR_BYTES) -> None:
        self.scalar = scalar
        self.width = size * 8 // scalar.bitwidth
        super().__init__(f"Vector({scalar}, {self.width})")


class WideArray(types.Array):
    """Numba's type of a flat array that is read and written in vectors of `WIDE_VECTOR_BYTES`."""

    def __init__(self, dtype: types.Float) -> None:
        super().__init__(dtype, 1, "C", name=f"WideArray({dtype})")

    @property
    def key(self) -> Any:
        """What distinguishes the type from others."""
        return *super().key, WIDE_VECTOR_BYTES


register_model(WideArray)(models.ArrayModel)


def _vector_of(array: Any) -> Vector:
    return Vector(array.dtype, WIDE_VECTOR_BYTES if isinstance(array, WideArray) else VECTOR_BYTES)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, _llvm(fe_type))


def _llvm(vector: Vector) -> ir.VectorType:
    scalar = ir.FloatType() if vector.scalar == types.float32 else ir.DoubleType()
    return ir.VectorType(scalar, vector.width)


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any, element: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), element.as_pointer())


def _same(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """The first argument, whose representation does not depend on the width of its vectors."""
    return impl_ret_borrowed(context, builder, signature.return_type, args[0])


@intrinsic
def wide(typing: Any, arrays: Any) -> Any:
    """A tuple of flat arrays as wide ones; their memory is the same."""
    return types.BaseTuple.from_types([WideArray(array.dtype) for array in arrays])(arrays), _same


@intrinsic
def like(typing: Any, array: Any, other: Any) -> Any:
    """A flat array as a wide one if `other` is one."""
    return (WideArray(array.dtype) if isinstance(other, WideArray) else array)(array, other), _same


@intrinsic
def width(typing: Any, array: Any) -> Any:
    """Numbers in a SIMD vector of an array."""
    number = _vector_of(array).width

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_constant(types.intp, number)

    return types.intp(array), generate


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """Load the vector that begins at `array[index]` of a flat array."""
    vector = _vector_of(array)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _address(context, builder, signature.args[0], args[0], args[1], _llvm(vector))
        return builder.load(place, align=array.dtype.bitwidth // 8)

    return vector(array, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Store a vector from `array[index]` on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _address(context, builder, signature.args[0], args[0], args[1], _llvm(value))
        builder.store(args[2], place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


@intrinsic
def store_first(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Store the first number of a vector in `array[index]`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _address(context, builder, signature.args[0], args[0], args[1], _llvm(value).element)
        builder.store(builder.extract_element(args[2], ir.Constant(ir.IntType(32), 0)), place)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


def _splat(builder: Any, scalar: Any, kind: ir.VectorType) -> Any:
    undefined = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
    return builder.shuffle_vector(one, undefined, zeros)


@intrinsic
def broadcast(typing: Any, array: Any, index: Any) -> Any:
    """A vector with `array[index]` at every position."""
    vector = _vector_of(array)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        element = _llvm(vector).element
        place = _address(context, builder, signature.args[0], args[0], args[1], element)
        return _splat(builder, builder.load(place), _llvm(vector))

    return vector(array, types.intp), generate


@intrinsic
def filled(typing: Any, array: Any, number: Any) -> Any:
    """A vector with `number` at every position, as those of a flat array."""
    vector = _vector_of(array)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scalar = context.cast(builder, args[1], signature.args[1], vector.scalar)
        return _splat(builder, scalar, _llvm(vector))

    return vector(array, number), generate


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """The sum a b + c, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        name = f"llvm.fma.v{a.width}f{a.scalar.bitwidth}"
        called = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
        return builder.call(called, args)

    return a(a, a, a), generate


@intrinsic
def choose_positive(typing: Any, sign: Any, yes: Any, no: Any) -> Any:
    """`yes` where `sign` >= 0, and `no` elsewhere, also where `sign` is NaN."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero = ir.Constant(args[0].type, [0.0] * sign.width)
        return builder.select(builder.fcmp_ordered(">=", args[0], zero), args[1], args[2])

    return yes(sign, yes, yes), generate


@intrinsic
def add_up(typing: Any, value: Any) -> Any:
    """The sum of the numbers in a vector, at every position of a vector."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        total, step = args[0], value.width // 2
        indices = ir.VectorType(ir.IntType(32), value.width)
        while step:
            swapped = ir.Constant(indices, [i ^ step for i in range(value.width)])
            total = builder.fadd(total, builder.shuffle_vector(total, total, swapped))
            step //= 2
        return total

    return value(value), generate


def _arithmetic(python_operator: Any, instruction: str) -> None:
    @type_callable(python_operator)
    def type_it(context: Any) -> Any:
        def typer(a: Any, b: Any) -> Any:
            return a if isinstance(a, Vector) and a == b else None

        return typer

    @lower_builtin(python_operator, Vector, Vector)
    def lower_it(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args)


for _operator, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _arithmetic(_operator, _instruction)
