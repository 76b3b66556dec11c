"""Reading pictures from a folder, or a zip, of class folders: list the files and decode the pixels."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import track

from kalmanssl.errors import InputError, first_line
from kalmanssl.utils.optional import import_optional

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageFile", "list_images", "pick_per_class", "pillow", "read_images", "resized_to", "summary_of_broken"]

_ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_SPLITS = {"test", "train", "training", "val", "valid", "validation"}
_LONG = 2000  # number of files from which a progress bar is shown
_NAMED = 3  # number of broken files named in the warning


@dataclass(frozen=True)
class ImageFile:
    """A picture: its path in the folder or zip, and its class folder (None without one)."""

    name: str
    label: str | None


def pillow() -> Any:
    """Return the module `PIL.Image`; the error without it says how to install it."""
    return import_optional("PIL.Image", "reading and resizing images", "images", package="pillow")


def list_images(path: Path, split: str | None) -> list[ImageFile]:
    """Return the pictures below a folder or in a zip, sorted by name, see `Images.from_folder`.

    Symbolic links are followed, except those to a folder that contains them.

    Raises
    ------
    InputError
        If the path does not exist, is neither a folder nor a zip, contains no pictures, has ambiguous classes, or
        contains a folder that cannot be read.
    """
    if path.is_dir():
        names = [PurePosixPath(found.relative_to(path).as_posix()) for found in _files_below(path)]
    elif path.is_file():
        with _opened(path) as archive:
            names = [PurePosixPath(entry.filename) for entry in archive.infolist() if not entry.is_dir()]
    else:
        raise InputError(f"there is no file or folder {path}", parameter="path")
    # Archives made on a Mac hold a shadow "._name" of every file, below __MACOSX.
    hidden = [n for n in names if any(part.startswith((".", "__MACOSX")) for part in n.parts)]
    pictures = sorted(set(names) - set(hidden))
    pictures = [name for name in pictures if name.suffix.lower() in _ENDINGS]
    if not pictures:
        raise InputError(f"{path} holds no images; known endings are {', '.join(sorted(_ENDINGS))}", parameter="path")
    below = _below_split(path, pictures, split)
    labels = [folders[0] if folders else None for folders in below.values()]
    if None in labels and any(labels):
        stray = next(name for name, folders in below.items() if not folders)
        raise InputError(
            f"{path} has images in class folders and {stray} outside of them: move or delete one kind", parameter="path"
        )
    if split is None and any(labels) and set(labels) <= _SPLITS:
        raise InputError(
            f"{path} has the folders {sorted(set(filter(None, labels)))}: choose one by split=", parameter="split"
        )
    return [ImageFile(str(name), label) for name, label in zip(below, labels, strict=True)]


def pick_per_class(files: Sequence[ImageFile], max_per_class: int, random_state: int) -> list[ImageFile]:
    """Return at most `max_per_class` random files of each class, in their original order."""
    rng = np.random.default_rng(random_state)
    kept: list[int] = []
    for label in sorted({f.label or "" for f in files}):
        members = [i for i, f in enumerate(files) if (f.label or "") == label]
        kept += rng.permutation(members)[:max_per_class].tolist()
    return [files[i] for i in sorted(kept)]


def read_images(
    path: Path, files: Sequence[ImageFile], size: int | None, channels: int | None, on_error: str, progress: bool
) -> tuple[np.ndarray, list[int], list[str]]:
    """Decode pictures; return the pixels, uint8 (n, channels, height, width), the indices read, and the broken files.

    Raises
    ------
    InputError
        If a picture is broken and `on_error` is "raise", if sizes or channels differ and none is given, if no
        picture can be read, or if the set does not fit into memory.
    """
    if size is not None:
        _check_memory(len(files), (channels or 1, size, size))
    opened: AbstractContextManager[Any] = nullcontext() if path.is_dir() else _opened(path)
    images = np.empty((0, 0, 0, 0), np.uint8)
    kept: list[int] = []
    broken: list[str] = []
    with opened as archive:
        raw: Callable[[str], bytes] = archive.read if archive else lambda name: (path / name).read_bytes()
        bar = track(
            enumerate(files),
            f"reading {path.name}",
            total=len(files),
            console=Console(stderr=True),
            disable=not progress or len(files) < _LONG,
        )
        for i, file in bar:
            try:
                pixels = _decoded(raw(file.name), size, channels)
            except Exception as error:  # decoders raise many different exceptions on broken files
                reason = _reason(error)
                if on_error == "raise":
                    raise InputError(
                        f"cannot read {file.name} in {path}: {reason}; repair it or pass on_error='skip'",
                        parameter="path",
                    ) from error
                broken.append(f"{file.name} ({reason})")
                continue
            if not kept:
                _check_memory(len(files), pixels.shape)
                images = np.empty((len(files), *pixels.shape), np.uint8)
            if pixels.shape != images.shape[1:]:
                _raise_shape_error(files[kept[0]], images.shape[1:], file, pixels.shape)
            images[len(kept)] = pixels
            kept.append(i)
    if not kept:
        raise InputError(
            f"none of the {len(files)} images in {path} can be read, the first: {broken[0]}", parameter="path"
        )
    return images[: len(kept)], kept, broken


def resized_to(picture: Image, size: int) -> Image:
    """Return the central square of a picture as `size` by `size` pixels, by bicubic interpolation with antialiasing."""
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = picture if width == height else picture.crop((left, top, left + side, top + side))
    return square.resize((size, size), pillow().Resampling.BICUBIC)


def summary_of_broken(broken: Sequence[str], total: int) -> str:
    """Return a message of one line about the files that were skipped."""
    more = f" and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
    return f"skipped {len(broken)} of {total} images that cannot be read: {', '.join(broken[:_NAMED])}{more}"


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is neither a folder nor a readable zip: {error}", parameter="path") from error


def _files_below(folder: Path, around: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the files below a folder, following links; `around` are the resolved folders that contain it."""
    place = folder.resolve()
    if place in around:  # a link to a folder that contains it
        return
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror}", parameter="path") from error
    for path in found:
        if path.is_dir():
            yield from _files_below(path, (*around, place))
        elif path.is_file():
            yield path


