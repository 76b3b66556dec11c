"""Entropy estimators on the sphere, on the simplex and of categories."""

import math
from functools import partial

import entropy_samples
import numpy as np
import pytest
import torch
from entropy_samples import directions, probabilities
from scipy.special import ive
from scipy.stats import dirichlet, vonmises_fisher

from kalmanssl.entropy import (
    CategoricalEntropy,
    DirichletKDEEntropy,
    GaussianKDEEntropy,
    KNNEntropy,
    LogDetEntropy,
    PublishedLogDetEntropy,
    VarianceCovarianceEntropy,
    VonMisesFisherKDEEntropy,
    conditional_entropy,
    make_entropy,
)
from kalmanssl.errors import InputError
from kalmanssl.models import Categories, Simplex, Sphere

SAMPLES = 2000

normal = partial(entropy_samples.normal, dtype=torch.float64)


def minus_mean_log(kernel, leave_one_out):
    """Compute the entropy from a matrix of kernel values (samples, centers)."""
    n = len(kernel)
    if leave_one_out:
        kernel = kernel - np.diag(np.diag(kernel))
    return -np.log(kernel.sum(1) / (n - leave_one_out)).mean()


# --- comparison of kernels with the densities of scipy ---


@pytest.mark.parametrize("leave_one_out", [False, True])
@pytest.mark.parametrize("dim", [2, 3, 6])
def test_entropy_on_the_sphere_equals_that_of_von_mises_fisher_densities_of_scipy(dim, leave_one_out):
    one, two = directions(20, dim), directions(20, dim, 1)
    kernels = [np.stack([vonmises_fisher(center, 4.0).pdf(v.numpy()) for center in v.numpy()], 1) for v in (one, two)]
    single = VonMisesFisherKDEEntropy(4.0, leave_one_out=leave_one_out)
    assert float(single(one)) == pytest.approx(minus_mean_log(kernels[0], leave_one_out), abs=1e-9)
    joint = VonMisesFisherKDEEntropy(4.0, dim, leave_one_out=leave_one_out)
    expected = minus_mean_log(kernels[0] * kernels[1], leave_one_out)
    assert float(joint(torch.cat([one, two], 1))) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_entropy_on_the_simplex_equals_that_of_dirichlet_densities_of_scipy(leave_one_out):
    one, two = probabilities(20, 4), probabilities(20, 4, 1)
    kernels = [
        np.array([[dirichlet(1 + 9 * center).pdf(z) for center in v.numpy()] for z in v.numpy()]) for v in (one, two)
    ]
    single = DirichletKDEEntropy(9.0, leave_one_out=leave_one_out)
    assert float(single(one)) == pytest.approx(minus_mean_log(kernels[0], leave_one_out), abs=1e-9)
    joint = DirichletKDEEntropy(9.0, 4, leave_one_out=leave_one_out)
    expected = minus_mean_log(kernels[0] * kernels[1], leave_one_out)
    assert float(joint(torch.cat([one, two], 1))) == pytest.approx(expected, abs=1e-9)


def test_leave_one_out_entropy_on_the_sphere_is_the_denominator_of_simclr():
    z, temperature = directions(12, 5), 0.2
    similarity = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    ours = VonMisesFisherKDEEntropy(1 / temperature, leave_one_out=True)
    other = directions(12, 5, 1)
    other_similarity = (other @ other.T / temperature).fill_diagonal_(-math.inf)
    expected = similarity.logsumexp(1).mean() - other_similarity.logsumexp(1).mean()
    torch.testing.assert_close(ours(other) - ours(z), expected)


@pytest.mark.parametrize("rule", ["scott", "silverman"])
def test_bandwidth_rules_on_a_small_part_of_the_sphere_are_those_in_euclidean_space(rule):
    flat = 1e-3 * normal(400, 2)
    on_sphere = torch.nn.functional.normalize(torch.cat([flat, torch.ones(400, 1)], 1), dim=1)
    expected = float(GaussianKDEEntropy(rule)(flat))
    assert float(VonMisesFisherKDEEntropy(rule)(on_sphere)) == pytest.approx(expected, abs=1e-4)
    double = torch.cat([flat, flat.flip(0)], 1), torch.cat([on_sphere, on_sphere.flip(0)], 1)
    expected = float(GaussianKDEEntropy(rule)(double[0]))
    assert float(VonMisesFisherKDEEntropy(rule, 3)(double[1])) == pytest.approx(expected, abs=1e-4)


def test_large_concentrations_are_accurate_in_single_precision():
    z = torch.nn.functional.normalize(torch.cat([1e-3 * normal(300, 2), torch.ones(300, 1)], 1), dim=1)
    estimator = VonMisesFisherKDEEntropy(1e6)
    assert float(estimator(z.float())) == pytest.approx(float(estimator(z)), abs=0.01)


