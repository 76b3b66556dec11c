"""Estimators in Euclidean space: known entropies, scaling law, precision, duplicates, subsets."""

import math

import pytest
import torch
from entropy_samples import normal

from kalmanssl.entropy import (
    GaussianKDEEntropy,
    KNNEntropy,
    LogDetEntropy,
    conditional_entropy,
    make_entropy,
)
from kalmanssl.entropy._knn import _compiled_search, _torch_search

DIMS = (1, 2, 4, 8, 16)
SAMPLES, SEEDS = 2000, 4

SAMPLE_ESTIMATORS = {
    "knn": KNNEntropy(3, clip_quantile=None),
    "knn clipped": KNNEntropy(3),
    "logdet": LogDetEntropy(),
    "kde": GaussianKDEEntropy(),
    "kde leave-one-out": GaussianKDEEntropy(leave_one_out=True),
    "kde silverman": GaussianKDEEntropy("silverman"),
}

# Biases in nats for the dimensions above, as in the docstrings.
BIAS = {
    ("knn", "normal"): (-0.01, -0.01, -0.06, -0.04, 0.52),
    ("knn", "correlated"): (-0.01, -0.01, -0.06, 0.01, 0.75),
    ("knn", "uniform"): (-0.01, 0.02, 0.22, 1.10, 3.45),
    ("knn clipped", "normal"): (-0.09, -0.10, -0.15, -0.13, 0.41),
    ("logdet", "normal"): (-0.0003, -0.001, -0.003, -0.009, -0.034),
    ("logdet", "correlated"): (-0.0003, -0.001, -0.003, -0.009, -0.034),
    ("logdet", "uniform"): tuple(d * 0.5 * math.log(2 * math.pi * math.e / 12) for d in DIMS),
    ("kde", "normal"): (0.00, -0.03, -0.25, -1.80, -6.50),
    ("kde", "uniform"): (0.06, 0.15, 0.32, -0.32, -3.66),
    ("kde leave-one-out", "normal"): (0.01, 0.01, 0.07, 0.35, 1.28),
    ("kde leave-one-out", "uniform"): (0.06, 0.16, 0.45, 1.34, 3.94),
}


def draw(kind, dim, seed):
    """Draw samples of a distribution; also return its entropy in closed form."""
    if kind == "uniform":
        return torch.rand(SAMPLES, dim, generator=torch.Generator().manual_seed(seed)), 0.0
    v, true = normal(SAMPLES, dim, seed), 0.5 * dim * math.log(2 * math.pi * math.e)
    if kind == "correlated":
        factor = torch.linalg.cholesky(0.5 * torch.eye(dim) + 0.5)
        v, true = v @ factor.T, true + 0.5 * (math.log(0.5) * (dim - 1) + math.log(0.5 + 0.5 * dim))
    return v, true


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize(("name", "kind"), BIAS)
def test_bias_equals_the_value_in_the_docstring(name, kind, dim):
    errors = []
    for seed in range(100, 100 + SEEDS):
        v, true = draw(kind, dim, seed)
        errors.append(float(SAMPLE_ESTIMATORS[name](v)) - true)
    # The sampling error of one estimate is at most sqrt(Var[log p]/N) ≈ sqrt(D/2N) for a normal, or 0.06 at D = 16.
    tolerance = 4 * math.sqrt((dim / 2 + 0.6) / SAMPLES / SEEDS) + 0.01
    assert sum(errors) / SEEDS == pytest.approx(BIAS[name, kind][DIMS.index(dim)], abs=tolerance)


@pytest.mark.parametrize(("dim", "true"), [(1, 1.4189), (2, 2.8379), (5, 7.0947)])
def test_knn_estimates_the_entropy_of_a_standard_normal_distribution(dim, true):
    assert float(KNNEntropy(3, clip_quantile=None)(normal(4000, dim))) == pytest.approx(true, abs=0.1)


