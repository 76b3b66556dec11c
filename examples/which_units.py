"""Questions about units: how well the latents predict units that were left out, and which units matter."""

import numpy as np
from sklearn.linear_model import LinearRegression

import kalmanssl as ks
from kalmanssl.plotting import figure_of, new_axes, plot_unit_importance
from kalmanssl.probes import bits_per_spike
from kalmanssl.units import score_held_out_units, unit_importance

# Simulated head-direction cells, and units that fire at random.
n_cells, n_noise = 16, 8
ring = ks.datasets.ring_cells(n_units=n_cells, duration=240, random_state=0, gain_sd=0.3)
noise = np.random.default_rng(0).poisson(0.08, (len(ring), n_noise))
angle = ring.behavior["head_direction"]
recording = ks.Recording.from_arrays(
    np.concatenate([ring.activity, noise], axis=1),
    time=ring.time,
    behavior={"direction": np.stack([np.cos(angle), np.sin(angle)], axis=1), "rate": ring.behavior["rate"]},
    unit_ids=[f"cell {i}" for i in range(n_cells)] + [f"noise {i}" for i in range(n_noise)],
)
train, test = recording.split(at=180.0)
model = ks.KalmanSSL(latent_dim=3, state_dim=4, hidden=(32,), epochs=3, random_state=0)

# How good are the latents? Fit a model without some of the cells and predict their spikes in the test part.
columns = [3, 7, 11, 15]
score, names = score_held_out_units(model, train, test, [f"cell {i}" for i in columns])
best = bits_per_spike(test.behavior["rate"][:, columns] * test.bin_size, test.activity[:, columns])
print(f"co-smoothing: {score.score:.3f} ± {score.standard_error:.3f} bits per spike; true rates: {best.score:.3f}")

# Which units does the decoded head direction depend on? The p values come from shifting each unit in time.
model.fit(train)
decoder = LinearRegression().fit(np.asarray(model.transform(train)), train.behavior["direction"])
importance = unit_importance(model, test, decoder=decoder, behavior="direction", n_shifts=19)
small = importance.p_value <= 0.05
print(f"p <= 0.05: {small[:n_cells].sum()} of {n_cells} cells, {small[n_cells:].sum()} of {n_noise} noise units")

axes = new_axes(7, 3.6)[0]
plot_unit_importance(importance.score, importance.null_quantile(), importance.unit_ids, ax=axes)
axes.set_ylabel("decrease of R² without the unit")
figure_of(axes).savefig("which_units.png", dpi=150, facecolor="white")
print("saved which_units.png")
