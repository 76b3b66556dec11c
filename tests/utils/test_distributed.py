"""Two processes that train together: the gradient is that of one process with both batches."""

import socket
from pathlib import Path

import pytest
import torch
from torch import distributed, nn

from kalmanssl import recipes
from kalmanssl.training import PairBatches
from kalmanssl.utils.distributed import all_gather, rank_and_size
from kalmanssl.utils.torch_ops import seeded

ROWS, FEATURES, DIM = 24, 6, 4
NAMES = ("sphere_kde", "euclidean_knn", "euclidean_logdet", "vicreg", "simclr")


def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shared, *noise = torch.randn(3, ROWS, FEATURES, generator=generator, dtype=torch.float64)
    return shared + 0.3 * noise[0], shared + 0.3 * noise[1]


def gradient(name: str, rows: slice) -> torch.Tensor:
    with seeded(1):
        backbone = nn.Linear(FEATURES, 8)
    recipe = recipes.make_recipe(name, dim=DIM)
    model = recipe.build(backbone, 8, random_state=0).double().eval()  # batch statistics are not gathered here
    model.terms((pairs()[0][rows], pairs()[1][rows])).loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def half_the_work(rank: int, port: int, folder: str) -> None:
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    half = ROWS // 2
    found = {}
    for name in NAMES:
        found[name] = gradient(name, slice(rank * half, (rank + 1) * half))
        distributed.all_reduce(found[name])
        found[name] /= 2  # as data-parallel training averages
    batches = PairBatches(ROWS, lambda chosen: (chosen, chosen), 4, seed=0)
    found["drawn"] = torch.cat([pair[0] for pair in batches.batches(0)])
    found["steps"] = torch.tensor(batches.steps_per_epoch)
    torch.save(found, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.skipif(not distributed.is_available(), reason="torch was built without torch.distributed")
def test_two_processes_have_the_gradient_of_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(half_the_work, (port, str(tmp_path)), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for name in NAMES:
        torch.testing.assert_close(one[name], gradient(name, slice(None)), rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)
    drawn = torch.cat([one["drawn"], other["drawn"]])
    assert sorted(drawn.tolist()) == list(range(ROWS))  # together they see everything once
    assert one["steps"] == 3


def test_a_process_alone_gathers_nothing():
    v = torch.ones(3, 2)
    assert all_gather(v) is v
    assert rank_and_size() == (0, 1)
