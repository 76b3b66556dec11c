"""Names and spaces of estimators, and rejection of invalid settings and samples."""

import math

import pytest
import torch
from entropy_samples import directions, normal, probabilities

from kalmanssl.entropy import (
    ENTROPIES,
    SPACES,
    CategoricalEntropy,
    DirichletKDEEntropy,
    GaussianKDEEntropy,
    KNNEntropy,
    LogDetEntropy,
    PublishedLogDetEntropy,
    StopGradientEntropy,
    VarianceCovarianceEntropy,
    VonMisesFisherKDEEntropy,
    conditional_entropy,
    make_entropy,
)
from kalmanssl.errors import InputError

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
        (lambda: VarianceCovarianceEntropy(-1.0), "variance must be at least 0 and finite; got -1.0"),
        (lambda: VarianceCovarianceEntropy(math.inf), "variance must be at least 0 and finite; got inf"),
        (lambda: VarianceCovarianceEntropy(target=0), "target must be positive and finite; got 0"),
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
def test_invalid_settings_and_samples_of_spaces_raise(make, message):
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["knn", "logdet", "kde", "vicreg"])
@pytest.mark.parametrize(
    ("v", "message"),
    [
        (torch.zeros(4, 5, 6), r"v must have shape \(samples, D\), got \(4, 5, 6\): pool sequences by v.flatten"),
        (torch.zeros(4), r"v must have shape \(samples, D\), got \(4,\)"),
        (torch.zeros(4, 0), r"got \(4, 0\)"),
        (torch.tensor([[0.0], [math.nan], [math.inf], [2.0]]), "v has 2 of 4 rows with NaN or infinity"),
        (torch.zeros(9, 2, dtype=torch.long), "v must be a tensor of floats, got torch.int64"),
        ([[0.0]], "v must be a tensor of floats, got list"),
        (torch.full((9, 2), 3.1), "the 9 samples of v lie on one point"),
    ],
)
def test_samples_that_are_not_a_valid_matrix_raise(name, v, message):
    with pytest.raises(InputError, match=message) as caught:
        make_entropy(name)(v)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("estimator", "n", "message"),
    [
        (KNNEntropy(3), 3, "v has 3 samples, but the k=3 nearest neighbor needs more than 3"),
        (LogDetEntropy(), 2, "v has 2 samples in 2 dimensions, but a covariance needs more samples"),
        (GaussianKDEEntropy(), 1, "v has 1 sample, but a kernel density needs at least 2"),
        (KNNEntropy(3, max_samples=2), 100, "v has 2 samples, but the k=3"),
    ],
)
def test_too_few_samples_raise(estimator, n, message):
    with pytest.raises(InputError, match=message):
        estimator(normal(n, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KNNEntropy(0), "k must be a whole number, at least 1; got 0"),
        (lambda: KNNEntropy(clip_quantile=0.0), r"clip_quantile must lie in \(0, 1\] or be None, got 0.0"),
        (lambda: KNNEntropy(sphere_dim=1), "sphere_dim must be a whole number, at least 2; got 1"),
        (lambda: KNNEntropy(sphere_dim=3)(normal(9, 4)), "v has 4 columns, not a multiple of sphere_dim=3"),
        (lambda: KNNEntropy(max_samples=1), "max_samples must be a whole number, at least 2; got 1"),
        (lambda: LogDetEntropy(ridge=-1.0), "ridge must be at least 0 and finite; got -1.0"),
        (lambda: GaussianKDEEntropy("scot"), "bandwidth must be a number, 'scott' or 'silverman', got 'scot'"),
        (lambda: GaussianKDEEntropy(0.0), "bandwidth must be positive and finite; got 0.0"),
        (lambda: KNNEntropy(2.5), "k must be a whole number, at least 1; got 2.5"),
        (lambda: KNNEntropy(clip_quantile="a"), "clip_quantile must be a number; got 'a'"),
        (lambda: KNNEntropy(max_samples=10.5), "max_samples must be a whole number, at least 2; got 10.5"),
        (lambda: LogDetEntropy(ridge=math.inf), "ridge must be at least 0 and finite; got inf"),
        (lambda: GaussianKDEEntropy(None), "bandwidth must be a number; got None"),
        (lambda: KNNEntropy(sphere_dim=4)(normal(9, 4)), "v has 9 of 9 vectors off the unit sphere"),
        (lambda: make_entropy("knm"), "no entropy 'knm': did you mean 'knn'"),
        (lambda: make_entropy("LogDet"), "did you mean 'logdet'"),
        (lambda: make_entropy("zzz"), "no entropy 'zzz': use one of 'knn', 'logdet', 'kde', 'vicreg', "),
        (lambda: make_entropy("knn", neighbors=3), "entropy 'knn': .*neighbors"),
        (lambda: make_entropy(3), "entropy must be a name or an EntropyEstimator, got 3"),
        (lambda: make_entropy(KNNEntropy(), k=3), r"settings \['k'\] can be given with a name"),
        (
            lambda: StopGradientEntropy()(normal(9, 2), normal(9, 2)),
            "needs the predictive distribution, got Tensor: give one with log_prob and detach",
        ),
        (lambda: conditional_entropy(KNNEntropy(), normal(9, 2), normal(8, 2)), "v has 9 samples and given 8"),
        (lambda: conditional_entropy(KNNEntropy(), normal(9, 2), normal(9, 2)[0]), "given must have shape"),
        (
            lambda: conditional_entropy(StopGradientEntropy(), normal(9, 2), normal(9, 2)),
            "needs an estimator from samples",
        ),
    ],
)
def test_invalid_settings_raise(make, message):
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_every_name_makes_an_estimator():
    made = {name: make_entropy(name, space=classes[0].spaces[0], dim=3) for name, classes in ENTROPIES.items()}
    assert [name for name, estimator in made.items() if estimator.conditional] == ["stopgrad"]
    mine = KNNEntropy(5)
    assert make_entropy(mine) is mine
    assert make_entropy("knn", k=5) == mine
