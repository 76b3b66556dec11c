"""Whether latents are an injective function of the data, or fold different positions together."""

import numpy as np
import pytest
import torch
from moving_dot import walk
from scipy import stats

from kalmanssl.identifiability import check_latents
from kalmanssl.identifiability._injectivity import folding_entropy, neighbor_violation

SEEDS = range(3)


def fold(p):
    return np.stack([np.abs(p[..., 0]), p[..., 1]], -1)


def bend(p):
    return np.stack([p[..., 0] + 0.1 * p[..., 0] ** 3, p[..., 1] + 0.3 * np.sin(p[..., 0])], -1)


def lose(p):
    return np.stack([p[..., 0], np.random.default_rng(0).normal(size=p.shape[:-1])], -1)


@pytest.mark.parametrize(
    ("encoder", "by_data", "by_truth"),
    [(lambda p: p, "holds", "holds"), (bend, "holds", "holds"), (fold, "fails", "fails"), (lose, "fails", "doubtful")],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_folds_are_detected_with_and_without_true_positions(encoder, by_data, by_truth, seed):
    p, x = walk(seed)
    z = encoder(p)
    report = check_latents(z, 0.9 * z, data=x, true=p)
    assert report["injective"].verdict == by_data
    assert report["folding"].verdict == by_truth


@pytest.mark.parametrize("dims", [8, 32])
def test_injectivity_holds_for_latents_of_many_dimensions(dims):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(20, 500, dims))
    first = rng.normal(size=(dims, 60)) / np.sqrt(dims)
    x = np.tanh(z @ first) + 0.1 * rng.normal(size=(20, 500, 60))
    assert check_latents(z, 0.9 * z, data=x)["injective"].verdict == "holds"
    half = z[..., : dims // 2]
    assert check_latents(half, 0.9 * half, data=x)["injective"].verdict == "fails"


@pytest.mark.parametrize("seed", SEEDS)
def test_injectivity_is_doubtful_for_data_that_are_only_noise(seed):
    p, x = walk(seed)
    noise = np.random.default_rng(seed).normal(size=x.shape)
    row = check_latents(fold(p), 0.9 * fold(p), data=noise)["injective"]
    assert row.verdict == "doubtful"
    assert "too noisy" in row.sentence


@pytest.mark.parametrize("seed", SEEDS)
def test_changing_data_noise_does_not_look_like_folds(seed):
    """Noisy frames differ from all others in both halves of the pixels, although the map is injective."""
    p, x = walk(seed)
    rng = np.random.default_rng(seed)
    noisy = x + rng.choice([0.0, 0.4], size=(*x.shape[:2], 1)) * rng.normal(size=x.shape)
    assert check_latents(p, 0.9 * p, data=noisy)["injective"].verdict == "holds"
    assert check_latents(fold(p), 0.9 * fold(p), data=noisy)["injective"].verdict == "fails"


@pytest.mark.parametrize("seed", SEEDS)
def test_data_noise_does_not_look_like_folds(seed):
    p, x = walk(seed)
    noisy = x + 0.3 * np.random.default_rng(seed).normal(size=x.shape)
    flat, place = noisy.reshape(-1, 100), np.tile(np.arange(200), len(p))
    clean = neighbor_violation(p.reshape(-1, 2), flat, place)
    assert abs(clean.ratio) < 0.02 + clean.chance
    assert clean.chance < 0.1
    folded = neighbor_violation(fold(p).reshape(-1, 2), flat, place)
    assert folded.ratio - folded.chance > 0.4


@pytest.mark.parametrize("seed", SEEDS)
def test_folding_entropy_equals_theory(seed):
    """|s| with s ~ N(mu, 1): the entropy lost is that of the sign given |s|, computed by quadrature."""
    mean = 0.7
    s = np.random.default_rng(seed).normal(mean, 1, size=(8000, 1))
    grid = np.linspace(-8, 8, 100_001)
    density = stats.norm.pdf(grid, mean)
    posterior = density / (density + density[::-1])
    expected = -(density * np.log(posterior)).sum() * (grid[1] - grid[0])
    assert folding_entropy(s, np.abs(s)).nats == pytest.approx(expected, abs=0.05)
    assert folding_entropy(s, np.sinh(s)).nats == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("seed", SEEDS)
def test_latent_noise_does_not_look_like_folds(seed):
    s = np.random.default_rng(seed).normal(size=(20_000, 2))
    z = s + 0.2 * np.random.default_rng(seed + 50).normal(size=s.shape)
    assert folding_entropy(s, z).nats == pytest.approx(0, abs=0.05)


def test_same_seed_gives_the_same_report_and_the_model_is_unchanged():
    p, x = walk(0, 2000)
    before = p.copy(), x.copy()
    state = torch.random.get_rng_state()
    one, two = (check_latents(p, 0.9 * p, data=x, true=p).to_dict() for _ in range(2))
    assert one == two
    np.testing.assert_array_equal(before[0], p)
    np.testing.assert_array_equal(before[1], x)
    assert torch.equal(state, torch.random.get_rng_state())
