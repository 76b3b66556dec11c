"""Training shared by several processes: same result as one process, same weights in all, and no process left behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import training_on_devices as script
from torch import distributed, nn

from kalmanssl.training._devices import synchronized_batch_norm

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, (TESTS, TESTS.parent)))}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, str(TESTS / "training_on_devices.py"), str(folder)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    found = [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]
    return found, run


pytestmark = pytest.mark.skipif(
    not (distributed.is_available() and distributed.is_gloo_available()), reason="torch was built without gloo"
)


def test_two_processes_learn_what_one_does_with_both_batches(two):
    alone = script.pairs(1)
    for name in ("loss", "alignment", "entropy"):
        np.testing.assert_allclose(two[0][0]["pairs"]["history"][name], alone["history"][name], rtol=1e-4)
    np.testing.assert_allclose(two[0][0]["pairs"]["weights"], alone["weights"], atol=1e-4)


def test_two_processes_fit_sessions_as_one_does_with_both_batches(two):
    with script.batches_of_two_processes():
        alone = script.sessions(1)
    one, other = (found["sessions"] for found in two[0])
    assert one == other
    for name in ("loss", "alignment", "entropy"):
        np.testing.assert_allclose(one["history"][name], alone["history"][name], rtol=1e-4)
    np.testing.assert_allclose(one["weights"], alone["weights"], atol=1e-4)
    np.testing.assert_allclose(one["latents"], alone["latents"], atol=1e-3 * np.std(alone["latents"]))


def test_both_end_with_the_same_weights_those_of_the_best_epoch(two):
    one, other = two[0]
    assert one == other
    assert np.argmax(one["sequences"]["history"]["held_out_score"]) == 0
    assert len(one["sequences"]["history"]["loss"]) == 3


def test_frozen_parameters_and_those_without_gradient_stay_as_they_were(two):
    one, other = two[0]
    assert one["partly_frozen"] == other["partly_frozen"]
    assert all(one["partly_frozen"].values())


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(two):
    for found in two[0]:
        assert found["resumed"]


def test_the_process_is_on_its_own_after_training(two):
    for found in two[0]:
        assert found["size_after_training"] == 1


def test_a_failure_in_one_process_ends_both_and_is_named(two):
    run = two[1]
    assert run.returncode != 0
    assert "DivergenceError: training diverged at step 29" in run.stderr


def test_batch_normalization_is_replaced_on_gpus_during_training_alone(monkeypatch):
    monkeypatch.setattr("kalmanssl.training._devices.rank_and_size", lambda: (0, 2))
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Sequential(nn.BatchNorm1d(3)))
    before, names = list(model.modules()), list(model.state_dict())
    with synchronized_batch_norm(model, torch.device("cuda")):
        assert [type(m) for m in model.modules() if list(m.buffers(recurse=False))] == [nn.SyncBatchNorm] * 2
        assert list(model.state_dict()) == names
        assert model[1].weight is before[2].weight
        model[1].running_mean.fill_(2.0)
    assert list(model.modules()) == before
    assert model[1].running_mean.tolist() == [2.0, 2.0]
