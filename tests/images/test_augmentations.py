from __future__ import annotations

import math
import sys
from dataclasses import replace

import kornia
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from kalmanssl.errors import InputError
from kalmanssl.images import AUGMENTATIONS, Augmentation, PairAugmentation
from kalmanssl.images._operations import adjust_colors, resample, resampling_matrix, rotate_and_shift

MANY = 1500


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise_images(n: int = 8, channels: int = 3, side: int = 32) -> Tensor:
    return torch.randint(0, 256, (n, channels, side, side), dtype=torch.uint8, generator=seeded())


def smooth_images(n: int = 8, side: int = 32) -> Tensor:
    """Coarse noise in the middle of the range, so that few values are cut off at 0 and 1."""
    coarse = 0.3 + 0.4 * torch.rand(n, 3, 4, 4, generator=seeded(1))
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")


def rate_is(observed: Tensor, probability: float) -> bool:
    """Whether a rate over many draws is within four standard errors of its probability."""
    return abs(float(observed.float().mean()) - probability) < 4 * math.sqrt(
        probability * (1 - probability) / len(observed)
    )


@pytest.mark.parametrize("out", [32, 20, 7])
def test_crops_equal_those_of_pillow(out: int) -> None:
    # Away from black and white, since pillow cuts off what overshoots between the rows and the columns.
    images = noise_images() // 2 + 64
    rng = np.random.default_rng(0)
    high, wide = rng.integers(3, 33, (2, 8))
    top, left = rng.integers(0, 33 - high), rng.integers(0, 33 - wide)
    rows = resampling_matrix(torch.tensor(top), torch.tensor(high), 32, out)
    columns = resampling_matrix(torch.tensor(left), torch.tensor(wide), 32, out, torch.arange(8) % 2 == 0)
    found = 255 * resample(images.float() / 255, rows, columns)
    for i, image in enumerate(images):
        cut = image[:, top[i] : top[i] + high[i], left[i] : left[i] + wide[i]].permute(1, 2, 0).numpy()
        expected = np.asarray(Image.fromarray(np.ascontiguousarray(cut)).resize((out, out), Image.Resampling.BICUBIC))
        expected = expected[:, ::-1] if i % 2 == 0 else expected
        # Pillow rounds to whole gray values after the rows and again after the columns.
        np.testing.assert_allclose(found[i].permute(1, 2, 0), expected, atol=1.3)


def test_crops_lie_inside_and_have_the_drawn_area_and_shape() -> None:
    # Where each pixel of a view comes from, by cropping a picture of the coordinates; the ramp survives the bicubic
    # weights but near the ends of a crop, so that lengths are told from the middle.
    ramp = (torch.arange(32) + 0.5) / 32
    picture = torch.stack([ramp[:, None].expand(32, 32), ramp.expand(32, 32), torch.zeros(32, 32)])
    crop = PairAugmentation(Augmentation(crop_scale=(0.2, 0.6), crop_ratio=(0.5, 2.0)))
    view = crop(picture.expand(MANY, -1, -1, -1), seeded())[0]
    high = (view[:, 0, 20, 16] - view[:, 0, 12, 16]) * 4 * 32
    wide = (view[:, 1, 16, 20] - view[:, 1, 16, 12]) * 4 * 32
    top, left = view[:, 0, 16, 16] * 32 - high * 16.5 / 32, view[:, 1, 16, 16] * 32 - wide * 16.5 / 32
    for start, length in ((top, high), (left, wide)):
        torch.testing.assert_close(length, length.round(), atol=1e-2, rtol=0)
        torch.testing.assert_close(start, start.round(), atol=1e-2, rtol=0)
        assert float(start.min()) > -0.01
        assert float((start + length).max()) < 32.01
        assert float(start.min()) < 0.5  # the whole range is reached
        assert float((start + length).max()) > 31.5
    area = high * wide / 1024
    assert 0.17 < float(area.min()) < 0.22
    assert 0.57 < float(area.max()) < 0.63
    assert float(area.mean()) == pytest.approx(0.4, abs=0.02)
    assert float((wide / high).log().mean()) == pytest.approx(0.0, abs=0.05)
    assert float((wide / high).log().abs().max()) == pytest.approx(math.log(2), abs=0.1)


