"""Encoders: normalization, dropout, windows and input validation."""

import pytest
import torch
from torch import nn

from kalmanssl.errors import InputError
from kalmanssl.networks import MLPEncoder, Normalize, UnitDropout, WindowEncoder, check_encoder, mlp


def counts(batch=3, time=20, units=7, seed=0):
    return torch.randint(0, 4, (batch, time, units), generator=torch.Generator().manual_seed(seed)).float()


def make(kind, **settings):
    if kind == "mlp":
        return MLPEncoder(7, 2, **settings)
    return WindowEncoder(7, 2, 4, **settings)


# --- normalization ---


def test_square_root_and_norm():
    x = torch.tensor([[9.0, 16.0, 0.0]])
    torch.testing.assert_close(Normalize("sqrt")(x), torch.tensor([[3.0, 4.0, 0.0]]))
    torch.testing.assert_close(Normalize(unit_norm=True, norm_offset=1e-6)(x).norm(), torch.tensor(1.0))
    torch.testing.assert_close(Normalize("sqrt", True, norm_offset=5.0)(x), torch.tensor([[0.3, 0.4, 0.0]]))
    assert torch.equal(Normalize()(x), x)


def test_unit_norm_keeps_the_direction_and_drops_the_rate():
    x = counts() + 1
    cosine = Normalize(unit_norm=True)
    torch.testing.assert_close(cosine(x), cosine(5 * x), atol=1e-3, rtol=0)


def test_square_roots_with_and_without_a_gradient_are_the_same_and_those_of_nan_are_zero():
    counts = torch.tensor([[3.0, 0.0, torch.nan, torch.inf, 7.0]])
    expected = torch.tensor([[3.0**0.5, 0.0, 0.0, torch.inf, 7.0**0.5]])
    normalize = Normalize("sqrt")
    for x in (counts, counts.clone().requires_grad_(), counts.bfloat16().float()):
        torch.testing.assert_close(normalize(x).detach(), expected, rtol=1e-6, atol=0)
    slope = torch.func.jacfwd(Normalize("sqrt").forward)(torch.tensor([4.0, 0.0]))
    torch.testing.assert_close(slope, torch.tensor([[0.25, 0.0], [0.0, 0.0]]))
    with pytest.raises(InputError, match="minimum"):
        normalize(torch.tensor([torch.nan, -1.0]))


@pytest.mark.parametrize("transform", ["none", "sqrt"])
def test_a_bin_without_spikes_is_the_zero_vector_with_finite_gradients(transform):
    x = torch.zeros(2, 3, 4)
    x[0, 0, 0] = 2.0
    x.requires_grad_()
    y = Normalize(transform, unit_norm=True)(x)
    y.sum().backward()
    assert (y[1] == 0).all()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("transform", ["none", "sqrt"])
def test_normalize_gradcheck(transform):
    x = (counts(1, 3, 4).double() + 1).requires_grad_()
    assert torch.autograd.gradcheck(Normalize(transform, True, 0.5), x)


# --- encoders ---


@pytest.mark.parametrize("kind", ["mlp", "window"])
@pytest.mark.parametrize("hidden", [(), (11,), (11, 5)])
def test_shapes_and_gradients(kind, hidden):
    encoder = make(kind, hidden=hidden, transform="sqrt", unit_norm=True, random_state=0)
    x = counts()
    z = encoder(x)
    assert z.shape == (3, 20, 2)
    assert encoder.features(x).shape == (3, 20, encoder.n_features)
    z.square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad.abs().max() > 0, name
    check_encoder(encoder, 7, 2)


@pytest.mark.parametrize(("kind", "window"), [("mlp", 1), ("window", 4)])
@pytest.mark.parametrize("t", [0, 5, 19])
def test_causality(kind, window, t):
    encoder = make(kind, random_state=0)
    x = counts()
    changed = x.clone()
    changed[:, t] += 1
    moved = (encoder(x) != encoder(changed)).any(-1).any(0)
    expected = torch.zeros(20, dtype=torch.bool)
    expected[t : t + window] = True
    assert torch.equal(moved, expected)


def test_window_is_the_stack_of_lags_after_silence():
    encoder = WindowEncoder(3, 2, 3)
    x = counts(1, 6, 3)
    features = encoder.features(x)[0]
    torch.testing.assert_close(features[4], torch.cat([x[0, 4], x[0, 3], x[0, 2]]))
    torch.testing.assert_close(features[0], torch.cat([x[0, 0], torch.zeros(6)]))
    after_silence = torch.cat([torch.zeros(1, 5, 3), x], 1)
    torch.testing.assert_close(encoder(after_silence)[:, 5:], encoder(x))


