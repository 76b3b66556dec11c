"""From images without labels to features."""

import numpy as np
import pytest
import torch
from torch import nn

from kalmanssl import recipes
from kalmanssl.datasets import Images
from kalmanssl.errors import DivergenceError, InputError
from kalmanssl.images import PairAugmentation, SmallConvEncoder, fit_images, image_features
from kalmanssl.probes import linear_probe


@pytest.fixture(scope="module")
def digits():
    return Images.digits("train").subset(60), Images.digits("test")


def fitted(images, epochs=12):
    mean, std = images.moments()
    augmentation = PairAugmentation("tiny", mean=mean, std=std)
    encoder = SmallConvEncoder(1, 8, 32, random_state=0)
    model = recipes.sphere_kde(dim=16).build(encoder, 32, random_state=0)
    before = image_features(encoder, images, augmentation)
    history = fit_images(model, images, augmentation, epochs=epochs, batch_size=100, learning_rate=3e-3, progress=False)
    return encoder, augmentation, before, history


def test_features_beat_those_of_random_weights(digits):
    train, test = digits
    encoder, augmentation, before, history = fitted(train)
    assert len(history["loss"]) == 12
    assert history["loss"][-1] < history["loss"][0]
    after, new = (image_features(encoder, images, augmentation) for images in (train, test))
    untrained = SmallConvEncoder(1, 8, 32, random_state=0)
    new_before = image_features(untrained, test, augmentation)
    score = linear_probe(after, train.labels, new, test.labels).top1
    assert score > linear_probe(before, train.labels, new_before, test.labels).top1 + 0.03
    assert score > 0.85


def test_same_seed_gives_the_same_result(digits):
    images = digits[0].select(np.arange(200))
    one, other = (image_features(e, images, a) for e, a, *_ in (fitted(images, 1), fitted(images, 1)))
    np.testing.assert_array_equal(one, other)


def test_features_do_not_depend_on_batches_and_the_mode_is_restored(digits):
    images = digits[1].select(np.arange(30))
    encoder = SmallConvEncoder(1, 8, 16, random_state=0)
    augmentation = PairAugmentation("tiny")
    encoder.train()
    many = image_features(encoder, images, augmentation, batch_size=7)
    np.testing.assert_allclose(many, image_features(encoder, images, augmentation), atol=1e-5)
    assert encoder.training
    assert many.shape == (30, 16)
    assert many.dtype == np.float32


def test_bad_networks_are_rejected(digits):
    images = digits[1].select(np.arange(10))
    with pytest.raises(InputError, match=r"network must return features of shape \(10, n_features\)"):
        image_features(nn.Identity(), images, PairAugmentation("tiny"))
    model = recipes.sphere_kde(dim=8).build(nn.Flatten(), 64, random_state=0)
    broken = PairAugmentation("tiny")
    broken.mean.fill_(float("nan"))
    with pytest.raises(InputError, match="20 of 20 latents are NaN"):
        fit_images(model, images, broken, epochs=1, batch_size=10, progress=False)
    with torch.no_grad():
        assert torch.isfinite(model(PairAugmentation("tiny").eval_transform(torch.from_numpy(images.images)))).all()


def test_a_second_fit_trains_as_the_first_did(digits):
    images = digits[0].select(np.arange(100))
    encoder = SmallConvEncoder(1, 8, 16, random_state=0)
    model = recipes.sphere_kde(dim=8).build(encoder, 16, random_state=0)
    norm = next(part for part in encoder.modules() if isinstance(part, nn.BatchNorm2d))
    seen = []
    for _ in range(2):
        before = norm.running_mean.clone()
        fit_images(model, images, PairAugmentation("tiny"), epochs=1, batch_size=50, progress=False)
        seen.append(float((norm.running_mean - before).abs().max()))
        assert not model.training
    assert min(seen) > 1e-3