@pytest.mark.parametrize(("dim", "area"), [(2, 2 * math.pi), (3, 4 * math.pi), (4, 2 * math.pi**2)])
def test_knn_of_uniform_unit_vectors_is_the_log_of_the_area_of_the_sphere(dim, area):
    one, other = (torch.nn.functional.normalize(normal(4000, dim, seed), dim=1) for seed in (0, 1))
    estimator = KNNEntropy(3, clip_quantile=None, sphere_dim=dim)
    assert float(estimator(one)) == pytest.approx(math.log(area), abs=0.05)
    assert float(conditional_entropy(estimator, one, other)) == pytest.approx(math.log(area), abs=0.15)


def test_gaussian_and_von_mises_fisher_kernels_have_the_same_gradient_along_the_sphere():
    v = torch.nn.functional.normalize(normal(60, 3, dtype=torch.float64), dim=1).requires_grad_()
    gamma = 4.0
    log_normalizer = math.log(gamma / (4 * math.pi * math.sinh(gamma)))
    kernel = -((gamma * v @ v.T + log_normalizer).logsumexp(1) - math.log(60)).mean()
    gaussian = GaussianKDEEntropy(gamma**-0.5)(v)
    (ours,) = torch.autograd.grad(gaussian, v)
    (expected,) = torch.autograd.grad(kernel, v)
    to_tangent_space = torch.eye(3) - v.detach()[:, :, None] * v.detach()[:, None]
    torch.testing.assert_close(to_tangent_space @ ours[:, :, None], to_tangent_space @ expected[:, :, None])


def test_knn_equals_the_estimate_from_a_tree_search():
    from scipy.spatial import cKDTree
    from scipy.special import digamma, gammaln

    v = normal(1500, 5, dtype=torch.float64)
    radius = cKDTree(v.numpy()).query(v.numpy(), 5)[0][:, 4]
    ball = 2.5 * math.log(math.pi) - gammaln(3.5)
    expected = digamma(1500) - digamma(4) + ball + 5 * torch.tensor(radius).log().mean().item()
    assert float(KNNEntropy(4, clip_quantile=None)(v)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "dim", "k"), [(5, 1, 4), (64, 3, 1), (700, 8, 3), (1100, 32, 10)])
def test_the_compiled_and_the_torch_search_find_the_same_neighbors(n, dim, k, dtype):
    v = normal(n, dim).to(dtype)
    assert torch.equal(_compiled_search(v, k), _torch_search(v, k))


def test_the_value_and_the_gradient_of_knn_do_not_depend_on_the_search(monkeypatch):
    results = []
    for has_compiler in (True, False):
        monkeypatch.setattr("kalmanssl.entropy._knn.has_compiler", lambda has=has_compiler: has)
        v = normal(500, 6).requires_grad_()
        value = KNNEntropy()(v)
        results.append((value.detach(), *torch.autograd.grad(value, v)))
    for compiled, by_torch in zip(*results, strict=True):
        torch.testing.assert_close(compiled, by_torch, rtol=0, atol=0)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(("distance", "width"), [(1000, 0.1), (10, 1e-3), (1, 1e-4)])
def test_knn_finds_neighbors_in_tight_clusters_far_apart_in_single_precision(distance, width, compiled, monkeypatch):
    from scipy.spatial import cKDTree
    from scipy.special import digamma, gammaln

    monkeypatch.setattr("kalmanssl.entropy._knn.has_compiler", lambda: compiled)

    v = (distance * normal(8, 5)[torch.arange(400) % 8] + width * normal(400, 5, seed=1)).requires_grad_()
    radius = cKDTree(v.detach().double()).query(v.detach().double(), 4)[0][:, 3]
    ball = 2.5 * math.log(math.pi) - gammaln(3.5)
    expected = digamma(400) - digamma(3) + ball + 5 * torch.tensor(radius).log().mean().item()
    estimate = KNNEntropy(clip_quantile=None)(v)
    assert estimate.item() == pytest.approx(expected, abs=0.02)
    double = v.detach().double().requires_grad_()
    (slope,) = torch.autograd.grad(estimate, v)
    (exact,) = torch.autograd.grad(KNNEntropy(clip_quantile=None)(double), double)
    # If two distances are equal in single precision, either of the two neighbors may be selected.
    assert (slope.double() - exact).norm() < 0.15 * exact.norm()


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_kde_of_narrow_clusters_far_apart_is_accurate_in_single_precision(leave_one_out):
    v = (1000 * normal(8, 5)[torch.arange(400) % 8] + 0.1 * normal(400, 5, seed=1)).requires_grad_()
    estimator, double = GaussianKDEEntropy(0.05, leave_one_out=leave_one_out), v.detach().double().requires_grad_()
    value, exact = estimator(v), estimator(double)
    assert value.item() == pytest.approx(exact.item(), abs=0.02)
    slopes = [torch.autograd.grad(one, some)[0].double() for one, some in ((value, v), (exact, double))]
    torch.testing.assert_close(*slopes, rtol=0.05, atol=0.005)


