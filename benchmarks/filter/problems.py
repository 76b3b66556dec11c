"""The problems: sizes, models with data drawn from them, and the number of operations of a step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from kalmanssl.errors import InputError

__all__ = ["EXTREMES", "NOISES", "TASKS", "Cell", "Problem", "Size", "make_problem", "operations", "with_extremes"]

NOISES = ("varying", "constant")
TASKS = ("forward", "gradients")
EXTREMES = ("ordinary", "R = 1e-6", "R = 1e6", "R mixed", "Q = 1e-8", "R = 1e-6, Q = 1e-8")


class Size(NamedTuple):
    """Number of sequences, of steps in each, of state dimensions, and of channels of the observation."""

    batch: int
    steps: int
    states: int
    channels: int

    @property
    def work(self) -> int:
        """Product of sequences, steps and states."""
        return self.batch * self.steps * self.states

    @classmethod
    def read(cls, text: str) -> Size:
        """Parse a text such as "8,100,10,5"."""
        numbers = text.replace(" ", "").strip("()").split(",")
        if len(numbers) != 4 or not all(n.isdigit() and int(n) > 0 for n in numbers):
            raise InputError(
                f"--sizes {text}: expected batch,steps,states,channels such as 8,100,10,5", parameter="sizes"
            )
        return cls(*map(int, numbers))

    def __str__(self) -> str:
        return ",".join(map(str, self))


class Cell(NamedTuple):
    """A problem to time: a size, varying or constant noise, and a task."""

    size: Size
    noise: str
    task: str

    def __str__(self) -> str:
        return f"{self.size}, {self.noise} noise, {self.task}"


@dataclass(frozen=True)
class Problem:
    """A model and data in float64; every method rounds them to its own precision.

    Attributes
    ----------
    y : (batch, steps, channels)
        Observations.
    A : (states, states)
        Transition.
    Q : (states,)
        Variances of the process noise.
    C : (channels, states)
        Emission, dense.
    R : (batch, steps, channels) or (channels,)
        Variances of the observation noise.

    The first state has mean 0 and variances 1.
    """

    y: np.ndarray
    A: np.ndarray
    Q: np.ndarray
    C: np.ndarray
    R: np.ndarray

    @property
    def size(self) -> Size:
        """The size of the problem."""
        batch, steps, channels = self.y.shape
        return Size(batch, steps, len(self.A), channels)

    def rounded(self) -> Problem:
        """Return the problem rounded to float32, as float64: the problem that a float32 filter solves."""
        return Problem(*(v.astype(np.float32).astype(np.float64) for v in (self.y, self.A, self.Q, self.C, self.R)))


def make_problem(size: Size, noise: str, seed: int = 0, *, slow: bool = False) -> Problem:
    """Return a problem with damped rotations, random channels and noise variances within a factor of a few.

    The state loses 5 % in each step. With `slow` it rotates less and loses 1 %, with a tenth of the process noise: the
    filter depends on a longer past, and so do its errors.
    """
    rng = np.random.default_rng(seed)
    batch, steps, states, channels = size
    decay, rotation, scale = (0.99, 0.1, 0.01) if slow else (0.95, 0.3, 0.1)
    A = decay * np.linalg.qr(np.eye(states) + rotation * rng.normal(size=(states, states)))[0]
    C = rng.normal(size=(channels, states)) / np.sqrt(states)
    Q = scale * np.exp(0.5 * rng.normal(size=states))
    R = 0.5 * np.exp(0.7 * rng.normal(size=(batch, steps, channels) if noise == "varying" else channels))
    return draw(Problem(np.empty((batch, steps, channels)), A, Q, C, R), rng)


def draw(problem: Problem, rng: np.random.Generator) -> Problem:
    """Return the problem with new observations drawn from the model."""
    batch, steps, states, channels = problem.size
    state = rng.normal(size=(batch, states))
    y = np.sqrt(problem.R) * rng.normal(size=(batch, steps, channels))
    for t in range(steps):
        if t > 0:
            state = state @ problem.A.T + np.sqrt(problem.Q) * rng.normal(size=(batch, states))
        y[:, t] += state @ problem.C.T
    return replace(problem, y=y)


def with_extremes(problem: Problem, case: str, seed: int = 1) -> Problem:
    """Return the problem with noise that is difficult for float32, new data, and everything rounded to float32.

    Mixed noise ranges from 1e-6 to 1e6, in random order over sequences, steps and channels.
    """
    rng = np.random.default_rng(seed)
    R, Q = problem.R, problem.Q
    if case not in EXTREMES:
        raise ValueError(f"no case {case!r}")
    if case == "R mixed":
        R = rng.permutation(np.logspace(-6, 6, R.size)).reshape(R.shape)
    for part in case.split(", "):
        if part in ("R = 1e-6", "R = 1e6"):
            R = np.full_like(R, float(part.removeprefix("R = ")))
        elif part == "Q = 1e-8":
            Q = np.full_like(Q, 1e-8)
    return draw(replace(problem, R=R, Q=Q), rng).rounded()


def operations(states: int, channels: int) -> int:
    """Return the floating-point operations (additions and multiplications) of one step of one sequence.

    This is the minimum of a filter with dense A and C and diagonal noise that makes use of symmetric covariances (n
    states, m channels, t = n (n + 1) / 2 distinct entries of a covariance):

        prediction      mean 2 n², A P 2 n³, (A P) A' 2 n t, + Q n
        each channel    P c 2 n², its variance 2 n + 1, its error 2 n, division 1, gain n, mean 2 n, covariance 2 t,
                        log-likelihood 4

    The backward pass counts twice as much as the forward pass, as usual for products of matrices.
    """
    n, m = states, channels
    distinct = n * (n + 1) // 2
    prediction = 2 * n**2 + 2 * n**3 + 2 * n * distinct + n
    channel = 2 * n**2 + (2 * n + 1) + 2 * n + 1 + n + 2 * n + 2 * distinct + 4
    return prediction + m * channel
