from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from sklearn.datasets import load_digits

from kalmanssl.datasets import ClassPairs, Images
from kalmanssl.errors import InputError


def test_arrays_of_every_layout_and_type_are_one() -> None:
    first = np.random.default_rng(0).integers(0, 256, (7, 3, 6, 5), np.uint8)
    last = first.transpose(0, 2, 3, 1)
    for given in (first, last, first.astype(np.int64), last / 255, (first / 255).astype(np.float32)):
        np.testing.assert_array_equal(Images.from_arrays(given).images, first)
    np.testing.assert_array_equal(Images.from_arrays(first[:, 0]).images, first[:, :1])
    np.testing.assert_array_equal(Images.from_arrays(first > 99).images, 255 * (first > 99))
    narrow = first[..., :3]
    np.testing.assert_array_equal(Images.from_arrays(narrow, channels="first").images, narrow)
    np.testing.assert_array_equal(Images.from_arrays(narrow, channels="last").images, narrow.transpose(0, 3, 1, 2))


def test_tensors_and_lists_of_them_are_arrays_too() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 6, 4), np.uint8)
    names = torch.tensor([2, 0, 2, 0, 0])
    given = torch.tensor(pixels / 255, requires_grad=True)
    for images in (given, list(given), given.float(), torch.tensor(pixels)):
        read = Images.from_arrays(images, names)
        np.testing.assert_array_equal(read.images, pixels)
        assert read.labels is not None
        assert read.labels.tolist() == [1, 0, 1, 0, 0]
    short = Images.from_arrays(given.bfloat16()).images.astype(int)
    assert np.abs(short - pixels).max() <= 1  # eight bits, from 0.5 to 1 in steps of 1/256
    chosen = read.select(torch.tensor([True, False, True, False, False]))
    np.testing.assert_array_equal(chosen.images, pixels[[0, 2]])


def test_labels_of_arrays() -> None:
    images = np.zeros((3, 4, 4))
    named = Images.from_arrays(images, ["dog", "ant", "dog"])
    assert named.labels is not None
    assert (named.labels.tolist(), named.classes) == ([1, 0, 1], ("ant", "dog"))
    gaps = Images.from_arrays(images, [10, 9, 10])
    assert gaps.labels is not None
    assert (gaps.labels.tolist(), gaps.classes) == ([1, 0, 1], ("9", "10"))
    indices = Images.from_arrays(images, [2, 0, 2], classes=["a", "b", "c"])
    assert indices.labels is not None
    assert (indices.labels.tolist(), indices.classes) == ([2, 0, 2], ("a", "b", "c"))


