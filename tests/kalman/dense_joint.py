"""Exact moments and likelihoods for the tests, by conditioning the joint Gaussian of all states, in numpy.

    x_0 ~ N(m0, P0),  x_t = A[t] x_{t-1} + b[t] + N(0, Q[t]),  y_t = C[t] x_t + N(0, R[t])

The joint distribution is built from the definition of the model, as a linear map of independent shocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

LOG_2PI = np.log(2 * np.pi)


@dataclass
class Problem:
    """Arguments of `kalman_filter` as torch tensors, in the shapes in which a user would pass them."""

    y: torch.Tensor
    parameters: dict[str, torch.Tensor]
    mask: torch.Tensor | None

    def written_out(self) -> dict[str, np.ndarray]:
        """Expand all parameters to (batch, time, …), m0 and P0 to (batch, …), and Q and R to covariances."""
        batch, time, _ = self.y.shape
        out = {}
        for name, value in self.parameters.items():
            array = value.detach().double().numpy()
            if name == "m0":
                out[name] = np.broadcast_to(array, (batch, array.shape[-1]))
                continue
            if name == "P0":
                array = np.diag(array) if array.ndim == 1 else array
                out[name] = np.broadcast_to(array, (batch, *array.shape[-2:]))
                continue
            matrix_axes = 1 if name == "b" else 2
            if name in "QR" and array.ndim in (1, 3):
                array = array[..., None] * np.eye(array.shape[-1])
            if array.ndim == matrix_axes:
                array = array[None, None]
            out[name] = np.broadcast_to(array, (batch, time, *array.shape[2:]))
        return out

    def seen(self) -> np.ndarray:
        batch, time, obs = self.y.shape
        if self.mask is None:
            return np.ones((batch, time, obs), dtype=bool)
        mask = self.mask.numpy()
        return np.broadcast_to(mask if mask.ndim == 3 else mask[..., None], (batch, time, obs))


def make_problem(
    *, varies: str = "none", full: bool = False, missing: str = "none", batch=2, time=6, state=3, obs=2, seed=0
) -> Problem:
    """Make a problem; parameters that vary differ strongly between steps and sequences.

    varies: "none", "time", "batch", "both", or "mixed" (each parameter along another axis)
    missing: "none", "steps", "channels", "shared" (the same channels in every sequence), "all"
    """
    rng = np.random.default_rng(seed)
    axes = {"none": (), "time": (1, time), "batch": (batch, 1), "both": (batch, time)}
    kinds = dict.fromkeys("AbQCR", varies)
    if varies == "mixed":
        kinds = {"A": "time", "b": "batch", "Q": "both", "C": "none", "R": "batch"}

    def normal(name: str, *shape: int) -> np.ndarray:
        return rng.normal(size=(*axes[kinds[name]], *shape))

    def noise(name: str, dim: int) -> np.ndarray:
        if not full:
            return np.exp(1.5 * normal(name, dim))
        factor = normal(name, dim, dim)
        size = np.exp(normal(name, 1, 1))
        return size * (factor @ np.swapaxes(factor, -1, -2) + 0.1 * np.eye(dim))

    factor = rng.normal(size=(batch, state, state))
    parameters = {
        "A": 0.7 * normal("A", state, state),
        "b": 2.0 * normal("b", state),
        "Q": noise("Q", state),
        "C": normal("C", obs, state),
        "R": noise("R", obs),
        "m0": rng.normal(size=(batch, state) if varies in ("batch", "both") else state),
        "P0": factor @ factor.swapaxes(-1, -2) + 0.2 * np.eye(state)
        if varies in ("batch", "both")
        else np.exp(rng.normal(size=state)),
    }
    y = 2.0 * rng.normal(size=(batch, time, obs))
    mask = None
    if missing == "steps":
        mask = rng.random((batch, time)) > 0.4
    elif missing == "channels":
        mask = rng.random((batch, time, obs)) > 0.4
    elif missing == "shared":
        mask = np.repeat(rng.random((1, time, obs)) > 0.4, batch, 0)
    elif missing == "all":
        mask = np.zeros((batch, time), dtype=bool)
    if mask is not None:
        y[~np.broadcast_to(mask if mask.ndim == 3 else mask[..., None], y.shape)] = np.nan
    return Problem(
        y=torch.as_tensor(y),
        parameters={name: torch.as_tensor(np.ascontiguousarray(value)) for name, value in parameters.items()},
        mask=None if mask is None else torch.as_tensor(mask),
    )


class Joint:
    """The joint Gaussian of the states and observations of one sequence."""

    def __init__(self, problem: Problem, member: int) -> None:
        p = {name: value[member] for name, value in problem.written_out().items()}
        self.y = problem.y[member].detach().double().numpy()
        self.seen = problem.seen()[member]
        time, self.obs = self.y.shape
        state = self.state = p["A"].shape[-1]
        # Column block k is the effect of the shock of step k (for k = 0, the first state) on every later state.
        response = np.zeros((time * state, time * state))
        for k in range(time):
            reach = np.eye(state)
            for t in range(k, time):
                if t > k:
                    reach = p["A"][t] @ reach
                response[t * state : (t + 1) * state, k * state : (k + 1) * state] = reach
        shock_mean = np.concatenate([p["m0"], *p["b"][1:]])
        shock_cov = _block_diagonal([p["P0"], *p["Q"][1:]])
        emission = _block_diagonal(list(p["C"]))
        self.mean = response @ shock_mean
        self.cov = response @ shock_cov @ response.T
        self.y_mean = emission @ self.mean
        self.y_cov = emission @ self.cov @ emission.T + _block_diagonal(list(p["R"]))
        self.cross = self.cov @ emission.T

    def states_given(self, until: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean (time, state) and covariance (time·state, …) of all states given the observations before `until`."""
        index = self._index(0, until)
        gain = self.cross[:, index] @ np.linalg.inv(self.y_cov[np.ix_(index, index)])
        mean = self.mean + gain @ (self.y.ravel()[index] - self.y_mean[index])
        return mean.reshape(-1, self.state), self.cov - gain @ self.cross[:, index].T

    def moments(self, t: int, until: int) -> tuple[np.ndarray, np.ndarray]:
        """Moments of the state at t given the observations before `until`."""
        mean, cov = self.states_given(until)
        part = slice(t * self.state, (t + 1) * self.state)
        return mean[t], cov[part, part]

    def log_likelihood(self, t: int) -> float:
        """log p(y_t | y_<t) of the observed channels, as a difference of two joint densities."""
        return self._log_density(t + 1) - self._log_density(t)

    def _log_density(self, until: int) -> float:
        index = self._index(0, until)
        cov = self.y_cov[np.ix_(index, index)]
        error = self.y.ravel()[index] - self.y_mean[index]
        return -0.5 * (error @ np.linalg.solve(cov, error) + np.linalg.slogdet(cov)[1] + len(index) * LOG_2PI)

    def _index(self, start: int, stop: int) -> np.ndarray:
        seen = self.seen.copy()
        seen[:start] = False
        seen[stop:] = False
        return np.flatnonzero(seen.ravel())


def _block_diagonal(blocks: list[np.ndarray]) -> np.ndarray:
    rows, columns = (sum(block.shape[axis] for block in blocks) for axis in (0, 1))
    out = np.zeros((rows, columns))
    row = column = 0
    for block in blocks:
        out[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    return out