def test_the_whole_image_is_used_if_no_crop_shape_fits() -> None:
    images = noise_images()
    wide = PairAugmentation(Augmentation(crop_scale=(0.9, 1.0), crop_ratio=(3.0, 4.0)))
    for view in wide(images, seeded()):
        torch.testing.assert_close(view, images / 255)


def test_rates_of_flip_gray_solarize_blur_and_jitter() -> None:
    image = smooth_images(1, side=8).expand(MANY, -1, -1, -1)
    mirrored = PairAugmentation(Augmentation(flip=0.3))(image, seeded())[0]
    is_mirrored = torch.isclose(mirrored, image.flip(-1), atol=1e-6).flatten(1).all(1)
    assert rate_is(is_mirrored, 0.3)
    torch.testing.assert_close(mirrored[~is_mirrored], image[~is_mirrored])

    gray = PairAugmentation(Augmentation(gray=0.2))(image, seeded())[0]
    is_gray = torch.isclose(gray[:, 0], gray[:, 1], atol=1e-5).flatten(1).all(1)
    assert rate_is(is_gray, 0.2)
    expected = kornia.color.rgb_to_grayscale(image[:1]).expand(-1, 3, -1, -1)[0]
    torch.testing.assert_close(gray[is_gray][0], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(gray[~is_gray], image[~is_gray], atol=1e-5, rtol=0)

    inverted = PairAugmentation(Augmentation(solarize=0.1))(image, seeded())[0]
    changed = (inverted != image).flatten(1).any(1)
    assert rate_is(changed, 0.1)
    assert float(inverted[changed].max()) <= 0.5
    torch.testing.assert_close(inverted[changed][0], kornia.enhance.solarize(image[0], 0.5))

    blurred = PairAugmentation(Augmentation(blur=0.5, blur_sigma=(1.0, 2.0)))(image[:400], seeded())[0]
    assert rate_is((blurred != image[:400]).flatten(1).any(1), 0.5)

    jittered = PairAugmentation(Augmentation(jitter=0.8, brightness=0.4))(image, seeded())[0]
    factor = (jittered / image).flatten(1).median(1).values
    changed = (factor - 1).abs() > 1e-5
    assert rate_is(changed, 0.8)
    assert 0.6 <= float(factor[changed].min()) < 0.61
    assert 1.39 < float(factor[changed].max()) <= 1.4
    assert float(factor[changed].mean()) == pytest.approx(1.0, abs=0.03)


def test_each_color_change_equals_that_of_kornia() -> None:
    images, factor, one = smooth_images(), torch.linspace(0.7, 1.3, 8), torch.ones(8)
    brighter = adjust_colors(images, factor, one, one)
    torch.testing.assert_close(brighter, (images * factor[:, None, None, None]).clamp(0, 1))
    contrast = adjust_colors(images, one, factor, one)
    expected = kornia.enhance.adjust_contrast_with_mean_subtraction(images, factor)
    torch.testing.assert_close(contrast, expected, atol=2e-4, rtol=0)
    saturated = adjust_colors(images, one, one, factor)
    expected = kornia.enhance.adjust_saturation_with_gray_subtraction(images, factor)
    torch.testing.assert_close(saturated, expected, atol=2e-4, rtol=0)


def test_hue_rotates_colors_as_in_hsv_but_preserves_brightness() -> None:
    images, one = smooth_images(), torch.ones(8)
    same = adjust_colors(images, one, one, one, torch.ones(8))
    torch.testing.assert_close(same, images, atol=1e-5, rtol=0)  # a whole turn
    hue = torch.tensor([0.1, -0.1, 0.05, -0.05, 0.2, -0.2, 0.02, -0.02])
    turned = adjust_colors(images, one, one, one, hue)
    luma = kornia.color.rgb_to_grayscale
    torch.testing.assert_close(luma(turned), luma(images), atol=2e-4, rtol=0)
    by_hsv = kornia.enhance.adjust_hue(images, 2 * math.pi * hue)
    # The same direction and about the same length, once the change of brightness that HSV makes is taken out.
    ours, theirs = turned - images, by_hsv - images - (luma(by_hsv) - luma(images))
    for a, b in zip(ours.flatten(1), theirs.flatten(1), strict=True):
        assert float(torch.nn.functional.cosine_similarity(a, b, dim=0)) > 0.85
        assert 0.7 < float(a.norm() / b.norm()) < 1.4


def test_gray_images_change_only_in_brightness_and_contrast() -> None:
    images, one = smooth_images()[:, :1], torch.ones(8)
    expected = kornia.enhance.adjust_contrast_with_mean_subtraction(1.2 * images, 0.7)
    found = adjust_colors(images, 1.2 * one, 0.7 * one, 0 * one, 0.3 * one)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_blur_preserves_the_mean_and_has_the_right_width() -> None:
    point = torch.zeros(300, 1, 33, 33)
    point[:, :, 16, 16] = 1.0
    blur = PairAugmentation(Augmentation(blur=1.0, blur_sigma=(1.0, 2.0)))
    view = blur(point, seeded())[0]
    torch.testing.assert_close(view.sum((1, 2, 3)), torch.ones(300))
    offset = torch.arange(33) - 16.0
    sigma = (view.sum((1, 2)) * offset.square()).sum(-1).sqrt()
    assert 0.97 < float(sigma.min()) < 1.05
    assert 1.93 < float(sigma.max()) < 2.0  # the kernel ends at three standard deviations
    tiny = PairAugmentation(Augmentation(blur=1.0))(torch.rand(4, 1, 3, 3, generator=seeded()), seeded())[0]
    assert bool(tiny.isfinite().all())


def test_rotation_zoom_and_shift_move_a_point_as_specified() -> None:
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 4, 6] = 1.0  # two to the right of the center
    zero, one, still = torch.zeros(1), torch.ones(1), torch.zeros(1, 2)

    def place(moved: Tensor) -> tuple[float, float]:
        weights = moved[0, 0] / moved.sum()
        pixels = torch.arange(9.0)
        return float((weights.sum(1) * pixels).sum()), float((weights.sum(0) * pixels).sum())

    assert place(rotate_and_shift(image, zero, one, still)) == pytest.approx((4, 6))
    assert place(rotate_and_shift(image, zero + math.pi / 2, one, still)) == pytest.approx((2, 4), abs=1e-4)  # up
    assert place(rotate_and_shift(image, zero, one, torch.tensor([[1 / 9, 2 / 9]]))) == pytest.approx((6, 7), abs=1e-4)
    assert place(rotate_and_shift(image, zero, 1.5 * one, still)) == pytest.approx((4, 7), abs=1e-4)
    narrow = torch.zeros(1, 1, 9, 5)
    narrow[0, 0, 4, 4] = 1.0
    turned = rotate_and_shift(narrow, zero + math.pi / 2, one, still)  # pixels stay square
    torch.testing.assert_close(turned[0, 0, 2, 2], torch.tensor(1.0), atol=1e-4, rtol=0)


