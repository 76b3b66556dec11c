"""The gradient of the networks of a readout, and what they are trained on."""

import numpy as np
import pytest
import torch

from kalmanssl.decoding.grids import Axis, Grid
from kalmanssl.decoding.readouts import MLPReadoutSettings, _mlp_training
from kalmanssl.decoding.readouts._mlp_training import Layers, NetworkGradient, TrainingBins, train_networks

LINE, CIRCLE = Axis(-1.0, 0.5, 12), Axis(0.0, 1.0, 7, period=7.0)
LABELS = Axis(0.0, 1.0, 5, nominal=True)
GRIDS = {
    "line": [Grid((LINE,))],
    "circle": [Grid((CIRCLE,))],
    "plane": [Grid((LINE, LINE))],
    "cylinder": [Grid((CIRCLE, LINE))],
    "two grids": [Grid((LINE, CIRCLE)), Grid((CIRCLE,))],
    "labels": [Grid((LABELS,))],
}


def batch(grids, n_inputs, batch_size, rng):
    inputs = [torch.as_tensor(rng.normal(size=(batch_size, n)), dtype=torch.float32) for n in n_inputs]
    place = [
        torch.as_tensor(rng.uniform(0, grid.shape, (len(n_inputs), batch_size, len(grid.axes))), dtype=torch.float32)
        for grid in grids
    ]
    return inputs, place


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("kind", GRIDS)
def test_compiled_gradient_is_that_of_autograd(kind, dropout, monkeypatch):
    grids, n_inputs = GRIDS[kind], [3, 8]
    settings = MLPReadoutSettings(n_networks=2, hidden=10, batch_size=33, dropout=dropout)
    parameters = Layers(2, [8, 10, 10, sum(grid.size for grid in grids)])
    parameters.vector.copy_(torch.randn(len(parameters.vector), generator=torch.Generator().manual_seed(0)))
    given = batch(grids, n_inputs, 33, np.random.default_rng(1))
    found = []
    for compiled in (True, False):
        monkeypatch.setattr(_mlp_training, "has_compiler", lambda compiled=compiled: compiled)
        gradient = NetworkGradient(parameters, n_inputs, grids, settings)
        gradient.update(*given, torch.Generator().manual_seed(2))
        found.append(gradient.layers.vector)
    assert found[0].abs().max() > 0.01
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
    assert (gradient.layers.weights[0][0, 3:] == 0).all()  # the first network does not receive these inputs


@pytest.mark.parametrize("dropout", [0.0, 0.3, 0.999])
def test_units_are_dropped_independently_with_the_given_probability(dropout):
    grids, settings = GRIDS["line"], MLPReadoutSettings(n_networks=1, hidden=12, batch_size=20_000, dropout=dropout)
    parameters = Layers(1, [2, 12, 12, 12])
    for bias in parameters.biases:
        bias.fill_(1.0)
    gradient = NetworkGradient(parameters, [2], grids, settings)
    gradient.update(*batch(grids, [2], 20_000, np.random.default_rng(0)), torch.Generator().manual_seed(0))
    for values in gradient._values[:-1]:
        kept = (values[0] > 0).double()
        np.testing.assert_allclose(1 - kept.mean(dim=0), dropout, atol=0.015)
        covariance = np.cov(kept.T) - dropout * (1 - dropout) * np.eye(12)
        np.testing.assert_allclose(covariance, 0.0, atol=0.015)
        np.testing.assert_allclose(values[0][kept.bool()], 1 / (1 - dropout), rtol=1e-5)


def test_training_without_a_compiler_finds_the_same_networks(monkeypatch):
    rng = np.random.default_rng(3)
    x = torch.as_tensor(rng.normal(size=(400, 6)), dtype=torch.float32)
    grids, settings = GRIDS["circle"], MLPReadoutSettings(hidden=16, n_steps=40, min_steps=40, batch_size=50)
    bins = TrainingBins(x, None, None, [torch.as_tensor(3.5 + x[:, :1]).clamp(0, 6.9)], None)
    found = []
    for compiled in (True, False):
        monkeypatch.setattr(_mlp_training, "has_compiler", lambda compiled=compiled: compiled)
        found.append(train_networks(bins, [4, 6], grids, settings, torch.Generator().manual_seed(4)).vector)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=2e-3)
