"""The Kalman filter alone: a damped oscillator, measured at irregular times by two sensors, one with a long gap.

It shows the filter, the smoother, missing channels, a model in continuous time, and tests of the fit.
"""

import torch
from matplotlib.figure import Figure

from kalmanssl.kalman import discretize, innovation_diagnostics, kalman_filter, kalman_smoother, sample_prior

generator = torch.Generator().manual_seed(0)
steps = 600

# Position and velocity of a damped oscillator with a random force; times in seconds.
drift = torch.tensor([[0.0, 1.0], [-4.0, -0.3]])
diffusion = torch.tensor([0.0, 1.0])
time = torch.empty(steps).exponential_(20.0, generator=generator).cumsum(0)
parameters = {
    **discretize(drift, diffusion, time.diff(prepend=time[:1])),
    "C": torch.tensor([[1.0, 0.0], [1.0, 0.0]]),  # both sensors measure the position
    "R": torch.tensor([0.01, 0.2]),  # variances: one sensor is good, one is bad
}
sample = sample_prior(1, steps, **parameters, generator=generator)
y = sample.observations
mask = torch.ones(1, steps, 2, dtype=torch.bool)
mask[0, :, 0] = (time < 8) | (time > 14)  # the good sensor is interrupted
mask[0, :, 1] = torch.rand(steps, generator=generator) < 0.7  # the bad sensor misses 30 % of the steps

filtered = kalman_filter(y, **parameters, mask=mask)
smoothed = kalman_smoother(y, **parameters, mask=mask)

right = innovation_diagnostics(filtered)
wrong = innovation_diagnostics(kalman_filter(y, **{**parameters, "R": 9 * parameters["R"]}, mask=mask))
print(f"log-likelihood {filtered.log_likelihood.sum():.1f} nats\n")
print(right.summary())
print("\nWith nine times the observation noise:", wrong.verdict())

figure = Figure(figsize=(10, 7), layout="constrained")
axes = figure.subplot_mosaic([["position", "position"], ["correlation", "coverage"]])
ax = axes["position"]
ax.plot(time, sample.states[0, :, 0], color="black", label="state")
for channel, (name, size) in enumerate((("good sensor", 8), ("bad sensor", 3))):
    observed = mask[0, :, channel]
    ax.plot(time[observed], y[0, observed, channel], ".", color="gray", markersize=size / 2, label=name)
for name, mean, cov in (
    ("filtered", filtered.filtered_mean, filtered.filtered_cov),
    ("smoothed", smoothed.smoothed_mean, smoothed.smoothed_cov),
):
    center, half_width = mean[0, :, 0], 1.96 * cov[0, :, 0, 0].sqrt()
    (line,) = ax.plot(time, center, label=name)
    ax.fill_between(time, center - half_width, center + half_width, color=line.get_color(), alpha=0.2)
ax.set(xlabel="time (s)", ylabel="position", title="A gap in one channel widens the interval")
ax.legend(loc="upper right", ncols=5)

levels = (50, 80, 95)
for name, found in (("right model", right), ("R nine times too large", wrong)):
    lags = range(1, len(found.autocorrelation) + 1)
    (line,) = axes["correlation"].plot(lags, found.autocorrelation[:, 0], marker=".", label=name)
    axes["coverage"].errorbar(levels, 100 * found.coverage_all, 100 * found.coverage_all_margin, marker="o", label=name)
bound = right.correlation_bound[:, 0, 0]
axes["correlation"].fill_between(lags, -bound, bound, color="gray", alpha=0.2, label="95 % if white")
axes["correlation"].axhline(0, color="black", linewidth=0.8)
axes["correlation"].set(xlabel="lag (steps)", ylabel="autocorrelation", title="Innovations of the good sensor")
axes["coverage"].plot(levels, levels, color="black", linewidth=0.8)
axes["coverage"].set(xlabel="prediction interval (%)", ylabel="observations within (%)", title="One-step predictions")
for name in ("correlation", "coverage"):
    axes[name].legend()
figure.savefig("filter_alone.png", dpi=150)
print("saved filter_alone.png")
