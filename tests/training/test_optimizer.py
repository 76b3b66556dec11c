"""Learning rates over the steps of a training."""

from itertools import pairwise

import pytest

from kalmanssl.entropy import LogDetEntropy
from kalmanssl.models import LDM, KalmanPredictor, SequenceModel
from kalmanssl.networks import ConstantNoise, MLPEncoder
from kalmanssl.training import TrainingSettings
from kalmanssl.training._optimizer import lr_factor, make_optimizer


def factors(total: int, **options: object) -> list[float]:
    settings = TrainingSettings(epochs=1, learning_rate=1e-3, **options)
    return [lr_factor(settings, step, total) for step in range(total)]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_learning_rates_rise_linearly_during_the_warm_up(schedule):
    found = factors(100, schedule=schedule, warm_up=0.04)
    assert found[:3] == pytest.approx([0.25, 0.5, 0.75])


@pytest.mark.parametrize(("schedule", "middle"), [("cosine", 0.5), ("linear", 0.5), ("constant", 1.0)])
@pytest.mark.parametrize("lowest", [0.0, 0.2])
def test_learning_rates_fall_to_the_final_factor(schedule, middle, lowest):
    found = factors(1000, schedule=schedule, warm_up=0.0, final_lr_factor=lowest)
    if schedule == "constant":
        assert found == [1.0] * 1000
        return
    assert found[500] == pytest.approx(lowest + (1 - lowest) * middle)
    assert found[-1] == pytest.approx(lowest, abs=2e-3)
    assert all(later <= earlier for earlier, later in pairwise(found))


def test_momentum_of_the_optimizer():
    predictor = KalmanPredictor(2, 2, ConstantNoise(2), ConstantNoise(2))
    model = SequenceModel(MLPEncoder(5, 2), predictor, LDM(LogDetEntropy()))
    optimizer = make_optimizer(model, TrainingSettings(1, 1e-3, momentum=0.5))
    assert {group["betas"] for group in optimizer.param_groups} == {(0.5, 0.999)}
