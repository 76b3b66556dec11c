"""Noise heads: shapes, lower bound, initial variance, gradients, seeds and errors."""

import copy

import pytest
import torch

from kalmanssl.errors import InputError
from kalmanssl.networks import (
    NOISE_HEADS,
    ActivityNoise,
    ConstantNoise,
    ErrorNoise,
    InputNoise,
    NoiseContext,
    StateNoise,
    VarianceNetwork,
    make_noise,
)

SETTINGS = {
    "constant": {},
    "activity": {},
    "input": {"in_features": 6, "hidden": 8},
    "variance-network": {"in_features": 6},
    "state": {"state_dim": 6, "hidden": 8},
    "errors": {"latent_dim": 6, "window": 5},
}
BOUNDED = ["activity", "input", "state", "errors"]
STARTING = [name for name in NOISE_HEADS if name != "variance-network"]


def head_of(name, **more):
    return make_noise(name, dim=3, **SETTINGS[name], **more)


FIELDS = {
    "activity": ("features", (2, 9, 6)),
    "input": ("features", (2, 9, 6)),
    "variance-network": ("features", (2, 9, 6)),
    "state": ("state", (2, 6)),
    "errors": ("innovations", (2, 5, 6)),
}


def context_of(name, scale=1.0, seed=0, dtype=torch.float32):
    """Random inputs for a head."""
    if name not in FIELDS:
        return NoiseContext()
    field, shape = FIELDS[name]
    values = scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    if name == "activity":
        values = values.abs()
    return NoiseContext(**{field: values.to(dtype)})


def features(x):
    return NoiseContext(features=x)


