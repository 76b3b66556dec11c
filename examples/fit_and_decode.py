"""Fit latent dynamics to a simulated rat without labels, decode its position, and draw one minute of it."""

from matplotlib.figure import Figure

import kalmanssl as ks

recording = ks.datasets.place_cells(n_units=60, duration=600.0, random_state=0)
train, test = recording.split(at=recording.time[0] + 450.0)

model = ks.KalmanSSL(latent_dim=16, state_dim=32, random_state=0).fit(train)
decoder = ks.PositionDecoder(level=0.95, random_state=0).fit(
    model.transform(train),
    train.behavior["position"],
    held_out_fits=ks.cross_fit(model, train),  # for the movement prior and the calibration
)
decoded = decoder.predict(model.transform(test))

position = test.behavior["position"]
inside = (decoded.lower <= position) & (position <= decoded.upper)
running = ks.running_bins(position, test.time, min_speed=0.1)
print(
    f"95 % interval covers {inside.mean():.1%} of the bins of the test part, {inside[running].mean():.1%} when running"
)

figure = Figure(figsize=(10, 3.5), layout="constrained")
axes = figure.subplots()
axes.fill_between(decoded.time, decoded.lower, decoded.upper, color="tab:blue", alpha=0.3, lw=0, label="95 % interval")
axes.plot(decoded.time, decoded.mean, ".", color="tab:blue", markersize=2, label="decoded")
axes.plot(test.time, position, color="black", linewidth=1, label="true position")
axes.set(xlabel="time (s)", ylabel="position (m)", xlim=(test.time[0], test.time[0] + 60))
axes.legend(loc="lower right", ncols=3)
figure.savefig("fit_and_decode.png", dpi=110)
print("saved fit_and_decode.png")
