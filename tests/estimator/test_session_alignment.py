"""Alignment of a new session by a few labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulated_sessions import TINY, make_session
from sklearn.neighbors import KNeighborsRegressor

from kalmanssl import KalmanSSL
from kalmanssl.errors import InputError


@pytest.fixture(scope="module")
def pair():
    """Two sessions of a track that looks the same as its mirror image, so that the latents alone do not decide."""
    return make_session("a", 60, seed=0, symmetric=True), make_session("b", 50, seed=1, symmetric=True)


@pytest.fixture(scope="module")
def fitted(pair) -> KalmanSSL:
    return KalmanSSL(**TINY).fit(pair[0])


def correlation(model: KalmanSSL, pair) -> float:
    """Return the correlation of the true position in the second session with that decoded from the first one."""
    first, second = (model.transform(one, smooth=True).mean for one in pair)
    decoded = KNeighborsRegressor(20).fit(first, pair[0].behavior["position"]).predict(second)
    return float(np.corrcoef(decoded, pair[1].behavior["position"])[0, 1])


def mirrored(recording):
    return replace(recording, behavior={"position": 1 - recording.behavior["position"]})


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("as_labels", [False, True])
def test_a_few_labels_decide_between_a_track_and_its_mirror_image(fitted, pair, mirror, as_labels):
    """Either image of the track is the right one if the labels say so: four laps of thirty, the others are unknown."""
    first, second = pair[0], mirrored(pair[1]) if mirror else pair[1]
    known = np.arange(len(second)) < 320
    y = [np.where(known, second.behavior["position"], np.nan), first.behavior["position"]]
    if as_labels:
        y = [np.where(np.isnan(one), None, np.where(one < 0.5, "left", "right")) for one in y]
    aligned = fitted.align_session(second, first, *y)
    assert correlation(aligned, (first, second)) > 0.9
    assert aligned.alignments_["b"].agreement > 0.5
    assert "agreement with the behavior 0." in str(aligned.alignments_["b"])


def test_a_name_stands_for_the_behavior_of_all_recordings(fitted, pair, tmp_path):
    aligned = fitted.align_session(pair[1], [pair[0]], "position")
    assert correlation(aligned, pair) > 0.95
    arrays = fitted.align_session([pair[1]], pair[0], [pair[1].behavior["position"]], pair[0].behavior["position"])
    np.testing.assert_array_equal(arrays.transform(pair[1]).mean, aligned.transform(pair[1]).mean)
    aligned.save(tmp_path / "model")
    assert KalmanSSL.load(tmp_path / "model").alignments_ == aligned.alignments_


def test_behavior_for_an_alignment_is_checked(fitted, pair):
    first, second = pair
    y, fitted_y = (one.behavior["position"] for one in (second, first))
    with pytest.raises(InputError, match="give fitted_y") as caught:
        fitted.align_session(second, first, y)
    assert caught.value.parameter == "fitted_y"
    with pytest.raises(InputError, match="y has 2 entries and there are 1 recordings") as caught:
        fitted.align_session([second], first, [y, y], fitted_y)
    assert caught.value.parameter == "y"
    with pytest.raises(InputError, match="too few bins"):
        fitted.align_session(second, first, np.full(len(second), np.nan), fitted_y)
    with pytest.raises(InputError, match="has shape") as caught:
        fitted.align_session(second, first, y[:-1], fitted_y)
    assert caught.value.parameter == "y"
