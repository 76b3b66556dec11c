"""`dot_videos`: seeds, splits, noise, streams, speed and invalid arguments."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pytest

from kalmanssl.datasets import MOTIONS, PRESETS, DotVideos, dot_videos
from kalmanssl.errors import InputError

LABELS = ("position", "predicted", "noise_variance", "visible", "phase", "jumps", "videos")


def alike(one: DotVideos, two: DotVideos) -> bool:
    pairs = [(getattr(one, name), getattr(two, name)) for name in LABELS]
    return all(a is b is None or a.tobytes() == b.tobytes() for a, b in pairs)


@pytest.mark.parametrize("preset", PRESETS)
def test_same_seed_same_bytes(preset: str) -> None:
    settings = {**PRESETS[preset], "n_videos": 6, "n_frames": 30}
    one, two = (dot_videos(**settings, random_state=5) for _ in range(2))
    other = dot_videos(**settings, random_state=6)
    assert alike(one, two)
    assert one.videos.tobytes() != other.videos.tobytes()
    assert one.position.tobytes() != other.position.tobytes()


@pytest.mark.parametrize("preset", PRESETS)
def test_shapes_and_types(preset: str) -> None:
    data = dot_videos(**PRESETS[preset], n_videos=3, n_frames=7, size=12)
    dims = data.motion.dims
    assert len(data) == 3
    assert data.videos.shape == (3, 7, 144)
    assert data.videos.dtype == np.float32
    assert np.isfinite(data.videos).all()
    assert data.position.shape == data.predicted.shape == (3, 7, dims)
    assert data.noise_variance.shape == data.visible.shape == (3, 7)
    assert data.visible.dtype == bool


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_larger_set_begins_with_a_smaller_one(motion: str) -> None:
    many, few = (dot_videos(motion, n_videos=n, noise="random_gaussian").position for n in (40, 9))
    np.testing.assert_allclose(many[:9], few, atol=1e-9)


@pytest.mark.parametrize("motion", MOTIONS)
def test_no_test_trajectory_repeats_a_training_one(motion: str) -> None:
    train, test = (dot_videos(motion, n_videos=200, split=s).position for s in ("train", "test"))
    # Largest distance along the way: the nearest pair of videos is still apart.
    apart = np.array([np.linalg.norm(train - path, axis=-1).max(axis=1) for path in test])
    assert apart.min() > (1e-7 if motion in ("circular_jumps", "square", "figure8") else 0.05)
    first = np.concatenate([train, test])[:, 0]
    assert len(np.unique(first, axis=0)) == 400


@pytest.mark.parametrize("motion", MOTIONS)
def test_pixel_noise_differs_between_splits_and_videos(motion: str) -> None:
    train, test = (
        dot_videos(motion, n_videos=3, noise_variance=0.1, split=s, repeated=True) for s in ("train", "test")
    )
    noises = [data.videos[i] - data.render(data.position[i]) for data in (train, test) for i in range(3)]
    for a, b in itertools.combinations(noises, 2):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("motion", MOTIONS)
def test_repeated_reproduces_the_published_generator(motion: str) -> None:
    train, test = (
        dot_videos(motion, n_videos=n, noise="random_gaussian", noise_variance=0.3, split=s, repeated=True)
        for s, n in (("train", 20), ("test", 8))
    )
    np.testing.assert_allclose(train.position[:8], test.position, atol=1e-9)
    np.testing.assert_array_equal(train.noise_variance[:8], test.noise_variance)
    at_start = (train.noise_variance[:, 0] == 0.3).all()
    assert at_start == (motion in ("circular", "circular_jumps", "square", "wobbly"))
    if motion in ("square", "figure8"):
        assert (train.position == train.position[:1]).all()
    if motion in ("circular", "circular_jumps", "square", "figure8"):
        np.testing.assert_allclose(train.position[:, 0], [(1.0, 0.0)] * 20, atol=1e-12)


def test_noise_levels_have_their_means_and_pixels_their_variance() -> None:
    m = 0.3
    gaussian = dot_videos("circular", noise_variance=m, n_videos=50)
    assert (gaussian.noise_variance == m).all()
    random = dot_videos("wobbly", noise="random_gaussian", noise_variance=m, n_videos=2000)
    assert random.noise_variance.mean() == pytest.approx(np.exp(-0.3) * m, rel=0.01)
    assert (random.noise_variance == 0).mean() == pytest.approx(1 - np.exp(-0.3), abs=0.005)
    # Above zero an exponential of mean m again, by its lack of memory.
    assert random.noise_variance[random.noise_variance > 0].std() == pytest.approx(m, rel=0.02)
    state = dot_videos("circular", noise="state_dependent", noise_variance=m, n_videos=50)
    np.testing.assert_allclose(state.noise_variance, m * (state.position[..., 0] + 1) / 2)
    for data in (gaussian, state, dot_videos(**PRESETS["inferred_noise"], n_videos=200)):
        noise = (data.videos - data.render(data.position)).astype(float)
        loud = data.noise_variance > 0.02
        ratio = noise[loud].var(axis=-1) / data.noise_variance[loud]
        assert ratio.mean() == pytest.approx(1.0, abs=0.02)
        assert ratio.std() == pytest.approx(np.sqrt(2 / 100), rel=0.1)
        assert (noise[data.noise_variance == 0] == 0).all()


@pytest.mark.parametrize("size", [8, 14])
def test_spike_counts_are_poisson_variables_with_realistic_rates(size: int) -> None:
    data = dot_videos("lorenz", n_videos=400, mixing="neurons", size=size)
    counts, expected = data.videos.astype(float), data.render(data.position).astype(float)
    assert counts.shape == (400, 100, size**2)
    assert (counts == np.round(counts)).all()
    assert np.isnan(data.noise_variance).all()
    rate = expected.mean(axis=(0, 1)) / 0.025
    assert 3 < rate.mean() < 8
    assert rate.std() > 2
    assert expected.max() / 0.025 < 100
    # Pearson residuals of Poisson counts have variance one and are uncorrelated with the expectation.
    residual = (counts - expected) / np.sqrt(expected)
    assert residual.var() == pytest.approx(1.0, abs=0.01)
    assert abs(np.corrcoef(residual.ravel(), expected.ravel())[0, 1]) < 0.005
    # Every neuron is tuned: its rate varies by more than a fifth of its mean.
    assert (expected.std(axis=(0, 1)) > 0.2 * expected.mean(axis=(0, 1))).all()


def test_neurons_are_the_same_in_all_splits_and_differ_between_seeds() -> None:
    train, test = (dot_videos("lorenz", n_videos=2, mixing="neurons", split=s) for s in ("train", "test"))
    np.testing.assert_array_equal(train.render(train.position), test.render(train.position))
    assert not np.array_equal(train.videos, test.videos)
    other = dot_videos("lorenz", n_videos=2, mixing="neurons", random_state=1)
    assert not np.array_equal(train.render(train.position), other.render(train.position))


def test_wobbly_videos_have_no_pixel_noise_by_default() -> None:
    data = dot_videos("wobbly", n_videos=5)
    np.testing.assert_array_equal(data.videos, data.render(data.position))


def test_stream_is_fresh_repeatable_and_can_start_later() -> None:
    data = dot_videos("square", n_videos=10)
    batches = list(itertools.islice(data.stream(4), 3))
    again = list(itertools.islice(data.stream(4, start=1), 2))
    assert [len(b) for b in batches] == [4, 4, 4]
    assert all(alike(a, b) for a, b in zip(batches[1:], again, strict=True))
    paths = np.concatenate([data.position, *(b.position for b in batches)])
    assert len(np.unique(paths.reshape(22, -1), axis=0)) == 22
    test = next(dot_videos("square", n_videos=10, split="test").stream(4))
    assert np.abs(test.position - batches[0].position).max() > 0.1


def test_stream_of_noise_repeats_the_trajectories_with_new_pixels() -> None:
    data = dot_videos("square", n_videos=10)
    batches = list(itertools.islice(data.stream(4, fresh="noise"), 10))
    index = {path.tobytes(): i for i, path in enumerate(data.position)}
    seen = np.array([index[path.tobytes()] for b in batches for path in b.position]).reshape(4, 10)
    np.testing.assert_array_equal(np.sort(seen, axis=1), [range(10)] * 4)
    assert len({tuple(round_) for round_ in seen}) == 4
    later = next(data.stream(4, fresh="noise", start=7))
    assert alike(later, batches[7])
    i = np.flatnonzero(seen.ravel() == 3)
    first, second = (batches[k // 4].videos[k % 4] for k in i[:2])
    assert np.abs(first - second).max() > 0.5
    assert first.mean() == pytest.approx(second.mean(), abs=0.02)


def test_trajectories_alone_draw_no_pixels() -> None:
    data = dot_videos("wobbly", n_videos=20)
    assert "videos" not in vars(data)
    assert data.videos is data.videos


@pytest.mark.parametrize("preset", ["inferred_noise", "wobbly", "dimensions"])
def test_speed_is_above_a_hundred_thousand_frames_per_second(preset: str) -> None:
    """Reaches seven times this figure and more on one core; CPU time, so that a busy machine does not fail it."""
    spent = []
    for seed in range(4):
        start = time.process_time()
        assert dot_videos(**PRESETS[preset], n_videos=300, random_state=seed).videos.any()
        spent.append(time.process_time() - start)
    assert 300 * 100 / min(spent) > 100_000


BAD = [
    ({"motion": "spiral"}, "motion must be one of circular, .*switching; got 'spiral'"),
    ({"motion": ["square"]}, "motion must be one of"),
    ({"mixing": "blend"}, "mixing must be one of plain, swirl, network, neurons; got 'blend'"),
    ({"rendering": "full"}, "rendering must be one of whole, published"),
    ({"noise": "pink"}, "noise must be one of gaussian, random_gaussian, state_dependent"),
    ({"split": "dev"}, "split must be one of train, test, validation"),
    ({"process_noise": "cauchy"}, "process_noise must be one of gaussian, .*mixture"),
    ({"n_videos": 0}, "n_videos must be a whole number, at least 1; got 0"),
    ({"n_frames": 2.5}, "n_frames must be a whole number"),
    ({"size": 3}, "size must be a whole number, at least 4; got 3"),
    ({"random_state": None}, "random_state must be a whole number"),
    ({"random_state": -1}, "random_state must be a whole number, at least 0"),
    ({"noise_variance": -0.1}, "noise_variance must be 0 or more; got -0.1"),
    ({"noise_variance": np.nan}, "noise_variance must be 0 or more; got nan"),
    ({"noise_variance": "loud"}, "noise_variance must be a number; got 'loud'"),
    ({"process_variance": -1.0}, "process_variance must be 0 or more"),
    ({"motion": "sphere", "process_variance": 0.0}, "process_variance must be positive"),
    ({"dt": 0.0}, "dt must be positive; got 0.0"),
    ({"motion": "square", "period": np.inf}, "period must be positive; got inf"),
    ({"motion": "circular", "jump_rate": 1.5}, "jump_rate must be a probability"),
    ({"motion": "square", "process_variance": 0.1}, "motion 'square' has no process_variance; its settings are"),
    ({"motion": "sphere", "process_noise": "laplace"}, "motion 'sphere' has no process_noise"),
    ({"dims": 3}, "dims must be 2 for this motion"),
    ({"motion": "oscillators", "dims": 11}, "dims must be a whole number from 2 to 10; got 11"),
    ({"mixing": "neurons", "noise": "random_gaussian"}, "left out for 'neurons'"),
    ({"mixing": "neurons", "noise_variance": 0.1}, "leave out noise_variance for 'neurons'"),
    ({"mixing": "neurons", "view": 2.0}, "'neurons' has no field of view"),
    ({"motion": "lorenz", "dims": 4}, "dims must be 3 for this motion"),
    ({"motion": "lorenz", "dt": 0.5}, "dt must be at most 0.1"),
    ({"motion": "switching", "dims": 11}, "dims must be a whole number from 3 to 10"),
    ({"motion": "switching", "process_variance": 0.0}, "process_variance must be positive"),
    ({"motion": "oscillators", "mixing": "plain"}, "draws a dot in two dimensions, not 5; use 'network' or 'neurons'"),
    ({"motion": "oscillators", "dims": 10, "size": 4}, "size must give at least 20 pixels for 10 dimensions"),
    ({"view": 0.0}, "view must be positive"),
    ({"mixing": "network", "view": 3.0}, "has no field of view"),
]


@pytest.mark.parametrize(("settings", "message"), BAD)
def test_invalid_settings_raise(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        dot_videos(**settings)
    assert "\n" not in str(caught.value)


def test_invalid_arguments_of_methods_raise() -> None:
    data = dot_videos("wobbly", n_videos=2, n_frames=3)
    with pytest.raises(InputError, match=r"position must have shape \(\.\.\., 2\), got \(4, 3\)"):
        data.render(np.zeros((4, 3)))
    with pytest.raises(InputError, match="position has 1 NaN"):
        data.step([np.nan, 0.0])
    with pytest.raises(InputError, match="batch_size must be a whole number"):
        data.stream(0)
    with pytest.raises(InputError, match="start must be a whole number"):
        data.stream(2, start=-1)
    with pytest.raises(InputError, match="fresh must be one of trajectories, noise"):
        data.stream(2, fresh="all")
