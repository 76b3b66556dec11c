"""Latents that are unlike those of the fit are believed less."""

import numpy as np
import pytest

from kalmanssl.data import Covariances, Latents
from kalmanssl.decoding import EnsembleReadoutSettings, MLPReadoutSettings, MovementSettings, PositionDecoder
from kalmanssl.decoding.movement import Familiarity, temper
from kalmanssl.errors import InputError

QUICK = EnsembleReadoutSettings(networks=MLPReadoutSettings(n_steps=100, n_networks=1, hidden=32))


def test_the_weight_falls_with_the_distance_beyond_the_usual_one():
    familiarity = Familiarity(usual=0.2, power=2.0)
    np.testing.assert_allclose(familiarity.weight(np.array([0.0, 0.2, 0.4, 2.0])), [1.0, 1.0, 0.25, 0.01])
    np.testing.assert_array_equal(Familiarity().weight(np.array([0.0, 1.0])), 1.0)
    np.testing.assert_array_equal(Familiarity(0.2, 0.0).weight(np.array([0.0, 1.0])), 1.0)
    assert Familiarity.from_state(familiarity.to_state()) == familiarity


def test_the_usual_distance_is_a_quantile_of_the_held_out_ones():
    assert Familiarity.from_held_out(np.arange(101.0)).usual == pytest.approx(80.0)
    assert Familiarity.from_held_out(np.empty(0)) == Familiarity()


@pytest.mark.parametrize("shape", [(6,), (3, 4)])
def test_tempering_is_a_weighted_geometric_mean_with_the_occupancy(shape):
    rng = np.random.default_rng(0)
    mass, occupancy = rng.dirichlet(np.ones(np.prod(shape)), size=5).reshape(5, *shape), np.full(shape, 1.0)
    occupancy = rng.dirichlet(np.ones(np.prod(shape))).reshape(shape)
    result = temper(mass, np.array([1.0, 0.0, 0.5, 1.0, 0.25]), occupancy)
    np.testing.assert_array_equal(result[[0, 3]], mass[[0, 3]])
    np.testing.assert_allclose(result[1], occupancy)
    expected = mass[4] ** 0.25 * occupancy**0.75
    np.testing.assert_allclose(result[4], expected / expected.sum())
    np.testing.assert_allclose(result.reshape(5, -1).sum(axis=1), 1.0)


def recording(rng, bins, lost):
    """Latents of a walk on a circle; in each run of `lost` bins they stay at a place of their own."""
    angle = np.cumsum(0.02 * rng.normal(size=bins))
    mean = np.zeros((bins, 12))
    mean[:, 0], mean[:, 1] = np.cos(angle), np.sin(angle)
    places = 1.5 * rng.normal(size=(bins, 12))
    run = np.cumsum(np.diff(lost, prepend=False))
    mean[lost] = places[run[lost]]
    mean += 0.1 * rng.normal(size=mean.shape)
    time = 0.05 * np.arange(bins)
    constant = Covariances(0.01 * np.eye(12)[None], np.zeros(bins, dtype=int))
    latents = Latents(mean, constant, time, mean, np.ones_like(mean), np.zeros(bins), np.zeros(bins, dtype=int), False)
    return latents, angle % (2 * np.pi)


def test_rare_unfamiliar_latents_lose_their_influence_on_the_decoded_behavior():
    rng = np.random.default_rng(1)
    lost = np.arange(6000) % 500 >= 460
    latents, angle = recording(rng, 6000, lost)
    train, test = slice(0, 4500), slice(4500, 6000)
    error, found = [], []
    for powers in ((0.0,), (0.0, 4.0)):
        settings = MovementSettings(kinds=("walk",), familiarity_powers=powers)
        decoder = PositionDecoder(
            period=2 * np.pi, movement_settings=settings, readout_settings=QUICK, random_state=0
        ).fit(latents[train], angle[train])
        decoded = decoder.predict(latents[test])
        wrapped = np.angle(np.exp(1j * (decoded.mean - angle[test])))
        error.append(np.abs(wrapped)[lost[test]].mean())
        found.append(decoder.decoders_["filtered"].movements[0].components[0].familiarity)
    assert found[0].power == 0.0
    assert 3.0 < found[1].power <= 4.0  # the mean of both, by the probability that each is the best
    assert error[1] < 0.8 * error[0]


def test_negative_powers_are_refused():
    with pytest.raises(InputError, match="familiarity_powers"):
        MovementSettings(familiarity_powers=(-1.0, 0.0))


def test_decoders_saved_before_familiarity_existed_are_read():
    rng = np.random.default_rng(2)
    latents, angle = recording(rng, 1500, np.zeros(1500, dtype=bool))
    decoder = PositionDecoder(period=2 * np.pi, readout_settings=QUICK, random_state=0).fit(latents, angle)
    state = decoder.to_state()
    part = state["decoders"]["filtered"]
    neighbors = part["readout"]["neighbors"]
    neighbors["reference"] = neighbors["reference"] @ neighbors["components"].T  # were not projected then
    del neighbors["components"]
    (mixture,) = part.pop("movements")
    part["movements"] = [mixture[0]["movement"]]
    part["choices"] = [{"kind": mixture[0]["kind"], "scores": part.pop("movement_scores")[0]}]
    state["settings"]["movement_settings"] = None
    restored = PositionDecoder.from_state(state)
    (component,) = restored.decoders_["filtered"].movements[0].components
    assert component.familiarity == Familiarity()
    difference = restored.predict(latents).mean - decoder.predict(latents).mean
    assert np.median(np.abs(np.angle(np.exp(1j * difference)))) < 0.05
