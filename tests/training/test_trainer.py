"""Training: it learns, resumes, and notices what goes wrong."""

import copy

import numpy as np
import pytest
import torch

from kalmanssl.entropy import KNNEntropy, LogDetEntropy, StopGradientEntropy
from kalmanssl.errors import CollapseError, DivergenceError, InputError
from kalmanssl.models import LDM, KalmanPredictor, SequenceModel
from kalmanssl.networks import ConstantNoise, MLPEncoder
from kalmanssl.training import TrainingSettings, WindowBatches, WindowSettings, train

WINDOWS = {"window": 20, "bins_per_step": 1, "batch_size": 32, "activity_sampling_power": 0.0, "steps_per_epoch": 20}
SETTINGS = {
    "epochs": 4, "learning_rate": 5e-3, "dynamics_lr_factor": 10.0, "noise_lr_factor": 1.0, "weight_decay": 0.0,
    "gradient_clip": 10.0, "patience": 100,
}  # fmt: skip


def rotation(seed: int = 0, steps: int = 1500) -> np.ndarray:
    """A noisy rotation in the plane seen through a random map into six noisy channels."""
    rng = np.random.default_rng(seed)
    angle = np.cumsum(0.3 + 0.05 * rng.standard_normal(steps))
    plane = np.stack([np.cos(angle), np.sin(angle)], 1)
    mixing = np.random.default_rng(99).standard_normal((2, 6))
    return (plane @ mixing + 0.3 * rng.standard_normal((steps, 6))).astype(np.float32)


def make(objective: LDM | None = None) -> SequenceModel:
    torch.manual_seed(0)
    predictor = KalmanPredictor(2, 2, ConstantNoise(2), ConstantNoise(2))
    return SequenceModel(MLPEncoder(6, 2, (16,)), predictor, objective or LDM(LogDetEntropy()))


def run(model, held_out=(), seed=0, **options) -> dict[str, list[float]]:
    settings, windows = (
        kind(**{**known, **{k: options.pop(k) for k in list(options) if k in known}})
        for kind, known in ((TrainingSettings, SETTINGS), (WindowSettings, WINDOWS))
    )
    history: dict[str, list[float]] = {}
    options = {"progress": False, "device": "cpu", **options}
    data = WindowBatches([rotation()], held_out, windows, seed)
    train(model, data, settings, history, seed=seed, **options)
    return history


def test_it_finds_the_rotation():
    model = make()
    history = run(model, held_out=[rotation(seed=1, steps=300)], epochs=6)
    eigenvalue = torch.linalg.eigvals(model.predictor.A)[0]
    assert abs(eigenvalue.angle().item()) == pytest.approx(0.3, abs=0.03)
    assert history["held_out_score"][-1] > 1.0
    assert history["loss"][-1] < history["loss"][0] - 0.5
    assert {len(values) for values in history.values()} == {6}


def test_same_seed_same_weights_other_seed_other_weights():
    def weights(seed):
        model = make()
        run(model, seed=seed, epochs=1)
        return model.predictor.A.detach()

    torch.testing.assert_close(weights(0), weights(0), rtol=0, atol=0)
    assert (weights(0) - weights(1)).abs().max() > 1e-6


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path, monkeypatch):
    whole = make()
    expected = run(whole)

    interrupted = make()
    real, calls = SequenceModel.after_step, []

    def interrupt(self):
        calls.append(0)
        if len(calls) == 50:
            raise KeyboardInterrupt
        real(self)

    monkeypatch.setattr(SequenceModel, "after_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(interrupted, checkpoint_dir=tmp_path)
    monkeypatch.setattr(SequenceModel, "after_step", real)

    resumed = make()
    history = run(resumed, checkpoint_dir=tmp_path, resume=True)
    assert history == expected
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0)


def test_an_interrupt_leaves_the_last_good_weights_and_ctrl_c_working(tmp_path, monkeypatch):
    import signal

    model, handler, real, calls = make(), signal.getsignal(signal.SIGINT), SequenceModel.after_step, []

    def interrupt(self):
        calls.append(0)
        if len(calls) == 35:
            raise KeyboardInterrupt
        real(self)
        if len(calls) == 20:
            kept.update(copy.deepcopy(self.state_dict()))

    kept: dict[str, torch.Tensor] = {}
    monkeypatch.setattr(SequenceModel, "after_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(model, checkpoint_dir=tmp_path)
    for name, value in kept.items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=0)
    assert signal.getsignal(signal.SIGINT) is handler


def test_best_held_out_epoch_is_kept_and_patience_ends_the_run(monkeypatch):
    gains = iter([1.0, 3.0, 2.0, 2.0, 2.0, 2.0])
    seen: list[torch.Tensor] = []

    def gain(self, features, reference):
        seen.append(self.predictor.A.detach().clone())
        return torch.tensor(next(gains))

    monkeypatch.setattr(SequenceModel, "predictive_gain", gain)
    model = make()
    history = run(model, held_out=[rotation(seed=1, steps=300)], epochs=6, patience=2)
    assert history["held_out_score"] == [1.0, 3.0, 2.0, 2.0]
    torch.testing.assert_close(model.predictor.A.detach(), seen[1], rtol=0, atol=0)