def test_the_presets_are_those_of_the_paper() -> None:
    plane, sphere = AUGMENTATIONS["euclidean"], AUGMENTATIONS["sphere"]
    jitter = [(a.jitter, a.brightness, a.contrast, a.saturation, a.hue) for a in (plane, sphere)]
    assert jitter == [(0.8, 0.4, 0.4, 0.2, 0.1), (0.8, 0.8, 0.8, 0.8, 0.2)]
    assert (plane.crop_scale, sphere.crop_scale) == ((0.2, 1.0), (0.08, 1.0))
    rates = [(a.flip, a.gray, a.blur, a.solarize) for a in (plane, sphere)]
    assert rates == [(0.5, 0.2, 0.0, 0.1), (0.5, 0.2, 0.5, 0.0)]


def test_each_view_can_have_its_own_settings() -> None:
    one, two = AUGMENTATIONS["asymmetric"]
    assert (one.crop_scale, one.flip, one.gray, one.blur) == ((0.08, 1.0), 0.5, 0.2, 0.0)
    assert (one.jitter, one.brightness, one.contrast, one.saturation, one.hue) == (0.8, 0.4, 0.4, 0.2, 0.1)
    assert (one.solarize, two) == (0.0, replace(one, solarize=0.2))
    weak = replace(one, saturation=0.4, blur=0.5)
    assert AUGMENTATIONS["weak"] == weak
    image = smooth_images(1, side=8).expand(MANY, -1, -1, -1)
    views = PairAugmentation((Augmentation(flip=0.3), Augmentation(solarize=0.2)))(image, seeded())
    mirrored, inverted = (torch.isclose(v, image, atol=1e-6).flatten(1).all(1).logical_not() for v in views)
    assert rate_is(mirrored, 0.3)
    assert rate_is(inverted, 0.2)
    torch.testing.assert_close(views[0][mirrored], image[mirrored].flip(-1))
    assert "solarize=0.2" in repr(PairAugmentation("asymmetric"))
    assert repr(PairAugmentation("euclidean")).count("Augmentation(") == 2  # itself, and one set for both


