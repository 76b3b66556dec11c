"""Saved models whose files were changed or damaged are refused with one line, and nothing large is allocated."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import FILES, METADATA, REMOVED, TEXTS, WEIGHTS, places, put, put_array, put_weights, read, replaced, twice
from estimator_cases import TINY, counts
from refusals import assert_refused
from safetensors.numpy import save

from kalmanssl import KalmanSSL, Recording
from kalmanssl.errors import InputError

X = counts()
INFINITE, NAN = float("inf"), float("nan")


def recording(session: str, seed: int = 0) -> Recording:
    names = [f"{session}{unit}" for unit in range(6)]
    return Recording.from_arrays(counts(seed=seed), time=0.025 * np.arange(200), unit_ids=names, session=session)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of saved models: of an array, of a recording, of two views, and of two sessions."""
    folder = tmp_path_factory.mktemp("saved")
    KalmanSSL(**TINY).fit(X).save(folder / "array")
    KalmanSSL(**TINY).fit(recording("a")).save(folder / "recording")
    KalmanSSL(**TINY).fit(X, view=counts(seed=1)).save(folder / "views")
    KalmanSSL(**TINY).fit([recording("a"), recording("b", 1)]).save(folder / "sessions")
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return a copy of a saved model, which a test may change."""
    return lambda kind: Path(shutil.copytree(saved / kind, tmp_path / kind))


VALUES: dict[str, dict[str, Any]] = {
    "settings.latent_dim": {"billion": 10**9, "huge": 10**30, "zero": 0, "negative": -1, "fraction": 2.5, "text": "2",
                            "null": None, "list": [2], "bool": True, "nan": NAN, "other": 3, "missing": REMOVED},
    "settings.state_dim": {"billion": 10**9, "large": 10**5, "infinite": INFINITE, "other": 4, "missing": REMOVED},
    "settings.hidden": {"billion": [10**9], "number": 8, "text": "8", "deep": [[[8]]], "empty": [], "null": None},
    "settings.encoder_window": {"billion": 10**9, "text": "1", "other": 2, "missing": REMOVED},
    "settings.noise": {"unknown": "x", "other": "input", "list": [], "null": None},
    "settings.normalize": {"unknown": "x", "null": None},
    "settings.entropy": {"unknown": "x", "path": "../x", "null": None},
    "settings.random_state": {"text": "0", "negative": -1, "list": [1, 2]},
    "settings.device": {"number": 1, "list": []},
    "settings.custom_encoder": {"name": "Linear", "number": 1, "missing": REMOVED},
    "settings.encoder": {"text": "os.system"},
    "settings.unknown": {"number": 1},
    "settings": {"null": None, "list": [], "text": "x", "empty": {}, "missing": REMOVED},
    "data.n_features": {"billion": 10**9, "zero": 0, "other": 5, "fraction": 6.0, "text": "6", "missing": REMOVED},
    "data.unit_ids": {"text": "abcdef", "numbers": [1, 2], "short": ["a"], "equal": ["a"] * 6, "null": None},
    "data.bin_size_s": {"text": "1", "negative": -1, "zero": 0, "infinite": INFINITE, "missing": REMOVED},
    "data.normalize": {"unknown": "x", "auto": "auto", "list": [], "missing": REMOVED},
    "data.bins_per_step": {"zero": 0, "billion": 10**9, "fraction": 2.0, "text": "2", "bool": True},
    "data.window": {"zero": 0, "billion": 10**9, "null": None},
    "data.session": {"number": 1, "null": None},
    "data": {"null": None, "list": [], "empty": {}, "missing": REMOVED},
    "history": {"null": None, "list": [], "numbers": {"loss": 1}, "texts": {"loss": ["a"]}, "missing": REMOVED},
    "noise_history": {"null": None, "texts": {"loss": ["a"]}},
    "kind": {"other": "decoder", "null": None, "list": []},
    "format": {"newer": 2, "older": 0, "text": "1", "bool": True, "infinite": INFINITE, "missing": REMOVED},
    "weights_sha256": {"other": "0" * 64, "null": None, "missing": REMOVED},
}  # fmt: skip
CASES = [(place, name) for place, values in VALUES.items() for name in values]


@pytest.mark.parametrize(("place", "name"), CASES, ids=["-".join(case) for case in CASES])
def test_changed_metadata_are_refused(place: str, name: str, copied: Callable[[str], Path]) -> None:
    folder = copied("array")
    put(folder, place, VALUES[place][name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = assert_refused(lambda: KalmanSSL.load(folder), seconds=5)
    assert str(folder)[:40] in line or "custom_encoder" in place or "Linear" in line
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def _first_nan(array: np.ndarray) -> np.ndarray:
    changed = array.astype(float)
    changed.flat[0] = np.nan
    return changed.astype(array.dtype)


ARRAYS: dict[str, Callable[[np.ndarray], np.ndarray] | None] = {
    "missing": None, "nan": _first_nan, "infinite": lambda a: np.full_like(a, np.inf), "empty": lambda a: a.ravel()[:0],
    "another axis": lambda a: a[..., None], "twice": lambda a: np.concatenate([a, a]), "one": lambda a: a.ravel()[0],
    "integers": lambda a: a.astype(np.int64), "bools": lambda a: a.astype(bool), "half": lambda a: a.astype(np.float16),
}  # fmt: skip


@pytest.mark.parametrize("change", ARRAYS.values(), ids=ARRAYS)
@pytest.mark.parametrize("name", ["feature_scale", "model.predictor.A"])
def test_changed_arrays_are_refused(name: str, change: Any, copied: Callable[[str], Path]) -> None:
    folder = copied("array")
    put_array(folder, name, change)
    assert_refused(lambda: KalmanSSL.load(folder))


def test_weights_of_another_precision_or_name_are_refused(copied: Callable[[str], Path]) -> None:
    folder = copied("array")
    put_array(folder, "model.predictor.A", lambda a: a.astype(float))
    assert_refused(lambda: KalmanSSL.load(folder), r"predictor\.A in the model .* is torch\.float64")
    put_weights(folder, save({"model.x" * 1000: np.zeros(3)}))
    assert_refused(lambda: KalmanSSL.load(folder))
    put_weights(folder, save({}))
    assert_refused(lambda: KalmanSSL.load(folder))


def test_scales_that_are_not_positive_are_refused(copied: Callable[[str], Path]) -> None:
    folder = copied("array")
    put_array(folder, "feature_scale", lambda a: a * 0)
    assert_refused(lambda: KalmanSSL.load(folder), "feature_scale must be positive")


CONTENTS = [(METADATA, name, damage) for name, damage in (*FILES.items(), *TEXTS.items(), ("twice", twice))]
CONTENTS += [(WEIGHTS, name, damage) for name, damage in FILES.items()]


@pytest.mark.parametrize(("file", "name", "damage"), CONTENTS, ids=[f"{file}-{name}" for file, name, _ in CONTENTS])
def test_damaged_files_are_refused(file: str, name: str, damage: Any, copied: Callable[[str], Path]) -> None:
    folder = copied("array")
    damage(folder / file)
    line = assert_refused(lambda: KalmanSSL.load(folder), seconds=5)
    assert str(folder)[-20:] in line


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("missing", "folder", "fifo")])
def test_damaged_weights_with_a_valid_checksum_are_refused(name: str, copied: Callable[[str], Path]) -> None:
    folder = copied("array")
    FILES[name](folder / WEIGHTS)
    if (folder / WEIGHTS).is_file():
        put_weights(folder, (folder / WEIGHTS).read_bytes())
    assert_refused(lambda: KalmanSSL.load(folder), "damaged|cannot be read|missing", seconds=5)


@pytest.mark.parametrize("path", [3, None, b"x", "a\0b", "", "x" * 5000, "\ud800", ["a"]], ids=lambda p: repr(p)[:9])
def test_paths_that_name_no_folder_are_refused(path: Any) -> None:
    assert_refused(lambda: KalmanSSL.load(path))


def test_a_model_behind_a_link_is_loaded_and_a_loop_of_links_is_refused(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(saved / "array")
    assert KalmanSSL.load(tmp_path / "link").n_features_in_ == 6
    (tmp_path / "loop").symlink_to("loop")
    assert_refused(lambda: KalmanSSL.load(tmp_path / "loop"))


def test_a_stored_folder_of_checkpoints_is_not_created(copied: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copied("array")
    put(folder, "settings.checkpoint_dir", str(tmp_path / "elsewhere"))
    assert KalmanSSL.load(folder).checkpoint_dir is None
    assert not (tmp_path / "elsewhere").exists()


VARIANTS: dict[str, tuple[str, str, Any]] = {
    "bin size of a recording": ("recording", "data.bin_size_s", NAN),
    "units of a recording": ("recording", "data.unit_ids.0", "a1"),
    "view without data": ("views", "view", None),
    "view of other features": ("views", "view.n_features", 3),
    "view of other steps": ("views", "view.bins_per_step", 10**9),
    "no sessions": ("sessions", "sessions", []),
    "sessions of text": ("sessions", "sessions", ["a", "b"]),
    "sessions of one name": ("sessions", "sessions.1.session", "a"),
    "more sessions": ("sessions", "sessions", [{}, {}, {}]),
    "sessions of other steps": ("sessions", "sessions.1.bins_per_step", 1),
    "alignments of text": ("sessions", "alignments", {"b": "x"}),
    "alignments without scores": ("sessions", "alignments", {"b": {}}),
    "no alignments": ("sessions", "alignments", REMOVED),
}  # fmt: skip


@pytest.mark.parametrize("case", VARIANTS)
def test_changed_metadata_of_other_models_are_refused(case: str, copied: Callable[[str], Path]) -> None:
    kind, place, value = VARIANTS[case]
    folder = copied(kind)
    put(folder, place, value)
    assert_refused(lambda: KalmanSSL.load(folder))


@pytest.mark.parametrize("kind", ["array", "views", "sessions"])
def test_no_value_in_the_metadata_causes_another_error(kind: str, copied: Callable[[str], Path]) -> None:
    """Every value is replaced by others; the model is refused, or it is loaded and gives finite latents."""
    folder = copied(kind)
    before = read(folder)
    given = {"array": X, "views": X, "sessions": recording("a")}[kind]
    refused = 0
    for number, place in enumerate(places(before, longest=1)):
        for value in (None, "x", -1, 10**12, INFINITE, [], {"a": 1}, REMOVED)[number % 2 :: 2]:
            (folder / METADATA).write_text(json.dumps(replaced(before, place, value)), encoding="utf-8")
            try:
                model = KalmanSSL.load(folder)
            except InputError:
                refused += 1
                assert_refused(lambda: KalmanSSL.load(folder), seconds=5)
            else:
                with suppress(InputError):  # the data have other units, for example
                    assert np.isfinite(model.transform(given).mean).all()
    assert refused > 100


@pytest.fixture(scope="module", autouse=True)
def _nothing_outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test writes into the folder where the tests run."""
    before = set(Path.cwd().iterdir())
    yield
    assert set(Path.cwd().iterdir()) - before <= {Path.cwd() / ".pytest_cache"}