def _reason(error: Exception) -> str:
    """Return in one line why a picture cannot be read; the text is reproducible."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):  # its message contains a memory address
        return "it is not a picture in a known format"
    return first_line(error)


def _below_split(
    path: Path, pictures: Sequence[PurePosixPath], split: str | None
) -> dict[PurePosixPath, tuple[str, ...]]:
    """Return the folders of each picture below the split, or below the folders that contain all pictures."""
    folders = {name: name.parts[:-1] for name in pictures}
    if split is not None:
        below = {name: f[f.index(split) + 1 :] for name, f in folders.items() if split in f}
        if not below:
            tops = sorted({f[0] for f in folders.values() if f})[:10]
            raise InputError(
                f"{path} has no images below a folder {split!r}; folders there: {', '.join(tops) or 'none'}",
                parameter="split",
            )
        return below
    while all(len(f) >= 2 for f in folders.values()) and len({f[0] for f in folders.values()}) == 1:
        folders = {name: f[1:] for name, f in folders.items()}
    return folders


def _decoded(raw: bytes, size: int | None, channels: int | None) -> np.ndarray:
    """Decode one picture, uint8 (channels, height, width)."""
    with pillow().open(io.BytesIO(raw)) as picture:
        if "exif" in picture.info:  # the orientation of photographs
            from PIL import ImageOps

            picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I;16"):  # pillow would clip these at 255
            deep = np.asarray(picture).astype(np.uint16)
            picture = pillow().fromarray(np.round(deep / 257).astype(np.uint8))
        elif picture.mode in ("I", "F"):
            raise ValueError(f"pixels of mode {picture.mode!r} have no known range; save it with 8 or 16 bits")
        gray = picture.mode in ("1", "L", "LA") if channels is None else channels == 1
        picture = picture.convert("L" if gray else "RGB")
        pixels = np.asarray(picture if size is None else resized_to(picture, size))
    return pixels[None] if gray else pixels.transpose(2, 0, 1)


def _check_memory(n: int, shape: tuple[int, ...]) -> None:
    needed = n * int(np.prod(shape))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else needed
    if needed > 0.8 * memory:
        raise InputError(
            f"{n} images of shape {shape} need {needed / 2**30:.0f} GiB, this machine has {memory / 2**30:.0f}: "
            "pass a smaller size= or max_per_class="
        )


def _raise_shape_error(first: ImageFile, shape: tuple[int, ...], other: ImageFile, found: tuple[int, ...]) -> None:
    remedy = "channels=1 or 3" if shape[0] != found[0] else "size="
    raise InputError(
        f"{other.name} is {found[0]} x {found[1]} x {found[2]} (channels, height, width) and {first.name} "
        f"{shape[0]} x {shape[1]} x {shape[2]}: pass {remedy} to make them one"
    )
