"""Weights of a mixture that minimize its CRPS on held-out bins."""

import numpy as np
import pytest

from kalmanssl.decoding.grids import Axis, Grid
from kalmanssl.decoding.held_out import HeldOutMass, mean_by_block
from kalmanssl.decoding.held_out._mass import mean_crps
from kalmanssl.decoding.held_out._mixture_weights import crps_products, stacking_weights
from kalmanssl.decoding.movement import ReadoutMass

N, BLOCKS = 600, 20
LINE = Grid((Axis(0.0, 0.05, 20),))
GRIDS = {
    "line": LINE,
    "circle": Grid((Axis(0.0, 0.05, 20, 1.0),)),
    "two dimensions": Grid((Axis(0.0, 0.1, 10), Axis(0.0, 0.2, 5))),
}


def held_out(grid: Grid, seed: int = 0) -> HeldOutMass:
    truth = np.random.default_rng(seed).uniform(size=(N, len(grid.axes)))
    start, never = np.arange(N) == 0, np.zeros(N, dtype=bool)
    scored = np.arange(N) % 3 > 0
    mass = np.full((N, *grid.shape), 1 / grid.size)
    block = (np.arange(N) * BLOCKS // N)[scored]
    return HeldOutMass(ReadoutMass(mass, start, never), scored, truth[scored], np.ones(scored.sum()), block)


def marginals(grid: Grid, posterior: np.ndarray) -> list[np.ndarray]:
    return [grid.marginal(posterior, axis) for axis in range(len(grid.axes))]


def blurred(grid: Grid, given: HeldOutMass, seed: int, error: float) -> np.ndarray:
    """Posteriors of the scored bins on a line around the truth, with an error of their own in each bin."""
    rng = np.random.default_rng(seed)
    center = np.clip(given.truth[:, 0] + error * rng.standard_t(2, len(given.truth)), 0, 1)
    mass = np.exp(-np.abs(grid.axes[0].centers - center[:, None]) / 0.05)
    return mass / mass.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_the_products_give_the_score_of_any_mixture(grid):
    given = held_out(grid)
    rng = np.random.default_rng(1)
    n = len(given.truth)
    posteriors = [rng.dirichlet(np.full(grid.size, 0.2), n).reshape(n, *grid.shape) for _ in range(3)]
    products = crps_products([marginals(grid, posterior) for posterior in posteriors], grid, given)
    for _ in range(5):
        weights = rng.dirichlet(np.ones(3))
        mixture = sum(weight * posterior for weight, posterior in zip(weights, posteriors, strict=True))
        expected = mean_crps(marginals(grid, mixture), grid, given)
        np.testing.assert_allclose(products @ weights @ weights, expected, rtol=1e-9, atol=1e-12)


def test_priors_with_errors_of_their_own_share_the_weight_and_score_better_together():
    given = held_out(LINE)
    posteriors = [blurred(LINE, given, seed, 0.1) for seed in (1, 2)]
    products = mean_by_block([crps_products([[one] for one in posteriors], LINE, given)], [given])
    weights = stacking_weights(products)
    np.testing.assert_allclose(weights, 0.5, atol=0.1)
    assert (weights @ products @ weights).sum() < 0.9 * min(products[:, k, k].sum() for k in (0, 1))


def test_the_weights_are_those_of_the_lowest_score():
    """With the same bins in every block the weights are those of a search over all mixtures."""
    given = held_out(LINE)
    posteriors = [blurred(LINE, given, seed, error) for seed, error in ((1, 0.05), (2, 0.08), (3, 0.07))]
    total = mean_by_block([crps_products([[one] for one in posteriors], LINE, given)], [given]).sum(axis=0)
    weights = stacking_weights(np.tile(total, (BLOCKS, 1, 1)))
    steps = np.linspace(0, 1, 101)
    grid = np.array([(a, b, 1 - a - b) for a in steps for b in steps if a + b <= 1])
    best = grid[np.einsum("ni,ij,nj->n", grid, total, grid).argmin()]
    np.testing.assert_allclose(weights, best, atol=0.011)


def test_a_prior_that_adds_nothing_has_no_weight():
    given = held_out(LINE)
    good, bad = blurred(LINE, given, 1, 0.02), np.full((len(given.truth), 20), 1 / 20)
    weights = stacking_weights(mean_by_block([crps_products([[bad], [good]], LINE, given)], [given]))
    np.testing.assert_array_equal(weights, [0.0, 1.0])
    assert stacking_weights(np.ones((BLOCKS, 1, 1))) == 1.0


def test_equal_priors_and_blocks_without_bins_are_no_obstacle():
    given = held_out(LINE)
    same = blurred(LINE, given, 1, 0.1)
    products = mean_by_block([crps_products([[same], [same], [same]], LINE, given)], [given])
    weights = stacking_weights(np.concatenate([products, np.zeros((5, 3, 3))]))
    assert weights.sum() == pytest.approx(1.0)
    assert (weights @ products @ weights).sum() == pytest.approx(products[:, 0, 0].sum())
