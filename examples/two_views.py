"""Two views of one brain, spikes and LFP power: latents of the dynamics that both share."""

import numpy as np
from sklearn.linear_model import LinearRegression

import kalmanssl as ks
from kalmanssl.plotting import figure_of, new_axes


def slow_processes(rng, n_bins, count, coefficient):
    """Simulate independent autoregressive processes (time, count) of variance one."""
    values = np.zeros((n_bins, count))
    for t in range(1, n_bins):
        values[t] = coefficient * values[t - 1] + np.sqrt(1 - coefficient**2) * rng.standard_normal(count)
    return values


# One process drives both the spikes of 40 cells and the power of 16 channels. Each view also has three stronger
# processes of its own, which the other view does not have.
rng = np.random.default_rng(0)
n_bins, bin_size = 24_000, 0.025
shared = slow_processes(rng, n_bins, 1, 0.98)
of_spikes, of_power = (slow_processes(rng, n_bins, 3, 0.99) for _ in range(2))
log_rate = 0.4 * shared @ rng.standard_normal((1, 40)) + 0.6 * of_spikes @ rng.standard_normal((3, 40))
power = 0.7 * shared @ rng.standard_normal((1, 16)) + 1.5 * of_power @ rng.standard_normal((3, 16))
time = bin_size * (np.arange(n_bins) + 0.5)
spikes = ks.Recording.from_arrays(rng.poisson(0.4 * np.exp(log_rate)), time=time)
lfp = ks.Recording.from_arrays(power + rng.standard_normal(power.shape), time=time, kind="signal")
train, test = time < 480, time >= 480

settings = {"latent_dim": 1, "state_dim": 2, "epochs": 4, "random_state": 0}
alone = ks.KalmanSSL(**settings).fit(spikes[train])
both = ks.KalmanSSL(**settings).fit(spikes[train], view=lfp[train])  # each view predicts the other
latents = {
    "spikes alone": alone.transform(spikes),
    "two views, from spikes": both.transform(spikes),
    "two views, from LFP power": both.view_.transform(lfp),
}

axes = new_axes(7, 5.4, rows=(1, 1, 1))
for ax, (name, one) in zip(axes, latents.items(), strict=True):
    regression = LinearRegression().fit(one.mean[train], shared[train])
    r2 = regression.score(one.mean[test], shared[test])
    print(f"{name}: R² of the shared process {r2:.2f}")
    shown = (time >= 480) & (time < 500)
    ax.plot(time[shown], shared[shown], color="0.6", label="shared process")
    ax.plot(time[shown], regression.predict(one.mean[shown]), color="C0", label="from the latents")
    ax.set_title(f"{name}: R² = {r2:.2f}", fontsize=9)
axes[0].legend(loc="upper right")
axes[-1].set_xlabel("time (s)")

# The shared dynamics without later data: a forecast of one second, with its 90 % interval.
forecast = both.forecast(latents["two views, from spikes"], horizon=1.0, at=500.0)
lower, upper = forecast.interval(0.9)
print(f"forecast to {forecast.time[0, -1]:.1f} s, 90 % interval {lower[0, -1, 0]:.2f} to {upper[0, -1, 0]:.2f}")
figure = figure_of(axes[0])
figure.savefig("two_views.png", dpi=110, facecolor="white")
print("saved two_views.png")
