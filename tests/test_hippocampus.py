"""The configuration of the LDM paper for the hippocampal recording."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import kalmanssl as ks
from kalmanssl.data import join_bins, traversals
from kalmanssl.datasets import place_cells
from kalmanssl.networks import InputNoise
from kalmanssl.probes import RingScores, ring_scores

SHORT = {"epochs": 2, "steps_per_epoch": 3, "window": 40, "progress": False}


def running_part(recording: ks.Recording, zones: tuple[float, float]) -> tuple[ks.Recording, np.ndarray]:
    """The joined running bins of a recording, and the traversal of each."""
    number = traversals(recording.behavior["position"], *zones)
    return join_bins(recording, number >= 0), number[number >= 0]


def ring_of(model: ks.KalmanSSL, recording: ks.Recording, number: np.ndarray, first_held_out: int) -> RingScores:
    predictor = model.model_.predictor
    return ring_scores(
        model.transform(recording).mean,
        predictor.A.detach(),
        recording.behavior["position"],
        number,
        recording.time,
        number >= first_held_out,
        step=model.bin_size_ * model.bins_per_step_,
        center=predictor.center.detach(),
    )


def test_published_settings_are_those_of_the_paper() -> None:
    settings = ks.recipes.hippocampus()
    assert (settings["latent_dim"], settings["state_dim"]) == (8, 16)
    assert settings["window"] * 0.025 == 10.0
    assert settings["bins_per_step"] == 1
    assert (settings["entropy"].k, settings["entropy"].clip_quantile) == (3, 0.9)
    assert settings["hidden"] == (100,)
    assert settings["epochs"] == 16


def test_every_setting_is_one_of_the_estimator_and_the_noise_is_chosen() -> None:
    recording = place_cells(n_units=12, duration=40.0, random_state=0)
    model = ks.KalmanSSL(**ks.recipes.hippocampus() | SHORT, random_state=0).fit(recording)
    assert isinstance(model.model_.predictor.observation_noise, InputNoise)
    assert ks.KalmanSSL(**ks.recipes.hippocampus(noise="state")).noise == "state"


def test_same_seed_gives_the_same_model() -> None:
    recording = place_cells(n_units=12, duration=40.0, random_state=0)
    first, second, other = (
        ks.KalmanSSL(**ks.recipes.hippocampus() | SHORT, random_state=seed).fit(recording) for seed in (1, 1, 2)
    )
    assert torch.equal(first.model_.predictor.A, second.model_.predictor.A)
    np.testing.assert_array_equal(first.transform(recording).mean, second.transform(recording).mean)
    assert not torch.equal(first.model_.predictor.A, other.model_.predictor.A)


@pytest.mark.slow
@pytest.mark.data
def test_laps_of_the_recording_are_rotations(data_dir) -> None:
    """Fitted on the running bins of the training part before 18740 s, scored on the laps from there to its end."""
    recording = ks.Recording.from_nwb(data_dir / "hc11" / "achilles_maze.nwb", bin_size=0.025).restrict(stop=18960.0)
    running, number = running_part(recording, (-0.15, 1.10))
    original = recording.time[traversals(recording.behavior["position"], -0.15, 1.10) >= 0]
    fitted = join_bins(running, original < 18740.0)
    model = ks.KalmanSSL(**ks.recipes.hippocampus(), random_state=0, progress=False).fit(fitted)
    ring = ring_of(model, running, number, first_held_out=int(number[original >= 18740.0].min()) + 1)
    assert ring.turns_per_lap == pytest.approx(1.0, abs=0.15)
    assert ring.rotation.period == pytest.approx(ring.lap_time, rel=0.35)
    assert ring.phase_r2 > 0.7
    assert ring.radius_variation < 0.4
