"""The training loop: it learns, resumes, and detects failures."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from kalmanssl.entropy import LogDetEntropy, StopGradientEntropy
from kalmanssl.errors import CollapseError, DivergenceError, InputError
from kalmanssl.models import LDM, KalmanPredictor, SequenceModel, Terms, Trainable
from kalmanssl.networks import ConstantNoise, MLPEncoder
from kalmanssl.training import HeldOut, TrainingSettings, WindowBatches, WindowSettings, train
from kalmanssl.training._loop import _count_rows

WINDOWS = {"window": 20, "bins_per_step": 1, "batch_size": 32, "activity_sampling_power": 0.0, "steps_per_epoch": 20}
SETTINGS = {
    "epochs": 4, "learning_rate": 5e-3, "dynamics_lr_factor": 10.0, "noise_lr_factor": 1.0, "weight_decay": 0.0,
    "gradient_clip": 10.0, "patience": 100,
}  # fmt: skip


def rotation(seed: int = 0, steps: int = 1500) -> np.ndarray:
    """A noisy two-dimensional rotation, mapped at random to six noisy channels."""
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


def test_training_recovers_the_frequency_of_a_rotation():
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

    monkeypatch.setattr(SequenceModel, "held_out_scores", gain)
    model = make()
    history = run(model, held_out=[rotation(seed=1, steps=300)], epochs=6, patience=2)
    assert history["held_out_score"] == [1.0, 3.0, 2.0, 2.0]
    torch.testing.assert_close(model.predictor.A.detach(), seen[1], rtol=0, atol=0)


def test_the_standard_error_of_the_held_out_score_is_over_blocks_of_time(monkeypatch):
    held_out = [rotation(seed=1, steps=60), rotation(seed=2, steps=60), rotation(seed=3, steps=40)]
    seen = []

    def scores(self, batch, reference):
        seen.append(batch)
        return torch.tensor([0.0, 2.0, 1.0, 5.0, 5.0, 5.0, 3.0, 3.0])

    monkeypatch.setattr(SequenceModel, "held_out_scores", scores)
    history = run(make(), held_out, epochs=1)
    assert seen[0].shape == (8, 20, 6)  # three, three and two windows of 20 bins
    excess = np.array([3.0 - 9, 15.0 - 9, 6.0 - 6])  # sums of the blocks, minus those of the mean 3
    assert history["held_out_score_error"] == [pytest.approx(np.sqrt((excess**2).sum() * 3 / 2) / 8)]
    assert "held_out_score_error" not in run(make(), held_out[:1], epochs=1)  # of one block nothing is known


def test_a_held_out_score_that_is_not_finite_is_never_the_best(monkeypatch):
    gains, seen = iter([float("nan"), 1.0, float("inf")]), []

    def gain(self, features, reference):
        seen.append(self.predictor.A.detach().clone())
        return torch.tensor(next(gains))

    monkeypatch.setattr(SequenceModel, "held_out_scores", gain)
    model = make()
    run(model, held_out=[rotation(seed=1, steps=300)], epochs=3)
    torch.testing.assert_close(model.predictor.A.detach(), seen[1], rtol=0, atol=0)


def test_callbacks_are_called_after_each_step_and_each_epoch():
    steps, epochs = [], []

    def on_step(step, batch):
        assert batch.shape == (32, 20, 6)
        steps.append(step)

    run(make(), epochs=2, on_step=on_step, on_epoch_end=epochs.append)
    assert steps == list(range(1, 41))
    assert epochs == [1, 2]


def test_any_error_leaves_the_last_good_weights(monkeypatch):
    model, kept = make(), {}

    def fail(epochs_done):
        if epochs_done == 1:
            kept.update(copy.deepcopy(model.state_dict()))
        else:
            with torch.no_grad():
                model.predictor.log_initial_variance.fill_(float("nan"))
            raise OSError("the disk is full")

    def fail_in_a_step(step, batch):
        if step == 30:
            fail(2)

    with pytest.raises(OSError, match="disk is full"):
        run(model, on_step=fail_in_a_step, on_epoch_end=fail)
    for name, value in kept.items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=0)
    assert all(p.grad is None for p in model.parameters())


class Mean(Trainable):
    """A model of numbers with one parameter, their mean."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(1))

    def terms(self, batch):
        return Terms(-(batch["x"] - self.mean).square().mean(), torch.zeros(()))

    def diagnostics(self, batch):
        return {"latent_scale": 1.0, "effective_dimension": 2.0}


