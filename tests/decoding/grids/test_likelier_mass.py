"""The probability of all cells that are likelier than one."""

from __future__ import annotations

import numpy as np
import pytest

from kalmanssl.decoding.grids import likelier_mass, likelier_mass_at


def test_the_likeliest_has_none_and_equal_ones_are_ordered_by_number() -> None:
    mass = np.array([[0.1, 0.4, 0.2, 0.3], [0.25, 0.25, 0.25, 0.25]])
    np.testing.assert_allclose(likelier_mass(mass), [[0.9, 0.0, 0.7, 0.4], [0.0, 0.25, 0.5, 0.75]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_cell_of_each_bin_has_the_value_that_all_cells_have(dtype: type) -> None:
    rng = np.random.default_rng(0)
    mass = rng.dirichlet(np.full(30, 0.3), 20000).round(2).astype(dtype)  # with many equal ones, and many zeros
    cell = rng.integers(0, 30, len(mass))
    expected = likelier_mass(mass)[np.arange(len(mass)), cell]
    np.testing.assert_allclose(likelier_mass_at(mass, cell), expected, rtol=0, atol=1e-13)
    assert expected.max() <= 1
