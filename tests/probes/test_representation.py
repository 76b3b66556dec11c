"""Dimensions, categories and pictures of representations, against what is known of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from kalmanssl.errors import InputError
from kalmanssl.plotting import figure_of, new_axes, plot_confusion, plot_spectrum, plot_tsne
from kalmanssl.probes import effective_dimension, entropy_bits, match_categories


def blobs(n: int, classes: int = 3, dims: int = 5, apart: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    centers = apart * np.random.default_rng(99).standard_normal((classes, dims))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return centers[labels] + rng.standard_normal((n, dims)), labels


# Dimension


def test_effective_dimension_of_a_known_covariance() -> None:
    spectrum = np.array([2.0, 1.0, 0.015, 5e-4, 0.0])
    rng = np.random.default_rng(0)
    white = np.linalg.qr(rng.standard_normal((400, 6)))[0]
    white = np.linalg.qr(white - white.mean(0))[0][:, :5]
    turn = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    z = (white - white.mean(0)) * np.sqrt(399 * spectrum) @ turn + 3.0
    found = effective_dimension(z)
    np.testing.assert_allclose(found.spectrum, spectrum, atol=1e-9)
    assert (found.above_threshold, found.above_share) == (3, 2)
    assert found.participation_ratio == pytest.approx(spectrum.sum() ** 2 / (spectrum**2).sum())
    scaled = effective_dimension(1e-2 * z)
    assert (scaled.above_threshold, scaled.above_share) == (0, 2)
    assert scaled.participation_ratio == pytest.approx(found.participation_ratio)
    assert effective_dimension(np.arange(4.0)[:, None]).participation_ratio == 1.0


@pytest.mark.parametrize("scale", [1e150, 1e-150])
def test_effective_dimension_of_large_and_small_representations(scale: float) -> None:
    x = blobs(60)[0]
    one, other = effective_dimension(x), effective_dimension(scale * x)
    np.testing.assert_allclose(other.spectrum / scale / scale, one.spectrum, rtol=1e-10)
    assert other.participation_ratio == pytest.approx(one.participation_ratio)
    assert other.above_share == one.above_share


# Categories


def test_greedy_and_optimal_matching_differ_where_they_should() -> None:
    # Greedy takes the 10 and is left with 1; the best are 9 and 8.
    counts = np.array([[10, 9], [8, 1]])
    found = np.repeat([0, 0, 1, 1], counts.ravel())
    labels = np.repeat(["a", "b", "a", "b"], counts.ravel())
    match = match_categories(found, labels)
    np.testing.assert_array_equal(match.confusion, counts)
    assert match.greedy.tolist() == [0, 1]
    assert match.optimal.tolist() == [1, 0]
    assert match.greedy_accuracy == pytest.approx(11 / 28)
    assert match.optimal_accuracy == pytest.approx(17 / 28)
    assert match.classes.tolist() == ["a", "b"]


def test_optimal_matching_is_the_best_of_all() -> None:
    rng = np.random.default_rng(2)
    found, labels = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    match = match_categories(found, labels)
    best = max(match.confusion[list(p), range(5)].sum() for p in itertools.permutations(range(5)))
    assert match.optimal_accuracy == best / 200
    assert match.greedy_accuracy <= match.optimal_accuracy


@pytest.mark.parametrize("categories", [2, 6])
def test_more_or_fewer_categories_than_classes(categories: int) -> None:
    labels = np.arange(120) % 3
    found = np.arange(120) % categories
    match = match_categories(found, labels)
    assert match.confusion.shape == (categories, 3)
    assert (match.optimal >= 0).sum() == min(categories, 3)
    used = match.optimal[match.optimal >= 0]
    assert len(set(used)) == len(used)


def test_probabilities_are_matched_by_the_largest() -> None:
    probabilities = np.eye(3)[[2, 2, 0, 1, 0]] * 0.7 + 0.1
    match = match_categories(probabilities, [5, 5, 6, 7, 6])
    assert match.greedy_accuracy == match.optimal_accuracy == 1.0
    assert match.greedy.tolist() == [1, 2, 0]
    few = match_categories(np.eye(4)[[0, 1]], [0, 1])
    assert few.confusion.shape == (4, 2)


def test_entropy_in_bits() -> None:
    rows = np.array([[1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0], [0.5, 0.25, 0.25, 0]])
    np.testing.assert_allclose(entropy_bits(rows), [0, 2, 1, 1.5])


def test_measures_refuse() -> None:
    x, y = blobs(60)
    with pytest.raises(InputError, match="at least 2"):
        effective_dimension(x[:1])
    for same in (np.ones((5, 2)), np.full((7, 3), 0.1), np.full((7, 3), np.float32(0.1))):  # the mean of 0.1 is rounded
        with pytest.raises(InputError, match="collapsed"):
            effective_dimension(same)
    for scale in (1e200, 1e-200):
        with pytest.raises(InputError, match=r"variances of z, whose largest entry is .*e.2.., are outside the range"):
            effective_dimension(scale * x)
    with pytest.raises(InputError, match="labels has shape"):
        match_categories(y, y[:-1])
    with pytest.raises(InputError, match="below 0"):
        match_categories(y - 1, y)
    with pytest.raises(InputError, match="not probabilities, the first is row 0"):
        match_categories(x, y)
    with pytest.raises(InputError, match="whole numbers"):
        match_categories(0.5 * y, y)
    with pytest.raises(InputError, match="large gaps"):
        match_categories(y * 10**9, y)
    with pytest.raises(InputError, match="2 rows that are not probabilities, the first is row 1"):
        entropy_bits([[1, 0], [np.nan, 1], [2, -1]])


# Pictures


def test_pictures() -> None:
    x, labels = blobs(1200)
    (axes,) = new_axes()
    names = np.array(["cat", "dog", "newt"])[labels]
    plot_tsne(x[:100], names[:100], random_state=1, ax=axes)
    place = axes.collections[0].get_offsets()
    assert len(place) == 100
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["cat", "dog", "newt"]
    (again,) = new_axes()
    plot_tsne(x[:100], names[:100], random_state=1, ax=again)
    np.testing.assert_array_equal(place, again.collections[0].get_offsets())

    (axes,) = new_axes()
    plot_spectrum([1e-3, 2.0, 1.0, 0.0], "one", ax=axes)
    plot_spectrum([3.0, 1.0], "other", ax=axes)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [2, 1, 1e-3])
    assert axes.get_yscale() == "log"

    match = match_categories(labels, labels)
    (axes,) = new_axes()
    plot_confusion(match.confusion, match.classes, ax=axes)
    np.testing.assert_allclose(axes.images[0].get_array()[..., 3], np.eye(3))
    assert [t.get_text() for t in axes.texts] == [str(n) for n in np.bincount(labels)]
    figure_of(axes).canvas.draw()


def tsne(z: object, labels: object) -> tuple[np.ndarray, np.ndarray]:
    """Places and class numbers of the points of a picture."""
    (axes,) = new_axes()
    plot_tsne(z, labels, ax=axes)
    return np.asarray(axes.collections[0].get_offsets()), np.asarray(axes.collections[0].get_array())


def test_neighbors_stay_neighbors_in_the_picture_at_any_scale_and_place() -> None:
    x, labels = blobs(150, classes=6, apart=3.0)
    for z in (x, 1e-200 * x, 1e200 * x, (1 + 1e-5 * x).astype(np.float32), 1e6 + x):
        place, number = tsne(z, labels)
        assert KNeighborsClassifier(5).fit(place, number).score(place, number) > 0.95


@pytest.mark.parametrize("kind", ["nearly all the same", "two points", "one dimension", "an outlier", "largest floats"])
def test_odd_representations_have_a_picture(kind: str) -> None:
    x, labels = blobs(60)
    z = {
        "nearly all the same": np.where(np.arange(60)[:, None] == 5, 2.0, np.ones((60, 3))),
        "two points": np.repeat([[0.0, 1.0], [1.0, 3.0]], 30, axis=0),
        "one dimension": x[:, :1],
        "an outlier": np.where(np.arange(60)[:, None] == 5, 1e300, x),
        "largest floats": np.where(x > 0, 1.7e308, -1.7e308),
    }[kind]
    place, _ = tsne(z, labels)
    assert np.isfinite(place).all()
    assert np.ptp(place, axis=0).max() > 0


def test_pictures_refuse() -> None:
    (axes,) = new_axes()
    for same in (1.0, 0.1, 0.0):
        with pytest.raises(InputError, match="the 60 rows of z are all equal"):
            plot_tsne(np.full((60, 4), same), np.arange(60) % 3, ax=axes)
    with pytest.raises(InputError, match="random_state must be a whole number"):
        plot_tsne(blobs(60)[0], np.arange(60) % 3, random_state=-1, ax=axes)
    for wrong in ("a", [[1.0, 2.0], [3.0]]):
        with pytest.raises(InputError, match=r"spectrum (must be numbers|has parts of different shapes)"):
            plot_spectrum(wrong, ax=axes)
        with pytest.raises(InputError, match=r"matrix (must be numbers|has parts of different shapes)"):
            plot_confusion(wrong, ["a", "b"], ax=axes)
    with pytest.raises(InputError, match="at least 31"):
        plot_tsne(np.ones((30, 2)), np.ones(30), ax=axes)
    with pytest.raises(InputError, match="not negative"):
        plot_spectrum([1.0, -1.0], ax=axes)
    with pytest.raises(InputError, match="2 names and matrix 3 columns"):
        plot_confusion(np.ones((3, 3)), ["a", "b"], ax=axes)
    with pytest.raises(InputError, match="matrix must be counts"):
        plot_confusion(np.full((2, 2), np.nan), ["a", "b"], ax=axes)
