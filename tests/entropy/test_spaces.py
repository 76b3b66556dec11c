"""Entropies on the sphere, on the simplex and of categories, and approximations of the log-determinant."""

import math

import numpy as np
import pytest
import torch
from scipy.special import ive
from scipy.stats import dirichlet, vonmises_fisher

from kalmanssl.entropy import (
    ENTROPIES,
    SPACES,
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


def normal(n, dim, seed=0, dtype=torch.float64):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def directions(n, dim, seed=0):
    return torch.nn.functional.normalize(normal(n, dim, seed), dim=1)


def probabilities(n, dim, seed=0):
    """Draw uniform samples on the simplex, as normalized exponential variables."""
    e = -torch.rand(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).log()
    return e / e.sum(1, keepdim=True)


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


# --- second-order expansion, and VICReg's penalties ---


def correlated(strength):
    """Return samples with a given sample covariance, and that covariance; `strength` scales the correlations."""
    white = torch.linalg.qr(normal(50, 6) - normal(50, 6).mean(0))[0] * 7  # 7² = 49 = N − 1
    rho = strength * torch.corrcoef(normal(12, 6, 3).T)
    cov = rho - rho.diagonal().diag() + torch.eye(6)
    scale = torch.linspace(0.5, 2, 6, dtype=torch.float64)
    cov = scale[:, None] * cov * scale
    return white @ torch.linalg.cholesky(cov).T, cov


def test_error_of_the_expansion_is_of_third_order_in_the_correlations():
    errors = []
    for strength in (0.08, 0.04, 0.02):
        v, cov = correlated(strength)
        torch.testing.assert_close(torch.cov(v.T), cov)
        exact = LogDetEntropy(ridge=0.0)(v)
        torch.testing.assert_close(
            exact, torch.distributions.MultivariateNormal(torch.zeros(6).double(), cov).entropy()
        )
        errors.append(abs(float(LogDetEntropy(ridge=0.0, expansion=True)(v) - exact)))
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(8, rel=0.2)
    # The error without correlations is of second order.
    assert errors[2] < 0.02 * abs(float(exact - 0.5 * (2 * math.pi * math.e * cov.diagonal()).log().sum()))


def test_expansion_equals_its_formula():
    v = normal(30, 4) @ normal(4, 4, 1)
    rho = torch.corrcoef(v.T)
    expected = (v.var(0).log().sum() - 0.5 * (rho.square().sum() - 4)) / 2 + 2 * math.log(2 * math.pi * math.e)
    torch.testing.assert_close(LogDetEntropy(ridge=0.0, expansion=True)(v), expected)


@pytest.mark.parametrize("n", [300, 5])  # more samples than dimensions, and fewer
def test_expansion_follows_the_scaling_law(n):
    estimator = LogDetEntropy(expansion=True)
    v = normal(n, 8).requires_grad_()
    torch.testing.assert_close(estimator(1e3 * v), estimator(v) + 8 * math.log(1e3))
    (gradient,) = torch.autograd.grad(estimator(v), v)
    assert float((v.detach() * gradient).sum()) == pytest.approx(8, abs=1e-9)


@pytest.mark.parametrize(("n", "dim"), [(40, 6), (6, 40)])
def test_vicreg_equals_the_formula_of_its_penalties(n, dim):
    v = normal(n, dim) * torch.linspace(0.1, 2, dim)
    cov = np.cov(v.numpy().T)
    hinge = np.maximum(0, 1 - np.sqrt(np.diag(cov) + 1e-4)).mean()
    squares = (cov**2).sum() - (np.diag(cov) ** 2).sum()
    expected = -25 * hinge - 1 * squares / dim
    assert float(VarianceCovarianceEntropy()(v)) == pytest.approx(expected, rel=1e-9)
    other = -3 * np.maximum(0, 0.5 - np.sqrt(np.diag(cov) + 1e-4)).mean() - 0.5 * squares / dim
    assert float(VarianceCovarianceEntropy(3.0, 0.5, target=0.5)(v)) == pytest.approx(other, rel=1e-9)


def test_vicreg_has_no_penalty_for_uncorrelated_dimensions_above_the_target():
    white = torch.linalg.qr(normal(50, 6) - normal(50, 6).mean(0))[0] * 14
    assert float(VarianceCovarianceEntropy()(white)) == pytest.approx(0, abs=1e-9)


# --- the log-determinant of the published code ---


def published_in_loops(views):
    """Compute the published formula entry by entry, with its five differences from the expansion."""
    dim = views[0].shape[1]
    rows = [row - view.mean(0) for view in views for row in view]  # pooled, each view centered by its own mean
    total = 0.0
    cov = np.zeros((dim, dim))
    for i in range(dim):
        for j in range(dim):
            cov[i, j] = sum(row[i] * row[j] for row in rows) / (len(rows) - 1) + 1e-6  # added to every entry
    variance = [cov[i, i] + 1e-9 for i in range(dim)]
    for i in range(dim):
        total += math.log(variance[i])
        for j in range(dim):
            if i != j:
                total -= 0.5 * (cov[i, j] ** 2 / (variance[i] * variance[j] + 1e-9)) ** 2  # the fourth power
    return total / dim  # not divided by 2


@pytest.mark.parametrize("std", [1.0, 1e-3])  # the constants of the formula have an effect only if it is small
def test_published_logdet_equals_its_formula(std):
    u = std * normal(9, 4) + (std < 1)
    u_other = u + 0.5 * std * normal(9, 4, 1) + std
    z, other = (torch.nn.functional.normalize(one, dim=1) for one in (u, u_other))
    estimator = PublishedLogDetEntropy(4)
    single = [estimator(one) for one in (z, other)]
    assert [float(one) for one in single] == pytest.approx([published_in_loops([v.numpy()]) for v in (z, other)])
    pair = float(estimator(torch.cat([z, other], 1)))
    assert pair == pytest.approx(published_in_loops([z.numpy(), other.numpy()]), rel=1e-10)
    # Apart from the factor, it differs from the equation in the paper.
    paper = 0.5 * LogDetEntropy(expansion=True)(torch.cat([z, other], 1)) / 2 - 0.5 * math.log(2 * math.pi * math.e)
    assert abs(pair - float(paper)) > 0.05


def test_published_logdet_does_not_depend_on_which_views_are_paired():
    z, other = directions(30, 4), directions(30, 4, 1)
    estimator = PublishedLogDetEntropy(4)
    torch.testing.assert_close(estimator(torch.cat([z, other], 1)), estimator(torch.cat([z, other.roll(7, 0)], 1)))


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
    monkeypatch.setattr(
        type(estimator), "_check_space", lambda *_: None
    )  # rounded to 16 bits, they are outside by double precision
    assert float(value) == pytest.approx(float(estimator(v.double())), rel=1e-5)


# --- supported spaces and input validation ---

KINDS = {
    "knn": {"euclidean": KNNEntropy(), "sphere": KNNEntropy(sphere_dim=3)},
    "logdet": {"euclidean": LogDetEntropy(), "sphere": LogDetEntropy()},
    "kde": {
        "euclidean": GaussianKDEEntropy(),
        "sphere": VonMisesFisherKDEEntropy(sphere_dim=3),
        "simplex": DirichletKDEEntropy(simplex_dim=3),
    },
    "vicreg": {"euclidean": VarianceCovarianceEntropy()},
    "categorical": {"categories": CategoricalEntropy(3)},
    "stopgrad": {"euclidean": None, "sphere": None, "simplex": None},
}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", ENTROPIES)
def test_every_name_supports_only_its_spaces(name, space):
    if space in KINDS[name]:
        made = make_entropy(name, space=space, dim=3)
        assert KINDS[name][space] in (made, None)
        assert make_entropy(made, space=space) is made
        return
    with pytest.raises(InputError, match=f"entropy '{name}' does not support the space {space!r}: .*use ") as caught:
        make_entropy(name, space=space, dim=3)
    assert "\n" not in str(caught.value)
    for made in KINDS[name].values():
        if made is not None:
            with pytest.raises(InputError, match=f"does not support the space {space!r}: "):
                make_entropy(made, space=space)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_entropy("kde", space="ball"), "no space 'ball': use one of 'euclidean', 'sphere'"),
        (lambda: make_entropy("knn", space="sphere"), "'knn' for the space 'sphere' needs dim"),
        (lambda: make_entropy(KNNEntropy(), space="sphere"), "for the space 'sphere' needs sphere_dim"),
        (lambda: make_entropy("knn", space="simplex"), "does not converge there: use 'kde'"),
        (lambda: make_entropy("kde", space="sphere", dim=3, bandwidth=1.0), "entropy 'kde': .*bandwidth"),
        (lambda: VonMisesFisherKDEEntropy(0.0), "concentration must be positive and finite; got 0.0"),
        (lambda: VonMisesFisherKDEEntropy("scot"), "concentration must be a number, 'scott' or 'silverman'"),
        (lambda: VonMisesFisherKDEEntropy(sphere_dim=1), "sphere_dim must be a whole number, at least 2; got 1"),
        (lambda: VonMisesFisherKDEEntropy(sphere_dim=3)(directions(9, 4)), "4 columns, not a multiple of sphere_dim=3"),
        (lambda: VonMisesFisherKDEEntropy()(normal(9, 4)), "v has 9 of 9 vectors off the unit sphere"),
        (lambda: VonMisesFisherKDEEntropy()(directions(9, 4).mul(math.nan)), "v has 9 of 9 rows with NaN"),
        (lambda: VonMisesFisherKDEEntropy()(directions(1, 4)), "v has 1 sample, but a kernel density needs"),
        (lambda: VonMisesFisherKDEEntropy()(torch.eye(3)[[0] * 4]), "the 4 samples of v lie on one point"),
        (lambda: DirichletKDEEntropy(0.0), "precision must be positive and finite; got 0.0"),
        (lambda: DirichletKDEEntropy(simplex_dim=1), "simplex_dim must be a whole number, at least 2; got 1"),
        (lambda: DirichletKDEEntropy()(directions(9, 4)), "v has 9 of 9 rows that are not probabilities"),
        (lambda: DirichletKDEEntropy()(torch.eye(3)[[0] * 4]), "the 4 samples of v lie on one point"),
        (lambda: CategoricalEntropy(1), "categories must be a whole number, at least 2; got 1"),
        (lambda: CategoricalEntropy(3)(probabilities(9, 4)), "v has 4 columns, but must have 3"),
        (lambda: CategoricalEntropy()(normal(9, 4)), "v has 9 of 9 rows that are not probabilities"),
        (lambda: VarianceCovarianceEntropy(-1.0), "variance must be finite and not negative, got -1.0"),
        (lambda: VarianceCovarianceEntropy(math.inf), "variance must be finite and not negative, got inf"),
        (lambda: VarianceCovarianceEntropy(target=0), "target must be finite and positive, got 0"),
        (lambda: VarianceCovarianceEntropy(pooled_dim=0), "pooled_dim must be a whole number, at least 1; got 0"),
        (lambda: VarianceCovarianceEntropy()(normal(1, 4)), "v has 1 sample, but a variance needs at least 2"),
        (lambda: LogDetEntropy(expansion=True)(normal(1, 4)), "v has 1 sample, but a variance needs at least 2"),
        (lambda: LogDetEntropy()(normal(3, 4)), "or use expansion=True"),
        (lambda: PublishedLogDetEntropy(1), "dim must be a whole number, at least 2; got 1"),
        (
            lambda: PublishedLogDetEntropy(3)(directions(9, 4)),
            "4 columns, but must have dim=3, or twice that for pairs",
        ),
        (lambda: PublishedLogDetEntropy(4)(directions(1, 4)), "v has 1 sample, but a variance needs at least 2"),
        (lambda: PublishedLogDetEntropy(3)(torch.eye(3)[[0] * 4]), "the 4 samples of v lie on one point"),
        (lambda: make_entropy(PublishedLogDetEntropy(4)), "does not support the space 'euclidean'"),
        (
            lambda: conditional_entropy(PublishedLogDetEntropy(4), directions(9, 4), directions(9, 4, 1)),
            "ignores the dependence between the latents of a pair, so .* use prior='model'",
        ),
        (
            lambda: LogDetEntropy(0.0, expansion=True)(torch.eye(3)[[0, 1, 1]]),
            "singular with ridge=0.0: a dimension is constant",
        ),
    ],
)
def test_invalid_settings_and_samples_raise(make, message):
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
