"""Latent models of pairs: each density integrates to one, and a matched pair scores what theory says."""

import math

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import dirichlet, multivariate_normal, vonmises_fisher

from kalmanssl.distributions import Dirichlet, GaussianConditional, OnSimplex
from kalmanssl.errors import InputError
from kalmanssl.models import Categories, Euclidean, Simplex, Sphere

MODELS = {"euclidean": Euclidean(0.7), "sphere": Sphere(4.0), "simplex": Simplex(6.0), "categories": Categories(3)}


def outputs(n: int, dim: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def grid(low: float, high: float, count: int) -> np.ndarray:
    """Midpoints, for sums that are integrals."""
    step = (high - low) / count
    return low + step * (np.arange(count) + 0.5)


# --- every density against the integral over its space ---


def test_plane_integrates_to_one():
    z = torch.tensor([0.4, -1.0], dtype=torch.float64)
    x = torch.from_numpy(grid(-8, 8, 400))
    points = torch.cartesian_prod(x, x)
    density = Euclidean(0.7).conditional(z).log_prob(points).exp()
    assert float(density.sum()) * (16 / 400) ** 2 == pytest.approx(1, abs=1e-9)


def test_sphere_integrates_to_one():
    # Gauss-Legendre in the height, equal steps around: exact for the area of the sphere in three dimensions.
    height, weight = np.polynomial.legendre.leggauss(60)
    angle = grid(0, 2 * math.pi, 120)
    radius = np.sqrt(1 - height**2)[:, None]
    points = np.stack(np.broadcast_arrays(radius * np.cos(angle), radius * np.sin(angle), height[:, None]), -1)
    area = torch.from_numpy(np.repeat(weight[:, None], 120, 1) * 2 * math.pi / 120)
    points = torch.from_numpy(points)
    model = Sphere(9.0)
    z = model.project(torch.tensor([0.3, -2.0, 0.5], dtype=torch.float64))
    assert float((model.conditional(z).log_prob(points).exp() * area).sum()) == pytest.approx(1, abs=1e-9)
    assert float((model.log_prior(points).exp() * area).sum()) == pytest.approx(1, abs=1e-12)


def test_simplex_integrates_to_one():
    a, b = np.meshgrid(grid(0, 1, 1200), grid(0, 1, 1200))
    inside = a + b < 1
    points = torch.from_numpy(np.stack([a[inside], b[inside], 1 - a[inside] - b[inside]], -1))
    model = Simplex(6.0)
    z = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    for log_density in (model.conditional(z).log_prob(points), model.log_prior(points)):
        assert float(log_density.exp().sum()) / 1200**2 == pytest.approx(1, abs=2e-3)


def test_categories_sum_to_one():
    model = Categories(5, 0.6)
    certain = torch.eye(5, dtype=torch.float64)
    joint = (model.log_prior(certain)[:, None] + model.conditional(certain[:, None]).log_prob(certain)).exp()
    assert float(joint.sum()) == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(joint.diagonal(), torch.full((5,), 0.6 / 5, dtype=torch.float64), rtol=1e-6, atol=0)


# --- values from elsewhere ---


def test_plane_and_sphere_equal_scipy():
    z, other = outputs(2, 4)
    gaussian = multivariate_normal(z.numpy(), 0.7 * np.eye(4)).logpdf(other.numpy())
    assert float(Euclidean(0.7).conditional(z).log_prob(other)) == pytest.approx(gaussian)
    z, other = Sphere().project(torch.stack([z, other]))
    fisher = vonmises_fisher(z.numpy(), 4.0).logpdf(other.numpy())
    assert float(Sphere(4.0).conditional(z).log_prob(other)) == pytest.approx(fisher)


def test_precision_as_a_mean_over_dimensions():
    model = Euclidean.from_precision(5.0, dim=8)
    z, other, third = outputs(3, 8)
    difference = model.conditional(z).log_prob(other) - model.conditional(z).log_prob(third)
    expected = 5.0 * ((z - third).square().mean() - (z - other).square().mean())
    torch.testing.assert_close(difference, expected)


def test_simplex_reference_value():
    z, other = torch.tensor([[0.2, 0.3, 0.5], [0.25, 0.25, 0.5]], dtype=torch.float64)
    conditional = Simplex(7.0).conditional(z)
    assert float(conditional.log_prob(other)) == pytest.approx(2.065811, abs=1e-6)
    assert float(conditional.log_prob(other)) == pytest.approx(dirichlet(1 + 7 * z.numpy()).logpdf(other.numpy()))
    torch.testing.assert_close(conditional.mean, (1 + 7 * z) / 10)


def test_the_mode_on_the_simplex_is_the_other_latent():
    z = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    around = (z.log() + 0.02 * outputs(200, 3)).softmax(-1)
    conditional = Simplex(20.0).conditional(z)
    assert (conditional.log_prob(around) < conditional.log_prob(z)).all()


@pytest.mark.parametrize(("p", "log_odds", "temperature"), [(0.8, 3.583519, 0.279055), (0.992, 7.017506, 0.142501)])
def test_categories_reference_values(p, log_odds, temperature):
    model = Categories(10, p)
    assert float(model.temperature) == pytest.approx(temperature, abs=1e-6)
    assert float(model.conditional(torch.eye(10)).log_odds) == pytest.approx(log_odds, rel=1e-6)


def test_categories_are_averaged_over_what_the_encoder_draws():
    model = Categories(4, 0.7)
    q, other = outputs(2, 4).softmax(-1)
    table = np.full((4, 4), 0.3 / 3) + (0.7 - 0.1) * np.eye(4)
    expected = (np.outer(q, other) * np.log(table)).sum()
    assert float(model.conditional(q).log_prob(other)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dim", [2, 5])
def test_dirichlet_equals_scipy_and_has_derivatives(dim):
    a, z = outputs(3, dim).exp().requires_grad_(), outputs(3, dim, 1).softmax(-1).requires_grad_()
    expected = [dirichlet(one).logpdf(point) for one, point in zip(a.detach().numpy(), z.detach().numpy(), strict=True)]
    np.testing.assert_allclose(Dirichlet(a).log_prob(z).detach().numpy(), expected)
    assert torch.autograd.gradcheck(lambda a, z: Dirichlet(a).log_prob(z), (a, z))


def test_a_softmax_that_underflows_has_a_finite_gradient():
    u = torch.tensor([[0.0, -30.0, -120.0], [0.0, 1.0, 2.0]], requires_grad=True)
    z = OnSimplex()(u)
    assert z[0, 2] == 0
    Simplex(9.0).conditional(z[1:]).log_prob(z[:1]).sum().backward()
    assert u.grad.isfinite().all()
    assert u.grad[0, 1] > 0


def test_on_simplex_divides_by_the_temperature():
    u = outputs(4, 3)
    np.testing.assert_allclose(OnSimplex(0.5)(u).numpy(), softmax(2 * u.numpy(), -1))


# --- what holds for all of them ---


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_projected_latents_are_in_the_space(model):
    u = outputs(6, 3).float().reshape(2, 3, 3)
    z = model.project(u)
    model.check(z)
    assert model.log_prior(z).shape == (2, 3)
    assert model.conditional(z).log_prob(z.flip(0)).shape == (2, 3)
    assert model.conditional(z).log_prob(z).dtype == torch.float32


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_symmetry_is_as_stated(model):
    z, other = model.project(outputs(5, 3)), model.project(outputs(5, 3, 1))
    one = model.log_prior(z) + model.conditional(z).log_prob(other)
    two = model.log_prior(other) + model.conditional(other).log_prob(z)
    assert torch.allclose(one, two) == model.symmetric


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_detached_conditional_passes_gradients_to_the_latent_alone(model):
    z = model.project(outputs(5, 3)).requires_grad_()
    other = model.project(outputs(5, 3, 1)).requires_grad_()
    model.conditional(z).detach().log_prob(other).sum().backward()
    assert z.grad is None
    assert other.grad.abs().max() > 0
    assert torch.autograd.gradcheck(lambda z, other: model.conditional(z).log_prob(other), (z, other))


def test_matched_gaussian_pair():
    """F_LDM = 0 and F_MI is the mutual information, with the entropies in closed form."""
    s, a = torch.tensor([1.0, 2.0, 0.5]).double(), 0.8
    generator = torch.Generator().manual_seed(0)
    z = s.sqrt() * torch.randn(200_000, 3, generator=generator, dtype=torch.float64)
    other = a * z + (s * (1 - a**2)).sqrt() * torch.randn(200_000, 3, generator=generator, dtype=torch.float64)
    prior = GaussianConditional(torch.zeros(3).double(), s.diag()).log_prob(z).mean()
    alignment = prior + GaussianConditional(a * z, (1 - a**2) * s.diag()).log_prob(other).mean()
    single = torch.distributions.MultivariateNormal(torch.zeros(3).double(), s.diag()).entropy()
    joint = torch.block_diag(s.diag(), s.diag()) + a * torch.kron(torch.tensor([[0.0, 1], [1, 0]]), s.diag())
    joint_entropy = torch.distributions.MultivariateNormal(torch.zeros(6).double(), joint).entropy()
    assert float(alignment + joint_entropy) == pytest.approx(0, abs=0.01)
    assert float(alignment + 2 * single) == pytest.approx(1.532477, abs=0.01)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "model", [Euclidean(0.02), Sphere(2550.0), Sphere(1e5), Simplex(50.0), Categories(256, 0.992)], ids=repr
)
def test_half_precision_is_computed_in_single(model, dtype):
    z, other = model.project(outputs(2, 256)).to(dtype)
    value = model.conditional(z).log_prob(other)
    assert value.dtype == model.log_prior(z).dtype == torch.float32
    assert value.item() == pytest.approx(model.conditional(z.double()).log_prob(other.double()).item(), rel=1e-5)


# --- annealing ---


def test_annealing_takes_the_stated_share_of_the_way():
    model = Categories(10, 0.8, final=0.992)
    start, end, epochs = 0.279055, 0.142501, 30
    for epoch in range(1, epochs + 1):
        model.after_epoch(epochs)
        assert float(model.temperature) == pytest.approx(end + (start - end) * (1 - 4 / epochs) ** epoch, abs=1e-5)
    again = Categories(10, 0.8, final=0.992)
    again.load_state_dict(model.state_dict())
    assert again.temperature == model.temperature


def test_annealing_never_goes_past_its_end():
    model = Categories(10, 0.8, final=0.992)
    model.after_epoch(2)
    assert float(model.temperature) == pytest.approx(0.142501, abs=1e-6)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_without_an_end_nothing_is_annealed(model):
    z, other = model.project(outputs(5, 3)), model.project(outputs(5, 3, 1))
    before = model.conditional(z).log_prob(other)
    model.after_epoch(10)
    assert torch.equal(model.conditional(z).log_prob(other), before)


# --- bad input ---


@pytest.mark.parametrize(
    ("model", "z", "message"),
    [
        (Euclidean(), torch.tensor([[1.0, math.nan]]), "z has 1 of 1 latents with NaN or infinity"),
        (Sphere(), torch.tensor([[1.0, 0.0], [0.6, 0.7]]), r"1 of 2 vectors off the unit sphere .*0.15.*OnSphere"),
        (Simplex(), torch.tensor([[0.5, 0.6]]), "1 of 1 rows that are not probabilities .*OnSimplex"),
        (Simplex(), torch.tensor([[1.5, -0.5]]), "1 of 1 rows that are not probabilities"),
        (Categories(3), torch.tensor([[0.5, 0.5]]), "z has 2 columns, but there are n=3 categories"),
        (Categories(2), torch.tensor([[0.5, 0.4]]), "not probabilities"),
    ],
)
def test_latents_off_the_space(model, z, message):
    with pytest.raises(InputError, match=message) as caught:
        model.check(z)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Euclidean(0.0), "variance must be positive and finite; got 0.0"),
        (lambda: Euclidean.from_precision(-1.0, 3), "precision must be positive and finite; got -1.0"),
        (lambda: Sphere(math.inf), "concentration must be positive and finite; got inf"),
        (lambda: Simplex(-2.0), "precision must be positive and finite; got -2.0"),
        (lambda: Categories(1), "n must be a whole number, at least 2; got 1"),
        (lambda: Euclidean("a"), "variance must be a number; got 'a'"),
        (lambda: Categories(2.5), "n must be a whole number, at least 2; got 2.5"),
        (lambda: Categories(3, "a"), "match_probability must be a number; got 'a'"),
        (lambda: Categories(4, 0.25), "match_probability must be between chance, 1/4, and 1, got 0.25"),
        (lambda: Categories(4, 0.5, final=1.0), "final must be between chance, 1/4, and 1, got 1.0"),
        (lambda: OnSimplex(0.0), "temperature must be positive and finite; got 0.0"),
    ],
)
def test_bad_settings_of_pair_models(make, message):
    with pytest.raises(InputError, match=message):
        make()
