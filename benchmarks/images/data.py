"""The images of a preset, decoded once and stored next to the results."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from kalmanssl.datasets import Images
from kalmanssl.errors import InputError

__all__ = ["FILES", "find_images", "load", "load_digits"]

FILES = {"cifar10": "cifar10/cifar10_jpeg.zip", "mnist": "mnist/mnist_png.zip"}


def find_images(name: str, given: Path | None = None) -> Path:
    """Return the zip or folder of a data set: the one given, or that below $KALMANSSL_DATA or ../shared/data.

    Raises
    ------
    InputError
        If it does not exist.
    """
    folder = Path(os.environ.get("KALMANSSL_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
    path = given or folder / FILES[name]
    if not path.exists():
        raise InputError(f"{path} does not exist: give the images of {name}, train/CLASS/NAME.jpg, with --data",
                         parameter="data")  # fmt: skip
    return path


def load_digits(train: int | None, test: int | None) -> tuple[Images, Images]:
    """Return training and test images of the digits of scikit-learn; see `load`, no file is needed."""
    digits = Images.digits("train"), Images.digits("test")
    first, second = (part if n is None else part.subset(n) for part, n in zip(digits, (train, test), strict=True))
    return first, second


def load(
    name: str, train: int | None, test: int | None, cache: Path, given: Path | None = None
) -> tuple[Images, Images]:
    """Return training and test images.

    Parameters
    ----------
    name : {"digits", "cifar10", "mnist"}
    train, test : int or None
        Images of each class, the same ones in every run; None for all.
    cache : Path
        Folder in which decoded images are stored.
    given : Path, optional
        Zip or folder of the images, see `find_images`.

    Raises
    ------
    InputError
        If the images are not found.
    """
    counts = {"train": train, "test": test}
    if name == "digits":
        return load_digits(train, test)
    decoded = cache / f"{name}-{train or 'all'}-{test or 'all'}.npz"
    if not decoded.is_file():
        path = find_images(name, given)
        images = {split: Images.from_folder(path, split, max_per_class=n) for split, n in counts.items()}
        arrays = {
            f"{split}_{what}": getattr(one, what) for split, one in images.items() for what in ("images", "labels")
        }
        temporary = decoded.with_name(f"{decoded.stem}.{os.getpid()}.part.npz")
        np.savez(temporary, classes=np.array(images["train"].classes), **arrays)
        os.replace(temporary, decoded)
    with np.load(decoded) as stored:
        classes = tuple(str(one) for one in stored["classes"])
        first, second = (Images(stored[f"{s}_images"], stored[f"{s}_labels"], classes) for s in counts)
    return first, second
