"""Latents, and their table of covariances."""

import numpy as np

from kalmanssl.data import Covariances, Latents


def covariances(rng, bins, state=3, distinct=7):
    root = rng.normal(size=(distinct, state, state)) / np.sqrt(state)
    return Covariances(root @ root.transpose(0, 2, 1) + 0.1 * np.eye(state), rng.integers(distinct, size=bins))


def test_only_used_covariances_are_kept_and_every_bin_keeps_its_own():
    cov = covariances(np.random.default_rng(0), 20)[np.arange(5)]
    used = cov.used()
    assert len(used.table) <= 5
    assert len(used) == len(cov) == 5
    np.testing.assert_array_equal(used.dense(), cov.dense())


def test_square_roots_multiply_to_the_covariances_also_of_singular_ones():
    rng = np.random.default_rng(1)
    singular = np.outer([1.0, 2.0, 0.0], [1.0, 2.0, 0.0])
    cov = Covariances(np.concatenate([covariances(rng, 4).table, singular[None]]), np.zeros(4, dtype=int))
    roots = cov.square_roots()
    np.testing.assert_allclose(roots @ roots.transpose(0, 2, 1), cov.table, atol=1e-12)


def test_scaled_covariances_are_those_of_the_divided_state():
    rng = np.random.default_rng(2)
    draws = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 3))
    scale = np.array([0.5, 2.0, 10.0])
    cov = Covariances(np.cov(draws.T)[None], np.zeros(1, dtype=int))
    np.testing.assert_allclose(cov.scaled(scale).table[0], np.cov((draws / scale).T))


def test_segments_with_the_same_covariances_share_a_table():
    rng = np.random.default_rng(3)
    whole = covariances(rng, 10)
    shorter = Covariances(whole.table[:4], np.array([0, 3, 3]))
    other = covariances(rng, 5)
    shared = Covariances.concatenate([shorter, whole])
    assert len(shared.table) == 7
    np.testing.assert_array_equal(shared.dense(), np.concatenate([shorter.dense(), whole.dense()]))
    separate = Covariances.concatenate([whole, other, shorter])
    assert len(separate.table) == 18
    np.testing.assert_array_equal(separate.dense(), np.concatenate([whole.dense(), other.dense(), shorter.dense()]))


def test_indexing_latents_selects_bins_of_every_array():
    rng = np.random.default_rng(4)
    mean, latent = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    latents = Latents(
        mean, covariances(rng, 6), np.arange(6.0), latent, latent**2, latent[:, 0], np.repeat([0, 1], 3), smoothed=True
    )
    chosen = np.array([5, 0, 3])
    part = latents[chosen]
    for name in ("mean", "cov", "time", "latent", "noise", "log_likelihood", "segment"):
        np.testing.assert_array_equal(getattr(part, name), getattr(latents, name)[chosen])
    assert part.smoothed
    assert (len(part), part.shape, part.dtype) == (3, (3, 3), mean.dtype)
    np.testing.assert_array_equal(np.asarray(part, dtype=np.float32), mean[chosen].astype(np.float32))
