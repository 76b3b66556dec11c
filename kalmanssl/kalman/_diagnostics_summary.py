"""The diagnostics of a filter as a table and as a verdict in words.

With enough observations the tests reject every model. The verdict therefore reports a deviation only if it is large,
and uses the tests only to decide whether there is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from kalmanssl.kalman._diagnostics import InnovationDiagnostics

__all__ = ["table", "verdict"]

# Smaller deviations change intervals and estimates too little to matter.
SMALL_EXCESS = 0.05  # relative deviation of the mean normalized square from 1
SMALL_CORRELATION = 0.05
SMALL_BIAS = 0.05  # standard deviations
_CHANNELS_SHOWN = 16
_ALSO = ", and check A, whose errors have the same effect."


def verdict(d: InnovationDiagnostics) -> str:
    """Which tests fail, how large the deviations are, and which parameter to check."""
    share = (1 - d.level) / 3
    where, correlation = _largest_correlation(d)
    first = _first_correlation(d)
    channel = int(d.bias.abs().nan_to_num().argmax())
    bias = float(d.bias[channel].nan_to_num())
    size, slow, sentences, small = 1.0, 0.0, [], []
    about_mean = d.nis_mean - float((d.count * d.bias.square()).nansum() / d.count.sum())
    if d.nis_mean_p_value < share:
        if abs(d.nis_mean - 1) < SMALL_EXCESS:
            small.append(f"a variance of {d.nis_mean:.3f} times the predicted one")
        elif abs(about_mean - 1) >= SMALL_EXCESS:
            size = about_mean
            kind = "overconfident" if size > 1 else "underconfident"
            sentences.append(f"The innovations have {size:.2f} times the predicted variance: the filter is {kind}.")
    if d.whiteness_p_value < share:
        if abs(correlation) >= SMALL_CORRELATION:
            slow = first
            sentences.append(f"The innovations are correlated ({correlation:+.2f} at {where}): {_kind(first)}.")
        else:
            small.append(f"correlations of {abs(correlation):.3f}")
    if d.bias_p_value < share:
        if abs(bias) >= SMALL_BIAS:
            sentences.append(
                f"The mean innovation of channel {channel} is {bias:+.2f} standard deviations: an offset is missing "
                "(b, or a mean to subtract from y)."
            )
        else:
            small.append(f"a bias of {abs(bias):.3f} standard deviations")
    sentences += _where_to_look(size, slow)
    if small:
        sentences.append(f"Significant but too small to matter: {', '.join(small)}.")
    if sentences:
        return " ".join(sentences)
    low, high = d.nis_interval
    return (
        f"No evidence against the model: the innovations have {d.nis_mean:.2f} times the predicted variance, "
        f"expected {low:.2f} to {high:.2f}."
    )


def table(d: InnovationDiagnostics) -> str:
    """All statistics beside their expected values, overall and for each channel, and the verdict."""
    batch, time = d.nis.shape
    percent = f"{100 * d.level:g} %"
    where, correlation = _largest_correlation(d)
    low, high = d.nis_interval
    rows = [
        ("mean normalized square", f"{d.nis_mean:.3f}", f"{low:.3f} to {high:.3f}"),
        ("whiteness, p-value", f"{d.whiteness_p_value:.3g}", f"above {1 - d.level:.2g}"),
        ("bias, p-value", f"{d.bias_p_value:.3g}", f"above {1 - d.level:.2g}"),
    ]
    if where:
        bound = float(d.correlation_bound.min())
        rows.append(("largest correlation", f"{correlation:+.3f}", f"each within ±{bound:.3f} or more; at {where}"))
    for level, found, margin in zip((50, 80, 95), d.coverage_all.tolist(), d.coverage_all_margin.tolist(), strict=True):
        rows.append((f"within the {level} % interval", f"{100 * found:.1f} %", f"{level} ± {100 * margin:.1f} %"))
    width = max(len(row[0]) for row in rows)
    lines = [
        f"Innovations of {_number(batch, 'sequence')} of {_number(time, 'step')}, {int(d.count.sum())} observed values",
        "",
        f"{'':{width}}  {'found':>9}   expected ({percent})",
        *(f"{name:{width}}  {found:>9}   {expected}" for name, found, expected in rows),
        "",
        f"{'channel':>7} {'observed':>9} {'variance ratio':>15} {'bias':>7} {'lag 1':>7}   50 %   80 %   95 %",
    ]
    channels = len(d.count)
    first = d.autocorrelation[0] if len(d.autocorrelation) else torch.full((channels,), float("nan"))
    for i in range(min(channels, _CHANNELS_SHOWN)):
        covered = " ".join(f"{100 * c:6.1f}" for c in d.coverage[:, i].tolist())
        lines.append(
            f"{i:7d} {int(d.count[i]):9d} {float(d.variance_ratio[i]):15.3f} {float(d.bias[i]):+7.3f} "
            f"{float(first[i]):+7.3f} {covered}"
        )
    if channels > _CHANNELS_SHOWN:
        lines.append(f"    ... and {channels - _CHANNELS_SHOWN} more")
    return "\n".join([*lines, "", verdict(d)])


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _kind(first: float) -> str:
    if abs(first) < SMALL_CORRELATION:
        return "the dynamics (A) are wrong, or the data have a rhythm that is not in the model"
    return f"the filter follows the data too {'slowly' if first > 0 else 'quickly and overshoots'}"


def _where_to_look(size: float, first: float) -> list[str]:
    """Which noise to check: the size of the innovations and their correlation at lag 1 together tell Q and R apart."""
    if abs(first) < SMALL_CORRELATION:
        if size == 1.0:
            return []
        return [f"Check the noises first: R or Q, or both, are too {'small' if size > 1 else 'large'}."]
    slow = first > 0
    if size == 1.0:
        return [f"Check the ratio of Q to R first, which is too {'small' if slow else 'large'}{_ALSO}"]
    name = "Q" if slow == (size > 1) else "R"
    return [f"Check {name} first, which seems too {'small' if size > 1 else 'large'}{_ALSO}"]


def _largest_correlation(d: InnovationDiagnostics) -> tuple[str, float]:
    """Lag and channels of the correlation farthest beyond its bound, empty if there is none, and its value."""
    excess = (d.correlation / d.correlation_bound).abs().nan_to_num()
    if not excess.any():
        return "", 0.0
    lag, now, before = (int(i) for i in (excess == excess.max()).nonzero()[0])
    channels = f"channel {now}" if now == before else f"channel {now} with channel {before} earlier"
    return f"lag {lag + 1}, {channels}", float(d.correlation[lag, now, before])


def _first_correlation(d: InnovationDiagnostics) -> float:
    """Mean autocorrelation at lag 1 of all channels, weighted by their numbers of pairs."""
    if not len(d.correlation):
        return 0.0
    weight = d.correlation_bound[0].diagonal() ** -2
    return float((d.autocorrelation[0].nan_to_num() * weight).sum() / weight.sum().clamp_min(1.0))
