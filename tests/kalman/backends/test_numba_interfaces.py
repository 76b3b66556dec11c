"""The private interfaces of numba and llvmlite that the kernels depend on, checked one by one.

A new version of numba may change them. If a test here fails, the message names the interface and the module that uses
it; the other tests of the kernels then fail for the same reason.
"""

from __future__ import annotations

import importlib
import operator

import numpy as np
import pytest

numba = pytest.importorskip("numba")

SIMD = "kalmanssl/kalman/kernels/_simd.py"
JIT = "kalmanssl/kalman/kernels/_jit.py"
NAMES = {
    "numba": ("njit", "types"),
    "numba.core.cgutils": ("get_or_insert_function",),
    "numba.core.config": ("CPU_FEATURES", "CPU_NAME"),
    "numba.core.imputils": ("impl_ret_borrowed",),
    "numba.extending": ("intrinsic", "lower_builtin", "models", "register_model", "type_callable"),
    "numba.core.types": ("Array", "BaseTuple", "Type", "Float", "float32", "float64", "intp", "void"),
    "llvmlite.binding": ("get_host_cpu_features",),
    "llvmlite.ir": ("Constant", "DoubleType", "FloatType", "FunctionType", "IntType", "Undefined", "VectorType"),
    "llvmlite.ir.IRBuilder": (
        "bitcast", "call", "extract_element", "fadd", "fcmp_ordered", "fdiv", "fmul", "fsub", "gep", "insert_element",
        "load", "select", "shuffle_vector", "store",
    ),
}  # fmt: skip