# --- biases in the docstrings ---


@pytest.mark.parametrize(
    ("dim", "all_samples", "leave_one_out"),
    [(2, 0.00, 0.00), (3, -0.02, 0.01), (4, -0.07, 0.02), (8, -1.50, 0.16), (16, -6.99, 0.89)],
)
def test_bias_on_the_sphere_equals_the_value_in_the_docstring(dim, all_samples, leave_one_out):
    area = math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)
    for excluded, expected in ((False, all_samples), (True, leave_one_out)):
        estimator = VonMisesFisherKDEEntropy(leave_one_out=excluded)
        errors = [float(estimator(directions(SAMPLES, dim, seed).float())) - area for seed in (0, 1)]
        assert sum(errors) / 2 == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(
    ("dim", "precision", "all_samples", "leave_one_out"),
    [
        (3, 50, 0.00, 0.02),
        (4, 50, -0.06, 0.06),
        (8, 50, -1.88, 0.58),
        (3, 10, 0.05, 0.05),
        (4, 10, 0.07, 0.08),
        (8, 10, 0.11, 0.21),
    ],
)
def test_bias_on_the_simplex_equals_the_value_in_the_docstring(dim, precision, all_samples, leave_one_out):
    for excluded, expected in ((False, all_samples), (True, leave_one_out)):
        estimator = DirichletKDEEntropy(precision, leave_one_out=excluded)
        errors = [float(estimator(probabilities(SAMPLES, dim, seed).float())) for seed in (0, 1)]
        assert sum(errors) / 2 + math.lgamma(dim) == pytest.approx(expected, abs=0.03)


# --- pairs drawn from the model: the objective is zero, or the mutual information ---


