"""Coverage of intervals by condition."""

import numpy as np
import pytest

from kalmanssl.decoding import DecodedCategory, PositionDecoder, conditional_coverage, score_decoding
from kalmanssl.decoding.calibration import RegionCalibration
from kalmanssl.errors import InputError


@pytest.fixture(scope="module")
def decoded():
    """Intervals of equal width, and a truth whose noise is larger where a condition is positive."""
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(4000, 2))
    noisy = rng.normal(size=4000)
    truth = mean[:, 0] + np.where(noisy > 0, 0.5, 0.2) * rng.normal(size=4000)
    decoder = PositionDecoder(regressor="linear").fit(mean[:2000], truth[:2000])
    return decoder.predict(mean[2000:]), truth[2000:], noisy[2000:]


def test_groups_contain_all_bins_and_agree_with_the_scores_of_these_bins(decoded):
    out, truth, noisy = decoded
    groups = conditional_coverage(out, truth, {"noise": noisy}, n_groups=2)["noise"]
    assert sum(group["bins"] for group in groups) == len(truth)
    for group in groups:
        inside = (noisy >= group["low"]) & (noisy <= group["high"])
        scores = score_decoding(out, truth, mask=inside)
        assert group["coverage"] == pytest.approx(scores["coverage"])
        assert group["width"] == pytest.approx(scores["width"])


def test_a_condition_with_larger_noise_is_found_as_the_worst(decoded):
    out, truth, noisy = decoded
    found = conditional_coverage(out, truth, {"order": np.arange(2000.0), "noise": noisy}, n_groups=2)
    low, high = found["noise"]
    assert low["coverage"]["80"] > 0.9
    assert high["coverage"]["80"] < 0.75
    assert found["worst"]["condition"] == "noise"
    assert all(abs(group["coverage"]["95"] - 0.95) < 0.03 for group in found["order"])


def test_bins_without_condition_or_outside_the_mask_are_left_out(decoded):
    out, truth, noisy = decoded
    half = np.arange(2000) < 1000
    some = np.where(np.arange(2000) % 2 == 0, noisy, np.nan)
    groups = conditional_coverage(out, truth, {"noise": some}, mask=half)["noise"]
    assert sum(group["bins"] for group in groups) == 500


def test_a_constant_condition_has_one_group(decoded):
    out, truth, _ = decoded
    assert len(conditional_coverage(out, truth, {"c": np.ones(2000)})["c"]) == 1


def test_wrong_shapes_raise_an_error(decoded):
    out, truth, _ = decoded
    with pytest.raises(InputError, match=r"conditions\['c'\] has shape") as caught:
        conditional_coverage(out, truth, {"c": np.ones(3)})
    assert caught.value.parameter == "conditions"
    with pytest.raises(InputError, match="no bin is left"):
        conditional_coverage(out, np.full(2000, np.nan), {})


def test_conditions_and_decoded_behavior_can_be_labels():
    mass = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]] * 50)
    truth = np.array(["go", "stop", "stop", None] * 50, dtype=object)
    calibration = RegionCalibration.identity()
    out = DecodedCategory(0.1 * np.arange(200), np.array(["go", "stop"]), mass, 0.95, calibration)
    found = conditional_coverage(out, truth, {"label": truth, "lag": np.arange(200.0)}, n_groups=2)
    assert [(group["label"], group["bins"]) for group in found["label"]] == [("go", 50), ("stop", 100)]
    for group in found["label"]:
        scores = score_decoding(out, truth, mask=truth == group["label"])
        assert group["coverage"] == pytest.approx(scores["coverage"])
        assert group["set_size"] == pytest.approx(scores["set_size"])
    assert [group["bins"] for group in found["lag"]] == [75, 75]
