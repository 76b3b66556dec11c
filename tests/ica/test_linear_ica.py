"""Linear independent component analysis against known mixtures, closed forms and FastICA."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy import sparse, stats
from scipy.integrate import quad
from sklearn.base import clone
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils.estimator_checks import check_estimator

from kalmanssl.datasets import ornstein_uhlenbeck, stationary_variance
from kalmanssl.errors import InputError
from kalmanssl.ica import (
    GaussianSources,
    GeneralizedGaussian,
    HyperbolicSecant,
    LinearICA,
    log_likelihood,
    make_density,
)
from kalmanssl.identifiability import mean_correlation

MIXING = np.array([[1.0, 0.7, 0.2], [0.7, 1.0, -0.4], [-0.3, 0.5, 2.0]])


def sources(kind: str, n: int = 5000, dims: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return {"uniform": rng.uniform(-1, 1, (n, dims)), "laplace": rng.laplace(size=(n, dims))}[kind]


def matched(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Rows of a matrix in the order and with the signs that come closest to another's."""
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (wanted, found)]
    cosine = unit[0] @ unit[1].T
    order = np.abs(cosine).argmax(axis=1)
    assert sorted(order) == list(range(len(wanted)))
    return found[order] * np.sign(cosine[range(len(wanted)), order])[:, None]


# Densities


@pytest.mark.parametrize(
    ("density", "peer"),
    [
        (GeneralizedGaussian(1.0), stats.laplace(scale=0.5**0.5)),
        (GeneralizedGaussian(2.0), stats.norm()),
        (GeneralizedGaussian(4.0), None),
        (GeneralizedGaussian(1.7), None),
        (HyperbolicSecant(), stats.hypsecant(scale=2 / np.pi)),
        (GaussianSources([2.5]), stats.norm(scale=2.5**0.5)),
    ],
)
def test_densities_are_normalized(density, peer) -> None:
    def p(z: float) -> float:
        return float(density.log_prob(torch.tensor([[z]], dtype=torch.float64)).exp())

    variance = 2.5 if isinstance(density, GaussianSources) else 1.0
    assert 2 * quad(p, 0, 40)[0] == pytest.approx(1.0, abs=1e-7)
    assert 2 * quad(lambda z: z * z * p(z), 0, 60)[0] == pytest.approx(variance, abs=1e-6)
    if peer is not None:
        for z in (-3.0, 0.0, 0.4, 11.0):
            assert p(z) == pytest.approx(peer.pdf(z), rel=1e-12)
    assert bool(torch.isfinite(density.log_prob(torch.tensor([[-400.0]]))).all())


def test_each_gaussian_source_has_its_own_variance() -> None:
    z = torch.tensor([[0.3, -2.0]], dtype=torch.float64)
    found = GaussianSources([0.5, 4.0]).log_prob(z)
    np.testing.assert_allclose(found, stats.norm(scale=[0.5**0.5, 2.0]).logpdf(z))


# The objective


@pytest.mark.parametrize("density", [GeneralizedGaussian(4.0), GeneralizedGaussian(1.0), HyperbolicSecant()])
def test_gradient_of_the_objective(density) -> None:
    x = torch.from_numpy(sources("laplace", n=40) @ MIXING.T)
    unmixing = torch.from_numpy(np.linalg.inv(MIXING) + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda W: log_likelihood(x, W, density), (unmixing,))


