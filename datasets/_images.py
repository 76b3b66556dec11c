"""Sets of small images with their classes, all in memory, and pairs of images of one class."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kalmanssl.datasets._image_files import (
    list_images,
    pick_per_class,
    pillow,
    read_images,
    resized_to,
    summary_of_broken,
)
from kalmanssl.errors import InputError
from kalmanssl.utils.arrays import as_array
from kalmanssl.utils.validation import check_choice, check_condition, check_integer

__all__ = ["ClassPairs", "Images"]

_DIGITS_TEST = 360  # number of scikit-learn's 1797 digits in the test set, about 36 of each class
_DIGITS_MAX = 16  # its gray values run from 0 to 16


@dataclass(frozen=True, eq=False)
class Images:
    """Images of one size with the classes that they belong to.

    Make them with `from_folder`, `from_arrays` or `digits`.

    Attributes
    ----------
    images : ndarray of uint8
        Pixels, (n, channels, height, width), channels 1 (gray) or 3 (red, green, blue).
    labels : ndarray of int64 or None
        Index into `classes` of each image, (n,); None if the classes are not known.
    classes : tuple of str
        Names of the classes; empty if they are not known.

    Raises
    ------
    InputError
        If a shape or a type differs from the above. The values of the labels are not checked.
    """

    images: np.ndarray = field(repr=False)
    labels: np.ndarray | None = field(repr=False)
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        valid = isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim == 4
        if not valid or images.shape[1] not in (1, 3) or 0 in images.shape:
            raise InputError(
                "images must be a uint8 array (n, channels, height, width) with 1 or 3 channels and n at least 1; "
                f"got {_described(images)}",
                parameter="images",
            )
        if labels is None:
            if len(self.classes):
                raise InputError("classes are given without labels: pass labels, one per image", parameter="labels")
        elif not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu" or labels.shape != (len(images),):
            raise InputError(
                f"labels must be whole numbers of shape ({len(images)},), one per image; got {_described(labels)}",
                parameter="labels",
            )

    @classmethod
    def from_folder(
        cls,
        path: str | Path,
        split: str | None = None,
        *,
        size: int | None = None,
        channels: int | None = None,
        classes: Sequence[str] | None = None,
        max_per_class: int | None = None,
        random_state: int = 0,
        on_error: str = "raise",
        progress: bool = True,
    ) -> Images:
        """Read a folder, or a zip, that holds one folder of images for each class.

        The files lie at ``CLASS/…/NAME.jpg``, or at ``SPLIT/CLASS/…/NAME.jpg``, with any folders around that; other
        files are passed over. Images without a class folder make a set without labels. Needs pillow
        (``pip install 'kalmanssl[images]'``).

        Parameters
        ----------
        path : str or Path
            The folder or zip.
        split : str, optional
            Read only what lies below a folder of this name, such as "train".
        size : int, optional
            Take the central square of each image and resize it to `size` by `size` pixels (bicubic). By
            default all images must have the same size.
        channels : {1, 3}, optional
            Convert all images to gray or to color. By default they stay as stored and must all have the same channels.
        classes : sequence of str, optional
            The classes that may occur, in the order of their labels: those of the training set, to read a test set
            in which one is missing. By default the folders there, sorted (by value if all are numbers).
        max_per_class : int, optional
            Read at most this many images of each class, drawn with `random_state`.
        random_state : int
            Seed of that draw.
        on_error : {"raise", "skip"}
            What to do about files that cannot be read; "skip" leaves them out and warns once with their number.
        progress : bool
            Show a bar on standard error while reading 2000 files or more.

        Raises
        ------
        InputError
            If there is nothing to read, a file is broken, sizes or channels differ, a class is not among `classes`,
            or the pixels would not fit into memory.
        """
        check_choice("on_error", on_error, ("raise", "skip"))
        if channels not in (None, 1, 3):
            raise InputError(f"channels must be 1 (gray) or 3 (color), got {channels!r}", parameter="channels")
        for name, value in (("size", size), ("max_per_class", max_per_class)):
            if value is not None:
                check_integer(name, value, 1)
        check_integer("random_state", random_state, 0)
        check_condition("path", path, isinstance(path, str | os.PathLike), "a folder or a zip")
        pillow()
        path = Path(path)
        files = list_images(path, split)
        if max_per_class is not None:
            files = pick_per_class(files, max_per_class, random_state)
        pixels, kept, broken = read_images(path, files, size, channels, on_error, progress)
        if broken:
            warnings.warn(summary_of_broken(broken, len(files)), stacklevel=2)
        if files[0].label is None:
            return cls(pixels, None, ())
        if classes is None:
            classes = _in_order({str(f.label) for f in files})
        return cls(pixels, *_coded([str(files[i].label) for i in kept], classes))

    @classmethod
    def from_arrays(
        cls,
        images: Any,
        labels: Any = None,
        *,
        classes: Sequence[str] | None = None,
        channels: str | None = None,
    ) -> Images:
        """Make a set from arrays.

        Parameters
        ----------
        images : array
            (n, height, width), (n, channels, height, width) or (n, height, width, channels) with 1 or 3 channels;
            whole numbers from 0 to 255, floats from 0 to 1, or booleans.
        labels : array, optional
            Class of each image (n,): whole numbers or names.
        classes : sequence of str, optional
            Names of the classes. With them whole numbers in `labels` are indices into `classes`; without them the
            labels that occur are sorted and counted from 0.
        channels : {"first", "last"}, optional
            Where the channels are, needed where the shape leaves it open.

        Raises
        ------
        InputError
            If a shape, a type, a value or a label does not fit.
        """
        pixels = _as_bytes(_channels_first(as_array("images", images), channels))
        if labels is None:
            if classes is not None:
                raise InputError("classes are given without labels: pass labels, one per image", parameter="labels")
            return cls(pixels, None, ())
        given = as_array("labels", labels)
        if given.shape != (len(pixels),) or given.dtype.kind not in "biuUS":
            raise InputError(
                f"labels must be whole numbers or names of shape ({len(pixels)},), one per image; "
                f"got {given.dtype} of shape {given.shape}",
                parameter="labels",
            )
        if classes is not None and given.dtype.kind in "biu":
            if given.min() < 0 or given.max() >= len(classes):
                raise InputError(
                    f"labels run from {given.min()} to {given.max()}, but there are {len(classes)} classes, "
                    f"0 to {len(classes) - 1}",
                    parameter="labels",
                )
            return cls(pixels, given.astype(np.int64), tuple(classes))
        names = [str(name) for name in given]
        return cls(pixels, *_coded(names, _in_order(set(names)) if classes is None else classes))

    @classmethod
    def digits(cls, split: str = "train") -> Images:
        """Return scikit-learn's handwritten digits: 8 x 8 pixels, gray, classes "0" to "9".

        Parameters
        ----------
        split : {"train", "test"}
            1437 images to train on or 360 to test on; the split is fixed and has the classes in equal parts.
        """
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        check_choice("split", split, ("train", "test"))
        values, labels = load_digits(return_X_y=True)
        train, test = train_test_split(np.arange(len(labels)), test_size=_DIGITS_TEST, stratify=labels, random_state=0)
        rows = np.sort(train if split == "train" else test)
        gray = (values[rows] / _DIGITS_MAX).reshape(-1, 8, 8)
        return cls.from_arrays(gray, labels[rows], classes=[str(digit) for digit in range(10)])

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def select(self, index: Any) -> Images:
        """Return the images at an index array, a mask or a slice; the classes stay as they are.

        Raises
        ------
        InputError
            If the index selects no image, is a single number, is out of range, or does not consist of whole numbers.
        """
        if not isinstance(index, slice | int | np.integer):
            index = as_array("index", index)
            index = index.astype(int) if index.size == 0 else index  # numpy makes an empty list an array of floats
        try:
            chosen = self.images[index]
        except (IndexError, TypeError) as error:
            raise InputError(f"index does not choose among {len(self)} images: {error}", parameter="index") from error
        if chosen.ndim != 4 or len(chosen) == 0:
            raise InputError(
                f"index must choose one image or more of {len(self)}; for a single one pass [i]", parameter="index"
            )
        return Images(chosen, None if self.labels is None else self.labels[index], self.classes)

    def subset(self, max_per_class: int, random_state: int = 0) -> Images:
        """Return at most `max_per_class` random images of each class (of all images without labels) in their order."""
        check_integer("max_per_class", max_per_class, 1)
        check_integer("random_state", random_state, 0)
        rng = np.random.default_rng(random_state)
        labels = np.zeros(len(self), int) if self.labels is None else self.labels
        rows = [rng.permutation(np.flatnonzero(labels == k))[:max_per_class] for k in np.unique(labels)]
        return self.select(np.sort(np.concatenate(rows)))

    def resize(self, size: int) -> Images:
        """Return the central square of every image at `size` by `size` pixels (bicubic, by pillow)."""
        check_integer("size", size, 1)
        image = pillow()
        pixels = np.empty((*self.images.shape[:2], size, size), np.uint8)
        for i, planes in enumerate(self.images):
            for channel, plane in enumerate(planes):
                pixels[i, channel] = np.asarray(resized_to(image.fromarray(plane), size))
        return Images(pixels, self.labels, self.classes)

    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation of each channel, with pixels from 0 to 1, to normalize with."""
        counts = [np.bincount(self.images[:, c].ravel(), minlength=256) for c in range(self.images.shape[1])]
        gray = np.arange(256) / 255
        means = [float(np.average(gray, weights=count)) for count in counts]
        variances = [float(np.average((gray - m) ** 2, weights=n)) for m, n in zip(means, counts, strict=True)]
        return tuple(means), tuple(v**0.5 for v in variances)


