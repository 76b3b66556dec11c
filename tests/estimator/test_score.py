"""The score of a model, and the objective on the held-out part."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_fits import TINY, segment_of

from kalmanssl import KalmanSSL, Recording
from kalmanssl.entropy import make_entropy
from kalmanssl.training import interleave, sum_bins


def repeated(recording: Recording, times: int) -> Recording:
    """Copies of a contiguous recording, with gaps between them."""
    length = recording.time[-1] - recording.time[0] + 1.0
    time = np.concatenate([recording.time + i * length for i in range(times)])
    return Recording.from_arrays(np.tile(recording.activity, (times, 1)), time=time, unit_ids=recording.unit_ids)


@pytest.mark.parametrize("entropy", ["knn", "kde"])
def test_the_held_out_entropy_of_a_short_recording_is_finite(recording, entropy):
    settings = {**TINY, "window": 30, "batch_size": 128, "validation_fraction": 0.1, "bins_per_step": 1}
    model = KalmanSSL(**settings, entropy=entropy).fit(recording)
    assert np.isfinite(model.history_["held_out_entropy"]).all()


def test_the_score_is_higher_than_that_of_shuffled_bins(recording, fitted):
    order = np.random.default_rng(0).permutation(600)
    shuffled = replace(recording, activity=recording.activity[order])
    assert fitted.score(recording) > fitted.score(shuffled) + 0.05


@pytest.mark.parametrize("bins_per_step", [1, 2, 5])
@pytest.mark.parametrize("mutual_information", [True, False])
def test_the_score_times_the_bins_is_the_objective_of_one_interleaved_sequence(
    recording, bins_per_step, mutual_information
):
    """The filter passes 400 bins in 400 / bins_per_step steps, once for each of bins_per_step offsets."""
    settings = {**TINY, "epochs": 1, "window": 10, "mutual_information": mutual_information}
    model = KalmanSSL(**{**settings, "bins_per_step": bins_per_step}).fit(recording)
    segment = segment_of(recording, 0, 400)
    summed = sum_bins(segment.activity.astype(float), bins_per_step)
    sequences = torch.from_numpy(interleave(summed, bins_per_step))
    sequence_model = copy.deepcopy(model.model_).double().eval()
    steps = 400 // bins_per_step
    assert sequences.shape == (bins_per_step, steps, 6)
    with torch.no_grad():
        total = steps * float(-sequence_model.terms(sequences).loss)
        output = sequence_model(sequences[-1:])
    assert model.score(segment) * 400 == pytest.approx(total, rel=1e-9)
    of_one_offset = model.transform(segment).log_likelihood[bins_per_step - 1 :: bins_per_step]
    np.testing.assert_allclose(bins_per_step * of_one_offset, output.prediction.log_prob(output.latent)[0], rtol=1e-6)


def test_bins_before_the_first_complete_step_count_once(recording, fitted):
    """A segment that is no multiple of a step is padded with zeros; the padding does not count."""
    segment = segment_of(recording, 0, 399)
    latents = fitted.transform(segment)
    entropy = float(make_entropy("logdet")(torch.from_numpy(latents.latent)))
    assert len(latents) == 399
    expected = latents.log_likelihood.sum() / 399 + entropy / TINY["bins_per_step"]
    assert fitted.score(segment) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("mutual_information", [True, False])
def test_copies_of_a_segment_have_the_score_of_one(recording, mutual_information):
    model = KalmanSSL(**TINY, mutual_information=mutual_information).fit(recording)
    one = segment_of(recording, 0, 400)
    # The unbiased covariance of N samples depends on N by about 1 / N, so the entropies are not quite the same.
    assert model.score(repeated(one, 3)) == pytest.approx(model.score(one), abs=2e-3)


def test_segments_count_in_proportion_to_their_bins(recording, fitted):
    long, short = segment_of(recording, 0, 400), segment_of(recording, 400, 600)
    latents = fitted.transform(recording)
    entropy = float(make_entropy("logdet")(torch.from_numpy(latents.latent))) / TINY["bins_per_step"]
    alignment = [fitted.transform(part).log_likelihood.mean() for part in (long, short)]
    expected = (400 * alignment[0] + 200 * alignment[1]) / 600 + entropy
    assert fitted.score(recording) == pytest.approx(expected, rel=1e-9)
    activity = recording.activity.copy()
    activity[400:] = activity[np.random.default_rng(1).permutation(np.arange(400, 600))]
    assert fitted.score(replace(recording, activity=activity)) < fitted.score(recording) - 0.01


@pytest.mark.parametrize("bins_per_step", [1, 4])
def test_the_held_out_loss_is_in_the_unit_of_the_score(recording, bins_per_step):
    """Training scores windows of the held-out blocks; their loss per bin is about the negative score."""
    settings = {**TINY, "bins_per_step": bins_per_step, "window": 80, "batch_size": 256, "validation_fraction": 0.25}
    settings |= {"epochs": 1, "activity_sampling_power": 0.0, "noise_epochs": 0}
    model = KalmanSSL(**settings).fit(recording)
    assert -model.history_["held_out_loss"][0] == pytest.approx(model.score(recording), abs=0.15 / bins_per_step)
    assert abs(model.score(recording)) > 0.3 / bins_per_step


def test_the_score_with_the_stop_gradient_entropy_is_zero(recording):
    model = KalmanSSL(**TINY, entropy="stopgrad", mutual_information=False).fit(recording)
    assert model.score(recording) == 0
