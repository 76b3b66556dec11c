"""A script that trains in each process that torchrun starts and writes the results to a folder, for `test_devices`."""

import copy
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from simulated_sessions import TINY, make_session
from test_loop import make, rotation, run
from torch import nn

from kalmanssl import KalmanSSL, recipes
from kalmanssl.models import SequenceModel
from kalmanssl.training import PairBatches, TrainingSettings, train
from kalmanssl.training._windows import RandomWindows
from kalmanssl.utils.distributed import rank_and_size
from kalmanssl.utils.torch_ops import seeded

PAIRS, FEATURES, BATCH = 96, 6, 24


def weights(model: nn.Module) -> list[float]:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()


def pairs(processes: int) -> dict[str, object]:
    x = torch.randn(PAIRS, FEATURES, generator=torch.Generator().manual_seed(0))
    with seeded(1):
        backbone = nn.Linear(FEATURES, 8)
    model = recipes.sphere_kde(dim=4).build(backbone, 8, random_state=0)
    data = PairBatches(PAIRS, lambda chosen: (x[chosen], x[chosen].flip(1)), BATCH // processes, seed=0)
    history: dict[str, list[float]] = {}
    train(model, data, TrainingSettings(3, 1e-3), history, seed=0, device="cpu", progress=False)
    return {"history": history, "weights": weights(model)}


def sequences(processes: int) -> dict[str, object]:
    model, steps = make(), []
    scores = SequenceModel.held_out_scores

    def worse_each_epoch(self, batch, reference):
        steps.append(0)
        return scores(self, batch, reference) - 10.0 * len(steps)

    SequenceModel.held_out_scores = worse_each_epoch
    history = run(model, held_out=[rotation(seed=1, steps=300)], epochs=3, batch_size=32 // processes)
    SequenceModel.held_out_scores = scores
    return {"history": history, "weights": weights(model)}


@contextmanager
def batches_of_two_processes() -> Iterator[None]:
    """Let a single process draw the windows of two processes, half of each batch as each of these does."""
    draw = RandomWindows.batches

    def batches(self, count, epoch=0):
        parts = [copy.copy(self) for _ in range(2)]
        for rank, part in enumerate(parts):
            part.batch_size, part.seed = self.batch_size // 2, self.seed + 500_009 * rank
        yield from map(torch.cat, zip(*(draw(part, count, epoch) for part in parts), strict=True))

    RandomWindows.batches = batches
    try:
        yield
    finally:
        RandomWindows.batches = draw


def sessions(processes: int) -> dict[str, object]:
    """Fit two sessions, each alone and then with shared dynamics."""
    recordings = [make_session(name, n_units, 10, seed) for seed, (name, n_units) in enumerate([("a", 20), ("b", 15)])]
    settings = TINY | {"batch_size": 32 // processes, "unit_dropout": 0.0, "validation_fraction": 0.0, "device": "cpu"}
    model = KalmanSSL(**settings).fit(recordings, "position")
    latents = [value for one in recordings for value in model.transform(one).mean[::50].ravel().tolist()]
    return {"history": model.history_, "weights": weights(model.model_), "latents": latents}


def partly_frozen(rank: int) -> dict[str, bool]:
    """Train a model with a frozen layer and a parameter without gradient; say for each whether it did what it must."""
    model = make()
    model.encoder.unused = nn.Parameter(torch.ones(3))
    frozen = model.encoder.network[0].requires_grad_(False).weight
    if rank > 0:  # the first process decides
        with torch.no_grad():
            frozen.zero_()
    before = make().encoder.network[0].weight
    start = model.encoder.network[-1].weight.detach().clone()
    run(model, epochs=1, batch_size=16, weight_decay=0.1)
    return {
        "frozen as in the first process": torch.equal(frozen, before),
        "unused": torch.equal(model.encoder.unused, torch.ones(3)),
        "others trained": not torch.equal(model.encoder.network[-1].weight, start),
    }


def resumed(folder: Path) -> bool:
    whole, parts = make(), [make(), make()]
    run(whole, epochs=2, batch_size=16)

    def interrupt(epochs_done):
        raise KeyboardInterrupt

    try:
        run(parts[0], epochs=2, batch_size=16, checkpoint_dir=folder, on_epoch_end=interrupt)
    except KeyboardInterrupt:
        run(parts[1], epochs=2, batch_size=16, checkpoint_dir=folder, resume=True)
    return weights(parts[1]) == weights(whole)


def not_finite_in_one(rank: int, processes: int) -> None:
    calls, terms = [], SequenceModel.terms

    def failing(self, features):
        calls.append(0)
        last = rank == processes - 1
        return terms(self, features * (float("nan") if len(calls) == 30 and last else 1.0))

    SequenceModel.terms = failing
    run(make(), epochs=3, batch_size=16)


def main(folder: Path) -> None:
    rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    found = {
        "pairs": pairs(processes),
        "sequences": sequences(processes),
        "sessions": sessions(processes),
        "partly_frozen": partly_frozen(rank),
        "resumed": resumed(folder / "checkpoints"),
        "size_after_training": rank_and_size()[1],
    }
    (folder / f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    not_finite_in_one(rank, processes)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
