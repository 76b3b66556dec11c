"""Play a simulated recording bin by bin, decode the position of the rat as it comes, and draw the last minute.

With the argument --gif the posterior of the position is also saved as a moving picture.
"""

import gc
import sys
import time

import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.figure import Figure

import kalmanssl as ks

SPEED = 25  # times as fast as the recording; 1 is real time

recording = ks.datasets.place_cells(n_units=60, duration=460.0, random_state=0)
train, live = recording.split(at=recording.time[0] + 400.0)
model = ks.KalmanSSL(latent_dim=16, state_dim=32, random_state=0).fit(train)
decoder = ks.PositionDecoder(level=0.95, random_state=0).fit(model.transform(train), train.behavior["position"])

online = decoder.online(model)
online.step(live.activity[0], live.time[0] - 60.0)  # the first call compiles; the gap after it begins a new segment
gc.freeze()  # garbage collection then does not search what was made before, which would delay a bin
rng = np.random.default_rng(0)
decoded, latency = [], []
begin = time.perf_counter()
for counts, at in zip(live.activity, live.time, strict=True):
    wait = begin + (at - live.time[0]) / SPEED - time.perf_counter()
    if wait > 0:
        time.sleep(wait)
    lost = rng.random() < 0.005  # some bins do not arrive
    arrived = time.perf_counter()
    decoded.append(online.step(None if lost else counts, at))
    latency.append(1000 * (time.perf_counter() - arrived))
played = time.perf_counter() - begin

position = live.behavior["position"]
mean, lower, upper = (np.array([getattr(bin_, name) for bin_ in decoded]) for name in ("mean", "lower", "upper"))
posterior = np.array([bin_.posterior for bin_ in decoded])
n_missing = sum(bin_.latent.is_missing for bin_ in decoded)
print(f"{live.duration:.0f} s of recording in {played:.0f} s; {n_missing} bins were predicted without activity")
print(f"a bin took {np.median(latency):.2f} ms in the median, and 99 % at most {np.quantile(latency, 0.99):.2f} ms")
print(f"the 95 % interval covers {np.mean((lower <= position) & (position <= upper)):.1%} of the bins")

cells = online.cells[0]
figure = Figure(figsize=(10, 3.5), layout="constrained")
axes = figure.subplots()
axes.pcolormesh(live.time, cells, np.sqrt(posterior.T), cmap="Blues", shading="nearest", rasterized=True)
axes.plot(live.time, lower, color="tab:blue", linewidth=0.6, label="95 % interval")
axes.plot(live.time, upper, color="tab:blue", linewidth=0.6)
axes.plot(live.time, position, color="black", linewidth=1, label="true position")
axes.set(xlabel="time (s)", ylabel="position (m)", ylim=(cells[0], cells[-1]))
axes.legend(loc="lower right", ncols=2)
figure.savefig("live_decoding.png", dpi=110)
print("saved live_decoding.png")

if "--gif" in sys.argv:
    figure = Figure(figsize=(6, 2.5), layout="constrained")
    axes = figure.subplots()
    (line,) = axes.plot(cells, posterior[0])
    rat = axes.axvline(position[0], color="black")
    axes.set(xlabel="position (m)", ylabel="probability", ylim=(0, np.quantile(posterior.max(axis=1), 0.9)))

    def draw(frame: int) -> tuple:
        line.set_ydata(posterior[frame])
        rat.set_xdata([position[frame]] * 2)
        return line, rat

    FuncAnimation(figure, draw, frames=range(0, 800, 8)).save("live_decoding.gif", PillowWriter(fps=5))
    print("saved live_decoding.gif")
