"""Run every Python block of the README."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import kalmanssl as ks

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def block_with(word: str) -> str:
    (block,) = (block for block in BLOCKS if word in block)
    return block


def test_every_python_block_has_a_test() -> None:
    assert len(BLOCKS) == 3


def test_fit_and_decode_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    recording = ks.datasets.place_cells(n_units=40, duration=400.0, random_state=0)
    shift = 18960.0 - 300.0 - recording.time[0]  # so that the block splits 300 s after the start
    ks.Recording.from_arrays(
        recording.activity,
        time=recording.time + shift,
        behavior={"position": recording.behavior["position"]},
        behavior_unit={"position": "meters"},
    ).to_nwb("session.nwb")
    names: dict[str, object] = {}
    exec(block_with("ks.PositionDecoder"), names)
    decoded, test = names["decoded"], names["test"]
    assert len(decoded.time) == len(test) == pytest.approx(100.0 / 0.025, abs=2)
    error = np.abs(decoded.mean - test.behavior["position"])
    running = ks.running_bins(test.behavior["position"], test.time, min_speed=0.1)
    assert np.median(error[running]) < 0.15  # m; the track is 1.6 m long
    assert "holds" in capsys.readouterr().out
    reloaded = ks.KalmanSSL.load("run/")
    np.testing.assert_array_equal(reloaded.transform(test).mean, names["model"].transform(test).mean)


def test_filter_block() -> None:
    names = {
        "y": torch.randn(2, 30, 3, generator=torch.Generator().manual_seed(0)),
        "A": 0.9 * torch.eye(2),
        "Q": torch.ones(2),
        "C": torch.ones(3, 2),
        "R": torch.ones(3),
        "mask": torch.ones(2, 30, dtype=torch.bool),
    }
    exec(block_with("kalman_filter(y"), names)
    assert names["out"].filtered_mean.shape == (2, 30, 2)


def test_images_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("kornia")
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, size=(256, 32, 32, 3), dtype=np.uint8)
    for i, picture in enumerate(pixels):
        folder = tmp_path / "images" / "train" / f"class{i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{i}.png")
    shutil.make_archive("images", "zip", "images")
    block = block_with("fit_images")
    assert "epochs=100" in block
    names: dict[str, object] = {}
    exec(block.replace("epochs=100", "epochs=2"), names)
    assert names["features"].shape == (256, names["encoder"].n_features)
    assert (tmp_path / "simclr").is_dir()