def test_two_equal_settings_equal_one() -> None:
    images, both = noise_images(), (AUGMENTATIONS["euclidean"], AUGMENTATIONS["euclidean"])
    for a, b in zip(
        PairAugmentation("euclidean")(images, seeded()), PairAugmentation(both)(images, seeded()), strict=True
    ):
        torch.testing.assert_close(a, b, atol=0, rtol=0)


def test_tiny_preset_never_flips_and_moves_little() -> None:
    settings = AUGMENTATIONS["tiny"]
    assert settings.flip == 0
    assert settings.rotate <= 20
    image = torch.zeros(1, 1, 8, 8)
    image[..., 1:3, 1:3] = 1.0  # in one corner, where it stays
    views = PairAugmentation(replace(settings, noise=0.0))(image.expand(500, -1, -1, -1), seeded())[0]
    assert float(views[..., :4, :4].sum((1, 2, 3)).div(views.sum((1, 2, 3))).min()) > 0.75
    noisy = PairAugmentation(Augmentation(noise=0.1))(torch.full((50, 1, 8, 8), 0.5), seeded())[0]
    assert float(noisy.std()) == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
@pytest.mark.parametrize("channels", [1, 3])
def test_presets_stay_in_range_and_keep_the_shape(name: str, channels: int) -> None:
    images = noise_images(64, channels)
    for view in PairAugmentation(name)(images, seeded()):
        assert view.shape == images.shape
        assert view.dtype == torch.float32
        assert 0 <= float(view.min()) < 0.05
        assert 0.95 < float(view.max()) <= 1
    smaller = PairAugmentation(name, size=8)(images, seeded())
    assert smaller[0].shape == smaller[1].shape == (64, channels, 8, 8)


def test_zero_strength_changes_nothing() -> None:
    images = noise_images()
    augment = PairAugmentation(Augmentation(jitter=1.0, crop_scale=(1.0, 1.0), flip=1.0))
    for view in augment(images):
        torch.testing.assert_close(view, images.flip(-1) / 255, atol=1e-5, rtol=0)
    for view in PairAugmentation(Augmentation())(images):
        torch.testing.assert_close(view, images / 255)


