"""Choices on held-out bins of how neighbors are searched: with the temporal context of the latents, and how many."""

from dataclasses import replace

import numpy as np
import pytest

from kalmanssl.data import Covariances, Latents
from kalmanssl.decoding import (
    CalibrationSettings,
    EnsembleReadoutSettings,
    MLPReadoutSettings,
    MovementSettings,
    PositionDecoder,
)
from kalmanssl.decoding.readouts import EnsembleReadout, FittedBins, MLPReadout, NeighborVariant

BIN = 0.05
QUICK = EnsembleReadoutSettings(MLPReadoutSettings(n_cells=48, n_cells_joint=20, n_networks=2, hidden=32, n_steps=150))


def simulate(dwell: int, noise: float, seed: int) -> tuple[Latents, np.ndarray]:
    """Latents of an animal that is taken to another place every `dwell` bins, in two segments."""
    rng = np.random.default_rng(seed)
    bins = 2400
    position = np.repeat(rng.random(bins // dwell), dwell)
    angle = np.pi * position
    features = np.stack([np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)], axis=1)
    mean = features + noise * rng.normal(size=features.shape)
    segment = (np.arange(bins) >= bins // 2).astype(int)
    latents = Latents(
        mean=mean,
        covariances=Covariances(np.eye(4)[None], np.zeros(bins, dtype=int)),
        time=BIN * np.arange(bins) + 10.0 * segment,
        latent=mean,
        noise=np.ones_like(mean),
        log_likelihood=np.zeros(bins),
        segment=segment,
    )
    return latents, position


def fit(latents: Latents, position: np.ndarray, **settings) -> PositionDecoder:
    defaults = {
        "readout_settings": QUICK,
        "movement_settings": MovementSettings(kinds=("none",)),
        "calibration_settings": CalibrationSettings(n_folds=2),
        "random_state": 0,
    }
    return PositionDecoder(**(defaults | settings)).fit(latents, position)


@pytest.mark.parametrize(("dwell", "noise", "expected"), [(4, 0.05, False), (60, 1.5, True)])
def test_the_context_is_searched_where_it_reduces_held_out_errors(dwell, noise, expected):
    decoder = fit(*simulate(dwell, noise, seed=0))
    used = decoder.decoders_["filtered"]
    assert used.neighbor_variant.uses_context is expected
    features = used.readout.neighbors.n_features
    assert features == (4 * (1 + len(decoder.time_scales)) if expected else 4)


def test_without_misleading_context_errors_are_smaller():
    def error(**settings) -> float:
        decoder = fit(*simulate(4, 0.05, seed=0), **settings)
        latents, position = simulate(4, 0.05, seed=1)
        return float(np.abs(decoder.predict(latents).mean - position).mean())

    never = MovementSettings(kinds=("none",), min_standard_errors=1e6)  # no change is worth it
    assert error() < 0.9 * error(movement_settings=never)


def test_a_decoder_whose_neighbors_ignore_the_context_is_restored():
    decoder = fit(*simulate(4, 0.05, seed=0))
    latents, _ = simulate(4, 0.05, seed=1)
    restored = PositionDecoder.from_state(decoder.to_state())
    np.testing.assert_array_equal(restored.predict(latents).mean, decoder.predict(latents).mean)


def test_noisy_behavior_in_two_dimensions_gets_broad_neighbors():
    def fitted(noise: float) -> PositionDecoder:
        latents, _ = simulate(4, noise, seed=0)
        rng = np.random.default_rng(0)
        position = np.repeat(rng.random((len(latents.mean) // 4, 2)), 4, axis=0)
        angle = np.pi * position
        features = np.concatenate([np.cos(angle), np.sin(angle)], axis=1) + noise * rng.normal(size=(len(angle), 4))
        return fit(replace(latents, mean=features, latent=features), position)

    noisy, clear = (fitted(noise).decoders_["filtered"] for noise in (1.5, 0.02))
    assert noisy.neighbor_variant.broad
    assert not clear.neighbor_variant.broad
    settings = noisy.readout.neighbors.settings
    assert (settings.n_neighbors, settings.smoothing_joint) == (90, 2.0)


def in_two_dimensions() -> tuple[Latents, np.ndarray]:
    """Latents without information about the past, and noisy enough that many neighbors help."""
    latents, _ = simulate(4, 1.5, seed=0)
    rng = np.random.default_rng(0)
    position = np.repeat(rng.random((len(latents.mean) // 4, 2)), 4, axis=0)
    angle = np.pi * position
    features = np.concatenate([np.cos(angle), np.sin(angle)], axis=1) + 0.5 * rng.normal(size=(len(angle), 4))
    features[5:8] = np.nan  # missing bins; some are held out
    features[2000:2003] = np.nan
    return replace(latents, mean=features, latent=features), position


def test_networks_are_evaluated_once_for_all_variants_with_the_same_result(monkeypatch):
    evaluated = []
    predict = MLPReadout.predict_mass

    def counted(self, mean, cov):
        evaluated.append(len(mean))
        return predict(self, mean, cov)

    monkeypatch.setattr(MLPReadout, "predict_mass", counted)
    latents, position = in_two_dimensions()
    networks = MLPReadoutSettings(n_cells_joint=10, hidden=8, n_steps=20, min_steps=20)
    settings = {"readout_settings": EnsembleReadoutSettings(networks)}
    once, n_once = fit(latents, position, **settings), sum(evaluated)
    evaluated.clear()
    monkeypatch.setattr("kalmanssl.decoding._neighbor_choice._MAX_KEPT", 0)
    again = fit(latents, position, **settings)
    assert sum(evaluated) == 3 * n_once  # the first variant, without context, and broad
    used, expected = (decoder.decoders_["filtered"] for decoder in (once, again))
    assert used.neighbor_variant == expected.neighbor_variant
    assert used.movement_weights == expected.movement_weights
    assert used.movement_scores == expected.movement_scores
    found, repeated = (decoder.predict(latents) for decoder in (once, again))
    np.testing.assert_array_equal(found.lower, repeated.lower)
    np.testing.assert_array_equal(found.mean, repeated.mean)


@pytest.mark.parametrize("broad", [False, True])
@pytest.mark.parametrize("uses_context", [False, True])
def test_a_variant_of_a_readout_equals_one_whose_neighbors_are_fitted_to_all_features(uses_context, broad):
    rng = np.random.default_rng(3)
    features, behavior, weight = rng.normal(size=(500, 6)), rng.random((500, 2)), rng.random(500)
    bins = FittedBins(features, None, behavior, weight, n_present=2)
    readout = EnsembleReadout((None, None), settings=QUICK).fit(bins, rng)
    variant = NeighborVariant(uses_context, broad)
    shared = readout.with_variant(variant, lambda: bins if uses_context else replace(bins, mean=features[:, :2]))
    networks = readout.network_masses(features, None)
    given = features if uses_context else features[:, :2]
    found = shared.predict_masses(given, None, networks, with_average=True)
    before = readout.predict_mass(features, None)
    readout.variant = variant
    readout.fit_neighbors(bins)
    expected = readout.predict_masses(features, None, with_average=True)
    np.testing.assert_array_equal(found.product[0], expected.product[0])
    np.testing.assert_array_equal(found.average[0], expected.average[0])
    np.testing.assert_array_equal(found.distance, expected.distance)
    assert np.array_equal(before[0], expected.product[0]) == (variant == NeighborVariant())
