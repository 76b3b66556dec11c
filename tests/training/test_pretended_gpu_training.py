"""Training keeps all tensors of a step on its device, for sequence models, `KalmanSSL` and pairs of images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pretended_gpu import DEVICE, OnDevice, pretended_gpu
from torch import nn

from kalmanssl import KalmanSSL, recipes
from kalmanssl.datasets import Images, place_cells
from kalmanssl.distributions import OnSphere
from kalmanssl.entropy import make_entropy
from kalmanssl.images import PairAugmentation, SmallConvEncoder, fit_images, image_features
from kalmanssl.models import LDM, KalmanPredictor, RecurrentPredictor, SequenceModel
from kalmanssl.networks import ConstantNoise, MLPEncoder
from kalmanssl.training import HeldOut, TrainingSettings, train

X = torch.randn(24, 40, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    """Training chooses the device, which has no autocast of its own."""
    enabled = torch.is_autocast_enabled
    monkeypatch.setattr("kalmanssl.training._loop.choose_device", lambda name: DEVICE)
    monkeypatch.setattr("kalmanssl.estimator._memory.choose_device", lambda name: DEVICE)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *kind: kind != ("lazy",) and enabled(*kind))
    with pretended_gpu():
        yield


class Batches:
    steps_per_epoch = 3

    def __init__(self, held_out=None):
        self.held_out = None if held_out is None else HeldOut(held_out)

    def batches(self, epoch):
        yield from X.split(8)

    def sample(self):
        return X[:8]


def kalman(generator):
    return KalmanPredictor(2, 3, ConstantNoise(2), ConstantNoise(3), generator=generator)


def recurrent(generator):
    return RecurrentPredictor(2, hidden=4, head=(4,), generator=generator)


def on_sphere(generator):
    return RecurrentPredictor(2, hidden=4, head=(4,), distribution="von_mises_fisher", generator=generator)


def make(entropy, predictor=kalman):
    encoder: nn.Module = MLPEncoder(5, 2, (8,), random_state=0)
    arguments = {}
    if predictor is on_sphere:
        encoder, arguments = nn.Sequential(encoder, OnSphere()), {"sphere_dim": 2}
    objective = LDM(make_entropy(entropy, **arguments), mutual_information=entropy != "stopgrad")
    model = SequenceModel(encoder, predictor(torch.Generator().manual_seed(0)), objective)
    model.standardize_latents(X)
    return model.train()


def run(model, epochs=2, held_out=None, **options):
    history, devices = {}, set()
    note = lambda step, batch: devices.add(batch.device)  # noqa: E731
    settings = TrainingSettings(epochs, 1e-3)
    train(model, Batches(held_out), settings, history, seed=0, device="cuda", progress=False, on_step=note, **options)
    assert devices == {DEVICE}
    assert not any(isinstance(p, OnDevice) for p in model.parameters())  # it ends on the CPU
    assert np.isfinite(history["loss"]).all()
    return history


@pytest.mark.parametrize("entropy", ["knn", "logdet", "kde", "vicreg", "stopgrad"])
def test_entropies(entropy):
    run(make(entropy), held_out=[X[:8]])


@pytest.mark.parametrize("predictor", [recurrent, on_sphere])
def test_recurrent_predictors(predictor):
    run(make("knn", predictor))


def test_a_resumed_run(tmp_path):
    run(make("knn"), epochs=1, checkpoint_dir=tmp_path)
    assert len(run(make("knn"), checkpoint_dir=tmp_path, resume=True)["loss"]) == 2


def recording(seed=0, **changes):
    return replace(place_cells(n_units=10, duration=60.0, n_interneurons=1, random_state=seed), **changes)


def estimator(**settings):
    short = {"epochs": 2, "steps_per_epoch": 2, "batch_size": 8, "progress": False, "random_state": 0}
    return KalmanSSL(**{**short, **settings, "device": "cuda"})


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"noise": "activity", "noise_epochs": 1},
        {"noise": "state"},
        {"process_noise": "input"},
        {"encoder_window": 3, "unit_dropout": 0.2},
        {"behavior_weight": 1.0},
    ],
    ids=str,
)
def test_settings_of_the_estimator(settings):
    model = estimator(**settings).fit(recording(), "position" if "behavior_weight" in settings else None)
    assert np.isfinite(model.transform(recording()).mean).all()


def test_two_views_and_sessions():
    cells = recording()
    of_views = estimator().fit(cells, view=np.random.default_rng(0).normal(size=(len(cells), 4)))
    of_sessions = estimator().fit([recording(seed, session=str(seed)) for seed in (0, 1)], "position")
    assert np.isfinite(of_views.history_["loss"] + of_sessions.history_["loss"]).all()


IMAGES = Images(
    np.random.default_rng(0).integers(0, 256, (32, 3, 16, 16), dtype=np.uint8), np.arange(32) % 2, ("a", "b")
)


@pytest.mark.parametrize(
    "name",
    [
        "byol",
        "categorical",
        "cpc",
        "euclidean_kde",
        "euclidean_knn",
        "jepa",
        "simclr",
        "simplex_kde",
        "sphere_knn",
        "vicreg",
    ],
)
def test_pairs_of_images(name):
    network = SmallConvEncoder(3, 16, 8, random_state=0)
    model = getattr(recipes, name)().build(network, 8, random_state=0)
    augment = PairAugmentation(size=16)
    options = {"epochs": 2, "batch_size": 8, "validation_fraction": 0.25}
    history = fit_images(model, IMAGES, augment, device="cuda", progress=False, **options)
    assert np.isfinite(history["loss"]).all()
    assert image_features(network.to(DEVICE), IMAGES, augment).shape == (32, 8)