def test_objective_is_the_log_density_of_the_data() -> None:
    # Laplace sources mixed by A have the density p(A⁻¹ x) / |det A|; integrated over the plane it is one.
    mixing = torch.tensor([[1.0, 0.5], [-0.3, 0.8]], dtype=torch.float64)
    grid = torch.linspace(-14, 14, 801, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    density = make_density("sech")
    each = density.log_prob(points @ torch.linalg.inv(mixing).T).sum(1) - torch.linalg.det(mixing).log()
    assert float(each.exp().sum() * (grid[1] - grid[0]) ** 2) == pytest.approx(1.0, abs=1e-6)
    mean = log_likelihood(points, torch.linalg.inv(mixing), density)
    assert float(mean) == pytest.approx(float(each.mean()), rel=1e-12)


# Recovery


@pytest.mark.parametrize(
    ("kind", "density", "least"),
    [
        ("uniform", "sub-gaussian", 0.999),
        ("laplace", "laplace", 0.998),
        ("laplace", "sech", 0.998),
    ],
)
def test_recovers_mixed_sources_as_well_as_fastica(kind: str, density: str, least: float) -> None:
    for seed in range(3):
        s = sources(kind, seed=seed)
        x = s @ MIXING.T + 5.0
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = LinearICA(density).fit(x)
        ours = mean_correlation(s, model.transform(x))
        peer = mean_correlation(s, FastICA(random_state=0, whiten="unit-variance").fit_transform(x))
        assert ours > least
        assert ours > peer - 1e-4
        assert mean_correlation(s, x) < 0.95


def test_finds_more_sources_from_any_start() -> None:
    s = sources("laplace", n=4000, dims=8)
    x = s @ np.random.default_rng(3).standard_normal((8, 8))
    ends = [LinearICA(n_starts=1, random_state=seed).fit(x) for seed in range(4)]
    assert np.ptp([end.log_likelihood_ for end in ends]) < 1e-6
    assert min(mean_correlation(s, end.transform(x)) for end in ends) > 0.995


def test_likelihood_of_the_true_model() -> None:
    n = 20_000
    rng = np.random.default_rng(0)
    s = stats.gennorm(4, scale=(stats.gennorm(4).var()) ** -0.5).rvs((n, 2), random_state=rng)
    mixing = np.array([[1.0, 0.7], [0.7, 1.0]])
    model = LinearICA("sub-gaussian").fit(s @ mixing.T)
    exact = -2 * stats.gennorm(4, scale=(stats.gennorm(4).var()) ** -0.5).entropy() - np.log(np.linalg.det(mixing))
    assert model.log_likelihood_ == pytest.approx(exact, abs=0.02)
    assert model.score(s @ mixing.T) == pytest.approx(model.log_likelihood_, abs=1e-10)
    found = matched(model.mixing_.T, mixing.T)
    np.testing.assert_allclose(found, mixing.T, atol=0.02)


def test_a_linear_map_of_the_data_changes_only_the_mixing() -> None:
    x = sources("uniform") @ MIXING.T
    turn = np.diag([1e-4, 1.0, 300.0]) @ np.random.default_rng(1).standard_normal((3, 3))
    one = LinearICA("sub-gaussian").fit(x)
    other = LinearICA("sub-gaussian").fit(x @ turn.T + 10.0)
    np.testing.assert_allclose(matched(other.unmixing_ @ turn, one.unmixing_), one.unmixing_, atol=1e-5)
    assert other.log_likelihood_ + np.linalg.slogdet(turn)[1] == pytest.approx(one.log_likelihood_, abs=1e-9)


def test_ornstein_uhlenbeck_processes_under_a_rotation() -> None:
    variances = stationary_variance((2.0, 0.2), 0.3)
    s = ornstein_uhlenbeck(steps=50_000)
    half = np.sqrt(0.5)
    rotation = np.array([[half, -half], [half, half]])
    x = s @ rotation.T
    model = LinearICA(GaussianSources(variances), unmixing="rotation").fit(x)
    np.testing.assert_allclose(model.unmixing_ @ model.unmixing_.T, np.eye(2), atol=1e-12)
    assert np.linalg.det(model.unmixing_) == pytest.approx(1.0)
    np.testing.assert_allclose(matched(model.unmixing_, rotation.T), rotation.T, atol=0.01)
    # Each source with its own variance, in this order: the maximum is at the eigenvectors of the covariance.
    np.testing.assert_allclose(np.abs(model.unmixing_ @ rotation), np.eye(2), atol=0.01)
    axes = np.linalg.eigh(np.cov(x.T))[1].T
    np.testing.assert_allclose(np.abs(model.unmixing_), np.abs(axes), atol=1e-6)
    assert mean_correlation(s, model.transform(x)) > 0.9999
    swapped = LinearICA(GaussianSources(variances[::-1]), unmixing="rotation").fit(x)
    np.testing.assert_allclose(np.abs(swapped.unmixing_), np.abs(model.unmixing_[::-1]), atol=1e-6)


def test_five_gaussian_sources_under_a_rotation() -> None:
    variances = np.array([0.1, 0.3, 1.0, 2.0, 5.0])
    rng = np.random.default_rng(4)
    s = np.sqrt(variances) * rng.standard_normal((20_000, 5))
    x = s @ np.linalg.qr(rng.standard_normal((5, 5)))[0].T
    model = LinearICA(GaussianSources(variances), unmixing="rotation").fit(x)
    assert mean_correlation(s, model.transform(x)) > 0.999
    np.testing.assert_allclose(model.transform(x).var(0), variances, rtol=0.05)


# Order and sign


@pytest.mark.parametrize(("kind", "density"), [("laplace", "sech"), ("uniform", "sub-gaussian")])
def test_scale_offset_and_start_change_neither_order_nor_sign(kind: str, density: str) -> None:
    x = sources(kind, n=2000) @ MIXING.T
    one = LinearICA(density).fit(x)
    for scale, offset, seed in (
        (1e200, 0.0, 0),
        (1e-200, 0.0, 0),
        (1.0, 1e6, 0),
        (1.0, 0.0, 5),
        ([1e-3, 1, 1e4], 1, 1),
    ):
        other = LinearICA(density, random_state=seed).fit(x * scale + offset)
        np.testing.assert_allclose(other.unmixing_ * scale, one.unmixing_, atol=1e-5)
        np.testing.assert_allclose(other.transform(x * scale + offset), one.transform(x), atol=1e-4)


def test_order_and_signs_of_the_sources_follow_the_documented_convention() -> None:
    rng = np.random.default_rng(0)
    shapes = (2.0, 0.7, 1.2)  # Gaussian, very peaked, peaked
    s = np.column_stack([stats.gennorm(b).rvs(5000, random_state=rng) for b in shapes])
    x = s @ MIXING.T
    model = LinearICA("sech").fit(x)
    found = model.transform(x)
    assert np.abs(np.corrcoef(found.T, s.T)[:3, 3:]).argmax(axis=1).tolist() == [1, 2, 0]
    assert (np.diff(stats.kurtosis(found)) < 0).all()
    correlation = np.corrcoef(found.T, x.T)[:3, 3:]
    assert (correlation[range(3), np.abs(correlation).argmax(axis=1)] > 0).all()
    mirrored = LinearICA("sech").fit(-x)
    np.testing.assert_allclose(mirrored.unmixing_, model.unmixing_, atol=1e-5)


def test_asymmetric_densities_determine_signs_and_different_densities_the_order() -> None:
    class Gumbel:
        def log_prob(self, z: torch.Tensor) -> torch.Tensor:
            u = z * (np.pi / 6**0.5) + np.euler_gamma
            return -u - (-u).exp() + np.log(np.pi / 6**0.5)

    class PeakedThenFlat:
        def log_prob(self, z: torch.Tensor) -> torch.Tensor:
            one, two = GeneralizedGaussian(1.2), GeneralizedGaussian(4.0)
            return torch.cat([one.log_prob(z[:, :1]), two.log_prob(z[:, 1:])], dim=1)

    rng = np.random.default_rng(0)
    s = stats.gumbel_r.rvs(size=(5000, 2), random_state=rng)
    model = LinearICA(Gumbel()).fit(-s @ MIXING[:2, :2].T)
    assert (stats.skew(model.transform(-s @ MIXING[:2, :2].T)) > 0.5).all()
    s = np.column_stack([rng.uniform(-1, 1, 5000), rng.laplace(size=5000)])
    x = s @ MIXING[:2, :2].T
    kurtosis = stats.kurtosis(LinearICA(PeakedThenFlat()).fit(x).transform(x))
    assert kurtosis[0] > 1
    assert kurtosis[1] < 0


# The face


def test_follows_the_conventions_of_scikit_learn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(LinearICA(), on_skip=None, on_fail=None)
    failed = {r["check_name"] for r in results if r["status"] == "failed"}
    # It wants a message of several lines.
    assert failed <= {"check_dataframe_column_names_consistency"}
    assert sum(r["status"] == "passed" for r in results) > 40


def test_names_of_the_sources() -> None:
    pandas = pytest.importorskip("pandas")
    x = pandas.DataFrame(sources("laplace", n=300) @ MIXING.T, columns=["a", "b", "c"])
    model = LinearICA().set_output(transform="pandas").fit(x)
    assert model.transform(x).columns.tolist() == ["linearica0", "linearica1", "linearica2"]
    np.testing.assert_array_equal(model.feature_names_in_, ["a", "b", "c"])
    with pytest.raises(InputError, match="feature names should match") as caught:
        model.transform(x[["b", "a", "c"]])
    assert "\n" not in str(caught.value)


def test_takes_tensors() -> None:
    x = sources("laplace", n=300) @ MIXING.T
    exact = LinearICA().fit(x)
    for dtype, atol in ((torch.float64, 0), (torch.float32, 1e-3), (torch.bfloat16, 0.1)):
        given = torch.tensor(x, requires_grad=True).to(dtype)
        np.testing.assert_allclose(LinearICA().fit(given).transform(given), exact.transform(x), atol=atol, rtol=atol)


def test_inverse_transform_and_clone() -> None:
    x = sources("laplace", n=500) @ MIXING.T + 2.0
    model = LinearICA().fit(x)
    np.testing.assert_allclose(model.inverse_transform(model.transform(x)), x, atol=1e-10)
    np.testing.assert_allclose(model.mixing_ @ model.unmixing_, np.eye(3), atol=1e-10)
    again = clone(model).fit(x)
    np.testing.assert_array_equal(again.unmixing_, model.unmixing_)
    assert model.n_features_in_ == 3
    with pytest.raises(NotFittedError):
        clone(model).transform(x)


def test_warns_when_it_has_not_converged() -> None:
    x = sources("laplace", n=500) @ MIXING.T
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        LinearICA(max_iter=1).fit(x)


def test_bad_input_is_rejected() -> None:
    x = sources("laplace", n=50) @ MIXING.T
    nan = x.copy()
    nan[4, 1] = np.nan
    doubled = np.column_stack([x, x[:, 0] - 2 * x[:, 1]])

    class Summed:
        def log_prob(self, z: torch.Tensor) -> torch.Tensor:
            return -z.abs().sum(-1)

    class Detached:
        def log_prob(self, z: torch.Tensor) -> torch.Tensor:
            return -z.detach().abs()

    class Undefined:
        def log_prob(self, z: torch.Tensor) -> torch.Tensor:
            return z.log()

    for settings, data, says in (
        ({}, nan, "X contains NaN: leave these samples out"),
        ({}, np.full_like(x, np.inf), "X contains infinity or a value too large"),
        ({}, x.astype(complex), "Complex data not supported"),
        ({}, sparse.csr_array(x), "X is sparse"),
        ({}, [[1.0, 2.0], [3.0]], "inhomogeneous"),
        ({"density": Summed()}, x, r"log_prob of the density Summed must return .* \(50, 3\), .* got \(50,\)"),
        ({"density": Detached()}, x, "density Detached has no gradient"),
        ({"density": Undefined()}, x, "density Undefined is NaN or infinite for"),
        ({"density": HyperbolicSecant}, x, "must be a name or have a method"),
        ({"random_state": np.random.default_rng(0)}, x, "random_state must be an integer"),
        ({"random_state": -1}, x, "random_state must be an integer"),
        ({"tol": "a"}, x, "tol must be a number"),
        ({"tol": -1e-3}, x, "tol must be above 0"),
        ({}, doubled, "does not have 4 linearly independent features"),
        ({"unmixing": "rotation"}, doubled, "does not have 4 linearly independent features"),
        ({}, np.column_stack([x, np.ones(50)]), "linearly independent features"),
        ({}, x[:3], "more samples than features"),
        ({}, x[0], r"2D, \(samples, features\), got shape \(3,\)"),
        ({"density": "laplac"}, x, "did you mean 'laplace'"),
        ({"density": 4.0}, x, "must be a name or have a method"),
        ({"density": GeneralizedGaussian(2.0)}, x, "exponent of 2"),
        ({"density": GaussianSources([1, 2, 3])}, x, "under a rotation"),
        ({"density": GaussianSources([1, 2]), "unmixing": "rotation"}, x, "2 variances but X has 3 features"),
        ({"unmixing": "orthogonal"}, x, "'free' or 'rotation'"),
        ({"n_starts": 0}, x, "n_starts must be"),
        ({"max_iter": 1.5}, x, "max_iter must be"),
    ):
        with pytest.raises(InputError, match=says) as caught:
            LinearICA(**settings).fit(data)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="density Summed must return"):
        log_likelihood(torch.from_numpy(x), torch.eye(3, dtype=torch.float64), Summed())
    model = LinearICA().fit(x)
    for call in (model.transform, model.score):
        with pytest.raises(InputError, match="2 features"):
            call(x[:, :2])
    with pytest.raises(InputError, match="Z must have shape"):
        model.inverse_transform(x[:, :2])
    with pytest.raises(InputError, match="Z must be numbers"):
        model.inverse_transform("a")
    for wrong in ([], [1.0, -1.0], [1.0, 1.0], [np.nan], "ab", 1.0, ["a"]):
        with pytest.raises(InputError, match="variances must"):
            GaussianSources(wrong)
    for exponent in (0.5, np.nan, np.inf, "a"):
        with pytest.raises(InputError, match="exponent"):
            GeneralizedGaussian(exponent)
