"""Two processes that train together: the gradient is that of one process with both batches."""

import socket
from pathlib import Path

import pytest
import torch
from torch import distributed, nn

from kalmanssl import recipes
from kalmanssl.training import PairBatches
from kalmanssl.utils.distributed import all_gather, average, average_gradients, broadcast, rank_and_size
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


def collective(rank: int) -> dict[str, torch.Tensor]:
    """Average gradients, some of them missing, and broadcast tensors of several dtypes."""
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(4)]
    parameters[0].grad = torch.full((2,), float(rank))
    if rank == 1:
        parameters[1].grad = torch.ones(2)
    parameters[3].requires_grad_(False)
    average_gradients(parameters)
    tensors = [torch.full((2, 3), rank, dtype=dtype) for dtype in (torch.bfloat16, torch.float64, torch.bool)]
    tensors.append(torch.full((2, 3), float(rank)).T)
    broadcast([*tensors, torch.zeros(0)])
    return {
        "gradients": torch.stack([parameters[0].grad, parameters[1].grad]),
        "without gradient": torch.tensor([p.grad is None for p in parameters[2:]]),
        "broadcast": torch.stack([t.double().sum() for t in tensors]),
        "average": torch.tensor(average({"a": float(rank), "b": 3.0}, torch.device("cpu"))["a"]),
    }


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
    held_out = PairBatches(ROWS, lambda chosen: (chosen, chosen), 4, seed=0, validation_fraction=0.5).held_out
    found["held_out"] = torch.cat([pair[0] for pair in held_out.batches])
    found |= collective(rank)
    torch.save(found, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    if not distributed.is_available():
        pytest.skip("torch was built without torch.distributed")
    folder = tmp_path_factory.mktemp("results")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(half_the_work, (port, str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def test_two_processes_have_the_gradient_of_one(results):
    one, other = results
    for name in NAMES:
        torch.testing.assert_close(one[name], gradient(name, slice(None)), rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)
    drawn = torch.cat([one["drawn"], other["drawn"]])
    assert sorted(drawn.tolist()) == list(range(ROWS))  # together they see everything once
    assert one["steps"] == 3
    held_out = [*one["held_out"].tolist(), *other["held_out"].tolist()]
    assert len(one["held_out"]) == len(other["held_out"]) == 4
    assert len(set(held_out)) == 8


def test_gradients_are_averaged_and_weights_are_broadcast(results):
    for found in results:
        assert found["gradients"].tolist() == [[0.5, 0.5], [0.5, 0.5]]
        assert found["without gradient"].all()
        assert found["broadcast"].tolist() == [0.0] * 4
        assert found["average"] == 0.5


def test_a_single_process_changes_nothing():
    v = torch.ones(3, 2)
    assert all_gather(v) is v
    assert rank_and_size() == (0, 1)
    values, parameter = {"a": 1.0}, nn.Parameter(v)
    assert average(values, v.device) is values
    broadcast([v])
    average_gradients([parameter])
    assert parameter.grad is None
