from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from dense_joint import make_problem

from kalmanssl.errors import InputError
from kalmanssl.kalman import diagnose_innovations, innovation_diagnostics, kalman_filter, kalman_smoother, sample_prior


def tensor(value):
    return torch.as_tensor(value, dtype=torch.float64)


MODEL = {
    "A": tensor([[0.95, 0.2], [-0.2, 0.9]]),
    "Q": tensor([0.3, 0.2]),
    "C": tensor([[1.0, 0.0], [0.5, 1.0]]),
    "R": tensor([[0.5, 0.1], [0.1, 0.8]]),
}


def draw(batch, time, *, seed=0, model=MODEL):
    return sample_prior(batch, time, **model, generator=torch.Generator().manual_seed(seed)).observations


def white(batch, time, obs, *, seed=0):
    """Innovations with the predicted distribution, and their covariances, which all differ."""
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(batch, time, obs, obs, generator=generator, dtype=torch.float64) + 2 * torch.eye(obs)
    noise = torch.randn(batch, time, obs, generator=generator, dtype=torch.float64)
    return (factor @ noise[..., None])[..., 0], factor @ factor.mT


def some(*shape, share=0.7, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share


@pytest.mark.parametrize("missing", ["none", "steps", "channels", "shared"])
def test_normalized_squares_and_probabilities_agree_with_scipy(missing):
    problem = make_problem(varies="both", full=True, missing=missing, obs=3, time=12)
    out = kalman_filter(problem.y, **problem.parameters, mask=problem.mask)
    found, seen = innovation_diagnostics(out), problem.seen()
    for n in range(2):
        for t in range(12):
            at = np.flatnonzero(seen[n, t])
            v, S = out.innovation[n, t].numpy()[at], out.innovation_cov[n, t].numpy()[np.ix_(at, at)]
            assert found.degrees[n, t] == len(at)
            rest = np.setdiff1d(np.arange(3), at)
            assert torch.isnan(found.whitened[n, t, rest]).all()
            assert torch.isnan(found.pit[n, t, rest]).all()
            if len(at) == 0:
                assert torch.isnan(found.nis[n, t])
                continue
            nis = v @ np.linalg.solve(S, v)
            np.testing.assert_allclose(found.nis[n, t], nis, rtol=1e-9)
            np.testing.assert_allclose(found.nis_p_value[n, t], scipy.stats.chi2.sf(nis, len(at)), rtol=1e-7)
            np.testing.assert_allclose(found.whitened[n, t, at], np.linalg.solve(np.linalg.cholesky(S), v), rtol=1e-8)
            expected = scipy.stats.norm.cdf(v / np.sqrt(np.diag(S)))
            np.testing.assert_allclose(found.pit[n, t, at], expected, rtol=1e-8, atol=1e-15)
    np.testing.assert_allclose(found.nis_mean, float(found.nis.nansum()) / seen.sum(), rtol=1e-12)
    assert found.count.tolist() == seen.sum((0, 1)).tolist()


def test_ljung_box_statistic_agrees_with_its_definition():
    innovation, cov = white(1, 300, 1)
    found = diagnose_innovations(innovation, cov, lags=8)
    e = found.whitened[0, :, 0].numpy()
    e, n = e - e.mean(), 300
    r = np.array([(e[k:] * e[:-k]).sum() / (e**2).sum() for k in range(1, 9)])
    statistic = n * (n + 2) * np.sum(r**2 / (n - np.arange(1, 9)))
    np.testing.assert_allclose(found.ljung_box, [statistic], rtol=1e-10)
    np.testing.assert_allclose(found.ljung_box_p_value, [scipy.stats.chi2.sf(statistic, 8)], rtol=1e-8)
    assert found.portmanteau == pytest.approx(statistic)
    assert found.portmanteau_degrees == 8


def test_the_mean_normalized_square_is_tested_as_a_chi_square():
    innovation, cov = white(1, 300, 2)
    for factor in (0.95, 1.0, 1.05):
        found, law = diagnose_innovations(factor * innovation, cov, level=0.9), scipy.stats.chi2(600)
        np.testing.assert_allclose(found.nis_interval, law.ppf([0.05, 0.95]) / 600, rtol=1e-10)
        total = 600 * found.nis_mean
        assert found.nis_mean_p_value == pytest.approx(2 * min(law.cdf(total), law.sf(total)), rel=1e-8)


def test_correlations_do_not_reach_across_gaps_or_from_one_sequence_to_the_next():
    innovation, cov = white(3, 15, 2)
    mask = some(3, 15, 2)
    found = diagnose_innovations(innovation, cov, mask, lags=4)
    e = found.whitened.numpy()
    mean = np.nanmean(e, (0, 1))
    spread = np.sqrt(np.nanmean((e - mean) ** 2, (0, 1)))
    for k in range(1, 5):
        for i in range(2):
            for j in range(2):
                products = [(e[n, t, i] - mean[i]) * (e[n, t - k, j] - mean[j]) for n in range(3) for t in range(k, 15)]
                products = [p for p in products if not np.isnan(p)]
                np.testing.assert_allclose(
                    found.correlation[k - 1, i, j], np.mean(products) / (spread[i] * spread[j]), rtol=1e-9
                )
                np.testing.assert_allclose(
                    found.correlation_bound[k - 1, i, j], 1.959964 / np.sqrt(len(products)), rtol=1e-6
                )


@pytest.mark.parametrize("missing", [False, True], ids=["all observed", "missing"])
def test_the_right_model_passes_at_its_nominal_rate(missing):
    """Of 400 data sets each test should reject about 20; chance keeps it within 8 to 35 in 99.9 % of cases."""
    sets, time = 400, 120
    y, mask = draw(sets, time), some(sets, time, 2) if missing else None
    out = kalman_filter(y, **MODEL, mask=mask)
    each = [
        diagnose_innovations(
            out.innovation[n : n + 1], out.innovation_cov[n : n + 1], None if mask is None else mask[n : n + 1], lags=5
        )
        for n in range(sets)
    ]
    for name in ("nis_mean_p_value", "whiteness_p_value", "bias_p_value"):
        assert 8 <= sum(getattr(d, name) < 0.05 for d in each) <= 35, name
    assert 8 <= sum(not d.nis_interval[0] <= d.nis_mean <= d.nis_interval[1] for d in each) <= 35
    assert sum(not d.consistent for d in each) <= 35
    for level in range(3):
        off = [d.coverage_all[level] - (0.5, 0.8, 0.95)[level] for d in each]
        assert 5 <= sum(abs(o) > d.coverage_all_margin[level] for o, d in zip(off, each, strict=True)) <= 42
    whole = innovation_diagnostics(out)
    assert whole.consistent
    assert scipy.stats.kstest(whole.nis_p_value[whole.degrees > 0], "uniform").pvalue > 0.01
    values = whole.pit[~whole.pit.isnan()]
    assert scipy.stats.kstest(values[::7], "uniform").pvalue > 0.01
    assert whole.verdict().startswith("No evidence against the model")


def wrong(**changes):
    return innovation_diagnostics(kalman_filter(draw(4, 1000), **{**MODEL, **changes}))


WRONG = {
    "R half": ({"R": MODEL["R"] / 2}, "above", "quickly and overshoots", "R first, which seems too small"),
    "R double": ({"R": MODEL["R"] * 2}, "below", "too slowly", "R first, which seems too large"),
    "Q a quarter": ({"Q": MODEL["Q"] / 4}, "above", "too slowly", "Q first, which seems too small"),
    "Q fourfold": ({"Q": MODEL["Q"] * 4}, "below", "quickly and overshoots", "Q first, which seems too large"),
}


@pytest.mark.parametrize(("changes", "side", "kind", "where"), WRONG.values(), ids=WRONG)
def test_the_verdict_names_the_noise_that_is_wrong(changes, side, kind, where):
    found = wrong(**changes)
    low, high = found.nis_interval
    assert (found.nis_mean > high) if side == "above" else (found.nis_mean < low)
    assert found.nis_mean_p_value < 1e-6
    assert found.whiteness_p_value < 1e-6
    assert not found.consistent
    sign = 1 if "slowly" in kind else -1
    assert (sign * found.autocorrelation[0] > 0.02).all()
    over = found.coverage_all > torch.tensor([0.5, 0.8, 0.95])
    assert over.all() if side == "below" else not over.any()
    assert kind in found.verdict()
    assert where in found.verdict()


def test_the_verdict_names_wrong_dynamics():
    found = wrong(A=0.5 * MODEL["A"])
    assert found.whiteness_p_value < 1e-6
    assert found.nis_mean > found.nis_interval[1]
    assert (found.autocorrelation[0] > 0).all()
    assert "and check A, whose errors have the same effect" in found.verdict()


def test_correlation_between_channels_is_found():
    """Each channel alone is white; only the correlation between them is wrong."""
    noise = torch.randn(1, 4000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise[:, 1:, 1] = 0.8 * noise[:, 1:, 1] + 0.6 * noise[:, :-1, 0]
    found = diagnose_innovations(noise, torch.eye(2, dtype=torch.float64).expand(1, 4000, 2, 2))
    assert found.ljung_box_p_value.min() > 0.001
    assert found.whiteness_p_value < 1e-10
    assert found.correlation[0, 1, 0] == pytest.approx(0.6, abs=0.05)
    assert "+0.6" in found.verdict()
    assert "lag 1, channel 1 with channel 0 earlier" in found.verdict()


def test_the_verdict_names_a_missing_offset():
    found = innovation_diagnostics(kalman_filter(draw(4, 1000) + tensor([0.0, 3.0]), **MODEL))
    assert found.bias_p_value < 1e-6
    worst = int(found.bias.abs().argmax())
    assert abs(found.bias[worst]) > found.bias_bound[worst]
    assert f"channel {worst} is {float(found.bias[worst]):+.2f} standard deviations" in found.verdict()
    # The offset also makes the innovations larger, although the noise is right.
    assert found.nis_mean > found.nis_interval[1]
    assert "Check" not in found.verdict()


def test_the_verdict_calls_small_deviations_small():
    innovation, cov = white(1, 200_000, 1)
    found = diagnose_innovations(1.01 * innovation, cov)
    assert found.nis_mean_p_value < 0.01
    assert not found.consistent
    assert (
        found.verdict()
        == f"Significant but too small to matter: a variance of {found.nis_mean:.3f} times the predicted one."
    )


def test_coverage_of_each_channel():
    innovation, cov = white(5, 40, 3)
    mask = some(5, 40, 3)
    found = diagnose_innovations(innovation, cov, mask)
    z = (innovation / cov.diagonal(dim1=-2, dim2=-1).sqrt()).abs()
    for k, (level, reach) in enumerate(((0.5, 0.67449), (0.8, 1.281552), (0.95, 1.959964))):
        for i in range(3):
            values = z[..., i][mask[..., i]]
            assert found.coverage[k, i] == pytest.approx(float((values <= reach).double().mean()))
            margin = 1.959964 * np.sqrt(level * (1 - level) / len(values))
            assert found.coverage_margin[k, i] == pytest.approx(margin, rel=1e-6)
        assert found.coverage_all[k] == pytest.approx(float((z[mask] <= reach).double().mean()))


def test_missing_values_have_no_influence():
    innovation, cov = white(2, 30, 3)
    mask = some(2, 30, 3)
    expected = diagnose_innovations(innovation, cov, mask)
    innovation[~mask] = float("nan")
    cov = cov.clone()
    cov[~mask] = 0.0
    cov.mT[~mask] = 0.0
    found = diagnose_innovations(innovation, cov, mask)
    for name in ("nis", "whitened", "correlation", "coverage"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), equal_nan=True)
    assert found.portmanteau == pytest.approx(expected.portmanteau)


def test_a_channel_that_is_never_observed_and_a_single_step():
    innovation, cov = white(4, 30, 2)
    mask = torch.ones(4, 30, 2, dtype=torch.bool)
    mask[..., 1] = False
    found = diagnose_innovations(innovation, cov, mask, lags=3)
    alone = diagnose_innovations(innovation[..., :1], cov[..., :1, :1], lags=3)
    for name in ("nis_mean", "portmanteau", "portmanteau_degrees", "whiteness_p_value", "bias_p_value"):
        assert getattr(found, name) == pytest.approx(getattr(alone, name))
    assert torch.isnan(found.coverage[:, 1]).all()
    for d in (found, diagnose_innovations(innovation[:, :1], cov[:, :1])):
        assert "no evidence" in d.summary().lower() or "innovations" in d.summary().lower()
        assert 0 <= d.whiteness_p_value <= 1


def test_shared_covariances_with_masks_that_differ_between_sequences():
    innovation, cov = white(3, 20, 2)
    mask = some(3, 20, 2)
    shared = cov[:1].expand(3, 20, 2, 2)
    found, expected = (diagnose_innovations(innovation, c, mask) for c in (shared, shared.clone()))
    torch.testing.assert_close(found.whitened, expected.whitened, rtol=0, atol=0, equal_nan=True)


def test_constant_innovations():
    """The correlation of a constant is undefined, but the test of the size still rejects the model."""
    innovation, cov = white(2, 30, 2)
    innovation, cov = innovation.clone(), torch.eye(2, dtype=torch.float64).expand_as(cov)
    innovation[..., 1] = 0.0
    found = diagnose_innovations(innovation, cov, lags=3)
    assert found.portmanteau_degrees == 3
    assert found.ljung_box_p_value[1] == 1
    assert torch.isnan(found.correlation[:, 1]).all()
    assert found.variance_ratio[1] == 0
    nothing = diagnose_innovations(0 * innovation, cov)
    assert nothing.nis_mean == 0
    assert not nothing.consistent
    assert "0.00 times the predicted variance" in nothing.summary()


def test_filter_and_smoother_results_give_the_same_diagnostics():
    y = draw(3, 50).float()
    model = {name: value.float() for name, value in MODEL.items()}
    mask = some(1, 50, 2).expand(3, 50, 2)
    found = innovation_diagnostics(kalman_filter(y, **model, mask=mask))
    again = innovation_diagnostics(kalman_smoother(y, **model, mask=mask).filter)
    apart = [innovation_diagnostics(kalman_filter(y[n : n + 1], **model, mask=mask[n : n + 1])) for n in range(3)]
    torch.testing.assert_close(found.nis, torch.cat([d.nis for d in apart]), rtol=1e-4, atol=1e-5, equal_nan=True)
    torch.testing.assert_close(found.nis, again.nis, rtol=1e-4, atol=1e-5, equal_nan=True)
    assert found.nis.dtype == torch.float64


def test_summary_lists_every_channel_and_ends_with_the_verdict():
    found = wrong(R=MODEL["R"] * 2)
    lines = found.summary().splitlines()
    assert lines[0] == "Innovations of 4 sequences of 1000 steps, 8000 observed values"
    assert any(line.startswith("mean normalized square") and f"{found.nis_mean:.3f}" in line for line in lines)
    assert any(line.startswith("within the 80 % interval") for line in lines)
    rows = [line.split() for line in lines if line.strip().startswith(("0 ", "1 "))]
    assert [row[:2] for row in rows] == [["0", "4000"], ["1", "4000"]]
    assert float(rows[1][2]) == pytest.approx(float(found.variance_ratio[1]), abs=1e-3)
    assert lines[-1] == found.verdict()
    assert max(map(len, lines[:-1])) <= 120


def test_diagnostics_have_no_gradients():
    R = MODEL["R"].clone().requires_grad_()
    found = innovation_diagnostics(kalman_filter(draw(1, 20), **{**MODEL, "R": R}))
    assert not found.nis.requires_grad
    assert not found.whitened.requires_grad


def test_wrong_arguments_are_named():
    innovation, cov = white(2, 10, 2)
    none = torch.zeros(2, 10, dtype=torch.bool)
    bad = innovation.clone()
    bad[1, 4, 1] = float("nan")
    for arguments, message in (
        (((innovation, cov), {"lags": 0}), "lags must be a whole number, at least 1; got 0"),
        (((innovation, cov), {"level": 95}), "level: expected a number between 0 and 1, got 95"),
        (((innovation[0], cov), {}), r"innovation: expected \(batch, time, obs\), got \(10, 2\); given: innovation"),
        (
            ((innovation, cov[:1]), {}),
            r"innovation_cov: expected \(batch, time, obs, obs\), got \(1, 10, 2, 2\); given",
        ),
        (((innovation, cov, none[:1]), {}), r"mask: expected \(2, 10, 2\) as innovation or \(2, 10\) for whole steps"),
        (((innovation, cov, none), {}), "mask: nothing is observed"),
        (((bad, cov), {}), "innovation: not finite at batch 1, time 4, channel 1; pass a mask for missing values"),
        (((innovation, -cov), {}), "innovation covariance .* not positive definite"),
    ):
        with pytest.raises(InputError, match=message) as raised:
            diagnose_innovations(*arguments[0], **arguments[1])
        assert raised.value.parameter is None or message.startswith(raised.value.parameter)
    with pytest.raises(
        InputError, match=r"result: expected a FilterResult of kalman_filter, got Tensor; .* diagnose_inn"
    ):
        innovation_diagnostics(innovation)
