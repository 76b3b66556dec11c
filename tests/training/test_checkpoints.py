"""Checkpoints: resumed runs, files without code, and what happens when a checkpoint does not fit."""

import copy
import json

import pytest
import torch
from safetensors import safe_open
from test_loop import make, rotation, run

from kalmanssl.entropy import KNNEntropy, LogDetEntropy
from kalmanssl.errors import InputError
from kalmanssl.models import LDM, KalmanPredictor, SequenceModel
from kalmanssl.networks import ConstantNoise, MLPEncoder


@pytest.mark.parametrize("held_out", [(), [rotation(seed=1, steps=300)]], ids=["nothing held out", "held out"])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, monkeypatch, held_out):
    whole = make()
    expected = run(whole, held_out)

    interrupted = make()
    real, calls = SequenceModel.after_step, []

    def interrupt(self):
        calls.append(0)
        if len(calls) == 50:
            raise KeyboardInterrupt
        real(self)

    monkeypatch.setattr(SequenceModel, "after_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(interrupted, held_out, checkpoint_dir=tmp_path)
    monkeypatch.setattr(SequenceModel, "after_step", real)

    resumed = make()
    history = run(resumed, held_out, checkpoint_dir=tmp_path, resume=True)
    assert history == expected
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0)


def test_resuming_needs_a_checkpoint_that_fits(tmp_path):
    with pytest.raises(InputError, match="nothing to resume"):
        run(make(), checkpoint_dir=tmp_path, resume=True)
    run(make(), checkpoint_dir=tmp_path, epochs=1)
    torch.manual_seed(0)
    other = SequenceModel(
        MLPEncoder(6, 2, (8,)), KalmanPredictor(2, 2, ConstantNoise(2), ConstantNoise(2)), LDM(LogDetEntropy())
    )
    with pytest.raises(InputError, match="does not fit this model"):
        run(other, checkpoint_dir=tmp_path, resume=True)
    (tmp_path / "last.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="does not fit this model"):
        run(make(), checkpoint_dir=tmp_path, resume=True)


@pytest.mark.parametrize("changed", ["seed", "learning_rate", "steps_per_epoch", "entropy"])
def test_a_run_with_other_settings_cannot_resume_from_a_checkpoint(tmp_path, changed):
    run(make(), checkpoint_dir=tmp_path, epochs=1)
    objective = LDM(KNNEntropy()) if changed == "entropy" else None
    other = {"seed": 1, "learning_rate": 1e-3, "steps_per_epoch": 7}
    named = {"learning_rate": "settings", "entropy": "model"}.get(changed, changed)
    with pytest.raises(InputError, match=f"another {named}: resume with the model"):
        run(make(objective), checkpoint_dir=tmp_path, resume=True, **{k: v for k, v in other.items() if k == changed})


def test_a_finished_run_cannot_be_resumed_for_fewer_epochs(tmp_path):
    run(make(), checkpoint_dir=tmp_path, epochs=3)
    with pytest.raises(InputError, match=r"last\.safetensors has 3 epochs"):
        run(make(), checkpoint_dir=tmp_path, resume=True, epochs=1)


def test_checkpoints_of_an_earlier_run_are_not_restored_in_another(tmp_path, monkeypatch):
    run(make(), checkpoint_dir=tmp_path, epochs=1, held_out=[rotation(seed=1, steps=300)])

    def interrupt(self):
        raise KeyboardInterrupt

    model = make()
    before = copy.deepcopy(model.state_dict())
    monkeypatch.setattr(SequenceModel, "after_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(model, checkpoint_dir=tmp_path, held_out=[rotation(seed=1, steps=300)])
    for name, value in before.items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=0)


def test_a_file_cannot_be_the_checkpoint_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        run(make(), checkpoint_dir=tmp_path / "file")


def test_a_checkpoint_is_one_safetensors_file_with_json(tmp_path):
    model = make()
    run(model, epochs=2, checkpoint_dir=tmp_path, held_out=[rotation(seed=1, steps=300)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.safetensors", "last.safetensors"]
    with safe_open(tmp_path / "last.safetensors", framework="pt") as file:
        names = set(file.keys())
        state = json.loads(file.metadata()["checkpoint"])["state"]
    assert {f"model.{name}" for name in model.state_dict()} <= names
    assert state["epochs_done"] == 2
    assert len(state["history"]["held_out_score"]) == 2


def test_a_failed_write_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    run(make(), epochs=1, checkpoint_dir=tmp_path)
    before = (tmp_path / "last.safetensors").read_bytes()

    def fail(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "no space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(InputError, match=r"cannot write to .*last\.safetensors: no space left on device"):
        run(make(), epochs=2, checkpoint_dir=tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["last.safetensors"]
    assert (tmp_path / "last.safetensors").read_bytes() == before


def test_a_model_that_does_not_fit_is_left_as_it_was(tmp_path):
    run(make(), checkpoint_dir=tmp_path, epochs=1)
    model = make(LDM(KNNEntropy()))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match="another model"):
        run(model, checkpoint_dir=tmp_path, resume=True)
    for name, value in before.items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=0)


def test_a_run_that_ended_early_is_not_continued_by_resuming(tmp_path, monkeypatch):
    held_out = [rotation(seed=1, steps=300)]
    gains = iter([1.0, 3.0, 2.0, 2.0])
    monkeypatch.setattr(SequenceModel, "held_out_scores", lambda *_: torch.tensor(next(gains)))
    model, resumed = make(), make()
    history = run(model, held_out, epochs=6, patience=2, checkpoint_dir=tmp_path)
    assert run(resumed, held_out, epochs=6, patience=2, checkpoint_dir=tmp_path, resume=True) == history
    for name, value in model.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0)
