"""Decode bins that arrive over the network: from a TCP socket, and through the lab streaming layer (LSL).

A thread plays the acquisition system: it sends the bins of a simulated recording, with damaged messages among them, and
then stops. In an experiment the sender is another program, and `tcp_bins`, `lsl_bins` and `decode` are what to copy.
LSL needs the package pylsl; without it only the socket is used.
"""

import json
import socket
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import kalmanssl as ks
from kalmanssl.errors import InputError

try:
    import pylsl
except (ImportError, RuntimeError):  # the package, or its library, is missing
    pylsl = None

Bin = tuple[float, Any]  # time in seconds, counts of all units
LSL_SOURCE = "kalmanssl-example"


def tcp_bins(address: tuple[str, int]) -> Iterator[Bin]:
    """Yield bins from a socket that sends a line of JSON for each, [time, [counts]], until it stops for two seconds."""
    with socket.create_connection(address, timeout=2.0) as connection, connection.makefile() as lines:
        while True:
            try:
                line = lines.readline()
            except OSError as error:  # a timeout, or a connection that was cut
                print(f"the stream stopped: {error}")
                return
            if not line:
                return
            try:
                at, counts = json.loads(line)
            except (ValueError, TypeError):
                print(f"left out a message that is not [time, [counts]]: {line[:20].strip()} ...")
                continue
            yield at, counts


def lsl_bins(source: str) -> Iterator[Bin]:
    """Yield bins from a stream of the lab streaming layer, until none has come for two seconds."""
    streams = pylsl.resolve_byprop("source_id", source, timeout=10)
    if not streams:
        print("LSL WAS NOT USED: the stream was not found, since the network does not allow multicast or broadcast")
        return
    inlet = pylsl.StreamInlet(streams[0])
    while True:
        counts, at = inlet.pull_sample(timeout=2.0)
        if counts is None:
            return
        yield at, counts


def decode(online: Any, bins: Iterable[Bin]) -> list[Any]:
    """Decode bins as they come; those that cannot be used are reported and left out."""
    decoded = []
    for at, counts in bins:
        try:
            decoded.append(online.step(counts, at))
        except InputError as error:
            print(f"left out a bin: {error}")
    return decoded


def send_tcp(server: socket.socket, bins: list[Bin]) -> None:
    connection, _ = server.accept()
    with connection, connection.makefile("w") as lines:
        for number, (at, counts) in enumerate(bins):
            lines.write(json.dumps([at, counts]) + "\n")
            lines.flush()
            if number == 100:
                lines.write(json.dumps([at + 0.001, counts[:7]]) + "\n")  # a message that lost some counts
                lines.write(json.dumps([at + 0.001, counts])[:40] + "\n")  # and one that lost its end
        connection.recv(1)  # the stream stops, and the connection stays open until the reader gives up


def send_lsl(outlet: Any, bins: list[Bin]) -> None:
    outlet.wait_for_consumers(10)
    for at, counts in bins:
        outlet.push_sample(counts, at)


recording = ks.datasets.place_cells(n_units=60, duration=430.0, random_state=0)
train, live = recording.split(at=recording.time[0] + 400.0)
model = ks.KalmanSSL(latent_dim=16, state_dim=32, random_state=0).fit(train)
decoder = ks.PositionDecoder(level=0.95, random_state=0).fit(model.transform(train), train.behavior["position"])
bins = list(zip(live.time.tolist(), live.activity.tolist(), strict=True))
results = {}

with socket.create_server(("127.0.0.1", 0)) as server:
    threading.Thread(target=send_tcp, args=(server, bins), daemon=True).start()
    results["TCP"] = decode(decoder.online(model), tcp_bins(server.getsockname()))

if pylsl is None:
    print("LSL WAS NOT USED: pylsl is not installed (pip install 'kalmanssl[live]')")
else:
    info = pylsl.StreamInfo("counts", "spikes", live.n_units, 1 / live.bin_size, pylsl.cf_float32, LSL_SOURCE)
    outlet = pylsl.StreamOutlet(info)
    threading.Thread(target=send_lsl, args=(outlet, bins), daemon=True).start()
    results["LSL"] = decode(decoder.online(model), lsl_bins(LSL_SOURCE))

batch = decoder.predict(model.transform(live))
figure = Figure(figsize=(10, 3.5), layout="constrained")
axes = figure.subplots()
for name, decoded in results.items():
    if not decoded:
        continue
    mean = np.array([position.mean for position in decoded])
    difference = np.abs(mean - batch.mean).max()
    print(f"{name}: {len(decoded)} bins, at most {difference:.1e} m from the recording decoded as a whole")
    axes.plot([position.time for position in decoded], mean, ".", markersize=2, label=f"decoded from {name}")
axes.plot(live.time, live.behavior["position"], color="black", linewidth=1, label="true position")
axes.set(xlabel="time (s)", ylabel="position (m)")
axes.legend(loc="lower right", ncols=3)
figure.savefig("live_decoding_stream.png", dpi=110)
print("saved live_decoding_stream.png")
