"""Pictures, swirl and network against direct evaluations, and where each of them is injective."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from kalmanssl.datasets import DotVideos, dot_videos
from kalmanssl.datasets._rendering import swirl_matrix


def jacobian(data: DotVideos, points: np.ndarray, h: float) -> np.ndarray:
    """Central differences of the mixing function, (points, pixels, dims)."""
    moves = h * np.eye(points.shape[-1])
    pixels = [(data.render(points + e).astype(float) - data.render(points - e)) / (2 * h) for e in moves]
    return np.stack(pixels, axis=-1)


def grid(half: float, n: int) -> np.ndarray:
    axis = np.linspace(-half, half, n)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)


def dot(position: np.ndarray, size: int, view: float) -> np.ndarray:
    """The picture written out, pixel by pixel."""
    p = (position + view) * size / (2 * view)
    i, j = np.mgrid[:size, :size]
    return np.exp(-((i - p[0]) ** 2 + (j - p[1]) ** 2) / (2 * (size / 10) ** 2))


@pytest.mark.parametrize(("size", "view"), [(10, 3.0), (10, 6.0), (16, 3.0), (7, 2.0)])
def test_rendered_dot_equals_the_formula(size: int, view: float) -> None:
    data = dot_videos("circular", n_videos=1, n_frames=1, size=size, view=view)
    points = grid(1.1 * view, 7)
    expected = np.stack([dot(p, size, view).ravel() for p in points])
    np.testing.assert_allclose(data.render(points), expected, atol=2e-6)
    assert data.render(points).dtype == np.float32
    center = data.render([0.0, 0.0])
    assert center.shape == (size * size,)
    if size % 2 == 0:
        assert center.argmax() == size // 2 * (size + 1)


def test_published_rendering_clamps_and_equals_the_whole_one_inside() -> None:
    whole, published = (dot_videos("circular", n_videos=1, rendering=r) for r in ("whole", "published"))
    inside = grid(2.4, 9)
    np.testing.assert_array_equal(whole.render(inside), published.render(inside))
    beyond = np.array([[3.5, 0.3], [-7.0, 0.3], [1.0, 2.9]])
    held = np.array([[2.4, 0.3], [-3.0, 0.3], [1.0, 2.4]])
    np.testing.assert_allclose(published.render(beyond), published.render(held), atol=1e-6)
    assert np.abs(whole.render(beyond) - whole.render(held)).max() > 0.1
    wobbly = dot_videos("wobbly", n_videos=300, rendering="published")
    inside_field = ((wobbly.position >= -3) & (wobbly.position <= 2.4)).all(axis=-1)
    np.testing.assert_array_equal(wobbly.visible, inside_field)
    assert inside_field.mean() == pytest.approx(0.6, abs=0.03)


def test_a_dot_far_away_leaves_a_dark_picture() -> None:
    data = dot_videos("circular", n_videos=1)
    assert not data.render([[1e300, 0.0], [0.0, -1e12]]).any()


@pytest.mark.parametrize("size", [10, 5, 16])
def test_swirl_is_the_bilinear_lookup(size: int) -> None:
    image = np.random.default_rng(0).random((size, size))
    row, col = np.mgrid[:size, :size].astype(float)
    rho, phi = np.hypot(col - size / 2, row - size / 2), np.arctan2(row - size / 2, col - size / 2)
    angle = phi + 10 * np.exp(-rho / (20 * size * np.log(2) / 5))
    source = [size / 2 + rho * np.sin(angle), size / 2 + rho * np.cos(angle)]
    expected = map_coordinates(image, source, order=1, mode="mirror")
    matrix = swirl_matrix(size)
    np.testing.assert_allclose((matrix @ image.ravel()).reshape(size, size), expected, atol=1e-12)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-12)
    assert matrix.min() >= 0


def test_swirl_is_that_of_scikit_image() -> None:
    transform = pytest.importorskip("skimage.transform", reason="scikit-image is not installed")
    image = np.random.default_rng(0).random((10, 10))
    expected = transform.swirl(image, rotation=0, strength=10, radius=200, mode="reflect")
    np.testing.assert_allclose((swirl_matrix(10) @ image.ravel()).reshape(10, 10), expected, atol=1e-9)


def test_swirled_videos_are_swirled_plain_ones() -> None:
    plain, swirled = (dot_videos("wobbly", n_videos=50, mixing=m) for m in ("plain", "swirl"))
    np.testing.assert_array_equal(plain.position, swirled.position)
    matrix = swirl_matrix(10).toarray()
    np.testing.assert_allclose(swirled.videos, plain.videos @ matrix.T, atol=1e-5)
    assert np.abs(swirled.videos - plain.videos).max() > 0.5


@pytest.mark.parametrize("mixing", ["plain", "swirl"])
def test_the_whole_view_is_injective_and_the_published_one_folds(mixing: str) -> None:
    whole = dot_videos("wobbly", n_videos=1, mixing=mixing)
    published = dot_videos("wobbly", n_videos=1, mixing=mixing, rendering="published")
    spacing = 0.5
    points = grid(14.5, 59)
    points = points[np.linalg.norm(points, axis=1) < 14.6]
    values = np.linalg.svd(jacobian(whole, points, 0.05), compute_uv=False)
    assert values[:, -1].min() > 0.1  # pictures have a peak of 1
    # Globally: the nearest other picture belongs to a neighbor on the grid, never to a place far away.
    _, nearest = cKDTree(whole.render(points)).query(whole.render(points), k=2)
    assert np.linalg.norm(points[nearest[:, 1]] - points, axis=-1).max() < 1.5 * spacing
    folded = np.linalg.svd(jacobian(published, points, 0.05), compute_uv=False)[:, -1]
    beyond = ~((points >= -3.1) & (points <= 2.5)).all(axis=-1)
    assert folded[beyond].max() < 1e-6


@pytest.mark.parametrize("dims", [2, 3, 5, 10])
def test_the_network_is_injective_on_the_data(dims: int) -> None:
    data = dot_videos("oscillators", n_videos=40, dims=dims)
    assert data.visible.all()
    points = data.position.reshape(-1, dims)
    values = np.linalg.svd(jacobian(data, points, 1e-2), compute_uv=False)
    assert values[:, -1].min() > 1e-3
    assert (values[:, -1] / values[:, 0]).min() > 2e-3
    # Pictures tell positions apart: no pair is closer in pixels than the weakest direction allows.
    pixels = data.videos.reshape(len(points), -1).astype(float)
    distance, nearest = cKDTree(pixels).query(pixels, k=2)
    apart = np.linalg.norm(points[nearest[:, 1]] - points, axis=-1)
    assert (distance[:, 1] / apart).min() > 1e-3


def test_the_network_mixes_nonlinearly_and_the_published_one_hides_directions() -> None:
    def smallest(rendering: str) -> float:
        data = dot_videos("oscillators", n_videos=20, rendering=rendering)
        points = data.position.reshape(-1, 5)
        return float(np.quantile(np.linalg.svd(jacobian(data, points, 1e-2), compute_uv=False)[:, -1], 0.01))

    assert smallest("published") < 1e-4 < smallest("whole")
    data = dot_videos("oscillators", n_videos=100)
    pixels, truth = data.videos.reshape(-1, 100), data.position.reshape(-1, 5)
    design = np.column_stack([pixels, np.ones(len(pixels))])
    line = design @ np.linalg.lstsq(design, truth)[0]
    r2 = 1 - ((truth - line) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum()
    assert r2 < 0.9


def test_the_network_depends_on_the_seed_and_not_on_the_split() -> None:
    points = np.random.default_rng(0).normal(size=(50, 5))
    train, test = (dot_videos("oscillators", n_videos=1, split=s).render(points) for s in ("train", "test"))
    other = dot_videos("oscillators", n_videos=1, random_state=1).render(points)
    np.testing.assert_array_equal(train, test)
    assert np.abs(train - other).max() > 0.05


def test_render_keeps_leading_axes() -> None:
    data = dot_videos("wobbly", n_videos=3, n_frames=4)
    np.testing.assert_array_equal(data.render(data.position), data.videos)
    np.testing.assert_array_equal(data.render(data.position[1, 2]), data.videos[1, 2])
    assert data.render(np.empty((0, 2))).shape == (0, 100)
