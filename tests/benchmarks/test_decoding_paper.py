"""The decoders of the LDM paper in the decoding benchmark."""

import numpy as np
import pytest
from decoding.paper import SAMPLES, LinearDecoder, MLPDecoder

from kalmanssl.data import Covariances, Latents

STATE, BINS = 3, 400


def posterior(seed=0):
    """Latents with two distinct covariances."""
    rng = np.random.default_rng(seed)
    roots = 0.3 * rng.standard_normal((2, STATE, STATE))
    table, index = roots @ roots.swapaxes(1, 2), np.arange(BINS) % 2
    mean = rng.standard_normal((BINS, STATE))
    other = np.zeros((BINS, 1))
    return Latents(
        mean, Covariances(table, index), np.arange(BINS) / 40, other, other, other[:, 0], np.zeros(BINS, int)
    )


@pytest.mark.parametrize("dims", [1, 2])
def test_linear_decoder_has_the_analytic_mean_and_covariance(dims):
    latents, rng = posterior(), np.random.default_rng(1)
    weight = rng.standard_normal((STATE, dims))
    behavior = latents.mean @ weight + 5.0
    samples = LinearDecoder(latents.mean, behavior, 0).samples(latents)
    assert samples.shape == (BINS, SAMPLES, dims)
    np.testing.assert_allclose(samples.mean(axis=1), behavior, atol=1e-9)
    for t in (0, 1):
        expected = weight.T @ latents.cov[t] @ weight
        np.testing.assert_allclose(np.cov(samples[t].T).reshape(dims, dims), expected, rtol=0.1, atol=0.05)


def test_linear_interval_of_one_dimension_is_the_gaussian_one():
    latents = posterior()
    weight = np.array([[1.0], [-2.0], [0.5]])
    samples = LinearDecoder(latents.mean, latents.mean @ weight, 0).samples(latents)[..., 0]
    sd = np.sqrt(np.einsum("ji,tjk,ki->t", weight, latents.cov, weight))
    np.testing.assert_allclose(np.diff(np.quantile(samples, [0.025, 0.975], axis=1), axis=0)[0], 3.92 * sd, rtol=0.01)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_perceptron_maps_samples_of_the_state():
    latents = posterior()
    behavior = np.stack([np.tanh(latents.mean[:, 0]), 3 + latents.mean[:, 1] ** 2], axis=1)
    decoder = MLPDecoder(latents.mean, behavior, 0)
    samples = decoder.samples(latents)
    assert samples.shape == (BINS, SAMPLES, 2)
    root = np.linalg.cholesky(latents.cov[5])
    states = latents.mean[5] + np.random.default_rng(3).standard_normal((20_000, STATE)) @ root.T
    scaled = ((states - decoder.center) / decoder.scale).astype(np.float32)
    direct = decoder.network.predict(scaled) * decoder.size + decoder.offset
    np.testing.assert_allclose(samples[5].mean(axis=0), direct.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(samples[5].std(axis=0), direct.std(axis=0), rtol=0.15)
