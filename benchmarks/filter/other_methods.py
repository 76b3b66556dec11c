"""Filters that do not use torch: dynamax (jax), filterpy (numpy) and the C program."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import numpy as np

from filter.limit import LimitFilter
from filter.methods import GRADIENTS, Answer
from filter.problems import Problem

__all__ = ["DynamaxWork", "FilterpyWork", "LimitWork"]


def _double(values: Any) -> np.ndarray:
    """Return values as a float64 array."""
    return np.asarray(values, np.float64)


class DynamaxWork:
    """dynamax, vectorized over sequences and compiled.

    Parameters
    ----------
    problem : Problem
    task : {"forward", "gradients"}
    parallel : bool
        Use the associative scan over time.
    diagonal : bool
        Pass the noise as variances, for which dynamax has separate code, instead of covariances.
    """

    def __init__(self, problem: Problem, task: str, *, parallel: bool = False, diagonal: bool = False) -> None:
        import jax

        self.gradients = task == "gradients"
        self.arrays = [jax.numpy.asarray(getattr(problem, name), np.float32) for name in (*GRADIENTS, "C")]
        shapes = tuple(array.shape for array in self.arrays)
        self.compiled, self.compile_s = _compile_dynamax(shapes, self.gradients, parallel, diagonal)
        self.wait = jax.block_until_ready

    def __call__(self) -> Any:
        """Run the compiled program and wait for it."""
        return self.wait(self.compiled(*self.arrays))

    def answer(self, result: Any) -> Answer:
        """Convert the result of a call."""
        if self.gradients:
            (_, log_likelihood), gradients = result
            named = {name: _double(value) for name, value in zip(GRADIENTS, gradients, strict=True)}
            return Answer(_double(log_likelihood), gradients=named)
        log_likelihood, mean, cov = map(_double, result)
        return Answer(log_likelihood, mean, cov)


@cache
def _compile_dynamax(
    shapes: tuple[tuple[int, ...], ...], gradients: bool, parallel: bool, diagonal: bool
) -> tuple[Any, float]:
    """Compile for arrays A, Q, y, R, C of these shapes; return the program and the wall seconds of the compilation."""
    import jax
    import jax.numpy as jnp
    from dynamax.linear_gaussian_ssm import inference, parallel_inference

    (states, _), _, _, noise, (channels, _) = shapes
    algorithm = parallel_inference.lgssm_filter if parallel else inference.lgssm_filter
    start = inference.ParamsLGSSMInitial(mean=jnp.zeros(states), cov=jnp.eye(states))

    def one(A: Any, Q: Any, y: Any, R: Any, C: Any) -> Any:
        if not diagonal:
            R = jnp.diag(R) if R.ndim == 1 else jax.vmap(jnp.diag)(R)
        dynamics = inference.ParamsLGSSMDynamics(
            weights=A, bias=jnp.zeros(states), input_weights=jnp.zeros((states, 0)), cov=jnp.diag(Q)
        )
        emissions = inference.ParamsLGSSMEmissions(
            weights=C, bias=jnp.zeros(channels), input_weights=jnp.zeros((channels, 0)), cov=R
        )
        posterior = algorithm(inference.ParamsLGSSM(start, dynamics, emissions), y)
        return posterior.marginal_loglik, posterior.filtered_means, posterior.filtered_covariances

    every = jax.vmap(one, in_axes=(None, None, 0, 0 if len(noise) == 3 else None, None))

    def total(*arrays: Any) -> Any:
        log_likelihood = every(*arrays)[0]
        return log_likelihood.sum(), log_likelihood

    function = jax.value_and_grad(total, argnums=(0, 1, 2, 3), has_aux=True) if gradients else every
    started = time.perf_counter()
    program = jax.jit(function).lower(*(jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes)).compile()
    return program, time.perf_counter() - started


class FilterpyWork:
    """filterpy, one sequence after the other, in float64; it has no gradients."""

    compile_s = 0.0

    def __init__(self, problem: Problem, task: str) -> None:
        if task == "gradients":
            raise ValueError("filterpy has no gradients")
        self.problem = problem

    def __call__(self) -> tuple[np.ndarray, ...]:
        """Return log-likelihoods (batch, steps), means and covariances."""
        from filterpy.kalman import KalmanFilter

        problem = self.problem
        batch, steps, states, channels = problem.size
        means, covs = np.empty((batch, steps, states)), np.empty((batch, steps, states, states))
        terms = np.empty((batch, steps))
        noise = np.broadcast_to(problem.R, problem.y.shape)
        for b in range(batch):
            model = KalmanFilter(states, channels)
            model.F, model.H, model.Q = problem.A, problem.C, np.diag(problem.Q)
            for t in range(steps):
                if t > 0:
                    model.predict()
                model.update(problem.y[b, t, :, None], R=np.diag(noise[b, t]))
                terms[b, t] = model.log_likelihood
                means[b, t], covs[b, t] = model.x[:, 0], model.P
        return terms, means, covs

    def answer(self, result: tuple[np.ndarray, ...]) -> Answer:
        """Convert the result of a call."""
        terms, means, covs = result
        return Answer(terms.sum(-1), means, covs)


class LimitWork(LimitFilter):
    """The C program as a method. It has no gradients: three forward passes are timed instead."""

    def __init__(self, problem: Problem, task: str) -> None:
        super().__init__(problem)
        self.passes = 3 if task == "gradients" else 1

    def __call__(self) -> None:
        """Filter once, or three times for gradients."""
        for _ in range(self.passes):
            super().__call__()

    def answer(self, result: None) -> Answer:
        """Convert the results in memory."""
        means, covs, log_likelihood = map(_double, self.results())
        return Answer(log_likelihood.sum(-1), means, covs)
