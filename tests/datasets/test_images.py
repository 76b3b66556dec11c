from __future__ import annotations

import io
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from sklearn.datasets import load_digits

from kalmanssl.datasets import ClassPairs, Images
from kalmanssl.errors import InputError


def picture(seed: int = 0, size: tuple[int, int] = (6, 5), mode: str = "RGB") -> Image.Image:
    channels = () if mode == "L" else (3,)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, *channels), np.uint8))


def encoded(image: Image.Image, kind: str = "png") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def written(path: Path, files: dict[str, bytes]) -> Path:
    """Write files into a zip, or into a folder."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def two_classes(prefix: str = "") -> dict[str, bytes]:
    return {f"{prefix}{name}/{i}.png": encoded(picture(10 * k + i)) for k, name in enumerate("ab") for i in range(4)}


@pytest.mark.parametrize("name", ["set", "set.zip"])
@pytest.mark.parametrize("prefix", ["", "around/", "around/everything/"])
def test_folders_and_zips_give_the_pixels_and_the_classes(tmp_path: Path, name: str, prefix: str) -> None:
    files = two_classes(prefix)
    path = written(tmp_path / name, files | {f"{prefix}notes.txt": b"x", "__MACOSX/._0.png": b"x", "a/._1.png": b"x"})
    read = Images.from_folder(path)
    assert read.classes == ("a", "b")
    assert read.labels is not None
    assert read.labels.tolist() == [0] * 4 + [1] * 4
    assert read.images.dtype == np.uint8
    expected = np.stack([np.asarray(picture(10 * k + i)).transpose(2, 0, 1) for k in range(2) for i in range(4)])
    np.testing.assert_array_equal(read.images, expected)


@pytest.mark.parametrize("name", ["set", "set.zip"])
def test_a_split_is_read_alone_and_must_be_named(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, two_classes("top/train/") | {"top/test/b/9.png": encoded(picture(99))})
    assert len(Images.from_folder(path, "train")) == 8
    test = Images.from_folder(path, "test", classes=["a", "b"])
    assert test.labels is not None
    assert (test.labels.tolist(), test.classes) == ([1], ("a", "b"))
    with pytest.raises(InputError, match="choose one by split="):
        Images.from_folder(path)
    with pytest.raises(InputError, match="no images below a folder 'validation'; folders there: top"):
        Images.from_folder(path, "validation")
    with pytest.raises(InputError, match="class 'a', which is not among"):
        Images.from_folder(path, "train", classes=["b", "c"])


def test_images_without_class_folders_have_no_labels(tmp_path: Path) -> None:
    read = Images.from_folder(written(tmp_path / "flat", {"0.png": encoded(picture()), "1.png": encoded(picture(1))}))
    assert (len(read), read.labels, read.classes) == (2, None, ())


def test_numbers_as_classes_are_sorted_by_value(tmp_path: Path) -> None:
    files = {f"{k}/0.png": encoded(picture(k)) for k in (10, 9, 2)}
    assert Images.from_folder(written(tmp_path / "set", files)).classes == ("2", "9", "10")


def test_max_per_class_draws_with_a_seed(tmp_path: Path) -> None:
    path = written(tmp_path / "set.zip", two_classes())
    drawn = [Images.from_folder(path, max_per_class=2, random_state=seed).images for seed in (0, 0, 1, 2, 3)]
    assert all(len(images) == 4 for images in drawn)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert any(not np.array_equal(drawn[0], other) for other in drawn[2:])
    everything = Images.from_folder(path)
    subsets = [everything.subset(2, seed) for seed in (0, 0, 1, 2, 3)]
    assert np.bincount(subsets[0].labels).tolist() == [2, 2]
    np.testing.assert_array_equal(subsets[0].images, subsets[1].images)
    assert any(not np.array_equal(subsets[0].images, other.images) for other in subsets[2:])


def test_size_takes_the_central_square_and_makes_mixed_sizes_one(tmp_path: Path) -> None:
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = [10, 100, 200]
    files = {"a/0.png": encoded(Image.fromarray(wide)), "a/1.jpg": encoded(picture(1, (40, 30)), "jpeg")}
    path = written(tmp_path / "set", files)
    read = Images.from_folder(path, size=4)
    assert read.images.shape == (2, 3, 4, 4)
    expected = np.broadcast_to(np.array([10, 100, 200])[:, None, None], (3, 4, 4))
    np.testing.assert_array_equal(read.images[0], expected)
    with pytest.raises(InputError, match=r"a/1.jpg is 3 x 40 x 30 .* and a/0.png 3 x 8 x 24: pass size="):
        Images.from_folder(path)


def test_grey_colour_alpha_palette_and_sixteen_bits(tmp_path: Path) -> None:
    grey, colour = picture(0, mode="L"), picture(1)
    path = written(tmp_path / "set", {"a/0.png": encoded(grey), "a/1.png": encoded(colour)})
    with pytest.raises(InputError, match=r"pass channels=1 or 3"):
        Images.from_folder(path)
    three = Images.from_folder(path, channels=3).images
    np.testing.assert_array_equal(three[0], np.broadcast_to(np.asarray(grey), (3, 6, 5)))
    assert Images.from_folder(path, channels=1).images.shape == (2, 1, 6, 5)
    alpha, palette = colour.copy(), colour.quantize(256)
    alpha.putalpha(128)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    others = Images.from_folder(
        written(tmp_path / "more", {"a/0.png": encoded(alpha), "a/1.png": encoded(palette), "a/2.png": encoded(colour)})
    )
    np.testing.assert_array_equal(others.images[0], others.images[2])
    np.testing.assert_array_equal(others.images[1], others.images[2])
    sixteen = Images.from_folder(written(tmp_path / "deep", {"a/0.png": encoded(deep)}))
    np.testing.assert_array_equal(sixteen.images[0, 0], np.asarray(grey))


def test_photographs_stand_upright(tmp_path: Path) -> None:
    picture_, exif = picture(), Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees counter-clockwise to see it upright
    stream = io.BytesIO()
    picture_.save(stream, "png", exif=exif)
    read = Images.from_folder(written(tmp_path / "set", {"a/0.png": stream.getvalue()}))
    np.testing.assert_array_equal(read.images[0], np.rot90(np.asarray(picture_), -1).transpose(2, 0, 1))


@pytest.mark.parametrize("content", [b"", b"no picture", encoded(picture())[:60], encoded(picture(), "jpeg")[:300]])
@pytest.mark.parametrize("name", ["set", "set.zip"])
def test_broken_files_are_named_or_skipped(tmp_path: Path, name: str, content: bytes) -> None:
    path = written(tmp_path / name, two_classes() | {"b/00.png": content})
    with pytest.raises(InputError, match=r"cannot read b/00.png in .*on_error='skip'"):
        Images.from_folder(path)
    with pytest.warns(UserWarning, match=r"skipped 1 of 9 images .*b/00.png") as caught:
        read = Images.from_folder(path, on_error="skip")
    assert len(caught) == 1
    assert read.labels is not None
    assert read.labels.tolist() == [0] * 4 + [1] * 4
    np.testing.assert_array_equal(read.images[4], np.asarray(picture(10)).transpose(2, 0, 1))


def test_a_flipped_byte_in_a_zip_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path / "set.zip", two_classes())
    raw = bytearray(path.read_bytes())
    raw[raw.index(encoded(picture(1))) + 50] ^= 1
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"cannot read a/1.png .*CRC"):
        Images.from_folder(path)


def test_what_cannot_be_read_as_a_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file or folder"):
        Images.from_folder(tmp_path / "nothing")
    with pytest.raises(InputError, match="holds no images"):
        Images.from_folder(written(tmp_path / "empty.zip", {"a/readme.txt": b"x"}))
    (tmp_path / "text.zip").write_text("not a zip")
    with pytest.raises(InputError, match="neither a folder nor a readable zip"):
        Images.from_folder(tmp_path / "text.zip")
    with pytest.raises(InputError, match=r"in class folders and stray\.png outside"):
        Images.from_folder(written(tmp_path / "mixed", two_classes() | {"stray.png": encoded(picture())}))
    with pytest.raises(InputError, match="none of the 1 images"):
        Images.from_folder(written(tmp_path / "broken", {"a/0.png": b"x"}), on_error="skip")
    path = written(tmp_path / "set", two_classes())
    for wrong in ({"on_error": "ignore"}, {"channels": 2}, {"size": 0}, {"max_per_class": 0}, {"size": 2.5}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            Images.from_folder(path, **wrong)
    with pytest.raises(InputError, match=r"need \d+ GiB, this machine has \d+: pass a smaller size="):
        Images.from_folder(path, size=200_000)


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
    with pytest.raises(InputError, match="one image or more of 360"):
        digits.select([False] * 360)
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


def test_the_package_imports_without_torch_and_pillow() -> None:
    program = "import sys; from kalmanssl.datasets import Images; Images.from_arrays([[[0.5]]]); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" not in loaded
    assert "PIL.Image" not in loaded


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "split", "shape"),
    [("cifar10/cifar10_jpeg.zip", "test", (3, 32, 32)), ("mnist/mnist_png.zip", "test", (1, 28, 28))],
)
def test_the_public_sets_read_as_they_are(data_dir: Path, name: str, split: str, shape: tuple[int, ...]) -> None:
    path = data_dir / name
    if not path.is_file():
        pytest.skip(f"REAL DATA NOT TESTED: no file {path}; set KALMANSSL_DATA to where the data are")
    begun = time.process_time()
    read = Images.from_folder(path, split, progress=False)
    rate = len(read) / (time.process_time() - begun)
    assert read.images.shape == (10_000, *shape)
    assert len(read.classes) == 10
    assert read.labels is not None
    if "cifar" in name:
        assert np.bincount(read.labels).tolist() == [1000] * 10
        assert read.images.mean((0, 2, 3)) == pytest.approx(
            [126.0, 123.7, 114.9], abs=1.5
        )  # known means of the test set
    else:
        assert np.bincount(read.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
        assert read.images.mean() / 255 == pytest.approx(0.1325, abs=0.001)
    assert rate > 500  # of CPU time; some thousands where nothing else runs