def find(path):
    """Import a module, or a class in a module."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)


def broken(what, module):
    return f"numba {numba.__version__} has changed {what}, which {module} uses: adapt it, or lower the bound on numba"


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, names in NAMES.items() for name in names])
def test_a_name_that_the_kernels_import_exists(path, name):
    assert hasattr(find(path), name), broken(f"{path}.{name}", SIMD)


@pytest.mark.parametrize("option", [{"forceinline": True}, {"_nrt": False}, {"nogil": True}, {"error_model": "numpy"}])
def test_an_option_of_njit_is_accepted(option):
    compiled = numba.njit(**option)(lambda x: x + 1)
    try:
        result = compiled(1)
    except Exception as error:
        pytest.fail(f"{broken(f'the option {option} of njit', JIT)} ({error})")
    assert result == 2


def calls_in(compiled):
    """Calls in the optimized LLVM code of a compiled function, without its wrappers for Python and C."""
    (code,) = compiled.inspect_llvm().values()
    name = compiled.overloads[compiled.signatures[0]].fndesc.mangled_name
    bodies = [part.split("\n}")[0] for part in code.split("\ndefine ")]
    (body,) = [body for body in bodies if f"@{name}(" in body.splitlines()[0].replace('"', "")]
    return [line for line in body.splitlines() if "call " in line]


def test_nrt_option_removes_reference_counts_from_loops():
    def scale(x, y, n):
        for _ in range(n):
            x, y = y, x
            x[0] += 1

    counts = []
    for options in ({}, {"_nrt": False}):
        compiled = numba.njit(**options)(scale)
        compiled.compile("void(float64[::1], float64[::1], int64)")
        counts.append(sum("NRT_" in call for call in calls_in(compiled)))
    assert counts[0] > 0
    assert counts[1] == 0, broken("the option _nrt of njit", JIT)


def test_forceinline_option_inlines_the_callee():
    @numba.njit(error_model="numpy", forceinline=True)
    def weighted_sum(x):
        total = 0.0
        for i in range(len(x)):
            total += x[i] / (i + 1)
        return total

    @numba.njit(error_model="numpy")
    def caller(x):
        return weighted_sum(x) + weighted_sum(x[1:])

    caller.compile("float64(float64[::1])")
    assert not any("weighted_sum" in call for call in calls_in(caller)), broken("the option forceinline of njit", JIT)


@pytest.fixture(scope="module")
def simd():
    try:
        return importlib.import_module("kalmanssl.kalman.kernels._simd")
    except Exception as error:
        pytest.fail(f"{broken('what it takes to define a type or an intrinsic', SIMD)} ({error})")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_width_load_and_store_copy_one_simd_vector(simd, dtype):
    width, load, store = simd.width, simd.load, simd.store

    @numba.njit
    def copy(source, out):
        store(out, 1, load(source, 2))
        return width(source)

    source, out = np.arange(20, dtype=dtype), np.zeros(20, dtype)
    w = copy(source, out)
    expected = np.zeros(20, dtype)
    expected[1 : 1 + w] = source[2 : 2 + w]
    assert w == 32 // np.dtype(dtype).itemsize, broken("types.Float.bitwidth", SIMD)
    np.testing.assert_array_equal(out, expected, broken("arrays in intrinsics (context.make_array, builder.gep)", SIMD))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("symbol", ["add", "sub", "mul", "truediv"])
def test_arithmetic_of_simd_vectors(simd, symbol, dtype):
    load, store = simd.load, simd.store
    apply = {
        "add": numba.njit(lambda a, b: a + b),
        "sub": numba.njit(lambda a, b: a - b),
        "mul": numba.njit(lambda a, b: a * b),
        "truediv": numba.njit(lambda a, b: a / b),
    }[symbol]

    @numba.njit
    def work(a, b, out):
        store(out, 0, apply(load(a, 0), load(b, 0)))

    a, b = np.arange(1, 9, dtype=dtype), np.arange(3, 11, dtype=dtype)
    out = np.zeros(8, dtype)
    work(a, b, out)
    w = 32 // np.dtype(dtype).itemsize
    expected = getattr(operator, symbol)(a, b)
    np.testing.assert_array_equal(out[:w], expected[:w], broken(f"type_callable or lower_builtin for {symbol}", SIMD))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_other_operation_on_simd_vectors(simd, dtype):
    add_up, broadcast, choose_positive = simd.add_up, simd.broadcast, simd.choose_positive
    filled, fma, load, store, store_first = simd.filled, simd.fma, simd.load, simd.store, simd.store_first

    @numba.njit
    def work(a, out, w):
        store(out, 0, broadcast(a, 2))
        store(out, w, filled(a, 0.5))
        store(out, 2 * w, fma(load(a, 0), load(a, 0), filled(a, 1.0)))
        store(out, 3 * w, choose_positive(load(a, 0), filled(a, 1.0), filled(a, -1.0)))
        store(out, 4 * w, add_up(load(a, 0)))
        store_first(out, 5 * w, filled(a, 7.0))

    w = 32 // np.dtype(dtype).itemsize
    a = np.arange(-2, w - 2).astype(dtype)
    out = np.zeros(6 * w, dtype)
    work(a, out, w)
    expected = {
        "broadcast (shuffle_vector)": np.full(w, a[2]),
        "filled (context.cast)": np.full(w, 0.5),
        "fma (cgutils.get_or_insert_function)": a * a + 1,
        "choose_positive (fcmp_ordered, select)": np.where(a >= 0, 1, -1),
        "add_up (fadd, shuffle_vector)": np.full(w, a.sum()),
        "store_first (extract_element)": np.eye(w)[0] * 7,
    }
    for i, (what, value) in enumerate(expected.items()):
        np.testing.assert_array_equal(out[i * w : (i + 1) * w], value, broken(what, SIMD))


def test_wide_arrays_have_wider_vectors_and_share_their_memory(simd):
    add, like, load, store, wide, width = operator.add, simd.like, simd.load, simd.store, simd.wide, simd.width

    @numba.njit
    def double(array, zeros):
        (vectors,) = wide((array,))
        store(vectors, 0, add(load(vectors, 0), load(vectors, 0)))
        vectors[0] += 100.0
        same = like(zeros, vectors)
        same[:] = 5.0
        return width(array), width(vectors), width(same)

    array, zeros = np.arange(20.0), np.zeros(3)
    widths = double(array, zeros)
    number = simd.WIDE_VECTOR_BYTES // 8
    assert widths == (simd.VECTOR_BYTES // 8, number, number), broken("types.Array.key", SIMD)
    expected = np.arange(20.0) * np.where(np.arange(20) < number, 2, 1)
    expected[0] = 100
    what = broken("subclasses of types.Array (register_model, impl_ret_borrowed)", SIMD)
    np.testing.assert_array_equal(array, expected, what)
    np.testing.assert_array_equal(zeros, 5.0, what)


@pytest.mark.parametrize(
    ("features", "name", "expected"),
    [("+avx2,+avx512f", None, True), ("+avx2", None, False), (None, "haswell", False), (None, None, None)],
)
def test_avx512_is_used_if_numba_generates_code_for_it(simd, monkeypatch, features, name, expected):
    monkeypatch.setattr("numba.core.config.CPU_FEATURES", features)
    monkeypatch.setattr("numba.core.config.CPU_NAME", name)
    if expected is None:
        expected = importlib.import_module("llvmlite.binding").get_host_cpu_features().get("avx512f", False)
    assert simd._has_avx512() == expected, broken("numba.core.config", SIMD)