class ClassPairs:
    """Pairs of two different images of one class: a class drawn uniformly, then two of its images.

    Source: LDM paper, the pairs of its categorical experiment on MNIST (Fig. A8), where an epoch is 60000 draws.

    Parameters
    ----------
    images : Images
        With labels; classes without any image are left out.
    random_state : int
        Seed; the same seed and `number` give the same pairs.

    Raises
    ------
    InputError
        If there are no labels, a class has only one image, or the seed is negative.
    """

    def __init__(self, images: Images, random_state: int = 0) -> None:
        if images.labels is None:
            raise InputError(
                "pairs of one class need labels: make the images from class folders or pass labels=", parameter="images"
            )
        check_integer("random_state", random_state, 0)
        counts = np.bincount(images.labels, minlength=len(images.classes))
        single = np.flatnonzero(counts == 1)
        if len(single):
            raise InputError(
                f"class {images.classes[single[0]]!r} has one image, a pair needs two: leave it out", parameter="images"
            )
        self.random_state = random_state
        self._order = np.argsort(images.labels, kind="stable")
        self._first = (np.cumsum(counts) - counts)[counts > 0]
        self._counts = counts[counts > 0]

    def draw(self, n_pairs: int, number: int = 0) -> np.ndarray:
        """Return the indices (n_pairs, 2) of the pairs of epoch `number`; each epoch has a stream of its own."""
        check_integer("n_pairs", n_pairs, 1)
        check_integer("number", number, 0)
        rng = np.random.default_rng(np.random.SeedSequence(self.random_state, spawn_key=(number,)))
        group = rng.integers(len(self._counts), size=n_pairs)
        counts = self._counts[group]
        one = rng.integers(counts)
        # A step of 1 to counts - 1 around the class reaches every other image with the same probability.
        two = (one + rng.integers(1, counts)) % counts
        return self._order[self._first[group][:, None] + np.stack([one, two], axis=1)]


