"""The diagnostics of a filter as a table and in words.

At a large enough number of observations every model is found to be wrong, so that the words go by how large a deviation
is, and by the tests only in whether it is there at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from kalmanssl.kalman._diagnostics import InnovationDiagnostics

__all__ = ["table", "verdict"]

# What is smaller than this changes intervals and estimates by less than anyone would act on.
SMALL_EXCESS = 0.05  # of the mean normalized square, a share
SMALL_CORRELATION = 0.05
SMALL_BIAS = 0.05  # standard deviations
_CHANNELS_SHOWN = 16
_ALSO = ", and at A, whose errors look the same."


def verdict(d: InnovationDiagnostics) -> str:
    """What fits, what does not, by how much it matters, and where to look."""
    share = (1 - d.level) / 3
    where, correlation = _largest_correlation(d)
    first = _first_correlation(d)
    channel = int(d.bias.abs().nan_to_num().argmax())
    bias = float(d.bias[channel].nan_to_num())
    size, slow, said, small = 1.0, 0.0, [], []
    about_mean = d.nis_mean - float((d.count * d.bias.square()).nansum() / d.count.sum())
    if d.nis_mean_p_value < share:
        if abs(d.nis_mean - 1) < SMALL_EXCESS:
            small.append(f"a variance of {d.nis_mean:.3f} times the predicted one")
        elif abs(about_mean - 1) >= SMALL_EXCESS:
            size = about_mean
            sure = "is surer than it may be" if size > 1 else "is less sure than it could be"
            said.append(f"Innovations have {size:.2f} times the variance that was predicted: the filter {sure}.")
    if d.whiteness_p_value < share:
        if abs(correlation) >= SMALL_CORRELATION:
            slow = first
            said.append(f"Innovations are correlated ({correlation:+.2f} at {where}): {_kind(first)}.")
        else:
            small.append(f"correlations of {abs(correlation):.3f}")
    if d.bias_p_value < share:
        if abs(bias) >= SMALL_BIAS:
            said.append(
                f"Innovations of channel {channel} are off by {bias:+.2f} standard deviations on average: an offset is "
                "missing (b, or a mean to subtract from y)."
            )
        else:
            small.append(f"a bias of {abs(bias):.3f} standard deviations")
    said += _where_to_look(size, slow)
    if small:
        said.append(f"Found but too small to matter: {', '.join(small)}.")
    if said:
        return " ".join(said)
    low, high = d.nis_interval
    return (
        f"Nothing speaks against the model: innovations have {d.nis_mean:.2f} times the variance that was predicted, "
        f"where {low:.2f} to {high:.2f} was to be expected."
    )


def table(d: InnovationDiagnostics) -> str:
    """What was found beside what was to be expected, overall and for each channel, and the verdict."""
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
        f"Innovations of {_number(batch, 'sequence')} of {_number(time, 'step')}, {int(d.count.sum())} values observed",
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
        return "something in the dynamics (A) or a rhythm in the data is not in the model"
    return f"the filter follows the data too {'slowly' if first > 0 else 'eagerly and overshoots'}"


def _where_to_look(size: float, first: float) -> list[str]:
    """The size of the innovations and their correlation at lag 1 together tell the two noises apart."""
    if abs(first) < SMALL_CORRELATION:
        if size == 1.0:
            return []
        return [f"Look at the noises first: R or Q, or both, are too {'small' if size > 1 else 'large'}."]
    slow = first > 0
    if size == 1.0:
        return [f"Look at Q beside R first, which is too {'small' if slow else 'large'}{_ALSO}"]
    name = "Q" if slow == (size > 1) else "R"
    return [f"Look at {name} first, which seems too {'small' if size > 1 else 'large'}{_ALSO}"]


def _largest_correlation(d: InnovationDiagnostics) -> tuple[str, float]:
    """Where the correlation is that is farthest beyond its bound, nowhere if there is none, and its value."""
    excess = (d.correlation / d.correlation_bound).abs().nan_to_num()
    if not excess.any():
        return "", 0.0
    lag, now, before = (int(i) for i in (excess == excess.max()).nonzero()[0])
    channels = f"channel {now}" if now == before else f"channel {now} with channel {before} before"
    return f"lag {lag + 1}, {channels}", float(d.correlation[lag, now, before])


def _first_correlation(d: InnovationDiagnostics) -> float:
    """Autocorrelation at lag 1, over all channels."""
    if not len(d.correlation):
        return 0.0
    weight = d.correlation_bound[0].diagonal() ** -2
    return float((d.autocorrelation[0].nan_to_num() * weight).sum() / weight.sum().clamp_min(1.0))
