"""Folders and files on disk: complete or not there at all."""

import errno
import json

import numpy as np
import pytest

from kalmanssl.errors import InputError
from kalmanssl.utils.storage import METADATA, WEIGHTS, load_folder, replace_file, replace_folder, save_folder

ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([1, 2], dtype=np.int64)}


@pytest.fixture
def saved(tmp_path):
    save_folder(tmp_path / "run", "model", ARRAYS, {"settings": {"x": 1}})
    return tmp_path / "run"


def test_round_trip(saved):
    arrays, metadata = load_folder(saved, "model")
    assert metadata["settings"] == {"x": 1}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
    assert {p.name for p in saved.parent.iterdir()} == {"run"}


def test_existing_folder_is_replaced_only_on_demand(saved):
    with pytest.raises(InputError, match=r"exists.*--overwrite"):
        save_folder(saved, "model", {}, {})
    assert load_folder(saved, "model")[0].keys() == ARRAYS.keys()
    save_folder(saved, "model", {}, {}, overwrite=True)
    assert load_folder(saved, "model")[0] == {}


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_failure_in_the_middle_of_a_save_leaves_what_was_there(saved, failure):
    def write(folder):
        (folder / "half").write_text("half")
        raise failure

    expected = (
        (InputError, "No space left.*nothing was changed")
        if isinstance(failure, OSError)
        else (KeyboardInterrupt, None)
    )
    with pytest.raises(expected[0], match=expected[1]):
        replace_folder(saved, write, overwrite=True)
    assert load_folder(saved, "model")[0].keys() == ARRAYS.keys()
    assert {p.name for p in saved.parent.iterdir()} == {"run"}


def test_interrupt_between_the_renames_puts_the_old_folder_back(saved, monkeypatch):
    import os

    real = os.rename

    def rename(source, target):
        if source.parent.name == "new":
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        save_folder(saved, "model", {}, {}, overwrite=True)
    assert load_folder(saved, "model")[0].keys() == ARRAYS.keys()


@pytest.mark.parametrize("name", [METADATA, WEIGHTS])
def test_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(InputError, match=f"not a complete model: {name} is missing"):
        load_folder(saved, "model")


def test_damaged_weights_are_noticed(saved):
    blob = bytearray((saved / WEIGHTS).read_bytes())
    blob[-1] ^= 1
    (saved / WEIGHTS).write_bytes(blob)
    with pytest.raises(InputError, match="checksum"):
        load_folder(saved, "model")


@pytest.mark.parametrize("text", ["{", "\xff", "[]"])
def test_damaged_card_is_noticed(saved, text):
    (saved / METADATA).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"damaged|holds a"):
        load_folder(saved, "model")


def test_other_kind_newer_format_and_nothing_at_all(saved, tmp_path):
    with pytest.raises(InputError, match="holds a 'model', not a 'decoder'"):
        load_folder(saved, "decoder")
    metadata = json.loads((saved / METADATA).read_text())
    (saved / METADATA).write_text(json.dumps({**metadata, "format": 2}))
    with pytest.raises(InputError, match="upgrade"):
        load_folder(saved, "model")
    with pytest.raises(InputError, match="does not exist"):
        load_folder(tmp_path / "nowhere", "model")


def test_replace_file(tmp_path):
    path = tmp_path / "sub" / "out.csv"
    replace_file(path, lambda p: p.write_text("one"))
    with pytest.raises(InputError, match="exists"):
        replace_file(path, lambda p: p.write_text("two"))

    def fail(p):
        p.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match="No space left"):
        replace_file(path, fail, overwrite=True)
    assert path.read_text() == "one"
    replace_file(path, lambda p: p.write_text("two"), overwrite=True)
    assert path.read_text() == "two"
    assert [p.name for p in path.parent.iterdir()] == ["out.csv"]


def test_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        save_folder(tmp_path / "file" / "run", "model", {}, {})
