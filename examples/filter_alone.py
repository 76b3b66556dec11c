"""The Kalman filter alone: an oscillation behind noise that changes from step to step, with a gap in the data."""

import math

import torch
from matplotlib.figure import Figure

from kalmanssl.kalman import kalman_filter, kalman_smoother, sample_prior

steps, angle = 200, 0.15
rotation = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
model = {
    "A": rotation,
    "Q": torch.full((2,), 1e-3, dtype=torch.float64),
    "C": torch.tensor([[1.0, 0.0]], dtype=torch.float64),
    # One variance for every step: noisy in the second half.
    "R": torch.where(torch.arange(steps) < steps // 2, 0.02, 0.5).double()[None, :, None],
}
drawn = sample_prior(1, steps, **model, generator=torch.Generator().manual_seed(0))
mask = torch.ones(1, steps, dtype=torch.bool)
mask[:, 40:60] = False

filtered = kalman_filter(drawn.observations, **model, mask=mask)
smoothed = kalman_smoother(drawn.observations, **model, mask=mask)

figure = Figure(figsize=(10, 4), layout="constrained")
axes = figure.subplots()
axes.plot(drawn.states[0, :, 0], color="black", label="state")
axes.plot(torch.where(mask[0], drawn.observations[0, :, 0], float("nan")), ".", color="grey", label="observed")
for name, mean, cov in (
    ("filtered", filtered.filtered_mean, filtered.filtered_cov),
    ("smoothed", smoothed.smoothed_mean, smoothed.smoothed_cov),
):
    centre, spread = mean[0, :, 0], 1.96 * cov[0, :, 0, 0].sqrt()
    (line,) = axes.plot(centre, label=name)
    axes.fill_between(range(steps), centre - spread, centre + spread, color=line.get_color(), alpha=0.2)
axes.set(xlabel="step", ylabel="first coordinate")
axes.legend(loc="upper right", ncols=4)
figure.savefig("filter_alone.png", dpi=150)
print(f"log-likelihood {filtered.log_likelihood.sum():.1f} nats; saved filter_alone.png")