@pytest.mark.parametrize(
    ("images", "settings", "message"),
    [
        (np.full((2, 4, 4), np.nan), {}, "32 NaN or infinite"),
        (np.where(np.eye(4) > 0, np.inf, 0)[None], {}, "4 NaN or infinite"),
        (np.full((2, 4, 4), 1.5), {}, "must lie in 0 to 1, got 1.5 to 1.5: divide by 255"),
        (np.full((2, 4, 4), 256), {}, "must lie in 0 to 255, got 256"),
        (np.full((2, 4, 4), -1), {}, "got -1 to -1"),
        (np.zeros((2, 2, 4, 4)), {}, r"got \(2, 2, 4, 4\)"),
        (np.zeros((0, 3, 4, 4)), {}, r"got \(0, 3, 4, 4\)"),
        (
            [np.zeros((8, 8)), np.zeros((9, 9))],
            {},
            r"images has parts of different shapes, such as \(8, 8\) and \(9, 9\)",
        ),
        (np.zeros((4, 4)), {}, r"got \(4, 4\)"),
        (np.zeros((2, 3, 4, 3)), {}, r"may have their channels first or last: pass channels="),
        (np.zeros((2, 3, 4, 4)), {"channels": "last"}, "1 or 3 channels"),
        (np.zeros((2, 3, 4, 4)), {"channels": "middle"}, "channels must be"),
        (np.full((2, 4, 4), "x"), {}, "must be numbers"),
        (np.zeros((2, 4, 4)), {"labels": [0]}, r"of shape \(2,\)"),
        (np.zeros((2, 4, 4)), {"labels": [0.5, 1.0]}, "whole numbers or names"),
        (np.zeros((2, 4, 4)), {"labels": [0, 2], "classes": ["a", "b"]}, "run from 0 to 2, but there are 2 classes"),
        (np.zeros((2, 4, 4)), {"labels": ["a", "c"], "classes": ["a", "b"]}, "class 'c', which is not among"),
        (np.zeros((2, 4, 4)), {"labels": ["a", "b"], "classes": ["a", "b", "a"]}, "must differ"),
        (np.zeros((2, 4, 4)), {"classes": ["a", "b"]}, "without labels"),
    ],
)
def test_bad_arrays_are_refused_in_one_line(images: np.ndarray, settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Images.from_arrays(images, **settings)
    assert "\n" not in str(caught.value)


def test_digits_are_split_once_and_evenly() -> None:
    train, test = Images.digits("train"), Images.digits("test")
    assert (train.images.shape, test.images.shape) == ((1437, 1, 8, 8), (360, 1, 8, 8))
    assert train.labels is not None
    assert test.labels is not None
    assert set(np.bincount(test.labels).tolist()) <= {35, 36, 37}
    values, labels = load_digits(return_X_y=True)
    both = np.concatenate([train.images, test.images]).reshape(1797, 64) / 255 * 16
    rows = {(tuple(np.round(v).astype(int)), k) for v, k in zip(both, [*train.labels, *test.labels], strict=True)}
    assert rows == {(tuple(v.astype(int)), k) for v, k in zip(values, labels, strict=True)}
    np.testing.assert_array_equal(Images.digits("test").images, test.images)
    with pytest.raises(InputError, match="split"):
        Images.digits("validation")


def test_select_and_resize() -> None:
    digits = Images.digits("test")
    chosen = digits.select(np.array([3, 1]))
    np.testing.assert_array_equal(chosen.images, digits.images[[3, 1]])
    assert chosen.classes == digits.classes
    with pytest.raises(InputError, match=r"pass \[i\]"):
        digits.select(3)
    for none in ([False] * 360, [], slice(0, 0)):
        with pytest.raises(InputError, match="one image or more of 360"):
            digits.select(none)
    for wrong in ([360], [-361], 400, [True], np.full(361, True), np.array([0.0, 1.0]), ["a"], "a", {}, None):
        with pytest.raises(InputError, match=r"^index .*360") as caught:
            digits.select(wrong)
        assert "\n" not in str(caught.value)
    larger = chosen.resize(12)
    assert larger.images.shape == (2, 1, 12, 12)
    by_hand = Image.fromarray(chosen.images[0, 0]).resize((12, 12), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(larger.images[0, 0], np.asarray(by_hand))


def test_moments_are_those_of_the_pixels() -> None:
    images = np.random.default_rng(0).random((20, 3, 6, 5))
    mean, std = Images.from_arrays(images).moments()
    np.testing.assert_allclose(mean, images.mean((0, 2, 3)), atol=1e-3)
    np.testing.assert_allclose(std, images.std((0, 2, 3)), atol=1e-3)


def test_pairs_are_of_one_class_and_all_equally_likely() -> None:
    labels = np.array([2, 0, 2, 0, 0, 2, 2, 0, 0])  # five of class 0, none of class 1, four of class 2
    images = Images.from_arrays(np.zeros((9, 4, 4)), labels, classes=["a", "b", "c"])
    pairs = ClassPairs(images, random_state=0).draw(20_000)
    assert pairs.shape == (20_000, 2)
    np.testing.assert_array_equal(labels[pairs[:, 0]], labels[pairs[:, 1]])
    assert (pairs[:, 0] != pairs[:, 1]).all()
    for label in (0, 2):
        members = np.flatnonzero(labels == label)
        counts = [((pairs == (i, j)).all(1)).sum() for i in members for j in members if i != j]
        expected = np.full(len(counts), 10_000 / len(counts))
        assert stats.chi2.sf((np.square(counts - expected) / expected).sum(), len(counts)) > 1e-3


@pytest.mark.parametrize(
    ("images", "labels", "classes", "parameter"),
    [
        ([[[[0]]]], None, (), "images"),
        (np.zeros((2, 1, 4, 4)), None, (), "images"),
        (np.zeros((2, 4, 4), np.uint8), None, (), "images"),
        (np.zeros((2, 2, 4, 4), np.uint8), None, (), "images"),
        (np.zeros((0, 1, 4, 4), np.uint8), None, (), "images"),
        (np.zeros((2, 1, 4, 4), np.uint8), np.zeros(3, int), ("a",), "labels"),
        (np.zeros((2, 1, 4, 4), np.uint8), np.zeros(2), ("a",), "labels"),
        (np.zeros((2, 1, 4, 4), np.uint8), [0, 0], ("a",), "labels"),
        (np.zeros((2, 1, 4, 4), np.uint8), None, ("a",), "labels"),
    ],
)
def test_the_constructor_checks_shapes_and_types(images: Any, labels: Any, classes: Any, parameter: str) -> None:
    with pytest.raises(InputError) as error:
        Images(images, labels, classes)
    assert error.value.parameter == parameter
    assert "\n" not in str(error.value)


def test_pairs_are_seeded_and_differ_between_epochs() -> None:
    digits = Images.digits("test")
    draws = [ClassPairs(digits, seed).draw(50, number) for seed, number in ((0, 0), (0, 0), (0, 1), (1, 0))]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    assert not np.array_equal(draws[0], draws[3])


def test_pairs_need_two_images_of_each_class() -> None:
    with pytest.raises(InputError, match="need labels"):
        ClassPairs(Images.from_arrays(np.zeros((3, 4, 4))))
    with pytest.raises(InputError, match="class 'b' has one image"):
        ClassPairs(Images.from_arrays(np.zeros((3, 4, 4)), ["a", "a", "b"]))
    with pytest.raises(InputError, match="n_pairs"):
        ClassPairs(Images.digits("test")).draw(0)
    with pytest.raises(InputError, match="number must be a whole number, at least 0; got -1"):
        ClassPairs(Images.digits("test")).draw(2, -1)
    with pytest.raises(InputError, match="random_state must be a whole number, at least 0; got -1"):
        ClassPairs(Images.digits("test"), -1)
    with pytest.raises(InputError, match="random_state must be a whole number, at least 0; got -1"):
        Images.digits("test").subset(2, -1)


def test_the_package_imports_without_torch_and_pillow() -> None:
    program = "import sys; from kalmanssl.datasets import Images; Images.from_arrays([[[0.5]]]); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" not in loaded
    assert "PIL.Image" not in loaded
