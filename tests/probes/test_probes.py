"""Probes compared with closed forms, independent solvers and brute force."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from kalmanssl.errors import InputError
from kalmanssl.probes import (
    effective_dimension,
    entropy_bits,
    gradient_cosine,
    knn_probe,
    linear_probe,
    match_categories,
)


def blobs(n: int, classes: int = 3, dims: int = 5, apart: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    centers = apart * np.random.default_rng(99).standard_normal((classes, dims))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return centers[labels] + rng.standard_normal((n, dims)), labels


def correlated(x: np.ndarray) -> np.ndarray:
    """The same information in features that are strongly correlated and have very different scales."""
    rng = np.random.default_rng(5)
    mixed = x @ rng.standard_normal((x.shape[1], 30)) + 0.05 * rng.standard_normal((len(x), 30))
    return mixed * np.logspace(-3, 3, 30) + 7.0


# Linear probe


def test_linear_probe_equals_the_textbook_recipe() -> None:
    """Standardized features and the chosen penalty give the probabilities of an independent solver."""
    x, labels = blobs(900, classes=4, apart=0.7)
    score = linear_probe(x[:600], labels[:600], x[600:], labels[600:])
    z = (x - x[:600].mean(0)) / x[:600].std(0)
    features, y = torch.from_numpy(z[:600]), torch.from_numpy(labels[:600])
    weight, bias = (torch.zeros(shape, dtype=torch.float64, requires_grad=True) for shape in ((5, 4), (4,)))
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(features @ weight + bias, y)
        loss = loss + 0.5 * score.penalty * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    expected = (torch.from_numpy(z[600:]) @ weight + bias).argmax(1).numpy()
    assert (expected == score.predicted).mean() > 0.99


def test_linear_probe_reaches_the_best_possible_accuracy() -> None:
    centers = np.array([[-1.0, 0.0], [1.0, 0.0]])
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 12_000)
    x = centers[labels] + rng.standard_normal((12_000, 2))
    score = linear_probe(x[:6000], labels[:6000], x[6000:], labels[6000:])
    best = 0.841345  # Φ(1)
    assert abs(score.top1 - best) < 3 * np.sqrt(best * (1 - best) / 6000)
    assert score.top5 is None
    assert score.top1 == (score.predicted == labels[6000:]).mean()


def test_linear_probe_is_insensitive_to_scale_and_correlation() -> None:
    x, labels = blobs(3000, classes=8, apart=1.0)
    wide = correlated(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = linear_probe(x[:2000], labels[:2000], x[2000:], labels[2000:])
        score = linear_probe(wide[:2000], labels[:2000], wide[2000:], labels[2000:])
    assert abs(plain.top1 - score.top1) < 0.02
    assert score.top5 is not None
    assert score.top1 < score.top5 <= 1
    scaled = linear_probe(1e6 * x[:2000] - 4.0, labels[:2000], 1e6 * x[2000:] - 4.0, labels[2000:])
    assert scaled.top1 == plain.top1


def test_linear_probe_chooses_the_penalty_on_training_samples_only() -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(300) % 3
    noise = rng.standard_normal((300, 200))
    assert linear_probe(noise, labels, noise[:50], labels[:50]).penalty == 1e-1
    x, easy = blobs(3000, apart=5.0)
    chosen = linear_probe(x[:2000], easy[:2000], x[2000:], easy[2000:])
    assert chosen.penalty < 1e-2
    other = linear_probe(x[:2000], easy[:2000], rng.standard_normal((50, 5)), easy[:50])
    assert other.penalty == chosen.penalty


def test_linear_probe_is_deterministic_and_accepts_names() -> None:
    x, labels = blobs(400, apart=0.7)
    names = np.array(["cat", "dog", "newt"])[labels]
    one = linear_probe(x[:300], names[:300], x[300:], names[300:], random_state=4)
    two = linear_probe(x[:300], labels[:300], x[300:], labels[300:], random_state=4)
    assert one.top1 == two.top1
    assert one.penalty == two.penalty
    np.testing.assert_array_equal(one.predicted, np.array(["cat", "dog", "newt"])[two.predicted])


def test_linear_probe_ignores_constant_features() -> None:
    x, labels = blobs(400)
    padded = np.concatenate([x, np.full((400, 1), 0.1)], axis=1).astype(np.float32)
    padded[-1, -1] += 5.0  # in test only
    assert linear_probe(padded[:300], labels[:300], padded[300:], labels[300:]).top1 > 0.9


# Neighbors


def test_knn_probe_agrees_with_scikit_learn() -> None:
    x, labels = blobs(1500, classes=7, apart=0.6, dims=8)
    peer = KNeighborsClassifier(
        20, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(x[:1000], labels[:1000])
    probability = peer.predict_proba(x[1000:])
    score = knn_probe(x[:1000], labels[:1000], x[1000:], labels[1000:])
    np.testing.assert_array_equal(score.predicted, probability.argmax(1))
    five = np.argsort(-probability, axis=1)[:, :5]
    assert score.top5 == pytest.approx((five == labels[1000:, None]).any(1).mean(), abs=0.01)  # ties at zero votes
    assert score.top1 == pytest.approx((probability.argmax(1) == labels[1000:]).mean())


def test_knn_probe_with_one_neighbor_is_exact_on_training_samples() -> None:
    x, labels = blobs(300, apart=0.0)
    assert knn_probe(x, labels, 1e25 * x[:100], labels[:100], k=1).top1 == 1.0


# Gradients


def test_gradient_cosine_of_known_gradients() -> None:
    shared = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    also = torch.nn.Parameter(torch.tensor(3.0))
    first_only, second_only = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(1))
    frozen = torch.nn.Parameter(torch.ones(1), requires_grad=False)
    one = 2 * shared[0] + 1 * also + 50 * first_only.sum()
    other = 3 * shared[0] + 4 * shared[1] - 2 * also + 70 * second_only.sum() * frozen.sum()
    # gradients over (shared, also): (2, 0, 1) and (3, 4, -2)
    expected = (6 - 2) / np.sqrt(5 * 29)
    parameters = [first_only, shared, frozen, second_only, also]
    assert gradient_cosine((one, other), parameters) == pytest.approx(expected)
    assert gradient_cosine((one, -1e-30 * one), iter(parameters)) == pytest.approx(-1.0)
    (one + other).backward()  # the graphs are kept
    assert shared.grad is not None


def test_gradient_cosine_rejects_bad_input() -> None:
    w, v = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    for terms, parameters, says in (
        ((w.sum(),), [w], "two scalars"),
        ((w.sum(), w), [w], "one number"),
        ((w.sum(), w.sum().detach()), [w], "has no graph"),
        ((w.sum(), v.sum()), [w, v], "both terms"),
        ((w.sum(), 0 * w.sum()), [w], "second is zero"),
        ((w.sum(), w.sum()), [], "requires a gradient"),
    ):
        with pytest.raises(InputError, match=says):
            gradient_cosine(terms, parameters)


# Input validation


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_tensors_with_gradients_and_half_precision_are_accepted(dtype: torch.dtype) -> None:
    x, y = blobs(90)
    z = torch.tensor(x, requires_grad=True).to(dtype)
    plain = z.detach().double().numpy()
    for probe in (linear_probe, knn_probe):
        exact = probe(plain, y, plain, y)
        for features in (z, list(z)):
            found = probe(features, torch.tensor(y), z, list(torch.tensor(y)))
            np.testing.assert_array_equal(found.predicted, exact.predicted)
    np.testing.assert_allclose(effective_dimension(z).spectrum, effective_dimension(plain).spectrum, rtol=1e-5)
    shares = z.softmax(dim=1)
    rows = shares.detach().double().numpy()
    np.testing.assert_allclose(entropy_bits(shares), entropy_bits(rows), rtol=1e-6)
    assert match_categories(shares, torch.tensor(y)).optimal_accuracy == match_categories(rows, y).optimal_accuracy


def test_probes_reject_inputs_that_do_not_match() -> None:
    x, y = blobs(60)
    nan = x.copy()
    nan[3, 2] = np.nan
    lonely = np.where(np.arange(60) == 0, 9, y)
    for probe in (linear_probe, knn_probe):
        for arguments, says in (
            ((x, y[:-1], x, y), "train_labels has shape"),
            ((x, y, x, y[:-1]), "test_labels has shape"),
            ((x, y, x[:, :4], y), "train has 5 dimensions and test 4"),
            ((nan, y, x, y), "train has 1 of 60 rows with NaN"),
            ((x, y, nan, y), "test has 1 of 60 rows with NaN"),
            ((x, 0 * y, x, 0 * y), "train_labels has only 1 class, 0"),
            ((x, y, x, y + 1), "1 classes that train_labels does not have, such as 3"),
            ((x, np.where(y == 0, np.nan, y), x, y), "train_labels has .* NaN"),
            ((x[0], y, x, y), "train must have shape"),
            ((x.astype(str), y, x, y), "train must be numbers"),
            ((x[:0], y[:0], x, y), "train has 0 samples"),
            (([[1.0, 2.0], [3.0]], y, x, y), r"train has parts of different shapes, such as \(2,\) and \(1,\)"),
            ((torch.tensor(x).to_sparse(), y, x, y), "train cannot be converted to an array: .*to_dense"),
        ):
            with pytest.raises(InputError, match=says) as caught:
                probe(*arguments)
            assert "\n" not in str(caught.value)
    for seed in (-1, "a", 0.5):
        with pytest.raises(InputError, match="random_state must be a whole number"):
            linear_probe(x, y, x, y, random_state=seed)
    with pytest.raises(InputError, match="one sample of class 9"):
        linear_probe(x, lonely, x, lonely)
    for k in (0, 61, 2.5):
        with pytest.raises(InputError, match="k must be"):
            knn_probe(x, y, x, y, k=k)
    with pytest.raises(InputError, match="1 rows of zeros"):
        knn_probe(np.where(np.arange(60)[:, None] == 4, 0, x), y, x, y)
