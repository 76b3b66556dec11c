"""Scores of histograms on held-out bins."""

from __future__ import annotations

import numpy as np
import pytest

from kalmanssl.decoding.grids import Axis
from kalmanssl.decoding.held_out import _mass
from kalmanssl.decoding.held_out._mass import grid_crps


@pytest.mark.parametrize("period", [None, 12.0])
def test_the_score_of_a_histogram_differs_from_the_exact_integral_as_documented(period: float | None) -> None:
    rng = np.random.default_rng(0)
    mass = rng.dirichlet(np.full(12, 0.5), 200)
    truth = rng.uniform(0, 12, 200)
    cell = truth.astype(int)
    inside, own = truth - cell, mass[np.arange(200), cell]
    found = grid_crps(mass, Axis(0.0, 1.0, 12, period), truth)
    found += (mass**2).sum(axis=1) / 12 + inside * (1 - inside) * (1 - own)
    place = (np.arange(12 * 1000) + 0.5) / 1000  # fine steps over the axis; of a circle, from opposite the truth
    for row in range(200):
        start = 0.0 if period is None else cell[row] - 6
        x = place + start
        at = (x % 12).astype(int)
        below = np.cumsum(mass[row][at]) / 1000
        exact = ((below - (x >= (truth[row] if period is None else start + 6 + inside[row]))) ** 2).sum() / 1000
        assert found[row] == pytest.approx(exact, abs=5e-3)


@pytest.mark.parametrize("n_cells", [7, 12])
@pytest.mark.parametrize("circular", [False, True])
def test_scores_are_the_same_without_a_compiler(circular: bool, n_cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    mass = rng.dirichlet(np.full(n_cells, 0.5), 300).astype(np.float32)
    axis, truth = Axis(0.0, 1.0, n_cells, float(n_cells) if circular else None), rng.uniform(0, n_cells, 300)
    found = grid_crps(mass, axis, truth)
    monkeypatch.setattr(_mass, "has_compiler", lambda: False)
    np.testing.assert_allclose(found, grid_crps(mass, axis, truth), rtol=1e-4, atol=1e-5)
