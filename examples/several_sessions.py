"""Several sessions: decode a session with other cells whose positions were never used."""

import numpy as np

import kalmanssl as ks
from kalmanssl.plotting import figure_of, new_axes

# Three simulated sessions on the same track, each with cells of its own. The code is denser at one end of the track.
rng = np.random.default_rng(0)


def simulate(name: str, n_units: int, n_laps: int = 40) -> ks.Recording:
    """Return place cells of a rat that runs back and forth, with a pause at one end."""
    positions, directions = [], []
    for _ in range(n_laps):
        there, pause, back = rng.integers(25, 35), rng.integers(10, 20), rng.integers(25, 35)
        positions += [np.linspace(0, 100, there), np.full(pause, 100.0), np.linspace(100, 0, back)]
        directions += [np.zeros(there + pause, dtype=int), np.ones(back, dtype=int)]
    x, direction = np.concatenate(positions), np.concatenate(directions)
    centers = 100 * rng.beta(1.0, 1.6, (2, n_units))
    counts = rng.poisson(0.05 + 2.0 * np.exp(-0.5 * ((x[:, None] - centers[direction]) / 12) ** 2))
    return ks.Recording.from_arrays(
        counts, bin_size=0.05, behavior={"position": x}, behavior_unit={"position": "cm"}, session=name
    )


monday, tuesday, wednesday = (simulate(name, n) for name, n in (("monday", 80), ("tuesday", 60), ("wednesday", 70)))
train, test = wednesday.split(at=0.7 * wednesday.time[-1])

# An encoder for each session, and dynamics that they share. The position says which times of both correspond.
fitted = [monday, tuesday]
model = ks.KalmanSSL(latent_dim=8, state_dim=16, epochs=4, random_state=0, progress=False).fit(fitted, "position")

# A decoder from the latents of both, each with a clock of its own. Its intervals are calibrated for new sessions: each
# session is left out in turn, and aligned and decoded without its positions.
held_out_fits = ks.cross_fit(model, fitted, y="position")
labels = [one.behavior["position"] for one in fitted]
decoder = ks.PositionDecoder(level=0.9, random_state=0)
decoder.fit(model.transform(fitted), labels, held_out_fits=held_out_fits)

# The new session is aligned without its positions: only its encoder is fitted.
true = test.behavior["position"]
aligned = model.align_session(train, fitted)
print(aligned.alignments_["wednesday"])
decoded = decoder.predict(aligned.transform(test))
inside = (decoded.lower <= true) & (true <= decoded.upper)
print(f"median error without labels: {np.median(np.abs(decoded.mean - true)):.1f} cm")
print(f"90 % interval covers {inside.mean():.1%} of the bins")

# If an alignment is doubtful (`is_doubtful`), the positions of a few laps decide it.
few = np.where(train.time < 20, train.behavior["position"], np.nan)
checked = model.align_session(train, fitted, few, labels)
print(f"agreement with the first 20 s of positions: {checked.alignments_['wednesday'].agreement:.2f}")
error = np.abs(decoder.predict(checked.transform(test)).mean - true)
print(f"median error with them: {np.median(error):.1f} cm")

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
