"""Whether to trust a bin, judged from its activity alone."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtri

from kalmanssl.data import Covariances, Latents
from kalmanssl.decoding import (
    EnsembleReadoutSettings,
    MLPReadoutSettings,
    MovementSettings,
    PositionDecoder,
    conditional_coverage,
)
from kalmanssl.decoding.calibration._trust import Trust, agreement_of
from kalmanssl.errors import InputError

QUICK = EnsembleReadoutSettings(networks=MLPReadoutSettings(n_steps=150, n_networks=1, hidden=32))
LEVELS = {"50": 50, "80": 80, "95": 95}


def held_out(rng, bins, slope):
    """Return distances, agreements, nominal levels and blocks; levels grow with the distance if `slope` is above 0."""
    distance, agreement = rng.gamma(3.0, 0.1, bins), rng.beta(5.0, 1.0, bins)
    level = rng.random((bins, 2)) ** (1 / (1 + slope * (distance > np.quantile(distance, 0.85))))[:, None]
    return distance, agreement, level, np.arange(bins) // 50


def test_agreement_is_the_bhattacharyya_coefficient():
    rng = np.random.default_rng(0)
    mass, other = rng.dirichlet(np.ones(12), (2, 9)).astype(np.float32)
    expected = np.array(
        [sum((a * b) ** 0.5 for a, b in zip(one, two, strict=True)) for one, two in zip(mass, other, strict=True)]
    )
    np.testing.assert_allclose(agreement_of([mass], [other]), expected, rtol=1e-5)
    np.testing.assert_allclose(agreement_of([mass.reshape(9, 3, 4)], [other.reshape(9, 3, 4)]), expected, rtol=1e-5)
    np.testing.assert_allclose(agreement_of([mass, mass], [other, mass]), (expected + 1) / 2, rtol=1e-5)
    np.testing.assert_array_equal(agreement_of([np.eye(2)], [np.eye(2)[::-1]]), 0.0)


def test_trust_is_the_share_of_held_out_bins_that_are_at_least_as_unusual():
    distance, agreement, level, block = held_out(np.random.default_rng(1), 6000, slope=3.0)
    trust = Trust.fit(distance, agreement, level, block)
    assert trust.weights[0] > 5 * trust.weights[1]  # errors depend on the distance alone

    def deviate(values, own):
        return ndtri(np.clip([(values < value).mean() for value in own], 0.002, 0.998))

    unusual = trust.weights[0] * deviate(distance, distance) - trust.weights[1] * deviate(agreement, agreement)
    found = trust.judge(distance, agreement, np.zeros(6000, dtype=bool)).trust
    np.testing.assert_allclose(found, [(unusual > value).mean() for value in unusual], atol=0.01)


def test_bins_are_not_trusted_where_held_out_intervals_covered_less():
    distance, agreement, level, block = held_out(np.random.default_rng(2), 6000, slope=3.0)
    trust = Trust.fit(distance, agreement, level, block)
    found = trust.judge(distance, agreement, np.zeros(6000, dtype=bool))
    assert 0.1 <= trust.threshold <= 0.3
    assert (level[~found.trusted] <= 0.8).mean() < 0.75
    assert (level[found.trusted] <= 0.8).mean() > (level <= 0.8).mean()
    np.testing.assert_array_equal(found.reason != 0, ~found.trusted)
    assert (found.reason[~found.trusted] == 1).mean() > 0.9  # unfamiliar latents


def test_nearly_all_bins_are_trusted_if_errors_do_not_depend_on_the_activity():
    distance, agreement, level, block = held_out(np.random.default_rng(3), 6000, slope=0.0)
    trust = Trust.fit(distance, agreement, level, block)
    assert trust.threshold <= 0.01
    found = trust.judge(distance, agreement, np.zeros(6000, dtype=bool))
    assert (~found.trusted).mean() < 0.02
    far = trust.judge(np.full(3, 10 * distance.max()), np.full(3, agreement.min() / 2), np.zeros(3, dtype=bool))
    assert not far.trusted.any()


def test_bins_that_cover_somewhat_less_than_others_are_trusted():
    rng = np.random.default_rng(5)
    distance, agreement, _, block = held_out(rng, 8000, slope=0.0)
    unusual = 1 - (np.argsort(np.argsort(distance)) + 0.5) / 8000
    level = rng.random((8000, 2)) ** np.where(unusual <= 0.3, 0.8, 1.0)[:, None]  # cover 76 instead of 80 %
    assert Trust.fit(distance, agreement, level, block).threshold <= 0.01
    level[unusual <= 0.03] **= 0.2  # the worst ones do not make those beside them bad
    assert 0.03 <= Trust.fit(distance, agreement, level, block).threshold <= 0.05


def test_one_bin_is_judged_as_many():
    rng = np.random.default_rng(4)
    distance, agreement, level, block = held_out(rng, 2000, slope=3.0)
    for trust in (Trust.fit(distance, agreement, level, block), Trust.everywhere()):
        together = trust.judge(distance, agreement, np.zeros(2000, dtype=bool))
        alone = [trust.judge_one(one, two) for one, two in zip(distance, agreement, strict=True)]
        np.testing.assert_array_equal(together.trust, [one for one, _ in alone])
        np.testing.assert_array_equal(together.trusted, [flag for _, flag in alone])
    halfway = (np.arange(2000) + 0.5) * 1e-4  # between two rounded numbers, where `round` and `np.round` differ
    assert any(round(one, 4) != np.round(one, 4) for one in halfway.tolist())
    trust = Trust.fit(np.round(halfway, 4), agreement, level, block)
    together = trust.judge(halfway, agreement, np.zeros(2000, dtype=bool))
    alone = [trust.judge_one(one, two)[0] for one, two in zip(halfway.tolist(), agreement, strict=True)]
    np.testing.assert_array_equal(together.trust, alone)


def test_bins_without_activity_are_not_trusted():
    found = Trust.everywhere().judge(None, np.ones(3), np.array([False, True, False]))
    np.testing.assert_array_equal(found.trust, [1.0, 0.0, 1.0])
    np.testing.assert_array_equal(found.trusted, [True, False, True])
    np.testing.assert_array_equal(found.reason, [0, 3, 0])


def recording(rng, bins, strange):
    """Latents of an angle that rests and moves in turn; in strange bins they are at places that say nothing."""
    moving = np.arange(bins) % 60 >= 40
    angle = np.cumsum(np.where(moving, 0.15, 0.0) + 0.02 * rng.normal(size=bins))
    mean = np.zeros((bins, 12))
    mean[:, 0], mean[:, 1] = np.cos(angle), np.sin(angle)
    mean[strange] = 0.8 * rng.normal(size=(int(strange.sum()), 12))
    mean += 0.2 * rng.normal(size=mean.shape)
    constant = Covariances(0.01 * np.eye(12)[None], np.zeros(bins, dtype=int))
    time, segment = 0.05 * np.arange(bins), np.zeros(bins, dtype=int)
    latents = Latents(mean, constant, time, mean, np.ones_like(mean), np.zeros(bins), segment, False)
    return latents, angle % (2 * np.pi), moving


@pytest.fixture(scope="module")
def strange():
    """A decoder, later latents that are strange in 4 % of the bins, their behavior, and where it moves."""
    rng = np.random.default_rng(7)
    latents, angle, moving = recording(rng, 24_000, rng.random(24_000) < 0.04)
    train, test = slice(0, 12_000), slice(12_000, 24_000)
    settings = MovementSettings(kinds=("none",))
    decoder = PositionDecoder(
        period=2 * np.pi, movement_settings=settings, readout_settings=QUICK, time_scales=(), random_state=0
    ).fit(latents[train], angle[train])
    return decoder, latents[test], angle[test], moving[test]


def test_intervals_hold_where_bins_are_trusted_at_rest_and_in_movement(strange):
    decoder, latents, angle, moving = strange
    decoded = decoder.predict(latents)
    groups = {
        "all": np.where(decoded.trusted, "yes", "no"),
        "moving": np.where(decoded.trusted, np.where(moving, "yes, moving", "yes, at rest"), ""),
    }
    found = conditional_coverage(decoded, angle, groups)
    coverage = {group["label"]: group["coverage"] for name in groups for group in found[name]}
    for label in ("yes", "yes, moving", "yes, at rest"):
        for name, level in LEVELS.items():
            assert 100 * coverage[label][name] == pytest.approx(level, abs=2), (label, name)
    assert coverage["no"]["80"] < 0.72
    assert coverage["no"]["95"] < 0.88
    assert 0.02 < (~decoded.trusted).mean() < 0.2


def test_later_bins_have_no_effect_on_trust(strange):
    decoder, latents, _, _ = strange
    whole, first = decoder.predict(latents[:400]), decoder.predict(latents[:250])
    np.testing.assert_array_equal(whole.trust[:250], first.trust)
    np.testing.assert_array_equal(whole[:250].reason, first.reason)


def test_missing_bins_are_not_trusted_and_say_so(strange):
    decoder, latents, _, _ = strange
    holes = np.array(latents[:100].mean)
    holes[10:20] = np.nan
    decoded = decoder.predict(replace(latents[:100], mean=holes))
    assert (decoded.reason[10:20] == "no activity").all()
    assert not decoded.trusted[10:20].any()
    assert (decoded.trust[10:20] == 0).all()
    assert (decoded.reason[decoded.trusted] == "").all()


def test_trust_is_saved_and_absent_from_older_decoders(strange):
    decoder, latents, _, _ = strange
    state = decoder.to_state()
    np.testing.assert_array_equal(
        PositionDecoder.from_state(state).predict(latents[:300]).trust, decoder.predict(latents[:300]).trust
    )
    del state["decoders"]["filtered"]["trust"]
    older = PositionDecoder.from_state(state).predict(latents[:300])
    assert older.trusted.all()
    assert (older.trust == 1).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [("threshold", 1.5), ("weights", [-1.0, 0.0]), ("unusual", [3.0, 1.0]), ("distance", [0.1])],
)
def test_damaged_trust_is_refused(strange, name, value):
    state = strange[0].to_state()
    state["decoders"]["filtered"]["trust"][name] = value
    with pytest.raises(InputError, match=f"trust.{name}|trust.distance"):
        PositionDecoder.from_state(state)
