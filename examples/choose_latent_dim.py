"""Choose the number of latents of simulated head-direction cells by how well held-out activity is predicted.

Two latents are enough for a direction, as its cosine and sine.
"""

import numpy as np

import kalmanssl as ks

rng = np.random.default_rng(0)
speed = np.zeros(5000)
for t in range(1, len(speed)):
    speed[t] = 0.95 * speed[t - 1] + 0.015 * rng.standard_normal()
preferred = np.arange(30) * 2 * np.pi / 30
rate = np.exp(4 * (np.cos(np.cumsum(speed)[:, None] - preferred) - 1))  # spikes per bin
recording = ks.Recording.from_arrays(rng.poisson(rate), bin_size=0.025)

shared = ks.KalmanSSL(state_dim=8, hidden=(64,), bins_per_step=2, batch_size=64, epochs=5, random_state=0)
selection = ks.select(recording, {"latent_dim": [1, 2, 3, 4]}, estimator=shared, n_folds=3, purge=2.0)
print(selection)
print(f"chosen: {selection.chosen['latent_dim']} latents")
selection.plot().figure.savefig("choose_latent_dim.png", dpi=110)
model = selection.estimator.fit(recording)
