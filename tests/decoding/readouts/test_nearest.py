"""The search for the largest inner products."""

import numpy as np
import pytest

from kalmanssl.decoding.readouts import _nearest
from kalmanssl.decoding.readouts._nearest import NearestSearch, with_remaining_norm


def units(rng, *shape):
    values = rng.normal(size=shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


@pytest.mark.parametrize("references", [30, 33, 500, 2000])
@pytest.mark.parametrize("features", [8, 60])
@pytest.mark.parametrize("compiled", [True, False])
def test_the_references_with_the_largest_products_are_found(references, features, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(_nearest, "has_compiler", lambda: False)
    rng = np.random.default_rng(references)
    queries, stored = units(rng, 300, features), units(rng, references, features)
    found, products = NearestSearch(stored).largest(queries, 30)
    expected = -np.sort(-(queries @ stored.T), axis=1)[:, :30]
    np.testing.assert_allclose(-np.sort(-products, axis=1), expected, atol=1e-6)
    np.testing.assert_allclose((queries[:, None] * stored[found]).sum(axis=2), products, atol=1e-6)
    assert all(len(set(row)) == 30 for row in found.tolist())


def test_equal_products_are_found_once_each():
    stored = np.ones((100, 2), dtype=np.float32)
    found, products = NearestSearch(stored).largest(np.ones((3, 2), dtype=np.float32), 40)
    assert all(len(set(row)) == 40 for row in found.tolist())
    np.testing.assert_array_equal(products, 2.0)


def test_no_queries_give_no_results():
    found, products = NearestSearch(np.ones((5, 2), np.float32)).largest(np.empty((0, 2), np.float32), 3)
    assert found.shape == products.shape == (0, 3)


def test_products_of_bounded_vectors_are_upper_bounds():
    rng = np.random.default_rng(0)
    queries, stored = units(rng, 50, 60), units(rng, 70, 60)
    bounds = with_remaining_norm(queries) @ with_remaining_norm(stored).T
    assert (bounds >= queries @ stored.T - 1e-6).all()
    assert bounds.mean() < 1.0


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_order_statistics_of_values_with_ties(size):
    pytest.importorskip("numba")
    from kalmanssl.decoding.readouts._nearest_kernel import _order_statistic

    rng = np.random.default_rng(size)
    for values in (rng.integers(0, 5, size), rng.normal(size=size), np.arange(size), np.zeros(size)):
        values = values.astype(np.float32)
        found = [_order_statistic(values.copy(), number) for number in range(size)]
        np.testing.assert_array_equal(found, np.sort(values))
