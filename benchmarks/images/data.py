"""Images of a preset, decoded once and kept beside the results."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from kalmanssl.datasets.images import Images
from kalmanssl.errors import InputError

__all__ = ["FILES", "load", "where_is"]

FILES = {"cifar10": "cifar10/cifar10_jpeg.zip", "mnist": "mnist/mnist_png.zip"}


def where_is(name: str, given: Path | None = None) -> Path:
    """Return the zip or folder of a data set: the one given, or that below $KALMANSSL_DATA or ../shared/data.

    Raises
    ------
    InputError
        If it is not there.
    """
    folder = Path(os.environ.get("KALMANSSL_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
    path = given or folder / FILES[name]
    if not path.exists():
        raise InputError(f"{path} is not there: give the images of {name}, train/CLASS/NAME.jpg, with --data")
    return path


def load(
    name: str, train: int | None, test: int | None, cache: Path, given: Path | None = None
) -> tuple[Images, Images]:
    """Return training and test images.

    Parameters
    ----------
    name : {"digits", "cifar10", "mnist"}
    train, test : int or None
        Images of each class, always the same ones; None for all.
    cache : Path
        Folder in which decoded images are kept.
    given : Path, optional
        Zip or folder of the images, see `where_is`.

    Raises
    ------
    InputError
        If the images are not there.
    """
    if name == "digits":
        return _some(Images.digits("train"), train), _some(Images.digits("test"), test)
    kept = cache / f"{name}-{train or 'all'}-{test or 'all'}.npz"
    if not kept.is_file():
        path = where_is(name, given)
        wanted = {"train": train, "test": test}
        read = {split: Images.from_folder(path, split, max_per_class=n) for split, n in wanted.items()}
        beside = kept.with_name(f"{kept.stem}.{os.getpid()}.part.npz")
        arrays = {f"{split}_{what}": getattr(one, what) for split, one in read.items() for what in ("images", "labels")}
        np.savez(beside, classes=np.array(read["train"].classes), **arrays)
        os.replace(beside, kept)
    with np.load(kept) as found:
        classes = tuple(str(one) for one in found["classes"])
        first, second = (Images(found[f"{s}_images"], found[f"{s}_labels"], classes) for s in ("train", "test"))
    return first, second


def _some(images: Images, per_class: int | None) -> Images:
    return images if per_class is None else images.subset(per_class)