@pytest.mark.parametrize("scale", [1e25, 1e-25])
@pytest.mark.parametrize(
    "estimator", [*SAMPLE_ESTIMATORS.values(), LogDetEntropy(expansion=True)], ids=[*SAMPLE_ESTIMATORS, "expansion"]
)
def test_scaling_law_holds_if_squares_overflow_or_underflow_in_single_precision(estimator, scale):
    v = (scale * normal(300, 3)).requires_grad_()
    value = estimator(v)
    assert value.item() == pytest.approx(float(estimator(normal(300, 3))) + 3 * math.log(scale), abs=1e-3)
    (slope,) = torch.autograd.grad(value, v)
    assert float((v.detach() * slope).sum()) == pytest.approx(3.0, abs=1e-3)


def test_kde_is_finite_if_squared_distances_in_kernel_widths_would_overflow():
    v = (1e25 * normal(50, 2)).requires_grad_()
    value = GaussianKDEEntropy(1.0)(v)
    value.backward()
    assert value.item() == pytest.approx(math.log(50) + math.log(2 * math.pi), abs=1e-4)
    assert v.grad.isfinite().all()


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_kde_equals_the_mean_log_density_of_torch_distributions(leave_one_out):
    v = normal(40, 3, dtype=torch.float64)
    kernel = torch.distributions.MultivariateNormal(torch.zeros(3).double(), 0.7**2 * torch.eye(3).double())
    density = kernel.log_prob(v[:, None] - v).exp()
    if leave_one_out:
        density = density - torch.diag(density.diagonal())
    expected = -(density.sum(1) / (39 if leave_one_out else 40)).log().mean()
    torch.testing.assert_close(GaussianKDEEntropy(0.7, leave_one_out=leave_one_out)(v), expected)


def test_kde_with_fixed_bandwidth_equals_reference_values():
    v = normal(2000, 2, seed=4)
    assert float(GaussianKDEEntropy(0.3)(v)) == pytest.approx(2.849, abs=0.06)
    assert float(GaussianKDEEntropy(0.3, leave_one_out=True)(v)) == pytest.approx(2.886, abs=0.06)


def test_kde_of_distant_samples_has_its_upper_bound():
    v = 1e4 * torch.arange(50.0)[:, None]
    assert float(GaussianKDEEntropy(1.0)(v)) == pytest.approx(math.log(50) + 0.5 * math.log(2 * math.pi), abs=1e-4)


@pytest.mark.parametrize("estimator", SAMPLE_ESTIMATORS.values(), ids=SAMPLE_ESTIMATORS)
@pytest.mark.parametrize("scale", [1e-3, 7.0, 1e4])
def test_scaling_law_of_the_value(estimator, scale):
    v = normal(300, 3, dtype=torch.float64)
    torch.testing.assert_close(estimator(scale * v), estimator(v) + 3 * math.log(scale), rtol=0, atol=1e-9)


@pytest.mark.parametrize("ties", [0, 60])
@pytest.mark.parametrize("estimator", SAMPLE_ESTIMATORS.values(), ids=SAMPLE_ESTIMATORS)
def test_scaling_law_of_the_gradient(estimator, ties):
    # d H[c v] / d log c = Σ v · ∂H/∂v = D; otherwise a learned scale of the latents diverges in training.
    v = normal(300, 3, dtype=torch.float64)
    v[:ties] = v[0]
    v.requires_grad_()
    (gradient,) = torch.autograd.grad(estimator(v), v)
    assert float((v.detach() * gradient).sum()) == pytest.approx(3.0, abs=1e-9)


