"""Selection of settings: the score, the folds, and the choice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import kalmanssl as ks
from kalmanssl.errors import CollapseError, InputError
from kalmanssl.selection import Selection
from kalmanssl.selection._folds import folds_of_time
from kalmanssl.selection._prediction import activity_gain

SMALL = {
    "latent_dim": 2, "state_dim": 4, "hidden": (16,), "bins_per_step": 2, "window": 50, "batch_size": 32, "epochs": 3,
    "learning_rate": 0.01, "progress": False, "random_state": 0, "device": "cpu",
}  # fmt: skip


def oscillators(frequencies: tuple[float, ...], n_bins: int = 4000, n_units: int = 40, seed: int = 0) -> ks.Recording:
    """Poisson counts whose log-rates are linear in two latents per frequency, noisy rotations (radians per bin)."""
    rng = np.random.default_rng(seed)
    turn = np.exp(1j * np.array(frequencies))
    noise = rng.standard_normal((n_bins, 2 * len(turn))).view(complex)
    state = np.zeros((n_bins, len(turn)), dtype=complex)
    for t in range(1, n_bins):
        state[t] = 0.98 * turn * state[t - 1] + np.sqrt(1 - 0.98**2) * noise[t]
    latents = state.view(float)
    weights = rng.standard_normal((latents.shape[1], n_units)) / np.sqrt(latents.shape[1])
    return ks.Recording.from_arrays(rng.poisson(0.4 * np.exp(latents @ weights)))


def ring(n_bins: int = 4000, n_units: int = 30) -> ks.Recording:
    """Head-direction cells: counts with von Mises tuning to an angle that follows a random walk."""
    rng = np.random.default_rng(0)
    speed = np.zeros(n_bins)
    for t in range(1, n_bins):
        speed[t] = 0.95 * speed[t - 1] + 0.015 * rng.standard_normal()
    preferred = np.arange(n_units) * 2 * np.pi / n_units
    return ks.Recording.from_arrays(rng.poisson(np.exp(4 * (np.cos(np.cumsum(speed)[:, None] - preferred) - 1))))


def with_gaps(recording: ks.Recording, every: int) -> ks.Recording:
    """Put a gap of ten seconds after every so many bins."""
    return replace(recording, time=recording.time + 10.0 * (np.arange(len(recording)) // every))


# The choice.


@pytest.mark.parametrize(("make", "dims"), [(lambda: oscillators((0.1, 0.3)), 4), (ring, 2)])
def test_the_true_number_of_dimensions_is_chosen(make, dims):
    estimator = ks.KalmanSSL(**{**SMALL, "state_dim": dims + 2})  # the state has velocities, too
    grid = {"latent_dim": [dims - 1, dims, dims + 2]}
    selection = ks.select(make(), grid, estimator=estimator, n_folds=3, purge=1.0, progress=False)
    assert selection.chosen["latent_dim"] == dims
    assert selection.mean[0] < selection.mean[1] - 3 * selection.difference_standard_error[0]
    assert selection.estimator.get_params()["latent_dim"] == dims
    assert selection.complete


@pytest.fixture(scope="module")
def selection() -> Selection:
    grid = {"bins_per_step": [1, 2], "entropy": ["logdet", "knn"]}
    recording = with_gaps(oscillators((0.2,), n_bins=1500), every=60)
    return ks.select(recording, grid, estimator=ks.KalmanSSL(**SMALL), n_folds=3, purge=0.5, progress=False)


def test_steps_and_entropies_have_scores_on_one_scale(selection):
    assert selection.scores.shape == (4, 3)
    assert [c["entropy"] for c in selection.candidates] == ["logdet", "knn"] * 2
    assert (selection.mean > 1).all()
    assert np.ptp(selection.mean) < 0.2 * selection.mean.max()


def test_the_same_seed_gives_the_same_scores(selection):
    grid = [selection.candidates[1]]
    recording = with_gaps(oscillators((0.2,), n_bins=1500), every=60)
    again = ks.select(recording, grid, estimator=ks.KalmanSSL(**SMALL), n_folds=3, purge=0.5, progress=False)
    np.testing.assert_array_equal(again.scores[0], selection.scores[1])


def made_up(scores, n_parameters, failures=None, tolerance=0.0, complete=True) -> Selection:
    candidates = tuple({"latent_dim": 2 + i} for i in range(len(scores)))
    failures = failures or ("",) * len(scores)
    settings = {"tolerance": tolerance, "complete": complete}
    return Selection(candidates, np.array(scores), np.array(n_parameters), failures, ks.KalmanSSL(), **settings)


def test_the_smallest_model_within_one_standard_error_of_the_difference_is_chosen():
    folds = np.array([1.0, 5.0, 9.0])  # easy and difficult folds
    worse, close, best = folds - 0.5 + np.array([0.01, -0.01, 0.0]), folds - np.array([0.3, -0.1, 0.1]), folds
    selection = made_up([worse, close, best], [10, 20, 30])
    np.testing.assert_allclose(selection.difference, [-0.5, -0.1, 0.0], atol=1e-12)
    np.testing.assert_allclose(selection.difference_standard_error[1], np.std([0.3, -0.1, 0.1], ddof=1) / np.sqrt(3))
    assert selection.best == {"latent_dim": 4}
    assert selection.chosen == {"latent_dim": 3}
    assert selection.standard_error[0] > 2
    rows = selection.table()
    assert [row["latent_dim"] for row in rows] == [4, 3, 2]
    assert [row["chosen"] for row in rows] == [False, True, False]
    assert str(selection).splitlines()[2].startswith("*")


def test_a_model_that_is_reliably_but_little_worse_is_chosen():
    scores = [[4.97, 5.98], [5.0, 6.0]]
    assert made_up(scores, [10, 20]).chosen == {"latent_dim": 3}
    assert made_up(scores, [10, 20], tolerance=0.01).chosen == {"latent_dim": 2}


def test_a_model_of_the_same_size_is_chosen_by_its_score():
    assert made_up([[1.0, 2.1], [1.05, 2.2], [1.1, 2.1]], [5, 5, 5]).chosen == {"latent_dim": 3}


def test_a_failed_candidate_is_not_chosen_and_keeps_its_message():
    selection = made_up([[9.0, np.nan], [1.0, 1.0]], [1, 5], ("the latents collapsed", ""))
    assert selection.chosen == selection.best == {"latent_dim": 3}
    assert "the latents collapsed" in str(selection)
    assert selection.table()[-1]["failure"] == "the latents collapsed"


def test_after_an_interrupt_only_complete_folds_count():
    selection = made_up([[1.0, 2.0, 9.0], [2.0, 3.0, np.nan]], [1, 2], complete=False)
    np.testing.assert_array_equal(selection.mean, [1.5, 2.5])
    first = made_up([[1.0, np.nan], [2.0, np.nan], [np.nan, np.nan]], [1, 2, 0], complete=False)
    assert first.best == first.chosen == {"latent_dim": 3}
    assert "not fitted" in str(first)


def test_the_plot_has_one_line_per_combination_of_the_other_settings(selection):
    ax = selection.plot()
    assert ax.get_xlabel() == "bins_per_step"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["entropy=logdet", "entropy=knn"]
    x, y = ax.lines[-1].get_data()  # the ring
    assert float(x[0]) == selection.chosen["bins_per_step"]
    assert float(y[0]) == selection.difference[selection.chosen_index]


def test_the_plot_of_settings_without_an_order_has_labels():
    selection = Selection(
        ({"entropy": "knn"}, {"entropy": "kde"}),
        np.array([[1.0, 2.0], [2.0, 2.5]]),
        np.array([3, 3]),
        ("", ""),
        ks.KalmanSSL(),
    )
    assert [label.get_text() for label in selection.plot().get_xticklabels()] == ["entropy=knn", "entropy=kde"]


# Interrupts and failures.


def test_an_interrupt_returns_the_scores_so_far(monkeypatch):
    recording = oscillators((0.2,), n_bins=800)
    real, calls = ks.KalmanSSL.fit, []

    def interrupt(self, X):
        calls.append(0)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, X)

    monkeypatch.setattr(ks.KalmanSSL, "fit", interrupt)
    settings = {"estimator": ks.KalmanSSL(**{**SMALL, "epochs": 1}), "n_folds": 3, "purge": 0.5, "progress": False}
    with pytest.warns(RuntimeWarning, match="3 of 6 fits"):
        selection = ks.select(recording, {"latent_dim": [1, 2]}, **settings)
    assert not selection.complete
    assert np.isfinite(selection.scores).sum() == 3
    assert np.isfinite(selection.mean).all()
    calls[:] = [0] * 3
    with pytest.raises(KeyboardInterrupt):
        ks.select(recording, {"latent_dim": [1, 2]}, **settings)


def test_failing_candidates_do_not_stop_the_others(monkeypatch):
    recording = oscillators((0.2,), n_bins=800)
    real = ks.KalmanSSL.fit

    def collapse(self, X):
        if self.latent_dim == 1:
            raise CollapseError("the latents collapsed")
        return real(self, X)

    monkeypatch.setattr(ks.KalmanSSL, "fit", collapse)
    settings = {"estimator": ks.KalmanSSL(**{**SMALL, "epochs": 1}), "n_folds": 2, "purge": 0.5, "progress": False}
    selection = ks.select(recording, {"latent_dim": [1, 2]}, **settings)
    assert selection.failures == ("the latents collapsed", "")
    assert selection.chosen == {"latent_dim": 2}
    with pytest.raises(CollapseError):
        ks.select(recording, {"latent_dim": [1]}, **settings)


@pytest.mark.parametrize(
    ("grid", "options", "message", "parameter"),
    [
        ({"latent_dims": [2]}, {}, "did you mean 'latent_dim'", "grid"),
        ({"latent_dim": 2}, {}, "a sequence of at least one value; got 2", "grid"),
        ({"entropy": "knn"}, {}, "a sequence of at least one value; got 'knn'", "grid"),
        ([], {}, "grid has no candidates", "grid"),
        ("knn", {}, "must be a dict", "grid"),
        ({"latent_dim": [2]}, {"n_folds": 1}, "n_folds must be a whole number, at least 2", "n_folds"),
        ({"latent_dim": [2]}, {"purge": -1.0}, "purge must be at least 0 and finite", "purge"),
        ({"latent_dim": [2]}, {"purge": 1e3}, "too short for 5 folds with a purge of 1000 s", "purge"),
        ({"latent_dim": [2]}, {"estimator": 3}, "estimator must be a KalmanSSL, got int", "estimator"),
    ],
)
def test_wrong_arguments_raise_an_error_that_names_them(grid, options, message, parameter):
    with pytest.raises(InputError, match=message) as caught:
        ks.select(oscillators((0.2,), n_bins=200), grid, **options)
    assert caught.value.parameter == parameter


def test_an_array_is_not_a_recording():
    with pytest.raises(InputError, match=r"use Recording\.from_arrays"):
        ks.select(np.ones((10, 3)), {"latent_dim": [2]})


# Folds.


@pytest.mark.parametrize("every", [10_000, 70, 3])
def test_folds_are_disjoint_blocks_with_the_purged_time_around_them(every):
    recording = with_gaps(oscillators((0.2,), n_bins=1000), every)
    folds = folds_of_time(recording, 4, purge=1.0)
    held_out_times = np.concatenate([held_out.time for _, held_out in folds])
    np.testing.assert_array_equal(held_out_times, recording.time)
    for training, held_out in folds:
        assert len(held_out) == pytest.approx(250, abs=63)
        distance = np.minimum(np.abs(training.time - held_out.time[0]), np.abs(training.time - held_out.time[-1]))
        inside = (training.time > held_out.time[0]) & (training.time < held_out.time[-1])
        assert not inside.any()
        assert distance.min() > 1.0
        purged = np.setdiff1d(recording.time, np.concatenate([training.time, held_out.time]))
        assert len(purged) <= 2 * 1.0 / recording.bin_size + 1


def test_folds_begin_at_gaps_that_are_near():
    recording = with_gaps(oscillators((0.2,), n_bins=1000), every=70)
    for _, held_out in folds_of_time(recording, 4, purge=0.0):
        first = np.flatnonzero(recording.time == held_out.time[0])[0]
        assert first % 70 == 0


def test_too_few_bins_for_the_folds():
    with pytest.raises(InputError, match="7 bins are too few for 4 folds"):
        folds_of_time(oscillators((0.2,), n_bins=7), 4, purge=0.0)


# The score.


class GivenLatents:
    """A model whose filtered state is the first channels of the recording."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def transform(self, recording: ks.Recording):
        segment = np.concatenate([np.full(s.stop - s.start, i) for i, s in enumerate(recording.segments())])
        return type("Latents", (), {"mean": recording.activity[:, : self.dim].astype(float), "segment": segment})