def test_views_are_independent_of_each_other() -> None:
    image = smooth_images(1, side=8).expand(MANY, -1, -1, -1)
    one, two = PairAugmentation(Augmentation(flip=0.5, jitter=1.0, brightness=0.4))(image, seeded())
    flips = [(torch.sign(v[:, :, :, :4].mean((1, 2, 3)) - v[:, :, :, 4:].mean((1, 2, 3)))) for v in (one, two)]
    levels = [v.mean((1, 2, 3)) for v in (one, two)]
    for a, b in (flips, levels, (flips[0], levels[1])):
        assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 4 / math.sqrt(MANY)
    assert len(set(levels[0].tolist())) > MANY / 2  # and images of each other


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_the_generator_decides_everything(name: str) -> None:
    images, augment = noise_images(16), PairAugmentation(name)
    first, again, other = (augment(images, seeded(s)) for s in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], first[1])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        by_default = augment(images)
    assert torch.equal(by_default[0], first[0])
    state = torch.get_rng_state()
    augment(images, seeded())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_bytes_and_floats_agree(name: str) -> None:
    images, augment = noise_images(16), PairAugmentation(name, mean=0.4, std=0.2)
    from_bytes = augment(images, seeded())
    for floats in (images / 255, images.double() / 255):
        for a, b in zip(from_bytes, augment(floats, seeded()), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_normalization_comes_last_and_applies_to_images_for_evaluation() -> None:
    images = noise_images()
    mean, std = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
    raw, normalized = (
        PairAugmentation("euclidean", **s)(images, seeded())[1] for s in ({}, {"mean": mean, "std": std})
    )
    wanted = (raw - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(normalized, wanted, atol=1e-5, rtol=1e-5)
    plain = PairAugmentation("euclidean", mean=mean, std=std).eval_transform(images)
    wanted = (images / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(plain, wanted, atol=1e-5, rtol=1e-5)
    middle = images // 2 + 64
    small = PairAugmentation("euclidean", size=16).eval_transform(middle)
    by_pillow = Image.fromarray(middle[0].permute(1, 2, 0).numpy()).resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(255 * small[0].permute(1, 2, 0), np.asarray(by_pillow), atol=1.3)


def test_buffers_follow_the_module_and_images_keep_no_gradient() -> None:
    augment = PairAugmentation("tiny", mean=0.5, std=0.2)
    assert set(augment.state_dict()) == {"mean", "std"}
    assert not list(augment.parameters())
    images = torch.rand(2, 1, 8, 8, requires_grad=True)
    assert not augment(images)[0].requires_grad


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 8, 8), r"got \(3, 8, 8\)"),
        (torch.zeros(2, 2, 8, 8), r"got \(2, 2, 8, 8\)"),
        (torch.zeros(0, 3, 8, 8), r"got \(0, 3, 8, 8\)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.int64), "uint8 or floats"),
        (torch.full((2, 3, 8, 8), 255.0), "divide by 255"),
        (torch.full((2, 3, 8, 8), -0.1), "must be from 0 to 1, got -0.1"),
        (torch.full((2, 3, 8, 8), math.nan), "fill NaN"),
        (torch.zeros(2, 1, 8, 8), "mean and std are for 3 channels, images have 1"),
    ],
)
def test_bad_images_are_rejected(images: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PairAugmentation("euclidean", mean=(0.5, 0.5, 0.5))(images)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flip": 1.5}, "flip is a probability"),
        ({"gray": -0.1}, "gray must be 0 or more"),
        ({"noise": math.nan}, "noise must be 0 or more"),
        ({"hue": 0.6}, "hue must be at most 0.5"),
        ({"rotate": 200}, "rotate must be at most 180"),
        ({"crop_scale": (0.5, 0.2)}, "crop_scale must be"),
        ({"crop_scale": (0.5, 1.2)}, "at most 1"),
        ({"zoom": (0.0, 1.0)}, "zoom must be"),
        ({"rotate": "a"}, "rotate must be a number; got 'a'"),
        ({"crop_scale": 0.5}, r"crop_scale must be \(low, high\), got 0.5"),
        ({"crop_scale": (0.1, 0.2, 0.3)}, r"crop_scale must be \(low, high\), got"),
        ({"blur_sigma": ("a", 1.0)}, "blur_sigma must be a number; got 'a'"),
    ],
)
def test_bad_settings_are_rejected(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Augmentation(**settings)


def test_bad_arguments_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("W", (Augmentation(),), (Augmentation(), "euclidean"), None):
        with pytest.raises(InputError, match="euclidean, sphere, asymmetric, weak, tiny, an Augmentation or two, got"):
            PairAugmentation(wrong)
    with pytest.raises(InputError, match="size"):
        PairAugmentation("euclidean", size=0)
    with pytest.raises(InputError, match=r"size must be a whole number, at least 1; got 2\.5"):
        PairAugmentation("euclidean", size=2.5)
    for wrong, said in (("a", "a number, or one for each channel, got 'a'"), (math.nan, "finite, got nan")):
        with pytest.raises(InputError, match=f"mean must be {said}"):
            PairAugmentation("euclidean", mean=wrong)
    with pytest.raises(InputError, match="std must be finite, got inf"):
        PairAugmentation("euclidean", std=math.inf)
    assert Augmentation(zoom=[1.0, 1.0]) == Augmentation()
    with pytest.raises(InputError, match="std must be positive"):
        PairAugmentation("euclidean", std=(1.0, 0.0, 1.0))
    monkeypatch.setitem(sys.modules, "kornia", None)
    PairAugmentation("euclidean")
    with pytest.raises(InputError, match=r"pip install 'kalmanssl\[images\]'"):
        PairAugmentation("sphere")
    with pytest.raises(InputError, match="or blur=0"):
        PairAugmentation((Augmentation(), Augmentation(blur=0.1)))