@pytest.mark.parametrize("estimator", SAMPLE_ESTIMATORS.values(), ids=SAMPLE_ESTIMATORS)
@pytest.mark.parametrize("mean", [100.0, 1e4])
def test_a_large_mean_does_not_change_the_estimate_in_float32(estimator, mean):
    v = normal(1000, 2)
    # Rounding of the samples themselves is 1e-3 at a mean of 1e4.
    assert float(estimator(v + mean)) == pytest.approx(float(estimator(v)), abs=0.01)


@pytest.mark.parametrize("estimator", SAMPLE_ESTIMATORS.values(), ids=SAMPLE_ESTIMATORS)
def test_order_and_rotation_of_the_samples_do_not_change_the_estimate(estimator):
    v = normal(200, 3, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(normal(3, 3, seed=2, dtype=torch.float64))
    torch.testing.assert_close(estimator(v.flip(0) @ rotation), estimator(v), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "estimator",
    [
        KNNEntropy(2, clip_quantile=None),
        LogDetEntropy(),
        GaussianKDEEntropy(0.5),
        GaussianKDEEntropy(leave_one_out=True),
    ],
    ids=repr,
)
def test_gradients_equal_finite_differences(estimator):
    v = normal(12, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(estimator, v)


def test_clipping_gives_outliers_no_gradient_and_lowers_the_estimate():
    v = normal(200, 2, dtype=torch.float64).requires_grad_()
    radius = torch.cdist(v, v).detach().fill_diagonal_(math.inf).sort(1).values[:, 2]
    v.data[radius.argmax()] *= 50
    (clipped,) = torch.autograd.grad(KNNEntropy(3, clip_quantile=0.9)(v), v)
    (unclipped,) = torch.autograd.grad(KNNEntropy(3, clip_quantile=None)(v), v)
    assert clipped[radius.argmax()].abs().max() == 0
    assert unclipped[radius.argmax()].abs().max() > 0
    assert KNNEntropy(3, clip_quantile=0.9)(v) < KNNEntropy(3, clip_quantile=None)(v)


@pytest.mark.parametrize("estimator", SAMPLE_ESTIMATORS.values(), ids=SAMPLE_ESTIMATORS)
@pytest.mark.parametrize("share", [0.3, 0.95])
def test_duplicate_samples_give_a_finite_value_and_gradient(estimator, share):
    v = normal(400, 3)
    v[: int(400 * share)] = 0.5
    v.requires_grad_()
    value = estimator(v)
    value.backward()
    value = value.detach()
    assert torch.isfinite(value)
    assert value < estimator(normal(400, 3))
    assert torch.isfinite(v.grad).all()
    assert v.grad.abs().max() > 0


def test_half_precision_is_computed_in_single_precision():
    v = normal(400, 4)
    assert LogDetEntropy()(v.bfloat16()).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(GaussianKDEEntropy()(v), GaussianKDEEntropy()(v.double()).float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["knn", "logdet", "kde"])
def test_max_samples_draws_a_reproducible_subset(name):
    v = normal(3000, 2)
    estimator = make_entropy(name, max_samples=500)
    state = torch.random.get_rng_state()
    first = estimator(v)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first, estimator(v))
    assert torch.equal(
        estimator(v, generator=torch.Generator().manual_seed(3)),
        estimator(v, generator=torch.Generator().manual_seed(3)),
    )
    assert not torch.equal(first, estimator(v, generator=torch.Generator().manual_seed(3)))
    assert float(first) == pytest.approx(2.838, abs=0.25)
    assert torch.equal(make_entropy(name, max_samples=3000)(v), make_entropy(name)(v))


def test_samples_are_not_modified():
    v = normal(100, 3)
    before = v.clone()
    for estimator in SAMPLE_ESTIMATORS.values():
        estimator(v)
    assert torch.equal(v, before)
