"""A script that trains on as many devices as it is told and prints what came out, for `test_devices`."""

import json
import os
import sys

import torch
from test_trainer import make, rotation, run
from torch import nn

from kalmanssl import recipes
from kalmanssl.models import SequenceModel
from kalmanssl.training import PairBatches, TrainingSettings, train
from kalmanssl.utils.torch_ops import seeded

PAIRS, FEATURES, BATCH = 96, 6, 24


def weights(model: nn.Module) -> list[float]:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()


def pairs(devices: int) -> dict[str, object]:
    x = torch.randn(PAIRS, FEATURES, generator=torch.Generator().manual_seed(0))
    with seeded(1):
        backbone = nn.Linear(FEATURES, 8)
    model = recipes.sphere_kde(dim=4).build(backbone, 8, random_state=0)
    data = PairBatches(PAIRS, lambda chosen: (x[chosen], x[chosen].flip(1)), BATCH // devices, seed=0)
    history: dict[str, list[float]] = {}
    plan = TrainingSettings(3, 1e-3)
    train(model, data, plan, history, seed=0, accelerator="cpu", devices=devices, progress=False)
    return {"history": history, "weights": weights(model)}


def sequences(devices: int) -> dict[str, object]:
    model, steps = make(), []
    gain = SequenceModel.predictive_gain

    def worse_each_epoch(self, features, reference):
        steps.append(0)
        return gain(self, features, reference) - 10.0 * len(steps)

    SequenceModel.predictive_gain = worse_each_epoch
    history = run(model, held_out=[rotation(seed=1, steps=300)], epochs=3, batch_size=32 // devices, devices=devices)
    SequenceModel.predictive_gain = gain
    return {"history": history, "weights": weights(model)}


def not_finite_in_one(devices: int) -> None:
    calls, terms = [], SequenceModel.terms

    def failing(self, features):
        calls.append(0)
        last = os.environ.get("LOCAL_RANK", "0") == str(devices - 1)
        return terms(self, features * (float("nan") if len(calls) == 30 and last else 1.0))

    SequenceModel.terms = failing
    run(make(), epochs=3, batch_size=16, devices=devices)


def main(devices: int, folder: str) -> None:
    rank = os.environ.get("LOCAL_RANK", "0")
    found = {"pairs": pairs(devices), "sequences": sequences(devices)}
    with open(f"{folder}/{rank}.json", "w", encoding="utf-8") as file:
        json.dump(found, file)
    not_finite_in_one(devices)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