def test_a_frozen_part_stays_frozen(digits):
    images = digits[0].select(np.arange(100))
    encoder = SmallConvEncoder(1, 8, 16, random_state=0)
    model = recipes.sphere_kde(dim=8).build(encoder, 16, random_state=0)
    norm = next(part for part in encoder.modules() if isinstance(part, nn.BatchNorm2d)).eval()
    before = norm.running_mean.clone()
    image_features(encoder, images, PairAugmentation("tiny"))
    assert encoder.training
    assert not norm.training
    fit_images(model, images, PairAugmentation("tiny"), epochs=1, batch_size=50, progress=False)
    torch.testing.assert_close(norm.running_mean, before, rtol=0, atol=0)


def test_the_epoch_with_the_best_held_out_score_is_kept(digits, monkeypatch):
    images = digits[0].select(np.arange(200))
    model = recipes.sphere_kde(dim=8).build(SmallConvEncoder(1, 8, 16, random_state=0), 16, random_state=0)
    scores, seen = iter([2.0, 3.0, 1.0, 1.0, 4.0]), []

    def score(self, batch, reference):
        assert len(batch[0]) == 50
        seen.append(next(self.backbone.parameters()).detach().clone())
        return torch.tensor(next(scores))

    monkeypatch.setattr(type(model), "held_out_scores", score)
    history = fit_images(
        model, images, PairAugmentation("tiny"), epochs=5, batch_size=50, validation_fraction=0.25, patience=2,
        progress=False,
    )  # fmt: skip
    assert history["held_out_score"] == [2.0, 3.0, 1.0, 1.0]
    torch.testing.assert_close(next(model.backbone.parameters()).detach(), seen[1], rtol=0, atol=0)


def test_divergence_raises_and_restores_the_initial_weights(digits):
    images = digits[0].select(np.arange(200))
    model = recipes.sphere_kde(dim=8).build(SmallConvEncoder(1, 8, 16, random_state=0), 16, random_state=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    history: dict[str, list[float]] = {}

    class OverflowingLater(PairAugmentation):
        n_calls = 0

        def __call__(self, images):
            self.n_calls += 1
            return tuple(view * (1.0 if self.n_calls <= 2 else float("inf")) for view in super().__call__(images))

    with pytest.raises(DivergenceError, match="those of the start"):
        fit_images(
            model, images, OverflowingLater("tiny"), epochs=2, batch_size=50, learning_rate=1.0, progress=False,
            history=history,
        )  # fmt: skip
    for name, value in before.items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=0)


def test_custom_augmentation(digits):
    class Shaken:
        def __call__(self, images):
            plain = self.eval_transform(images)
            return plain + 0.1 * torch.randn(plain.shape), plain + 0.1 * torch.randn(plain.shape)

        def eval_transform(self, images):
            return images.float() / 255

    images = digits[0].select(np.arange(100))
    model = recipes.euclidean_knn(dim=8).build(nn.Flatten(), 64, random_state=0)
    history: dict[str, list[float]] = {}
    fit_images(model, images, Shaken(), epochs=2, batch_size=50, progress=False, history=history)
    assert len(history["loss"]) == 2
    assert image_features(model, images, Shaken()).shape == (100, 8)


def test_bad_images_and_augmentations_are_rejected(digits):
    images = digits[0].select(np.arange(100))
    model = recipes.euclidean_knn(dim=8).build(nn.Flatten(), 64, random_state=0)
    with pytest.raises(InputError, match="images must be Images"):
        fit_images(model, images.images, PairAugmentation("tiny"), epochs=1, progress=False)
    with pytest.raises(InputError, match="return two views"):
        fit_images(model, images, "tiny", epochs=1, progress=False)
    for seed in (-1, 0.5, None):
        with pytest.raises(InputError, match="random_state must be a whole number, at least 0"):
            fit_images(model, images, PairAugmentation("tiny"), epochs=1, random_state=seed, progress=False)