def randomize(head, seed, scale):
    """Draw all weights at random."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return head


@pytest.mark.parametrize(
    ("name", "uses_state", "history", "has_network", "shape"),
    [
        ("constant", False, 0, False, (3,)),
        ("activity", False, 0, False, (2, 9, 3)),
        ("input", False, 0, True, (2, 9, 3)),
        ("variance-network", False, 0, True, (2, 9, 3)),
        ("state", True, 0, True, (2, 3)),
        ("errors", False, 5, True, (2, 3)),
    ],
)
def test_shapes_and_declared_inputs(name, uses_state, history, has_network, shape):
    head = head_of(name)
    assert (head.dim, head.uses_state, head.history) == (3, uses_state, history)
    assert bool(head.network_parameters()) == has_network
    assert head.is_sequential == (name in ("state", "errors"))
    assert head(context_of(name)).shape == shape


@pytest.mark.parametrize("name", NOISE_HEADS)
@pytest.mark.parametrize("scale", [0.1, 3.0, 100.0])
def test_variances_are_at_least_the_floor_for_any_weights(name, scale):
    for seed in range(20):
        head = randomize(head_of(name, floor=1e-4), seed, scale)
        for context in (context_of(name, 10.0, seed), context_of(name, 0.0)):
            variance = head(context)
            assert (variance >= 1e-4 * (1 - 1e-6)).all()
            if name == "variance-network" or scale < 100:  # exp(100) is beyond float32
                assert torch.isfinite(variance).all()


@pytest.mark.parametrize("name", BOUNDED)
@pytest.mark.parametrize("scale", [0.1, 3.0, 1000.0])
def test_variances_stay_within_a_factor_of_the_constant_variance_for_any_weights_and_inputs(name, scale):
    for seed in range(20):
        head = randomize(head_of(name, floor=1e-8, max_ratio=4.0), seed, scale)
        with torch.no_grad():
            head.log_variance.copy_(torch.tensor([0.5, 1.0, 3.0]).log())
        for context in (context_of(name, 1e4, seed), context_of(name, 0.0)):
            ratio = head(context) / torch.tensor([0.5, 1.0, 3.0])
            assert ratio.min() >= 0.25 * (1 - 1e-5)
            assert ratio.max() <= 4.0 * (1 + 1e-5)


@pytest.mark.parametrize("name", BOUNDED)
def test_noise_that_does_not_vary_is_the_constant_variance_and_needs_nothing_from_the_filter(name):
    head = randomize(head_of(name), 0, 0.5)
    head.set_variance(torch.tensor([0.5, 1.0, 2.0]))
    head.set_varying(False)
    assert not head.is_sequential
    torch.testing.assert_close(head().detach(), torch.tensor([0.5, 1.0, 2.0]))
    assert head(context_of(name)).shape == (3,)
    fresh = head_of(name)
    fresh.load_state_dict(head.state_dict())
    assert not fresh.varies
    head.set_varying(True)
    assert head(context_of(name)).ndim > 1


@pytest.mark.parametrize("name", BOUNDED)
def test_fitted_inputs_make_variances_independent_of_the_scale_of_the_data(name):
    def variances(scale):
        head = randomize(head_of(name), 0, 0.3)
        context = context_of(name, scale)
        samples = {f: None if x is None else x.flatten(0, 1) for f, x in vars(context).items() if f != "state"}
        head.fit_inputs(NoiseContext(**samples, state=context.state))
        return head(context)

    if name == "activity":  # the logarithm of one plus the activity scales only if the activity is large
        torch.testing.assert_close(variances(1e3), variances(1e4), rtol=1e-2, atol=0)
    else:
        torch.testing.assert_close(variances(1.0), variances(100.0), rtol=1e-3, atol=0)


def test_activity_noise_depends_only_on_the_total_activity():
    head = randomize(head_of("activity"), 0, 0.5)
    x = context_of("activity").features
    torch.testing.assert_close(head(features(x)), head(features(x.flip(-1))))
    assert (head(features(x)) != head(features(2 * x))).all()
    signal = randomize(ActivityNoise(3, counts=False), 0, 0.5)
    torch.testing.assert_close(signal(features(x)), signal(features(-x)))


def test_activity_noise_reports_steps_without_activity_as_not_observed():
    head = head_of("activity")
    x = context_of("activity").features
    assert head.observed(features(x)) is None
    x[1, 3] = 0
    observed = head.observed(features(x))
    assert (~observed).nonzero().tolist() == [[1, 3]]
    head.set_varying(False)
    assert head.observed(features(x)) is None
    assert head_of("input").observed(features(x)) is None


@pytest.mark.parametrize("name", STARTING)
@pytest.mark.parametrize("initial", [1e-4, 0.03, 1.0, 5.0])
def test_initial_variance_is_the_same_for_every_input(name, initial):
    head = head_of(name, initial_variance=initial)
    variance = head(context_of(name, 10.0))
    torch.testing.assert_close(variance, torch.full_like(variance, initial), rtol=1e-4, atol=0)


def test_variance_network_starts_as_the_variance_over_channels():
    x = torch.randn(4, 11, 50, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 12.0)[:, None] + 3
    variance = VarianceNetwork(50, 2, floor=1e-5)(features(x))
    expected = x.var(-1, correction=0, keepdim=True).expand_as(variance) + 2e-5
    torch.testing.assert_close(variance, expected, rtol=1e-4, atol=0)


def test_variance_network_is_the_written_formula():
    head = randomize(VarianceNetwork(6, 3).double(), 1, 1.0)
    x = torch.randn(6, generator=torch.Generator().manual_seed(2)).double()
    u = [float(head.gain[i].detach() * x[i]) for i in range(6)]
    squared = torch.tensor([(a - sum(u) / 6) ** 2 for a in u]).double()
    positive = lambda raw: (1 + raw.exp()).log()  # noqa: E731
    hidden = (positive(head.raw_hidden_weight) @ squared + head.hidden_bias).clamp_min(0)
    expected = positive(head.raw_weight) @ hidden + positive(head.raw_bias) + 1e-5
    torch.testing.assert_close(head(features(x)), expected)


@pytest.mark.parametrize("name", NOISE_HEADS)
def test_gradients_reach_every_parameter(name):
    head = head_of(name)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01)
    for _ in range(2):  # the zero weights of the last layer hold the others back for one step
        optimizer.zero_grad()
        head(context_of(name)).square().sum().backward()
        optimizer.step()
    for parameter_name, parameter in head.named_parameters():
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", NOISE_HEADS)
def test_gradcheck_of_the_weights(name):
    head = randomize(head_of(name).double(), 0, 0.5)
    context = context_of(name, dtype=torch.float64)
    names, parameters = zip(*head.named_parameters(), strict=True)

    def variances(*values):
        return torch.func.functional_call(head, dict(zip(names, values, strict=True)), (context,))

    assert torch.autograd.gradcheck(variances, parameters)


@pytest.mark.parametrize("name", ["activity", "input", "variance-network"])
def test_input_heads_depend_only_on_features_of_the_same_step(name):
    head = randomize(head_of(name), 0, 0.5)
    x = context_of(name).features
    changed = x.clone()
    changed[:, 4] += 1
    moved = (head(features(x)) != head(features(changed))).any(-1).any(0)
    assert moved.tolist() == [t == 4 for t in range(9)]


@pytest.mark.parametrize(
    ("make", "rate"),
    [(lambda: InputNoise(12, 1, transform="sqrt", random_state=0), 3e-3), (lambda: ActivityNoise(1), 0.05)],
)
def test_noise_can_learn_to_follow_the_spike_count(make, rate):
    generator = torch.Generator().manual_seed(0)
    gain = torch.rand(3000, 1, generator=generator).expand(-1, 12)
    x = torch.poisson(gain, generator=generator)
    truth = 2.0 / (1 + x.sum(1, keepdim=True))
    residual = truth.sqrt() * torch.randn(3000, 1, generator=generator)
    head = make()
    optimizer = torch.optim.Adam(head.parameters(), lr=rate)
    for _ in range(60):
        variance = head(features(x))
        loss = (variance.log() + residual.square() / variance).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    correlation = torch.corrcoef(torch.stack([head(features(x)).detach()[:, 0].log(), truth[:, 0].log()]))[0, 1]
    assert correlation > 0.8


def test_error_noise_does_not_propagate_gradients_to_the_innovations():
    head = randomize(ErrorNoise(2, 3, window=4), 0, 0.5)
    innovations = torch.randn(1, 4, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    variance = head(NoiseContext(innovations=innovations))
    assert variance.requires_grad
    assert torch.autograd.grad(variance.sum(), innovations, allow_unused=True) == (None,)


@pytest.mark.parametrize("name", ["input", "state", "errors"])
def test_seed_determines_the_weights_and_leaves_the_global_generator_unchanged(name):
    state = torch.random.get_rng_state()
    first, again, other = (head_of(name, random_state=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    key = "network.0.weight"
    assert torch.equal(first.state_dict()[key], again.state_dict()[key])
    assert not torch.equal(first.state_dict()[key], other.state_dict()[key])


@pytest.mark.parametrize("name", NOISE_HEADS)
def test_weights_survive_a_copy_and_a_state_dict(name):
    head = randomize(head_of(name), 0, 0.5)
    fresh = head_of(name)
    fresh.load_state_dict(head.state_dict())
    assert torch.equal(fresh(context_of(name)), head(context_of(name)))
    assert torch.equal(copy.deepcopy(head)(context_of(name)), head(context_of(name)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_noise("inputs", dim=3), "there is no noise 'inputs': did you mean 'input'"),
        (lambda: make_noise("variance", dim=3), "did you mean 'variance-network'"),
        (
            lambda: make_noise("zz", dim=3),
            "use one of 'constant', 'activity', 'input', 'variance-network', 'state', 'errors'",
        ),
        (lambda: make_noise("input", dim=3), "noise 'input': .*in_features"),
        (lambda: make_noise("constant", dim=3, depth=2), "noise 'constant': .*depth"),
        (lambda: ConstantNoise(0), "dim must be a whole number, at least 1; got 0"),
        (lambda: ConstantNoise(2, floor=0.0), "floor must be positive and finite; got 0.0"),
        (lambda: ConstantNoise(2, initial_variance=1e-7), "initial_variance must be above the floor 1e-06, got 1e-07"),
        (lambda: InputNoise(4, 2, initial_variance=float("nan")), "initial_variance must be above the floor"),
        (lambda: ErrorNoise(4, 2, max_ratio=1.0), "max_ratio must be above 1 and finite; got 1.0"),
        (lambda: ActivityNoise(2, max_ratio=float("inf")), "max_ratio must be above 1 and finite; got inf"),
        (lambda: ActivityNoise(0), "dim must be a whole number, at least 1; got 0"),
        (lambda: ActivityNoise(2)(NoiseContext()), "features is missing in the context"),
        (lambda: ActivityNoise(2)(), "context is needed by noise that varies"),
        (lambda: ErrorNoise(4, 2, window=0), "window must be a whole number, at least 1; got 0"),
        (lambda: VarianceNetwork(1, 2), "in_features must be a whole number, at least 2; got 1"),
        (lambda: InputNoise(4, 2)(features(torch.zeros(1, 5, 3))), r"features must have 4 columns, .*\(1, 5, 3\)"),
        (lambda: InputNoise(4, 2)(NoiseContext()), "features is missing in the context"),
        (lambda: InputNoise(4, 2, transform="sqrt")(features(-torch.ones(1, 5, 4))), "minimum of -1"),
        (lambda: VarianceNetwork(4, 2)(features(torch.zeros(5))), r"features must have 4 columns, .*\(5,\)"),
        (lambda: StateNoise(4, 2)(NoiseContext(state=torch.zeros(1, 3))), r"state must have 4 columns, .*\(1, 3\)"),
        (
            lambda: ErrorNoise(4, 2)(NoiseContext(innovations=torch.zeros(1, 9, 4))),
            r"innovations must have shape \(batch, 10, 4\), got \(1, 9, 4\)",
        ),
    ],
)
def test_wrong_arguments_raise_one_line_that_names_them(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
