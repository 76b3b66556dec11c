"""The compiled kernels in both memory layouts, compared with the reference implementation."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from dense_joint import Joint, make_problem

from kalmanssl.kalman import JitterWarning, kalman_filter
from kalmanssl.kalman._validation import check_model, check_observations
from kalmanssl.kalman.backends import _dispatch as dispatch
from kalmanssl.kalman.backends import _fused as fused
from kalmanssl.kalman.backends._layouts import (
    BatchVectorized,
    StateVectorized,
    WideBatchVectorized,
    WideStateVectorized,
)
from kalmanssl.kalman.backends._reference import filter_reference
from kalmanssl.kalman.kernels import _jit as jit
from kalmanssl.kalman.kernels import run_blocks

LAYOUTS = {
    "batch-vectorized": BatchVectorized,
    "wide batch-vectorized": WideBatchVectorized,
    "state-vectorized": StateVectorized,
    "wide state-vectorized": WideStateVectorized,
}
# batch, time, state, obs: sizes around whole SIMD vectors and tiles, and sizes of 1
SHAPES = {
    "all sizes 1": (1, 1, 1, 1),
    "one step": (3, 1, 3, 2),
    "two steps": (2, 2, 5, 1),
    "odd": (5, 9, 7, 3),
    "one SIMD vector of sequences": (8, 12, 4, 4),
    "one sequence more than a SIMD vector": (9, 12, 5, 2),
    "more channels than states": (3, 20, 2, 6),
    "longer than the segments of sums": (2, 150, 4, 2),
    "rows of an odd number of SIMD vectors, a block of channels and a part": (2, 6, 18, 6),
}


@pytest.fixture(params=LAYOUTS)
def layout(request, monkeypatch):
    monkeypatch.setattr(fused, "_choose_layout", lambda batch, state, dtype: LAYOUTS[request.param](batch, dtype))
    return request.param


def run(function, problem, dtype, *more):
    """Return the moments, and the gradients of a loss that depends on every output of the kernels."""
    values = {"y": torch.nan_to_num(problem.y, nan=0.3), **problem.parameters}
    values = {name: value.detach().to(dtype).requires_grad_() for name, value in values.items()}
    arguments = {"b": None, **values}
    y = arguments.pop("y")
    observations = check_observations(y, problem.mask)
    model = check_model(y, *y.shape[:2], **arguments, obs=y.shape[2])
    moments = function(model, observations, *more)
    generator = torch.Generator().manual_seed(3)
    weights = [torch.rand(y.shape[:2], generator=generator)]
    weights += [torch.randn(*y.shape[:2], *[model.A.shape[-1]] * n, generator=generator) for n in (1, 2)]
    weights[2] = weights[2] + weights[2].mT
    found = (moments.log_likelihood, moments.filtered_mean, moments.filtered_cov)
    loss = sum((w.double() * x).sum() for w, x in zip(weights, found, strict=True))
    gradients = torch.autograd.grad(loss, list(values.values()), materialize_grads=True)
    named = dict(zip(values, gradients, strict=True))
    for name in ("Q", "R", "P0"):  # only the symmetric part of the gradient is defined
        if name in named and (values[name].ndim in (2, 4) or (name == "P0" and values[name].ndim == 3)):
            named[name] = 0.5 * (named[name] + named[name].mT)
    return found, named


def assert_same(problem, dtype=torch.float64, rtol=1e-9):
    (found, gradients), (expected, wanted) = (
        run(fused.filter_fused, problem, dtype, dtype),
        run(filter_reference, problem, torch.float64),
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other.expand(one.shape), rtol=rtol, atol=rtol)
    for name, value in gradients.items():
        error = (value.double() - wanted[name]).norm()
        assert error <= rtol * wanted[name].norm().clamp_min(1.0), f"{name}: {error} of {wanted[name].norm()}"


@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("shape", SHAPES)
def test_results_and_gradients_agree_with_the_reference_for_every_shape(layout, shape, full):
    batch, time, state, obs = SHAPES[shape]
    problem = make_problem(batch=batch, time=time, state=state, obs=obs, full=full)
    problem.parameters["A"] = 0.7 * problem.parameters["A"]
    assert_same(problem)


@pytest.mark.parametrize("missing", ["none", "steps", "channels", "all"])
@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("varies", ["none", "time", "batch", "both", "mixed"])
def test_results_and_gradients_agree_with_the_reference_for_every_kind_of_parameter_and_mask(
    layout, varies, full, missing
):
    assert_same(make_problem(varies=varies, full=full, missing=missing, batch=3, time=8, state=4, obs=3))


@pytest.mark.parametrize("seed", range(3))
def test_float32_results_and_gradients_agree_with_the_reference(layout, seed):
    problem = make_problem(varies="both", missing="channels", batch=9, time=100, state=6, obs=3, seed=seed)
    problem.parameters["A"] = 0.5 * problem.parameters["A"]
    for name, value in problem.parameters.items():
        problem.parameters[name] = value.float().double()
    problem.y = problem.y.float().double()
    assert_same(problem, torch.float32, rtol=1e-4)


def test_moments_and_likelihood_are_those_of_the_joint_gaussian(layout):
    problem = make_problem(varies="both", missing="channels", batch=3)
    found, _ = run(fused.filter_fused, problem, torch.float64)
    for n in range(3):
        joint = Joint(problem, n)
        for t in range(problem.y.shape[1]):
            mean, cov = joint.moments(t, t + 1)
            np.testing.assert_allclose(found[0][n, t].detach(), joint.log_likelihood(t), rtol=1e-9)
            np.testing.assert_allclose(found[1][n, t].detach(), mean, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(found[2][n, t].detach(), cov, rtol=1e-9, atol=1e-9)


def test_rounding_errors_do_not_grow_over_a_long_sequence(layout):
    """An undamped, rotating state with weak observations would preserve any asymmetry of its covariance."""
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)))[0]
    generator = torch.Generator().manual_seed(1)
    y = torch.randn(1, 5000, 2, generator=generator)
    R = 10 + torch.rand(1, 5000, 2, generator=generator)
    values = {"A": 1.001 * turn, "Q": torch.full((6,), 1e-4), "C": torch.randn(2, 6, generator=generator), "R": R}
    out = kalman_filter(y, **values, precision=torch.float32)
    exact = kalman_filter(y.double(), **{k: v.double() for k, v in values.items()})
    assert (out.filtered_cov - exact.filtered_cov).abs().max() < 1e-4 * exact.filtered_cov.abs().max()
    assert torch.linalg.eigvalsh(out.filtered_cov.double()).min() > 0


def test_backward_raises_if_an_output_was_modified_in_place(layout):
    problem = make_problem(varies="both")
    y = problem.y.requires_grad_()
    out = kalman_filter(y, **problem.parameters)
    out.filtered_mean.detach().mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.log_likelihood.sum().backward()


def test_every_block_is_processed_once_with_any_number_of_threads(monkeypatch):
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        for blocks in (1, 2, 5, 7):
            done = []
            run_blocks(lambda first, last, done=done: done.extend(range(first, last)), blocks, 10**9)
            assert sorted(done) == list(range(blocks))


def test_little_work_stays_in_the_calling_thread(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    parts = []
    run_blocks(lambda first, last: parts.append((first, last)), 8, 1000)
    assert parts == [(0, 8)]


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch):
    monkeypatch.setattr(jit, "_OPERATIONS_PER_THREAD", 1)
    problem = make_problem(varies="both", batch=40)
    results = []
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        results.append(run(fused.filter_fused, problem, torch.float64))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_an_error_in_a_thread_is_raised(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

    def work(first, last):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_blocks(work, 4, 10**9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_width_of_a_simd_vector_is_the_same_in_python_and_in_compiled_code(dtype):
    from numba import njit

    from kalmanssl.kalman.kernels._simd import wide, width

    widths = njit(lambda array: (width(array), width(wide((array,))[0])))(np.zeros(1, dtype))
    assert widths == tuple(cls(1, np.dtype(dtype)).width for cls in (StateVectorized, WideStateVectorized))


@pytest.mark.parametrize(
    ("batch", "state", "used"),
    [
        (1, 1, StateVectorized),
        (2, 4, BatchVectorized),
        (2, 5, StateVectorized),
        (8, 24, BatchVectorized),
        (8, 25, WideStateVectorized),
        (9, 20, WideBatchVectorized),
        (16, 28, WideBatchVectorized),
        (17, 28, WideStateVectorized),
        (16, 29, WideStateVectorized),
    ],
)
def test_choice_of_the_kernels(batch, state, used, monkeypatch):
    monkeypatch.setattr(WideBatchVectorized, "vector_bytes", 64)
    assert type(fused._choose_layout.__wrapped__(batch, state, np.dtype(np.float32))) is used


@pytest.mark.parametrize(("state", "used"), [(12, StateVectorized), (13, WideStateVectorized)])
def test_wide_kernels_are_used_from_13_states_on_and_agree_with_the_others(state, used):
    assert type(fused._choose_layout(2, state, np.dtype(np.float32))) is used
    problem = make_problem(varies="both", missing="channels", batch=2, time=20, state=state, obs=7)
    problem.parameters["A"] = 0.3 * problem.parameters["A"]
    assert_same(problem)
    for name, value in problem.parameters.items():
        problem.parameters[name] = value.float().double()
    problem.y = problem.y.float().double()
    assert_same(problem, torch.float32, rtol=1e-4)


def test_the_filter_uses_the_kernels(monkeypatch):
    used = []
    monkeypatch.setattr(fused, "filter_fused", lambda *a, real=fused.filter_fused: used.append(1) or real(*a))
    problem = make_problem(varies="both")
    kalman_filter(problem.y, **problem.parameters)
    assert used


def test_without_numba_the_filter_warns_once_and_gives_the_same_result(monkeypatch):
    problem = make_problem(varies="both")
    expected = kalman_filter(problem.y, **problem.parameters)
    monkeypatch.setattr(jit, "find_spec", lambda name: None)
    jit.has_compiler.cache_clear()
    try:
        with pytest.warns(jit.SlowPathWarning, match="numba is not installed") as warned:
            outs = [kalman_filter(problem.y, **problem.parameters) for _ in range(2)]
        assert len(warned) == 1
    finally:
        jit.has_compiler.cache_clear()
    torch.testing.assert_close(outs[0].filtered_cov, expected.filtered_cov)


def test_without_a_cache_folder_the_filter_warns_once_and_works():
    code = (
        "import warnings, torch\n"
        "from numba.core import caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "from kalmanssl.kalman import kalman_filter\n"
        "one = torch.ones(1, 1)\n"
        "with warnings.catch_warnings(record=True) as warned:\n"
        "    warnings.simplefilter('always')\n"
        "    for _ in range(2):\n"
        "        out = kalman_filter(torch.zeros(3, 4, 1), A=one, Q=one[0], C=one, R=torch.ones(3, 4, 1))\n"
        "print([str(w.message) for w in warned])\n"
        "print(float(out.filtered_cov[0, 0]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    warned, value = done.stdout.splitlines()
    assert warned.count("compiled code cannot be kept") == 1
    assert float(value) == 0.5


def test_cached_code_is_not_reused_after_a_change_in_any_kernel_module(tmp_path, monkeypatch):
    names = []
    for source in ("one", "other"):
        (tmp_path / "_matrix_kernels.py").write_text(source)
        (tmp_path / "_simd.py").write_text("")
        monkeypatch.setattr(jit, "__file__", str(tmp_path / "_jit.py"))
        jit._source_hash.cache_clear()
        names.append(jit._source_hash())
    jit._source_hash.cache_clear()
    assert names[0] != names[1]
    monkeypatch.undo()
    assert jit.cached_njit(lambda x: x).py_func.__qualname__.endswith(jit._source_hash())


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_precision_argument_sets_the_precision_of_the_computation(precision):
    problem = make_problem(varies="both", batch=3)
    y, parameters = problem.y.float(), {name: value.float() for name, value in problem.parameters.items()}
    out = kalman_filter(y, **parameters, precision=precision)
    exact = kalman_filter(y.double(), **{name: value.double() for name, value in parameters.items()})
    assert {value.dtype for value in out.tensors().values()} == {torch.float32}
    error = (out.log_likelihood.double() - exact.log_likelihood).abs().max()
    assert error < (1e-3 if precision == torch.float32 else 2e-6)


def test_requested_float32_that_is_not_accurate_enough_is_an_error():
    generator = torch.Generator().manual_seed(0)
    A = torch.linalg.qr(torch.randn(16, 16, generator=generator))[0]
    C = torch.randn(8, 16, generator=generator)
    values = {"A": A, "C": C, "Q": torch.full((16,), 1e-8), "R": torch.full((2, 300, 8), 1e-7)}
    y = torch.randn(2, 300, 8, generator=generator)
    assert bool((kalman_filter(y, **values).status.smallest_variance > 0).all())
    with pytest.raises(
        ValueError, match=r"not positive definite in float32; leave out precision or pass torch\.float64"
    ):
        kalman_filter(y, **values, precision=torch.float32)


def test_the_torch_implementation_adds_jitter_where_the_kernels_fail(monkeypatch):
    """A noise-free observation of a state that is already known has an innovation variance of zero."""
    y = torch.zeros(2, 3, 1, dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.float64)
    used = []
    monkeypatch.setattr(dispatch, "filter_adjoint", lambda *a, real=dispatch.filter_adjoint: used.append(1) or real(*a))
    with pytest.warns(JitterWarning, match="positive definite only after"):
        out = kalman_filter(y, A=one, Q=0 * one[0], C=one, R=torch.zeros(2, 3, 1, dtype=torch.float64))
    assert used
    assert torch.isfinite(out.filtered_mean).all()


@pytest.mark.parametrize(("dtype", "exponent"), [(torch.float32, 30), (torch.float64, 150)])
def test_log_densities_of_very_small_and_very_large_noise(layout, dtype, exponent):
    """The state is not observed, so that every channel is noise alone."""
    R = torch.logspace(-exponent, exponent, 3 * 4 * 9, dtype=torch.float64)
    R = R[torch.randperm(len(R), generator=torch.Generator().manual_seed(0))].view(3, 4, 9)
    y = 1.5 * R.sqrt()
    values = {"A": 0.5 * torch.eye(2), "Q": torch.ones(2), "C": torch.zeros(9, 2), "R": R}
    values = {name: value.to(dtype) for name, value in values.items()}
    out = kalman_filter(y.to(dtype), **values, precision=dtype)
    expected = -0.5 * (np.log(2 * np.pi) + R.log() + 1.5**2).sum(-1)
    torch.testing.assert_close(
        out.log_likelihood.double(), expected, rtol=1e-6 if dtype == torch.float32 else 1e-13, atol=0
    )


@pytest.mark.parametrize("kind", LAYOUTS)
def test_arrays_begin_at_lines_of_the_cache(kind):
    layout = LAYOUTS[kind](5, np.dtype(np.float32))
    shapes = ((5, 3, 2), (1, 1, 2), (5, 1, 7, 3))
    for together in (None, ((0,), (2, 1))):
        places = layout.places(shapes, (True, False, True), together)
        for packed in (layout.allocate(places), layout.allocate_totals(places)):
            assert [flat.ctypes.data % 64 for flat in packed.flats] == [0, 0, 0]
            for i, one in enumerate(packed.flats):
                assert not any(np.shares_memory(one, other) for other in packed.flats[i + 1 :])


def test_constant_covariances_of_few_short_sequences_are_left_to_the_kernels(monkeypatch):
    used = []
    monkeypatch.setattr(fused, "filter_shared", lambda *a, real=fused.filter_shared: used.append(1) or real(*a))
    for batch, time in ((1, 256), (1, 257), (4, 100), (200, 256)):
        problem = make_problem(batch=batch, time=time)
        kalman_filter(problem.y, **problem.parameters)
    assert len(used) == 2
