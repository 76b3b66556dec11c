"""Latents that are fitted with behavior: few latents then contain the behavior, even if few cells have it."""

import numpy as np

import kalmanssl as ks
from kalmanssl.plotting import figure_of, new_axes

# Ten simulated head-direction cells, and forty cells that follow three stronger processes together.
rng = np.random.default_rng(0)
ring = ks.datasets.ring_cells(n_units=10, duration=300, random_state=0, gain_sd=0.3)
process = np.zeros((len(ring), 3))
for t in range(1, len(process)):
    process[t] = 0.98 * process[t - 1] + 0.2 * rng.standard_normal(3)
others = rng.poisson(0.3 * np.exp(np.clip(process @ rng.standard_normal((3, 40)), None, 3)))
recording = ks.Recording.from_arrays(
    np.concatenate([ring.activity, others], axis=1),
    time=ring.time,
    behavior={"heading": ring.behavior["head_direction"]},
)
train, test = recording.split(at=recording.time[0] + 240)

decoded, errors = {}, {}
for weight in (0, 20):
    # With a weight, the filtered latents also predict the heading, which is circular.
    model = ks.KalmanSSL(latent_dim=3, state_dim=6, behavior_weight=weight, behavior_period=2 * np.pi, random_state=0)
    model.fit(train, "heading")
    # cross_fit fits copies of the model on parts of the training time, each with the behavior of its part only. The
    # intervals are then right for new data, though the model has seen the behavior of the training part.
    decoder = ks.PositionDecoder(regressor="linear", period=2 * np.pi, random_state=0).fit(
        model.transform(train),
        train.behavior["heading"],
        held_out_fits=ks.cross_fit(model, train, shares=(0.6,), y="heading"),
    )
    decoded[weight] = decoder.predict(model.transform(test))
    difference = decoded[weight].mean - test.behavior["heading"]
    errors[weight] = np.degrees(np.median(np.abs((difference + np.pi) % (2 * np.pi) - np.pi)))
    print(f"behavior_weight={weight}: median error of the test part {errors[weight]:.1f} degrees")

time = test.time - test.time[0]
shown = time < 30
axes = new_axes(7, 4.6, rows=(1, 1))
for ax, (weight, one) in zip(axes, decoded.items(), strict=True):
    ax.plot(time[shown], np.degrees(test.behavior["heading"][shown]), ".", color="0.6", ms=3, label="heading")
    ax.plot(time[shown], np.degrees(one.mean[shown] % (2 * np.pi)), ".", color="C0", ms=3, label="decoded")
    ax.set_title(f"behavior_weight={weight}, median error {errors[weight]:.0f}°", fontsize=9)
    ax.set_ylabel("heading (degrees)")
axes[0].legend(loc="upper right")
axes[1].set_xlabel("time (s)")
figure = figure_of(axes[0])
figure.savefig("latents_with_labels.png", dpi=110, facecolor="white")
print("saved latents_with_labels.png")