def test_divergence_is_named_and_the_last_good_weights_kept(monkeypatch):
    model, real, calls = make(), SequenceModel.terms, []

    def terms(self, features):
        calls.append(0)
        return real(self, features * (float("nan") if len(calls) == 30 else 1.0))

    monkeypatch.setattr(SequenceModel, "terms", terms)
    with pytest.raises(DivergenceError, match=r"diverged at step 29.*weights are those of epoch 1"):
        run(model)
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_divergence_in_the_first_epoch_says_so(monkeypatch):
    monkeypatch.setattr(SequenceModel, "standardize_latents", lambda *_: None)
    model = make()
    with torch.no_grad():
        model.predictor.log_initial_variance.fill_(float("nan"))
    with pytest.raises((DivergenceError, ValueError), match=r"weights are those of the start|not finite|NaN"):
        run(model)


def test_shrinking_latents_are_called_a_collapse(monkeypatch):
    model, real = make(), SequenceModel.after_step

    def shrink(self):
        real(self)
        with torch.no_grad():
            self.encoder.network[-1].weight.mul_(0.6)

    monkeypatch.setattr(SequenceModel, "after_step", shrink)
    with pytest.raises(CollapseError, match=r"collapsed: after epoch \d.*scale"):
        run(model, learning_rate=1e-6)


def test_copied_latents_are_called_a_collapse(monkeypatch):
    model, real = make(LDM(StopGradientEntropy(), mutual_information=False)), SequenceModel.after_step

    def copy_first(self):
        real(self)
        with torch.no_grad():
            last = self.encoder.network[-1]
            last.weight[1] = last.weight[0]
            last.bias[1] = last.bias[0]

    monkeypatch.setattr(SequenceModel, "after_step", copy_first)
    with pytest.raises(CollapseError, match="same signal"):
        run(model)


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
def test_another_run_does_not_go_on_from_a_checkpoint(tmp_path, changed):
    run(make(), checkpoint_dir=tmp_path, epochs=1)
    objective = LDM(KNNEntropy()) if changed == "entropy" else None
    other = {"seed": 1, "learning_rate": 1e-3, "steps_per_epoch": 7}
    named = {"learning_rate": "settings", "entropy": "model"}.get(changed, changed)
    with pytest.raises(InputError, match=f"another {named}: resume with the model"):
        run(make(objective), checkpoint_dir=tmp_path, resume=True, **{k: v for k, v in other.items() if k == changed})


def test_a_run_that_is_over_cannot_be_resumed_for_fewer_epochs(tmp_path):
    run(make(), checkpoint_dir=tmp_path, epochs=3)
    with pytest.raises(InputError, match=r"last\.safetensors has 3 epochs"):
        run(make(), checkpoint_dir=tmp_path, resume=True, epochs=1)


def test_checkpoints_of_an_earlier_run_are_not_put_into_another(tmp_path, monkeypatch):
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


def test_weights_of_the_start_come_back_when_no_epoch_was_finished(monkeypatch):
    model, real, calls = make(), SequenceModel.terms, []
    before = copy.deepcopy(model.state_dict())

    def terms(self, features):
        calls.append(0)
        return real(self, features * (float("nan") if len(calls) == 10 else 1.0))

    monkeypatch.setattr(SequenceModel, "terms", terms)
    with pytest.raises(DivergenceError, match="weights are those of the start"):
        run(model)
    for name, value in before.items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=0)


def test_parts_keep_their_modes():
    model = make()
    model.encoder.eval()
    run(model, epochs=1)
    assert model.training
    assert not model.encoder.training
    assert not any(part.training for part in model.encoder.modules())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "bogus"}, "device must be 'auto', 'cpu', .* got 'bogus'"),
        ({"device": "cpu:1"}, "device 'cpu:1' does not exist: torch finds .*1 cpu"),
        ({"device": 0}, "device must be"),
        ({"resume": True}, "needs the checkpoint_dir"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        run(make(), **options)


def test_a_gpu_that_is_not_there_is_named():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match=r"device 'cuda' does not exist: torch finds .*1 cpu"):
        run(make(), device="cuda")


def test_a_file_is_no_folder_for_checkpoints(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        run(make(), checkpoint_dir=tmp_path / "file")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("window", 1, "at least 2 steps of 1 bins"),
        ("epochs", 0, "epochs must be a whole number, at least 1; got 0"),
        ("epochs", 1.5, "epochs must be a whole number"),
        ("batch_size", 4.0, "batch_size must be a whole number"),
        ("learning_rate", "1e-3", "learning_rate must be a number"),
        ("learning_rate", 0.0, "learning_rate must be positive"),
        ("learning_rate", float("nan"), "learning_rate must be positive"),
        ("learning_rate", float("inf"), "learning_rate must be positive"),
        ("weight_decay", -1.0, "weight_decay must be at least 0"),
        ("activity_sampling_power", -1.0, "must not be negative"),
    ],
)
def test_bad_settings(name, value, message):
    kind, known = (WindowSettings, WINDOWS) if name in WINDOWS else (TrainingSettings, SETTINGS)
    with pytest.raises(InputError, match=message):
        kind(**{**known, name: value})
