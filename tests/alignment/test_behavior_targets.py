"""Behavior of sessions: targets of the latents, and the agreement of a match with it."""

import numpy as np
import pytest

from kalmanssl.alignment import behavior_agreement, behavior_targets
from kalmanssl.errors import InputError


@pytest.fixture(scope="module")
def circle():
    """Behavior on a circle, and latents that are its image under an affine map."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 3000)
    behavior = np.stack([np.cos(angle), np.sin(angle)], 1)
    return behavior, behavior @ np.array([[2.0, 0.0, 1.0], [0.0, 1.0, 1.0]]) + 3.0


def test_targets_are_the_latents_at_the_same_behavior(circle):
    behavior, latents = circle
    own = behavior[:200].copy()
    own[::2] = np.nan
    bins, targets = behavior_targets(own, behavior, latents)
    np.testing.assert_array_equal(bins, np.arange(1, 200, 2))
    np.testing.assert_allclose(targets, latents[1:200:2], atol=0.1)


def test_the_agreement_is_one_for_the_right_match_and_low_for_a_mirror_image(circle):
    behavior, latents = circle
    own, there = behavior[:1000], latents[:1000]
    assert behavior_agreement(there, own, latents, behavior) > 0.99
    mirrored = own * [1.0, -1.0]
    assert behavior_agreement(there, mirrored, latents, behavior) < 0.1
    assert behavior_agreement(np.random.default_rng(1).permutation(there), own, latents, behavior) < 0.0
    labels, fitted_labels = ((part[:, :1] > 0).astype(float) for part in (own, behavior))
    assert behavior_agreement(there, labels, latents, fitted_labels) > 0.95
    labels[::3] = np.nan
    assert behavior_agreement(there, labels, latents, fitted_labels) > 0.95
    assert behavior_agreement(there, np.ones((1000, 1)), latents, np.ones((3000, 1))) == 0.0


@pytest.mark.parametrize("unknown", ["own", "fitted"])
def test_behavior_that_is_not_known_is_refused(circle, unknown):
    behavior, latents = circle
    own, fitted = (np.full_like(behavior, np.nan) if name == unknown else behavior for name in ("own", "fitted"))
    with pytest.raises(InputError, match="too few bins"):
        behavior_targets(own, fitted, latents)
    with pytest.raises(InputError, match="too few bins"):
        behavior_agreement(latents, own, latents, fitted)
