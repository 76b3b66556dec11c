"""Sources of batches: pairs with a held-out part. Windows are in `test_windows`."""

import pytest
import torch
from torch import nn

from kalmanssl import recipes
from kalmanssl.errors import InputError
from kalmanssl.training import PairBatches, TrainingSettings, train

N = 40


def numbered(validation_fraction: float, batch_size: int = 8, seed: int = 0) -> PairBatches:
    """Pairs of the indices and of random numbers."""
    return PairBatches(N, lambda chosen: (chosen, torch.rand(len(chosen))), batch_size, seed, validation_fraction)


def indices(batches) -> list[int]:
    return torch.cat([pair[0] for pair in batches]).tolist()


def test_held_out_pairs_are_not_trained_on():
    data = numbered(0.25, batch_size=5)
    held_out, trained = indices(data.held_out.batches), indices(data.batches(0))
    assert len(held_out) == 10
    assert data.steps_per_epoch == 6
    assert sorted(held_out + trained) == list(range(N))


def test_held_out_views_are_the_same_in_every_iteration():
    data = numbered(0.25)
    once, again = list(data.held_out.batches), list(data.held_out.batches)
    assert len(once) == 1  # an incomplete last batch is left out
    for pair, same in zip(once, again, strict=True):
        torch.testing.assert_close(pair, same, rtol=0, atol=0)


def test_a_held_out_part_smaller_than_a_batch_is_one_batch():
    assert [len(pair[0]) for pair in numbered(0.1).held_out.batches] == [4]


def test_nothing_is_held_out_by_default():
    data = PairBatches(N, lambda chosen: (chosen, chosen), 8, seed=0)
    assert data.held_out is None
    assert sorted(indices(data.batches(0))) == list(range(N))


@pytest.mark.parametrize(
    ("fraction", "batch_size", "message"),
    [
        (1.0, 8, "validation_fraction must be at least 0 and below 1; got 1.0"),
        (0.01, 8, r"validation_fraction must be at least 0.05 \(two samples\); got 0.01"),
        (0.5, 21, "batch_size must be at most the 20 samples of the training part, got 21"),
        (0.5, 1, "batch_size must be a whole number, at least 2"),
    ],
)
def test_bad_settings(fraction, batch_size, message):
    with pytest.raises(InputError, match=message):
        numbered(fraction, batch_size)


def test_training_on_pairs_stops_early_and_keeps_the_weights_of_the_best_epoch(monkeypatch):
    x = torch.randn(N, 6, generator=torch.Generator().manual_seed(0))
    model = recipes.sphere_kde(4).build(nn.Linear(6, 8), 8, random_state=0)
    data = PairBatches(N, lambda chosen: (x[chosen], x[chosen]), 8, 0, validation_fraction=0.25)
    scores, seen = iter([1.0, 2.0, 0.0, 0.0, 5.0]), []

    def score(self, batch, reference):
        seen.append(self.backbone.weight.detach().clone())
        return torch.tensor(next(scores))

    monkeypatch.setattr(type(model), "held_out_scores", score)
    history: dict[str, list[float]] = {}
    train(model, data, TrainingSettings(5, 1e-3, patience=2), history, seed=0, device="cpu", progress=False)
    assert history["held_out_score"] == [1.0, 2.0, 0.0, 0.0]
    assert len(history["held_out_loss"]) == 4
    torch.testing.assert_close(model.backbone.weight.detach(), seen[1], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["sphere_kde", "simsiam"])
def test_the_held_out_score_of_pairs_changes_while_they_are_trained(name):
    x = torch.randn(N, 6, generator=torch.Generator().manual_seed(0))
    recipe = recipes.make_recipe(name, dim=4)
    model = recipe.build(nn.Linear(6, 8), 8, random_state=0)
    data = PairBatches(N, lambda chosen: (x[chosen], x[chosen].flip(1)), 8, 0, validation_fraction=0.25)
    history: dict[str, list[float]] = {}
    train(model, data, TrainingSettings(3, 1e-2), history, seed=0, device="cpu", progress=False)
    scores = history["held_out_score"]
    assert len(set(scores)) == 3
    if name == "sphere_kde":
        assert scores == [-loss for loss in history["held_out_loss"]]
    else:  # the stop-gradient loss is zero at every epoch
        model.eval()
        gains = [float(model.predictive_gain(pair)) for pair in data.held_out.batches]
        assert max(scores) == pytest.approx(sum(gains) / len(gains), rel=1e-5)