@pytest.mark.parametrize("name", ["knn", "kde"])
def test_objective_of_pairs_drawn_from_the_model_on_the_sphere(name):
    k, model = 5.0, Sphere(5.0)
    z = directions(SAMPLES, 3)
    # In three dimensions, the cosine between z and z' has a density proportional to exp(k cosine).
    uniform = torch.rand(SAMPLES, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    cosine = 1 + (uniform + (1 - uniform) * math.exp(-2 * k)).log() / k
    orthogonal = torch.nn.functional.normalize(torch.linalg.cross(z, normal(SAMPLES, 3, 2)), dim=1)
    other = cosine * z + (1 - cosine**2).sqrt() * orthogonal
    settings = {"knn": {"clip_quantile": None}, "kde": {"leave_one_out": True}}[name]
    entropy = make_entropy(name, "sphere", 3, **settings)
    alignment = (model.log_prior(z) + model.conditional(z).log_prob(other)).mean()
    area = math.log(4 * math.pi)
    information = math.log(k / (4 * math.pi * math.sinh(k))) + k * ive(1.5, k) / ive(0.5, k) + area
    ldm = alignment + entropy(torch.cat([z, other], 1))
    assert float(ldm) == pytest.approx(0, abs=0.15)
    assert float(alignment + entropy(z) + entropy(other)) == pytest.approx(information, abs=0.1)
    mismatched = (model.log_prior(z) + Sphere(20.0).conditional(z).log_prob(other)).mean()
    assert float(mismatched + entropy(torch.cat([z, other], 1))) < -1
    given = conditional_entropy(entropy, other, z)
    assert float(alignment + area + given) == pytest.approx(0, abs=0.15)


def test_objective_of_pairs_drawn_from_the_model_on_the_simplex():
    model = Simplex(20.0)
    z = probabilities(SAMPLES, 3)
    rng = np.random.default_rng(0)
    other = torch.from_numpy(np.stack([rng.dirichlet(1 + 20 * one) for one in z.numpy()]))
    alignment = (model.log_prior(z) + model.conditional(z).log_prob(other)).mean()
    joint = DirichletKDEEntropy(100.0, 3, leave_one_out=True)(torch.cat([z, other], 1))
    assert float(alignment + joint) == pytest.approx(0, abs=0.2)


def test_objective_of_pairs_drawn_from_the_model_of_categories():
    n, p = 4, 0.7
    same = torch.eye(n, dtype=torch.float64)
    # The frequencies of the n² pairs are those of the model: 21 times if they match, 3 times if not.
    pairs = [(a, b) for a in range(n) for b in range(n) for _ in range(21 if a == b else 3)]
    z, other = (same[[pair[i] for pair in pairs]] for i in (0, 1))
    model, entropy = Categories(n, p), make_entropy("categorical", "categories", n)
    alignment = (model.log_prior(z) + model.conditional(z).log_prob(other)).mean()
    assert float(alignment + entropy(torch.cat([z, other], 1))) == pytest.approx(0, abs=1e-6)
    information = math.log(n) + p * math.log(p) + (1 - p) * math.log((1 - p) / (n - 1))
    assert float(alignment + entropy(z) + entropy(other)) == pytest.approx(information, abs=1e-6)


# --- categories ---


def test_entropy_of_categories_equals_the_formula():
    q, other = probabilities(7, 3), probabilities(7, 3, 1)
    mean = q.mean(0).numpy()
    joint = np.mean([np.outer(a, b) for a, b in zip(q.numpy(), other.numpy(), strict=True)], 0)
    assert float(CategoricalEntropy()(q)) == pytest.approx(-(mean * np.log(mean)).sum(), abs=1e-12)
    pair = CategoricalEntropy(3)(torch.cat([q, other], 1))
    assert float(pair) == pytest.approx(-(joint * np.log(joint)).sum(), abs=1e-12)


def test_categories_of_probability_zero_give_a_finite_value_and_gradient():
    q = torch.eye(5)[[0, 0, 1, 1]].requires_grad_()
    value = CategoricalEntropy()(q)
    value.backward()
    assert float(value.detach()) == pytest.approx(math.log(2), abs=1e-6)
    assert q.grad.isfinite().all()


# --- derivatives ---

DIFFERENTIATED = {
    "sphere": (VonMisesFisherKDEEntropy(3.0), lambda u: torch.nn.functional.normalize(u, dim=-1)),
    "sphere, bandwidth by rule": (
        VonMisesFisherKDEEntropy(leave_one_out=True),
        lambda u: torch.nn.functional.normalize(u, dim=-1),
    ),
    "sphere, pairs": (
        VonMisesFisherKDEEntropy(3.0, 2),
        lambda u: torch.nn.functional.normalize(u.unflatten(1, (2, 2)), dim=-1).flatten(1),
    ),
    "simplex": (DirichletKDEEntropy(8.0), lambda u: u.softmax(-1)),
    "simplex, pairs": (DirichletKDEEntropy(8.0, 2), lambda u: u.unflatten(1, (2, 2)).softmax(-1).flatten(1)),
    "categories": (CategoricalEntropy(), lambda u: u.softmax(-1)),
    "pairs of categories": (CategoricalEntropy(2), lambda u: u.unflatten(1, (2, 2)).softmax(-1).flatten(1)),
    "expansion": (LogDetEntropy(expansion=True), lambda u: u),
    "expansion, few samples": (LogDetEntropy(expansion=True), lambda u: u[:3]),
    "published": (PublishedLogDetEntropy(4), lambda u: torch.nn.functional.normalize(u, dim=-1)),
    "published, pairs": (
        PublishedLogDetEntropy(2),
        lambda u: torch.nn.functional.normalize(u.unflatten(1, (2, 2)), dim=-1).flatten(1),
    ),
    "vicreg": (VarianceCovarianceEntropy(), lambda u: 0.5 * u),
    "vicreg, few samples": (VarianceCovarianceEntropy(), lambda u: 0.5 * u[:3]),
}


@pytest.mark.parametrize(("estimator", "project"), DIFFERENTIATED.values(), ids=DIFFERENTIATED)
def test_gradients_in_the_space_equal_finite_differences(estimator, project):
    u = normal(9, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: estimator(project(u)), u)
    # The value is the same in single precision and for another order of the samples.
    z = project(u).detach()
    torch.testing.assert_close(estimator(z.float()), estimator(z.flip(0)).float(), atol=1e-5, rtol=1e-4)


IN_HALF_PRECISION = {
    "kde, sphere": (VonMisesFisherKDEEntropy(5.0), lambda u: torch.nn.functional.normalize(u, dim=-1)),
    "kde, many dimensions": (VonMisesFisherKDEEntropy(50.0, 300), lambda u: torch.nn.functional.normalize(u, dim=-1)),
    "knn": (KNNEntropy(sphere_dim=300), lambda u: torch.nn.functional.normalize(u, dim=-1)),
    "simplex": (DirichletKDEEntropy(8.0), lambda u: u.softmax(-1)),
    "categories": (CategoricalEntropy(), lambda u: u.softmax(-1)),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("estimator", "project"), IN_HALF_PRECISION.values(), ids=IN_HALF_PRECISION)
def test_half_precision_in_the_space_is_computed_in_single_precision(estimator, project, dtype, monkeypatch):
    v = project(normal(60, 300)).to(dtype)
    value = estimator(v)
    assert value.dtype == torch.float32
    with pytest.raises(InputError, match=r"off the unit sphere|not probabilities"):
        estimator(1.1 * v)
    # In double precision, the samples that were rounded to 16 bits would be rejected.
    monkeypatch.setattr(type(estimator), "_check_space", lambda *_: None)
    assert float(value) == pytest.approx(float(estimator(v.double())), rel=1e-5)
