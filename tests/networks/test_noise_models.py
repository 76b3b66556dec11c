"""Noise heads: positive for any weights, a stated start, causality, gradients, seeds."""

import copy

import pytest
import torch

from kalmanssl.errors import InputError
from kalmanssl.networks import NOISES, ConstantNoise, ErrorNoise, InputNoise, StateNoise, VarianceNetwork, make_noise

SETTINGS = {
    "constant": {},
    "input": {"in_features": 6, "hidden": 8},
    "variance-network": {"in_features": 6},
    "state": {"state_dim": 6, "hidden": 8},
    "errors": {"latent_dim": 6, "window": 5},
}
STARTING = [name for name in NOISES if name != "variance-network"]


def head_of(name, **more):
    return make_noise(name, dim=3, **SETTINGS[name], **more)


def arguments(name, scale=1.0, seed=0):
    shapes = {"constant": None, "input": (2, 9, 6), "variance-network": (2, 9, 6), "state": (2, 6), "errors": (2, 5, 6)}
    if shapes[name] is None:
        return ()
    return (scale * torch.randn(shapes[name], generator=torch.Generator().manual_seed(seed)),)


def shake(head, seed, scale):
    """Draw all weights anew."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return head


@pytest.mark.parametrize(
    ("name", "needs", "shape"),
    [
        ("constant", "nothing", (3,)),
        ("input", "input", (2, 9, 3)),
        ("variance-network", "input", (2, 9, 3)),
        ("state", "state", (2, 3)),
        ("errors", "errors", (2, 3)),
    ],
)
def test_shapes(name, needs, shape):
    head = head_of(name)
    assert (head.dim, head.needs) == (3, needs)
    assert head(*arguments(name)).shape == shape


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("scale", [0.1, 3.0, 100.0])
def test_variances_are_at_least_the_floor_for_any_weights(name, scale):
    for seed in range(20):
        head = shake(head_of(name, floor=1e-4), seed, scale)
        for inputs in (arguments(name, 10.0, seed), tuple(torch.zeros_like(a) for a in arguments(name))):
            variance = head(*inputs)
            assert (variance >= 1e-4 * (1 - 1e-6)).all()
            if name != "constant" or scale < 100:  # exp(100) is beyond float32
                assert torch.isfinite(variance).all()


@pytest.mark.parametrize("name", STARTING)
@pytest.mark.parametrize("initial", [1e-4, 0.03, 1.0, 5.0])
def test_initial_variance_whatever_the_input(name, initial):
    head = head_of(name, initial_variance=initial)
    variance = head(*arguments(name, 10.0))
    torch.testing.assert_close(variance, torch.full_like(variance, initial), rtol=1e-4, atol=0)


def test_variance_network_starts_as_the_variance_over_channels():
    x = torch.randn(4, 11, 50, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 12.0)[:, None] + 3
    variance = VarianceNetwork(50, 2, floor=1e-5)(x)
    expected = x.var(-1, correction=0, keepdim=True).expand_as(variance) + 2e-5
    torch.testing.assert_close(variance, expected, rtol=1e-4, atol=0)


def test_variance_network_is_the_written_formula():
    head = shake(VarianceNetwork(6, 3).double(), 1, 1.0)
    x = torch.randn(6, generator=torch.Generator().manual_seed(2)).double()
    u = [float(head.gain[i].detach() * x[i]) for i in range(6)]
    squared = torch.tensor([(a - sum(u) / 6) ** 2 for a in u]).double()
    positive = lambda raw: (1 + raw.exp()).log()  # noqa: E731
    hidden = (positive(head.raw_hidden_weight) @ squared + head.hidden_bias).clamp_min(0)
    expected = positive(head.raw_weight) @ hidden + positive(head.raw_bias) + 1e-5
    torch.testing.assert_close(head(x), expected)


@pytest.mark.parametrize("name", NOISES)
def test_gradients_reach_every_parameter(name):
    head = head_of(name)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01)
    for _ in range(2):  # the zero weights of the last layer hold the others back for one step
        optimizer.zero_grad()
        head(*arguments(name)).square().sum().backward()
        optimizer.step()
    for parameter_name, parameter in head.named_parameters():
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", NOISES)
def test_gradcheck_of_the_weights(name):
    head = shake(head_of(name).double(), 0, 0.5)
    inputs = tuple(a.double() for a in arguments(name))
    names, parameters = zip(*head.named_parameters(), strict=True)

    def variances(*values):
        return torch.func.functional_call(head, dict(zip(names, values, strict=True)), inputs)

    assert torch.autograd.gradcheck(variances, parameters)


@pytest.mark.parametrize("name", ["input", "variance-network"])
def test_input_heads_see_only_their_own_bin(name):
    head = shake(head_of(name), 0, 0.5)
    (x,) = arguments(name)
    changed = x.clone()
    changed[:, 4] += 1
    moved = (head(x) != head(changed)).any(-1).any(0)
    assert moved.tolist() == [t == 4 for t in range(9)]


def test_input_noise_can_learn_to_follow_the_spike_count():
    generator = torch.Generator().manual_seed(0)
    rate = torch.rand(3000, 1, generator=generator).expand(-1, 12)
    x = torch.poisson(rate, generator=generator)
    truth = 2.0 / (1 + x.sum(1, keepdim=True))
    residual = truth.sqrt() * torch.randn(3000, 1, generator=generator)
    head = InputNoise(12, 1, transform="sqrt", random_state=0)
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    for _ in range(60):
        variance = head(x)
        loss = (variance.log() + residual.square() / variance).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    correlation = torch.corrcoef(torch.stack([head(x).detach()[:, 0].log(), truth[:, 0].log()]))[0, 1]
    assert correlation > 0.8


def test_window_of_errors_ends_before_the_present():
    head = ErrorNoise(2, 3, window=4)
    errors = torch.arange(1.0, 21.0).reshape(1, 10, 2)
    assert torch.equal(head.before(errors, 0), torch.zeros(1, 4, 2))
    assert torch.equal(head.before(errors, 2), torch.cat([torch.zeros(1, 2, 2), errors[:, :2]], 1))
    assert torch.equal(head.before(errors, 7), errors[:, 3:7])
    assert torch.equal(head.before(errors[:, :7], 7), errors[:, 3:7])


@pytest.mark.parametrize("t", [0, 3, 9])
def test_error_noise_is_strictly_causal_and_detached(t):
    head = shake(ErrorNoise(2, 3, window=4), 0, 0.5)
    errors = torch.randn(1, 10, 2, generator=torch.Generator().manual_seed(0))
    changed = errors.clone()
    changed[:, t] += 1
    moved = [bool((head(head.before(errors, s)) != head(head.before(changed, s))).any()) for s in range(10)]
    assert moved == [t < s <= t + 4 for s in range(10)]
    errors.requires_grad_()
    variance = head(head.before(errors, 5))
    assert variance.requires_grad
    assert torch.autograd.grad(variance.sum(), errors, allow_unused=True) == (None,)


def test_error_noise_stays_below_its_maximum():
    head = shake(ErrorNoise(2, 3, maximum=4.0), 0, 100.0)
    assert head(torch.full((1, 10, 2), 1e3)).max() <= 4.0 + 2e-6


@pytest.mark.parametrize("name", ["input", "state", "errors"])
def test_seed_decides_the_weights_and_nothing_else(name):
    state = torch.random.get_rng_state()
    first, again, other = (head_of(name, random_state=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    key = "network.0.weight"
    assert torch.equal(first.state_dict()[key], again.state_dict()[key])
    assert not torch.equal(first.state_dict()[key], other.state_dict()[key])


@pytest.mark.parametrize("name", NOISES)
def test_weights_survive_a_copy_and_a_state_dict(name):
    head = shake(head_of(name), 0, 0.5)
    fresh = head_of(name)
    fresh.load_state_dict(head.state_dict())
    assert torch.equal(fresh(*arguments(name)), head(*arguments(name)))
    assert torch.equal(copy.deepcopy(head)(*arguments(name)), head(*arguments(name)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_noise("inputs", dim=3), "there is no noise 'inputs': did you mean 'input'"),
        (lambda: make_noise("variance", dim=3), "did you mean 'variance-network'"),
        (lambda: make_noise("zz", dim=3), "use one of 'constant', 'input', 'variance-network', 'state', 'errors'"),
        (lambda: make_noise("input", dim=3), "noise 'input': .*in_features"),
        (lambda: make_noise("constant", dim=3, depth=2), "noise 'constant': .*depth"),
        (lambda: ConstantNoise(0), "dim must be at least 1, got 0"),
        (lambda: ConstantNoise(2, floor=0.0), "floor must be a positive variance, got 0.0"),
        (lambda: ConstantNoise(2, initial_variance=1e-7), "initial_variance must be above the floor 1e-06, got 1e-07"),
        (lambda: InputNoise(4, 2, initial_variance=float("nan")), "initial_variance must be above the floor"),
        (lambda: ErrorNoise(4, 2, initial_variance=20.0), "initial_variance 20 must be below maximum, got maximum=10"),
        (lambda: ErrorNoise(4, 2, maximum=-1.0), "must be below maximum, got maximum=-1"),
        (lambda: ErrorNoise(4, 2, window=0), "window must be at least 1 step, got 0"),
        (lambda: VarianceNetwork(1, 2), "needs at least 2 in_features, got 1"),
        (
            lambda: InputNoise(4, 2)(torch.zeros(1, 5, 3)),
            r"x of shape \(1, 5, 3\) has 3 features, the head was built for 4",
        ),
        (lambda: InputNoise(4, 2, transform="sqrt")(-torch.ones(1, 5, 4)), "goes down to -1"),
        (lambda: VarianceNetwork(4, 2)(torch.zeros(5)), r"x of shape \(5,\) has 5 features"),
        (lambda: StateNoise(4, 2)(torch.zeros(1, 3)), r"previous_mean of shape \(1, 3\) has 3 features"),
        (lambda: ErrorNoise(4, 2)(torch.zeros(1, 9, 4)), r"\(batch, 10, 4\), got \(1, 9, 4\): cut them with before"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