def _described(value: Any) -> str:
    """Return type and shape of an argument for a message."""
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def _in_order(names: set[str]) -> list[str]:
    return sorted(names, key=lambda n: (0, int(n), n) if n.isdecimal() else (1, 0, n))


def _coded(names: Sequence[str], classes: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    code = {name: i for i, name in enumerate(classes)}
    if len(code) < len(classes):
        raise InputError(f"classes must differ from each other, got {list(classes)}", parameter="classes")
    unknown = sorted(set(names) - set(code))
    if unknown:
        raise InputError(
            f"there are images of class {unknown[0]!r}, which is not among classes={list(classes)}", parameter="classes"
        )
    return np.array([code[name] for name in names], np.int64), tuple(classes)


def _channels_first(values: np.ndarray, channels: str | None) -> np.ndarray:
    if channels not in (None, "first", "last"):
        raise InputError(f"channels must be 'first' or 'last', got {channels!r}", parameter="channels")
    if values.ndim == 3:
        values = values[:, None]
    elif values.ndim == 4:
        first, last = values.shape[1] in (1, 3), values.shape[3] in (1, 3)
        if channels is None and first and last:
            raise InputError(
                f"images of shape {values.shape} may have their channels first or last: pass channels=",
                parameter="channels",
            )
        if channels == "last" or (channels is None and last):
            values = values.transpose(0, 3, 1, 2)
    if values.ndim != 4 or values.shape[1] not in (1, 3) or 0 in values.shape:
        raise InputError(
            f"images must be (n, height, width), (n, channels, height, width) or (n, height, width, channels) with 1 "
            f"or 3 channels and n at least 1; got {values.shape}",
            parameter="images",
        )
    return values


def _as_bytes(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "biuf":
        raise InputError(f"images must be numbers, got an array of {values.dtype}", parameter="images")
    if values.dtype.kind == "b":
        values = values.astype(np.uint8) * np.uint8(255)
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if not (np.isfinite(low) and np.isfinite(high)):
            raise InputError(
                f"images has {int((~np.isfinite(values)).sum())} NaN or infinite values; fill them first",
                parameter="images",
            )
        if low < 0 or high > 1:
            raise InputError(
                f"floats in images must lie in 0 to 1, got {low:g} to {high:g}: divide by 255, or undo a normalization",
                parameter="images",
            )
        return np.ascontiguousarray(np.round(255 * values).astype(np.uint8))
    if low < 0 or high > 255:
        raise InputError(f"whole numbers in images must lie in 0 to 255, got {low} to {high}", parameter="images")
    return np.array(values, np.uint8, order="C")
