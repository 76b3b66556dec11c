"""From pynapple and back: spike times and position in, latents and decoded position out as pynapple objects.

It needs pynapple: pip install 'kalmanssl[interop]'.
"""

import numpy as np
import pynapple as nap
from matplotlib.figure import Figure

import kalmanssl as ks

# A simulated rat on a track, as pynapple objects: spike times of the units, and the position.
rat = ks.datasets.place_cells(n_units=50, n_interneurons=0, duration=360.0, random_state=0)
spikes = nap.TsGroup({unit: nap.Ts(times) for unit, times in enumerate(rat.spike_times)})
position = nap.Tsd(t=rat.time, d=rat.behavior["position"])

start, middle, stop = rat.time[0], rat.time[0] + 260.0, rat.time[-1]
train, test = nap.IntervalSet(start, middle), nap.IntervalSet(middle, stop)

# Models and decoders take these objects; spike times are counted in bins of 25 ms.
model = ks.KalmanSSL(latent_dim=8, state_dim=16, random_state=0).fit(spikes.restrict(train))
decoder = ks.PositionDecoder(level=0.95, random_state=0)
decoder.fit(model.transform(spikes.restrict(train)), position.restrict(train))

latents = model.transform(spikes.restrict(test))
decoded = decoder.predict(latents)

# Everything that comes out goes back to pynapple, or to xarray and pandas.
table = decoded.to_pynapple()  # a TsdFrame with the columns mean, lower, upper and others
states = latents.to_pynapple()  # a TsdFrame with the columns state_0, state_1, ...
print(decoded.to_xarray(unit="m"))

running = ks.running_bins(position.values, position.t, min_speed=0.1)
runs = nap.Tsd(t=position.t, d=running.astype(float)).threshold(0.5).time_support.drop_short_intervals(1.0)
on_runs = table.restrict(runs.intersect(test))
error = np.abs(on_runs["mean"].values - position.interpolate(on_runs).values)
print(f"median error in {len(runs.intersect(test))} runs: {100 * np.median(error):.1f} cm")

figure = Figure(figsize=(10, 5), layout="constrained")
axes = figure.subplots(2, sharex=True)
minute = nap.IntervalSet(middle, middle + 60.0)
shown, true = table.restrict(minute), position.restrict(minute)
axes[0].plot(states.restrict(minute).t, states.restrict(minute).values[:, :4], linewidth=0.8)
axes[0].set(ylabel="first latent dimensions")
axes[1].fill_between(shown.t, shown["lower"].values, shown["upper"].values, alpha=0.3, lw=0, label="95 % interval")
axes[1].plot(shown.t, shown["mean"].values, ".", color="tab:blue", markersize=2, label="decoded")
axes[1].plot(true.t, true.values, color="black", linewidth=1, label="true position")
for interval in runs.intersect(minute).values:
    axes[1].axvspan(*interval, color="0.9", zorder=0)
axes[1].set(xlabel="time (s)", ylabel="position (m)")
axes[1].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)
figure.savefig("pynapple_roundtrip.png", dpi=110)
print("saved pynapple_roundtrip.png")
