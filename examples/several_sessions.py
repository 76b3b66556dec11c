"""Several sessions: decode a session with other cells whose positions were never used."""

from dataclasses import replace

import numpy as np

import kalmanssl as ks
from kalmanssl.plotting import figure_of, new_axes

# Three simulated sessions on the same track, each with cells of its own. The code is denser at one end of the track.
rng = np.random.default_rng(0)


def simulate(name: str, n_units: int, n_laps: int = 40) -> ks.Recording:
    """Return place cells of a rat that runs back and forth, with a pause at one end."""
    position, way = [], []
    for _ in range(n_laps):
        there, pause, back = rng.integers(25, 35), rng.integers(10, 20), rng.integers(25, 35)
        position += [np.linspace(0, 100, there), np.full(pause, 100.0), np.linspace(100, 0, back)]
        way += [np.zeros(there + pause, dtype=int), np.ones(back, dtype=int)]
    x, direction = np.concatenate(position), np.concatenate(way)
    centers = 100 * rng.beta(1.0, 1.6, (2, n_units))
    counts = rng.poisson(0.05 + 2.0 * np.exp(-0.5 * ((x[:, None] - centers[direction]) / 12) ** 2))
    return ks.Recording.from_arrays(
        counts, bin_size=0.05, behavior={"position": x}, behavior_unit={"position": "cm"}, session=name
    )


monday, tuesday, wednesday = (simulate(name, n) for name, n in (("monday", 80), ("tuesday", 60), ("wednesday", 70)))
train, test = wednesday.split(at=0.7 * wednesday.time[-1])

# An encoder for each session, and dynamics that they share. The position says which times of both correspond. Then a
# decoder from the latents of both.
model = ks.KalmanSSL(latent_dim=8, state_dim=16, random_state=0, progress=False).fit([monday, tuesday], "position")
first, second = model.transform([monday, tuesday])
second = replace(second, time=second.time + first.time[-1] + 10)  # for the decoder they follow one another
labels = [one.behavior["position"] for one in (monday, tuesday)]
decoder = ks.PositionDecoder(level=0.9, random_state=0).fit([first, second], labels)

# The new session is aligned without its positions: only its encoder is fitted.
aligned = model.align_session(train, [monday, tuesday])
print(aligned.alignments_["wednesday"])
decoded = decoder.predict(aligned.transform(test))
true = test.behavior["position"]
inside = (decoded.lower <= true) & (true <= decoded.upper)
print(f"median error without labels: {np.median(np.abs(decoded.mean - true)):.1f} cm")
print(f"90 % interval covers {inside.mean():.1%} of the bins")

(axes,) = new_axes(8, 3)
shown = slice(0, 400)
axes.fill_between(decoded.time[shown], decoded.lower[shown], decoded.upper[shown], alpha=0.3, label="90 % interval")
axes.plot(decoded.time[shown], decoded.mean[shown], label="decoded")
axes.plot(test.time[shown], true[shown], color="black", label="true")
axes.set(xlabel="time (s)", ylabel="position (cm)", title="A session whose positions were not used")
axes.legend(loc="upper right")
figure = figure_of(axes)
figure.set_facecolor("white")
figure.savefig("several_sessions.png", dpi=110)
print("saved several_sessions.png")
