"""Trials of unequal length: fit them without their borders, and compare latents and decoded behavior by condition."""

import numpy as np

import kalmanssl as ks
from kalmanssl.plotting import figure_of, new_axes, plot_by_condition

# A simulated reach in two directions: the hand rests until a cue, then moves to the left or to the right.
rng = np.random.default_rng(0)
bin_size, n_trials = 0.02, 120
length = rng.uniform(1.2, 2.0, n_trials)
cue = rng.uniform(0.4, 0.7, n_trials)
side = rng.choice(["left", "right"], n_trials)
start = np.cumsum(np.concatenate([[0.0], length[:-1] + 0.3]))  # pauses of 0.3 s

time = bin_size * (np.arange(round((start[-1] + length[-1]) / bin_size)) + 0.5)
position, velocity = np.zeros(len(time)), np.zeros(len(time))
for first, onset, last, direction in zip(
    start, start + cue, start + length, np.where(side == "left", -1, 1), strict=True
):
    inside = (time >= first) & (time < last)
    since = np.maximum(time[inside] - onset, 0)
    position[inside] = direction * 10 / (1 + np.exp(-(since - 0.3) / 0.06)) * (since > 0)
    velocity[inside] = np.gradient(position[inside], bin_size)
preferred = rng.uniform(-1, 1, (40, 2))
drive = np.stack([position / 10, velocity / 40], axis=1) @ preferred.T
counts = rng.poisson(12 * bin_size * np.exp(1.5 * drive))

recording = ks.Recording.from_arrays(
    counts, time=time, behavior={"position": position}, behavior_unit={"position": "cm"}
)
trials = recording.trials({"start_time": start, "stop_time": start + length, "side": side, "cue": start + cue})
train, test = trials[:80], trials[80:]
print(trials)

model = ks.KalmanSSL(latent_dim=3, state_dim=6, random_state=0).fit(train)
decoder = ks.PositionDecoder(level=0.9, random_state=0).fit(
    model.transform(train), train.behavior("position"), held_out_fits=ks.cross_fit(model, train)
)
latents = model.transform(test)  # a list with the latents of each trial
decoded = decoder.predict(latents)
true = test.behavior("position")
inside = [(one.lower <= x) & (x <= one.upper) for one, x in zip(decoded, true, strict=True)]
print(f"90 % interval covers {np.concatenate(inside).mean():.1%} of the bins of the test trials")

window = {"events": test.columns["cue"], "before": 0.3, "after": 0.8}
aligned = ks.align_to(latents, **window)
hand = ks.align_to(decoded, **window)
# The direction in which the two conditions differ most, from the mean latents late in the training trials.
late = ks.align_to(model.transform(train), train.columns["cue"], before=0, after=0.8)["mean"].sel(lag=slice(0.5, None))
late = late.mean("lag").values
axis = late[train.columns["side"] == "right"].mean(axis=0) - late[train.columns["side"] == "left"].mean(axis=0)
along = aligned["mean"].values @ (axis / np.linalg.norm(axis))

top, bottom = new_axes(7, 5, rows=(1, 1))
plot_by_condition(aligned["lag"], along, test.columns["side"], name="latents along the difference", ax=top)
top.set(xlabel="")
plot_by_condition(hand["lag"], hand["mean"], test.columns["side"], name="decoded position", unit="cm", ax=bottom)
bottom.set(xlabel="time since the cue (s)")
figure = figure_of(top)
figure.set_facecolor("white")
figure.savefig("trials.png", dpi=110)
print("saved trials.png")
