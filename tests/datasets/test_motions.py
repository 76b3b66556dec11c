"""The motions against closed forms: periods, radii, conserved quantities, stationary laws, conditional means."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import solve_ivp

from kalmanssl.datasets import MOTIONS, DotVideos, dot_videos
from kalmanssl.datasets._higher_motions import Oscillators, Sphere
from kalmanssl.datasets._lorenz import Lorenz
from kalmanssl.datasets._motions import Wobbly
from kalmanssl.datasets._process_noise import PROCESS_NOISES, unit_noise
from kalmanssl.datasets._switching_linear import SwitchingLinear
from kalmanssl.errors import InputError

NOISY = ("circular", "wobbly", "oscillators", "sphere", "lorenz")
WITHOUT_PHASE = ("oscillators", "sphere", "lorenz", "switching")


def polar(position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.hypot(position[..., 0], position[..., 1]), np.arctan2(position[..., 1], position[..., 0])


@pytest.mark.parametrize("motion", ["square", "figure8"])
def test_twenty_frames_a_lap(motion: str) -> None:
    position = dot_videos(motion, n_videos=20).position
    np.testing.assert_allclose(position[:, 20:], position[:, :-20], atol=1e-12)
    for lag in range(1, 20):
        assert np.abs(position[:, lag:] - position[:, :-lag]).max() > 0.1


def test_square_runs_on_the_square_at_constant_speed_from_the_published_start() -> None:
    data = dot_videos("square", n_videos=50)
    np.testing.assert_allclose(np.abs(data.position).max(axis=-1), 1.0, atol=1e-12)
    # Distance along the border: a side of length 2 takes 5 frames.
    step = np.abs(np.diff(data.position, axis=1)).sum(axis=-1)
    np.testing.assert_allclose(step, 0.4, atol=1e-12)
    published = dot_videos("square", n_videos=2, repeated=True).position
    expected = [(1, 0), (1, -0.6), (1, -0.2), (1, 0.2), (1, 0.6), (1, 1), (0.6, 1), (0.2, 1)]
    np.testing.assert_allclose(published[:, :8], [expected] * 2, atol=1e-12)
    np.testing.assert_allclose(published[:, 10:18:5], [[(-1, 1), (-1, -1)]] * 2, atol=1e-12)


def test_square_leads_by_an_eighth_of_a_turn() -> None:
    data = dot_videos("square", n_videos=50)
    _, angle = polar(data.position)
    assert data.phase is not None
    lead = np.angle(np.exp(1j * (data.phase - angle)))
    # Exact at the corners and in the middle of the sides; between, atan differs from a line by at most 0.0712 rad.
    assert np.abs(lead - np.pi / 4).max() < 0.072
    assert abs(lead.mean() - np.pi / 4) < 0.002


def test_figure8_lies_on_its_curve_and_doubles_the_frequency_in_y() -> None:
    data = dot_videos("figure8", n_videos=3)
    x, y = np.moveaxis(data.position, -1, 0)
    np.testing.assert_allclose(y**2, x**2 * (1 - x**2), atol=1e-12)
    power = np.abs(np.fft.rfft(data.position, axis=1)).mean(axis=0)
    assert power.argmax(axis=0).tolist() == [5, 10]


def test_circular_turns_by_18_degrees_and_noise_moves_only_the_angle() -> None:
    data = dot_videos("circular", n_videos=2000, random_state=1)
    radius, angle = polar(data.position)
    np.testing.assert_allclose(radius, 1.0, atol=1e-12)
    turn = np.angle(np.exp(1j * np.diff(angle, axis=1)))
    expected = stats.norm(scale=np.sqrt(0.05))
    assert turn.mean() == pytest.approx(np.pi / 10, abs=0.002)
    # Oracle: the same projection of an independent sample of Gaussians around (1, 0).
    e = expected.rvs((2, 400_000), random_state=0)
    assert turn.std() == pytest.approx(np.arctan2(e[1], 1 + e[0]).std(), rel=0.01)
    quiet = dot_videos("circular", n_videos=5, process_variance=0.0)
    turn = np.angle(np.exp(1j * np.diff(polar(quiet.position)[1], axis=1)))
    np.testing.assert_allclose(turn, np.pi / 10, atol=1e-12)
    assert data.jumps is None


def test_jumps_come_at_their_rate_and_by_135_degrees() -> None:
    data = dot_videos("circular_jumps", n_videos=3000)
    assert data.jumps is not None
    n = data.jumps[:, 1:].size
    assert not data.jumps[:, 0].any()
    assert abs(data.jumps.sum() - 0.01 * n) < 4 * np.sqrt(0.01 * 0.99 * n)
    turn = np.mod(np.diff(polar(data.position)[1], axis=1), 2 * np.pi)
    np.testing.assert_allclose(turn[data.jumps[:, 1:]], np.pi / 10 + 0.75 * np.pi, atol=1e-9)
    np.testing.assert_allclose(turn[~data.jumps[:, 1:]], np.pi / 10, atol=1e-9)


def test_noiseless_wobbly_keeps_its_conserved_quantity_and_turns_at_one_radian_per_unit_of_time() -> None:
    data = dot_videos("wobbly", n_videos=100, n_frames=700, process_variance=0.0, dt=0.01)
    radius, angle = polar(data.position)
    kept = radius - 0.5 * np.sin(4 * (angle + 3 * np.pi / 8))
    # The radius swings between kept - 1/2 and kept + 1/2; near 0 the field is singular.
    away = kept[:, 0] > 0.6
    assert away.sum() > 50
    assert np.abs(kept - kept[:, :1])[away].max() < 1e-6
    turn = np.angle(np.exp(1j * np.diff(angle, axis=1)))[away]
    np.testing.assert_allclose(turn, 0.01, atol=1e-6)
    swing = radius[away].max(axis=1) - radius[away].min(axis=1)
    np.testing.assert_allclose(swing, 1.0, atol=1e-3)


def test_wobbly_step_solves_the_differential_equation() -> None:
    def flow(_: float, s: np.ndarray) -> np.ndarray:
        r, theta = np.hypot(*s), np.arctan2(s[1], s[0])
        speed = 2.0 * np.cos(4 * (theta + 3 * np.pi / 8))
        return np.array([speed * s[0] / r - s[1], speed * s[1] / r + s[0]])

    rng = np.random.default_rng(0)
    for start in rng.normal(loc=(2.5, 0.0), size=(10, 2)):
        exact = solve_ivp(flow, (0, 0.05), start, rtol=1e-10, atol=1e-12).y[:, -1]
        np.testing.assert_allclose(Wobbly(dt=0.05).step(start), exact, atol=3e-5)
        # One published step of 0.3 is exactly four slopes.
        k1 = flow(0, start)
        k2 = flow(0, start + 0.15 * k1)
        k3 = flow(0, start + 0.15 * k2)
        k4 = flow(0, start + 0.3 * k3)
        np.testing.assert_allclose(Wobbly().step(start), start + 0.05 * (k1 + 2 * k2 + 2 * k3 + k4), atol=1e-12)
    assert np.isfinite(Wobbly().step(np.zeros(2))).all()


def test_wobbly_starts_on_the_circle_and_diffuses_outward_within_its_extent() -> None:
    data = dot_videos("wobbly", n_videos=4000)
    radius, _ = polar(data.position)
    np.testing.assert_allclose(radius[:, 0], 1.0, atol=1e-12)
    assert radius[:, 99].mean() == pytest.approx(4.0, abs=0.2)
    assert data.visible.mean() > 1 - 1e-6


@pytest.mark.parametrize("motion", NOISY)
def test_predicted_is_the_conditional_mean(motion: str) -> None:
    data = dot_videos(motion, n_videos=2000, jump_rate=0.1 if motion == "circular" else None)
    assert np.isnan(data.predicted[:, 0]).all()
    np.testing.assert_allclose(data.predicted[:, 1:], data.step(data.position[:, :-1]), atol=1e-12)
    # Residuals have mean zero and are uncorrelated with functions of the past.
    residual = (data.position - data.predicted)[:, 1:].reshape(-1, data.motion.dims)
    past = data.position[:, :-1].reshape(-1, data.motion.dims)
    features = np.column_stack([np.ones(len(past)), past, np.tanh(past), past**2, np.sin(3 * past)])
    features /= features.std(axis=0) + (features.std(axis=0) == 0)
    z = residual.T @ features / np.sqrt(len(past)) / residual.std(axis=0)[:, None]
    assert np.abs(z).max() < 5.5


@pytest.mark.parametrize("kind", PROCESS_NOISES)
@pytest.mark.parametrize("motion", ["wobbly", "oscillators"])
def test_process_noise_has_the_variance_and_shape_asked_for(motion: str, kind: str) -> None:
    data = dot_videos(motion, n_videos=500, process_noise=kind)
    noise = (data.position - data.predicted)[:, 1:].reshape(-1, data.motion.dims)
    # The fourth moment of Student's t with 5 degrees exists, the error of the variance is still wide.
    np.testing.assert_allclose(np.cov(noise.T), 0.1 * np.eye(data.motion.dims), atol=0.003)
    unit = noise[:40_000, 0] / np.sqrt(0.1)
    mixture = lambda x: 0.5 * (stats.norm.cdf((x - 0.8) / 0.6) + stats.norm.cdf((x + 0.8) / 0.6))  # noqa: E731
    shapes = {
        "gaussian": stats.norm.cdf,
        "uniform": stats.uniform(-np.sqrt(3), 2 * np.sqrt(3)).cdf,
        "laplace": stats.laplace(scale=np.sqrt(0.5)).cdf,
        "student_t": stats.t(5, scale=np.sqrt(0.6)).cdf,
        "mixture": mixture,
    }
    assert stats.kstest(unit, shapes[kind]).pvalue > 1e-4
    others = [stats.kstest(unit, cdf).pvalue for name, cdf in shapes.items() if name != kind]
    assert max(others) < 1e-4


@pytest.mark.parametrize("kind", PROCESS_NOISES)
def test_a_longer_draw_of_noise_begins_with_a_shorter_one(kind: str) -> None:
    long, short = (unit_noise(kind, np.random.default_rng(3), (n, 7)) for n in (50, 20))
    np.testing.assert_array_equal(long[:20], short)


@pytest.mark.parametrize("dims", range(2, 11))
def test_oscillators_meet_the_assumptions_of_the_theorem(dims: int) -> None:
    motion = Oscillators(dims=dims)
    rotation = motion.rotation()
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(dims), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    data = dot_videos("oscillators", n_videos=200, dims=dims)
    assert data.position.shape == (200, 100, dims)
    assert np.linalg.norm(data.position, axis=-1).max() < motion.extent(100)
    # Jacobian by central differences: full rank, well conditioned, far from constant (hence nonlinear).
    points, h = data.position[::10, ::25].reshape(-1, dims), 1e-5
    jacobian = np.stack([(data.step(points + h * e) - data.step(points - h * e)) / (2 * h) for e in np.eye(dims)], -1)
    values = np.linalg.svd(jacobian, compute_uv=False)
    assert values.min() > 0.5 - 1e-6
    assert values.max() < 1.4 + 1e-6
    assert values[:, 0].max() > 1.2
    assert values[:, -1].min() < 0.6
    # Stationary from the first frame on: a spread that does not change.
    spread = data.position.reshape(200, 4, 25, dims).std(axis=(0, 2))
    np.testing.assert_allclose(spread[0], spread[-1], rtol=0.25)


def test_oscillators_predict_better_than_any_line() -> None:
    data = dot_videos("oscillators", n_videos=400)
    past, now = (x.reshape(-1, 5) for x in (data.position[:, :-1], data.position[:, 1:]))
    design = np.column_stack([past, np.ones(len(past))])
    line = design @ np.linalg.lstsq(design, now)[0]
    assert ((now - line) ** 2).mean() > 1.25 * 0.1


def test_sphere_steps_are_von_mises_fisher_and_positions_uniform() -> None:
    kappa = 10.0
    data = dot_videos("sphere", n_videos=500)
    np.testing.assert_allclose(np.linalg.norm(data.position, axis=-1), 1.0, atol=1e-12)
    motion = data.motion
    assert isinstance(motion, Sphere)
    mean = motion.direction(data.position[:, :-1])
    np.testing.assert_allclose(np.linalg.norm(mean, axis=-1), 1.0, atol=1e-12)
    cosine = (mean * data.position[:, 1:]).sum(-1).ravel()
    reference = stats.vonmises_fisher(np.array([0.0, 0.0, 1.0]), kappa).rvs(50_000, random_state=1)
    assert stats.ks_2samp(cosine, reference[:, 2]).pvalue > 1e-3
    assert cosine.mean() == pytest.approx(1 / np.tanh(kappa) - 1 / kappa, abs=0.002)
    # Around the mean all directions are alike: the residual along any fixed tangent direction has no bias.
    tangent = np.cross(mean, [0.36, 0.48, 0.8])
    tangent /= np.linalg.norm(tangent, axis=-1, keepdims=True)
    other = np.cross(mean, tangent)
    a, b = ((x * data.position[:, 1:]).sum(-1).ravel() for x in (tangent, other))
    assert stats.kstest(np.arctan2(a, b) / (2 * np.pi) + 0.5, "uniform").pvalue > 1e-3
    # Archimedes: each coordinate of a uniform point is uniform in [-1, 1]; one frame per video, all independent.
    many = dot_videos("sphere", n_videos=4000, n_frames=20).position
    for frame in (0, 19):
        for coordinate in many[:, frame].T:
            assert stats.kstest(coordinate / 2 + 0.5, "uniform").pvalue > 1e-3


def test_sphere_mean_directions_span_space_and_bend() -> None:
    data = dot_videos("sphere", n_videos=100)
    past, mean = data.position[:, :-1].reshape(-1, 3), data.predicted[:, 1:].reshape(-1, 3)
    assert np.linalg.svd(np.cov(mean.T), compute_uv=False).min() > 0.2
    line = past @ np.linalg.lstsq(past, mean)[0]
    assert ((mean - line) ** 2).sum() / (mean**2).sum() > 0.05


def test_lorenz_step_solves_the_differential_equation() -> None:
    center, scale = np.array([0.0, 0.0, 23.5]), np.array([7.9, 9.0, 8.6])

    def flow(_: float, x: np.ndarray) -> np.ndarray:
        return np.array([10 * (x[1] - x[0]), x[0] * (28 - x[2]) - x[1], x[0] * x[1] - 8 / 3 * x[2]])

    for start in dot_videos("lorenz", n_videos=10).position[:, 0]:
        exact = solve_ivp(flow, (0, 0.03), center + scale * start, rtol=1e-10, atol=1e-12).y[:, -1]
        np.testing.assert_allclose(Lorenz().step(start), (exact - center) / scale, atol=1e-5)


def test_lorenz_is_standardized_and_stationary() -> None:
    position = dot_videos("lorenz", n_videos=1000).position
    assert np.abs(position.mean(axis=(0, 1))).max() < 0.2
    np.testing.assert_allclose(position.std(axis=(0, 1)), 1.0, atol=0.1)
    np.testing.assert_allclose(position[:, 0].std(axis=0), position[:, -1].std(axis=0), rtol=0.1)
    # Two wings: the first coordinate changes its sign again and again.
    assert (np.diff(np.sign(position[..., 0]), axis=1) != 0).any(axis=1).mean() > 0.8


@pytest.mark.parametrize("dims", [3, 5, 6])
def test_switching_systems_rotate_and_differ(dims: int) -> None:
    A = SwitchingLinear(dims=dims).transitions()
    assert A.shape == (4, dims, dims)
    for one in A:
        angles = np.abs(np.angle(np.linalg.eigvals(one)))
        np.testing.assert_allclose(one.T @ one, 0.97**2 * np.eye(dims), atol=1e-12)
        assert ((angles > 0.099) & (angles < 0.601)).sum() == dims - dims % 2
    assert min(np.linalg.norm(A[i] - A[j]) for i in range(4) for j in range(i)) > 0.1


def test_switching_predicts_the_mean_of_the_filter_over_systems() -> None:
    data = dot_videos("switching", n_videos=400)
    residual = (data.position - data.predicted)[:, 1:]
    # A system that is known would leave the process variance alone; the stationary variance is 0.05 / (1 - 0.97^2).
    assert 0.05 < residual.var() < 0.06
    assert data.position.var() == pytest.approx(0.05 / (1 - 0.97**2), rel=0.05)
    A = SwitchingLinear().transitions()
    errors = np.stack([((data.position[:, 1:] - data.position[:, :-1] @ one.T) ** 2).sum(-1) for one in A])
    best = errors.min(axis=0) / 6
    assert best.mean() < residual.var()  # knows the system from the next position
    switches = np.diff(errors[:, :, 20:].reshape(4, -1).argmin(axis=0)) != 0
    assert switches.mean() < 0.5
    flat, past = residual.reshape(-1, 6), data.position[:, :-1].reshape(-1, 6)
    features = np.column_stack([np.ones(len(past)), past, np.tanh(past), past**2])
    features /= features.std(axis=0) + (features.std(axis=0) == 0)
    z = flat.T @ features / np.sqrt(len(past)) / flat.std(axis=0)[:, None]
    assert np.abs(z).max() < 5.5


@pytest.mark.parametrize("motion", ["square", "figure8", "switching"])
def test_motions_with_a_hidden_phase_or_system_have_means_but_no_step_map(motion: str) -> None:
    data = dot_videos(motion, n_videos=3)
    if motion != "switching":
        np.testing.assert_array_equal(data.predicted[:, 1:], data.position[:, 1:])
    with pytest.raises(InputError, match="no step map"):
        data.step(data.position)


@pytest.mark.parametrize("motion", MOTIONS)
def test_phase_and_sin_pos(motion: str) -> None:
    data: DotVideos = dot_videos(motion, n_videos=4)
    if motion in WITHOUT_PHASE:
        assert data.phase is None
        assert data.sin_pos is None
        return
    assert data.phase is not None
    assert data.sin_pos is not None
    assert ((data.phase >= 0) & (data.phase < 2 * np.pi)).all()
    np.testing.assert_allclose(data.sin_pos[..., 0], np.cos(data.phase))
    if motion in ("circular", "circular_jumps", "wobbly"):
        _, angle = polar(data.position)
        np.testing.assert_allclose(np.exp(1j * data.phase), np.exp(1j * angle), atol=1e-9)
    if motion == "figure8":
        np.testing.assert_allclose(data.sin_pos[..., 0], data.position[..., 0], atol=1e-9)