def test_the_gain_for_a_signal_is_the_information_of_an_autoregressive_process():
    """x_t = 0.8 x_(t-1) + noise: the previous bin has -1/2 log(1 - 0.8^2) nats of information."""
    rng = np.random.default_rng(0)
    x = np.zeros((40_000, 1))
    for t in range(1, len(x)):
        x[t] = 0.8 * x[t - 1] + 0.6 * rng.standard_normal()
    recording = ks.Recording.from_arrays(10 * x + 3, kind="signal")
    gain = activity_gain(GivenLatents(1), *recording.split(at=600.0))
    assert gain == pytest.approx(-0.5 * np.log(1 - 0.8**2), abs=0.02)


def test_the_gain_for_counts_is_that_of_the_true_rates():
    rng = np.random.default_rng(0)
    state = rng.integers(0, 2, 40_000)
    rates = np.where(state[:, None] == 1, [2.0, 0.1, 0.5], [0.5, 0.4, 0.5])
    counts = np.concatenate([np.zeros((1, 3)), rng.poisson(rates[:-1])])  # the state determines the next bin
    recording = ks.Recording.from_arrays(np.column_stack([state, counts]))
    mean = rates.mean(0)
    expected = (rates * np.log(rates / mean)).sum(1).mean()
    gain = activity_gain(GivenLatents(1), *recording.split(at=600.0))
    assert gain == pytest.approx(expected, abs=0.03)


def test_random_latents_have_no_gain():
    rng = np.random.default_rng(0)
    recording = ks.Recording.from_arrays(rng.poisson(0.5, (20_000, 20)))
    assert activity_gain(GivenLatents(4), *recording.split(at=300.0)) == pytest.approx(0.0, abs=0.01)


def test_pairs_do_not_cross_gaps():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20_000, 1))
    x[1::2] = x[::2]  # pairs of equal bins
    pairs = ks.Recording.from_arrays(x, time=0.1 * np.arange(20_000) + (np.arange(20_000) // 2), kind="signal")
    crossing = ks.Recording.from_arrays(x[1:-1], time=0.1 * np.arange(19_998) + (np.arange(19_998) // 2), kind="signal")
    assert activity_gain(GivenLatents(1), *pairs.split(at=pairs.time[10_000])) > 1.0
    gain = activity_gain(GivenLatents(1), *crossing.split(at=crossing.time[10_000]))
    assert gain == pytest.approx(0.0, abs=0.01)