class Numbers:
    """A source of fresh batches in every epoch."""

    steps_per_epoch = 50

    def __init__(self, held_out=None):
        self.held_out = None if held_out is None else HeldOut(held_out)

    def batches(self, epoch):
        generator = torch.Generator().manual_seed(epoch)
        return ({"x": 3.0 + torch.randn(64, generator=generator)} for _ in range(self.steps_per_epoch))

    def sample(self):
        return next(self.batches(-1))


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_any_model_trains_on_any_source_of_batches(schedule):
    model, history = Mean(), {}
    settings = TrainingSettings(8, 0.1, schedule=schedule, final_lr_factor=0.05)
    train(model, Numbers(), settings, history, seed=0, device="cpu", progress=False)
    assert model.mean.item() == pytest.approx(3.0, abs=0.1)
    assert history["loss"][-1] == pytest.approx(1.0, abs=0.1)


def test_the_held_out_score_is_the_negative_loss_by_default():
    held_out = [{"x": torch.full((4,), value)} for value in (2.0, 4.0)]
    model, history = Mean(), {}
    train(model, Numbers(held_out), TrainingSettings(5, 0.3), history, seed=0, device="cpu", progress=False)
    assert history["held_out_score"] == [-loss for loss in history["held_out_loss"]]
    best = -max(history["held_out_score"])
    assert (1.0 + (model.mean - 3.0) ** 2).item() == pytest.approx(best, rel=1e-5)


def test_divergence_is_named_and_the_last_good_weights_kept(monkeypatch):
    model, real, calls = make(), SequenceModel.terms, []

    def terms(self, features):
        calls.append(0)
        return real(self, features * (float("nan") if len(calls) == 30 else 1.0))

    monkeypatch.setattr(SequenceModel, "terms", terms)
    with pytest.raises(DivergenceError, match=r"diverged at step 29.*weights are those of epoch 1"):
        run(model)
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_divergence_in_the_first_epoch_is_named(monkeypatch):
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


def test_initial_weights_are_restored_when_no_epoch_was_finished(monkeypatch):
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


def test_training_and_evaluation_modes_are_restored():
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


def test_a_missing_gpu_is_named():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match=r"device 'cuda' does not exist: torch finds .*1 cpu"):
        run(make(), device="cuda")


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
        ("activity_sampling_power", -1.0, "activity_sampling_power must be at least 0"),
        ("schedule", "step", "schedule must be one of cosine, linear, constant"),
        ("warm_up", 1.0, "warm_up must be at least 0 and below 1"),
        ("momentum", 1.0, "momentum must be at least 0 and below 1"),
        ("final_lr_factor", 1.5, "final_lr_factor must be between 0 and 1"),
    ],
)
def test_bad_settings(name, value, message):
    kind, known = (WindowSettings, WINDOWS) if name in WINDOWS else (TrainingSettings, SETTINGS)
    with pytest.raises(InputError, match=message):
        kind(**{**known, name: value})


@pytest.mark.parametrize(("limit", "expected"), [(1e12, 1), (1.0, 2)])
def test_threads_by_the_size_of_a_step(limit, expected, monkeypatch):
    """A small model is trained with one thread, so that weights do not depend on their number either."""
    monkeypatch.setattr("kalmanssl.utils.torch_ops._MIN_OPERATIONS", limit)
    found, before = [], torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        run(make(), epochs=1, on_step=lambda step, batch: found.append(torch.get_num_threads()))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(found) == {expected}


def test_the_operations_of_a_step_are_those_of_all_views():
    x = torch.zeros(4, 5, 6)
    assert _count_rows(x) == 20
    assert _count_rows((x, x)) == _count_rows([x, x[:, :0], (x,)]) == 40
    assert _count_rows(object()) == float("inf")