def test_mlp_encoder_is_the_perceptron():
    encoder = MLPEncoder(7, 2, (9,))
    first, _, last = encoder.network
    x = counts()
    expected = (x @ first.weight.T + first.bias).clamp_min(0) @ last.weight.T + last.bias
    torch.testing.assert_close(encoder(x), expected)


@pytest.mark.parametrize("kind", ["mlp", "window"])
def test_seed_decides_the_weights_and_nothing_else(kind):
    state = torch.random.get_rng_state()
    first, again, other = (make(kind, random_state=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    x = counts()
    assert torch.equal(first(x), again(x))
    assert not torch.equal(first(x), other(x))
    make(kind)
    assert not torch.equal(torch.random.get_rng_state(), state)


def test_batch_members_do_not_meet():
    encoder = make("window", unit_norm=True)
    x = counts()
    torch.testing.assert_close(encoder(x)[1:2], encoder(x[1:2]))


# --- dropout ---


def test_unit_dropout_silences_whole_units_of_a_sequence():
    torch.manual_seed(0)
    y = UnitDropout(0.25)(torch.ones(200, 5, 40))
    assert ((y == 0) | torch.isclose(y, torch.tensor(4 / 3))).all()
    assert (y == y[:, :1]).all()
    assert float((y == 0).float().mean()) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("settings", [{"dropout": 0.5}, {"unit_dropout": 0.5}])
def test_dropout_only_in_training(settings):
    encoder = make("mlp", **settings)
    x = counts()
    assert not torch.equal(encoder(x), encoder(x))
    encoder.eval()
    assert torch.equal(encoder(x), encoder(x))
    assert torch.equal(encoder.features(x), x)


# --- validation of user-defined encoders ---


class Wrap(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_check_encoder_accepts_any_module_and_leaves_no_trace():
    module = nn.Sequential(nn.Linear(7, 4), nn.Dropout(0.5), nn.BatchNorm1d(64), nn.Linear(4, 2)).double()
    module[1].eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    state = torch.random.get_rng_state()
    check_encoder(module, 7, 2)
    check_encoder(Wrap(lambda x: torch.randn(*x.shape[:2], 2)), 7, 2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [part.training for part in module] == [True, False, True, True]
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (len, "the encoder must be a torch.nn.Module instance, got <built-in function len>"),
        (nn.Linear, "the encoder must be a torch.nn.Module instance"),
        (nn.Linear(6, 2), r"the encoder Linear fails on an input of shape \(batch=2, time=64, features=7\): mat1"),
        (
            nn.Linear(7, 3),
            r"Linear must return \(batch=2, time=64, latent_dim=2\), got \(2, 64, 3\): return one latent vector",
        ),
        (Wrap(lambda x: x[:, ::2, :2]), r"got \(2, 32, 2\)"),
        (Wrap(lambda x: (x, x)), "must return a tensor of floats, got tuple"),
        (Wrap(lambda x: x[..., :2].long()), "must return a tensor of floats, got torch.int64"),
        (Wrap(lambda x: x[..., :2] / 0), "returns NaN or infinity"),
    ],
)
def test_check_encoder_refuses(module, message):
    with pytest.raises(InputError, match=message) as caught:
        check_encoder(module, 7, 2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Normalize("log"), "transform must be one of none, sqrt; got 'log'"),
        (lambda: Normalize(norm_offset=0.0), "norm_offset must be positive and finite; got 0.0"),
        (lambda: Normalize("sqrt")(torch.tensor([1.0, -2.0])), "minimum of -2: use transform='none'"),
        (lambda: UnitDropout(1.0), "unit_dropout must be at least 0 and below 1; got 1.0"),
        (lambda: MLPEncoder(7, 2, dropout=1.5), "dropout must be at least 0 and below 1; got 1.5"),
        (lambda: WindowEncoder(7, 2, 0), "window must be a whole number, at least 1; got 0"),
        (lambda: MLPEncoder(7, 0), r"every layer needs at least one unit, got widths \(7, 100, 0\)"),
        (lambda: mlp((3,)), "a network needs an input and an output width, got "),
        (lambda: MLPEncoder(7, 2)(counts(units=6)), r"takes \(batch, time, 7\), got \(3, 20, 6\)"),
        (lambda: MLPEncoder(7, 2)(counts()[0]), r"takes \(batch, time, 7\), got \(20, 7\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
