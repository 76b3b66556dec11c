from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kalmanssl.datasets import Images
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


def test_gray_color_alpha_palette_and_sixteen_bits(tmp_path: Path) -> None:
    gray, color = picture(0, mode="L"), picture(1)
    path = written(tmp_path / "set", {"a/0.png": encoded(gray), "a/1.png": encoded(color)})
    with pytest.raises(InputError, match=r"pass channels=1 or 3"):
        Images.from_folder(path)
    three = Images.from_folder(path, channels=3).images
    np.testing.assert_array_equal(three[0], np.broadcast_to(np.asarray(gray), (3, 6, 5)))
    assert Images.from_folder(path, channels=1).images.shape == (2, 1, 6, 5)
    alpha, palette = color.copy(), color.quantize(256)
    alpha.putalpha(128)
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    others = Images.from_folder(
        written(tmp_path / "more", {"a/0.png": encoded(alpha), "a/1.png": encoded(palette), "a/2.png": encoded(color)})
    )
    np.testing.assert_array_equal(others.images[0], others.images[2])
    np.testing.assert_array_equal(others.images[1], others.images[2])
    sixteen = Images.from_folder(written(tmp_path / "deep", {"a/0.png": encoded(deep)}))
    np.testing.assert_array_equal(sixteen.images[0, 0], np.asarray(gray))


def test_photographs_stand_upright(tmp_path: Path) -> None:
    picture_, exif = picture(), Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees counter-clockwise to see it upright
    stream = io.BytesIO()
    picture_.save(stream, "png", exif=exif)
    read = Images.from_folder(written(tmp_path / "set", {"a/0.png": stream.getvalue()}))
    np.testing.assert_array_equal(read.images[0], np.rot90(np.asarray(picture_), -1).transpose(2, 0, 1))


def test_links_to_class_folders_are_followed_but_not_around(tmp_path: Path) -> None:
    kept = written(tmp_path / "elsewhere", two_classes())
    expected = Images.from_folder(kept)
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in "ab":
        (linked / name).symlink_to(kept / name)
    (linked / "again").symlink_to(kept / "a")  # one folder may be two classes
    (linked / "gone").symlink_to(tmp_path / "nothing")
    (linked / "itself").symlink_to(linked / "itself")
    read = Images.from_folder(linked)
    assert read.classes == ("a", "again", "b")
    assert read.labels is not None
    np.testing.assert_array_equal(read.select(read.labels != 1).images, expected.images)
    np.testing.assert_array_equal(read.select(read.labels == 1).images, expected.images[:4])
    (kept / "a" / "up").symlink_to(kept)  # a loop
    (kept / "b" / "over").symlink_to(kept / "a")
    turned = Images.from_folder(kept)
    assert len(turned) == 4 + 4 + 4  # those of a, of b, and of a by way of b


def test_a_folder_that_may_not_be_read_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, listed = written(tmp_path / "set", two_classes()), Path.iterdir

    def iterdir(folder: Path) -> object:
        if folder.name == "b":
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(InputError, match=r"cannot read the folder .*b: Permission denied"):
        Images.from_folder(path)


@pytest.mark.parametrize("name", ["set", "set.zip"])
def test_the_message_about_a_broken_file_is_reproducible(tmp_path: Path, name: str) -> None:
    whole = encoded(picture(size=(64, 64)))
    broken = {"b/9.png": b"no picture"}, {"b/9.png": whole[: len(whole) // 2]}
    wanted = "it is not a picture in a known format", "image file is truncated"
    for i, (files, reason) in enumerate(zip(broken, wanted, strict=True)):
        path = written(tmp_path / f"{i}{name}", two_classes() | files)
        with pytest.raises(InputError) as caught:
            Images.from_folder(path)
        assert str(caught.value) == f"cannot read b/9.png in {path}: {reason}; repair it or pass on_error='skip'"
        with pytest.warns(UserWarning, match=rf"b/9.png \({reason}\)$"):
            Images.from_folder(path, on_error="skip")


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
    with pytest.raises(InputError, match="path must be a folder or a zip; got None"):
        Images.from_folder(None)  # type: ignore[arg-type]
    for wrong in (
        {"on_error": "ignore"},
        {"channels": 2},
        {"size": 0},
        {"max_per_class": 0},
        {"size": 2.5},
        {"random_state": -1},
    ):
        with pytest.raises(InputError, match=next(iter(wrong))):
            Images.from_folder(path, **wrong)
    with pytest.raises(InputError, match=r"need \d+ GiB, this machine has \d+: pass a smaller size="):
        Images.from_folder(path, size=200_000)


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
