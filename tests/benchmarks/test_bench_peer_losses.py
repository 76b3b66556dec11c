"""The losses of lightly and solo-learn: how they are imported, that they equal ours, and how they are timed."""

import math
import sys
from importlib.machinery import PathFinder

import pytest
import torch
from images import peer_losses, timing
from images.jobs import open_results
from images.peer_losses import PEERS, PeerMissingError, peer_loss
from images.tables import table, timing_lines
from images.timing import bare_objective

PAIRS, DIM = 20, 6


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(PAIRS, DIM, generator=generator).requires_grad_() for _ in range(2))


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Write the files of a package whose `__init__` fails, and make it importable."""

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            for folder in path.relative_to(tmp_path).parents[:-1]:
                (tmp_path / folder / "__init__.py").write_text("raise RuntimeError('this must not run')\n")
        monkeypatch.syspath_prepend(str(tmp_path))

    return write


def test_a_loss_is_imported_without_the_init_of_its_package(installed, pair):
    installed(
        {
            "lightly/loss/ntx_ent_loss.py": "from lightly.utils.helpers import scaled\n"
            "class NTXentLoss:\n"
            "    def __init__(self, temperature):\n"
            "        self.temperature = temperature\n"
            "    def __call__(self, z, other):\n"
            "        return scaled((z * other).sum(), self.temperature)\n",
            "lightly/utils/helpers.py": "from torchvision.ops import StochasticDepth\n"
            "class Network(StochasticDepth):\n    pass\n"
            "def scaled(x, by):\n    return x / by\n",
        }
    )
    before = set(sys.modules)
    loss = peer_loss("SimCLR, lightly")
    assert loss(*pair).item() == pytest.approx(5 * (pair[0] * pair[1]).sum().item())
    assert not {name.partition(".")[0] for name in set(sys.modules) - before} & {"lightly", "torchvision"}
    with pytest.raises(RuntimeError, match="must not run"):
        import lightly  # noqa: F401
    sys.modules.pop("lightly", None)


def test_a_package_of_another_version_is_reported(installed):
    installed(
        {
            "solo/losses/simclr.py": "def simclr_loss_func(z, indexes, temperature=0.1):\n    return 0\n",
            "solo/losses/vicreg.py": "from solo.losses.elsewhere import something\n",
            "solo/losses/byol.py": "",
        }
    )
    for name, why in (("SimCLR", "two views"), ("VICReg", "elsewhere"), ("BYOL", "byol_loss_func")):
        with pytest.raises(PeerMissingError, match=f"the installed version of solo-learn is not supported: .*{why}"):
            peer_loss(f"{name}, solo-learn")


def test_a_package_that_is_not_installed_is_reported_in_the_table(monkeypatch, tmp_path):
    missing = peer_losses.Peer("nobody-at-all", "nobody_at_all.losses", lambda module: module.loss)
    monkeypatch.setitem(peer_losses.PEERS, "SimCLR, lightly", missing)
    results = open_results(tmp_path, {"preset": "tiny"}, {})
    results.add(timing.run("SimCLR, lightly"))
    results.add({"part": "timing", "combination": "SimCLR", "seed": 0, "step_s": 0.002})
    times = {"step_s": 0.003, "ours_s": 0.0024, "times_ours": 1.25}
    results.add({"part": "timing", "combination": "VICReg, lightly", "seed": 0, **times})
    assert results.is_pending("timing", "SimCLR, lightly", 0)  # it may be installed later
    lines = {line[0]: line[1:] for line in timing_lines(results)}
    assert lines["SimCLR, lightly"] == ("not installed (pip install --no-deps nobody-at-all)", "", "", "")
    assert lines["SimCLR"] == ("2", "", "", "")
    assert lines["VICReg, lightly"] == ("3", "", "2.4", "1.25")
    assert table(results) == []


def test_losses_alternate_and_are_compared(pair, monkeypatch):
    monkeypatch.setattr(timing, "ROUNDS", 20)
    order = []

    def short(z, other):
        order.append("ours")
        return (z * other).sum()

    def long(z, other):
        order.append("theirs")
        for _ in range(100):
            z = (z * other).tanh()
        return z.sum()

    found = timing.alternate(short, long, DIM, PAIRS)
    assert order == ["theirs", "ours", "ours", "theirs"] * 10 + ["theirs", "ours"]
    assert found["times_ours"] > 3
    assert found["step_s"] > 3 * found["ours_s"] > 0


# --- the packages themselves -----------------------------------------------------------------------------------------


def _real(name):
    package, module, _ = PEERS[name]
    if PathFinder.find_spec(module.partition(".")[0]) is None:
        pytest.skip(f"{package} is not installed: pip install --no-deps {package}")
    return peer_loss(name)


@pytest.mark.parametrize("library", ["lightly", "solo-learn"])
@pytest.mark.parametrize(
    ("name", "constant"),
    [("SimCLR", -math.log(2 * PAIRS - 1)), ("VICReg", DIM / 2 * math.log(2 * math.pi * DIM / 50))],
)
def test_values_equal_ours_up_to_a_constant(name, constant, library, pair):
    theirs, ours = _real(f"{name}, {library}")(*pair), bare_objective(name, DIM)(*pair)
    assert ours.item() == pytest.approx(theirs.item() + constant, rel=1e-5)


@pytest.mark.parametrize(
    "name",
    [f"{name}, {library}" for library in ("lightly", "solo-learn") for name in ("SimCLR", "VICReg", "SimSiam")]
    + ["BYOL, solo-learn"],
)
def test_gradients_equal_ours(name, pair):
    expected = torch.autograd.grad(_real(name)(*pair), pair)
    found = torch.autograd.grad(bare_objective(name.partition(",")[0], DIM)(*pair), pair)
    for mine, theirs in zip(found, expected, strict=True):
        assert theirs.abs().max() > 1e-3
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
