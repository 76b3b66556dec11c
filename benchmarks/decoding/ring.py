"""The ring that laps of a track make in latent space (LDM paper, Fig. 4E), with its configuration and our default.

Models are fitted on the training part of the hippocampal recording: on the running bins, joined without gaps, or on all
bins. The scores (`kalmanssl.probes.ring_scores`) are those of the traversals in the test part, which nothing is fitted
or chosen on. A model whose dynamics do not rotate has no scores, but a reason.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from matplotlib.figure import Figure
from measure import Stopwatch, machine_facts
from pages import Section, write_page
from results_store import Results, Row
from suite import RESULTS, cli_errors, err_console, print_table
from thread_limits import limit_threads

from decoding.methods import FULL, QUICK, Preset
from decoding.options import DataFolder, Quick, Threads, data_folder
from decoding.recordings import ALL_RECORDINGS, RECORDINGS, SIMULATED, load
from decoding.tables import median
from decoding.tasks import Data
from kalmanssl.data import Recording, join_bins, traversals
from kalmanssl.errors import InputError

__all__ = ["CONFIGURATIONS", "main"]

RECORDING = {False: next(iter(RECORDINGS)), True: next(iter(SIMULATED))}  # by --quick
CONFIGURATIONS = ("LDM paper", "default")
BINS = ("running", "all")
EXAMPLE_BINS = 800  # in the figure
PAGE = (
    "Scores of the traversals in the test part, medians over seeds. Laps follow the ring if each makes one turn, "
    "and the period of the rotation is the lap time. Position R² is that of the nearest training states, phase R² that "
    "of the phase from position and direction. The rotation is the slowest that makes a quarter turn before it decays."
)
SCORES = ("lap_time", "radius_variation", "turns_per_lap", "turns_sd", "one_turn_laps", "phase_r2", "n_laps")
COLUMNS = (
    "model", "fitted on", "position R²", "period s", "decay s", "lap s", "radius variation", "turns per lap",
    "one-turn laps", "phase R²", "fit CPU s",
)  # fmt: skip


def main(
    data: DataFolder = None,
    out: Annotated[Path, typer.Option(help="Folder of the results; a stopped run is resumed.")] = RESULTS / "ring",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 3,
    threads: Threads = 1,
    quick: Quick = False,
) -> None:
    """Run the benchmark."""
    with cli_errors(out):
        folder = Path() if quick else data_folder(data)
        settings = {"data": RECORDING[quick], "quick": quick, "threads": threads}
        results = Results(out, settings, machine_facts(threads), ("name", "fitted_on", "seed"), ("page.html",))
        limit_threads(threads)
        preset, recording = QUICK if quick else FULL, load(RECORDING[quick], folder)
        for seed in range(seeds):
            for name in CONFIGURATIONS:
                for bins in BINS:
                    if results.is_pending(name, bins, seed):
                        results.add(_measure(name, bins, recording, seed, preset))
                        line = ", ".join(_line([results.rows[name, bins, seed]]))
                        err_console.print(f"seed {seed}: {line}", markup=False, highlight=False)
        groups = [results.good(name, bins) for name in CONFIGURATIONS for bins in BINS]
        lines = [COLUMNS, *(_line(rows) for rows in groups if rows)]
        print_table(lines)
        figures = [_figure(row) for row in results.rows.values() if "example" in row]
        write_page(out / "page.html", "Laps as rotations", [Section(text=(PAGE,), table=lines, figures=figures)])


def _measure(name: str, bins: str, data: Data, seed: int, preset: Preset) -> Row:
    """Fit once and score the traversals of the test part."""
    from kalmanssl import KalmanSSL
    from kalmanssl.recipes import hippocampus

    zones = ALL_RECORDINGS[data.name].end_zones
    assert zones is not None
    parts = [_part(part, running, zones, bins) for part, running in _parts(data)]
    arguments: dict[str, Any] = {"random_state": seed} | preset.model
    if name != "default":
        arguments = hippocampus() | {"random_state": seed} | preset.paper
    with Stopwatch() as stopwatch:
        model = KalmanSSL(**arguments, progress=False).fit(parts[0][0])
    return {"name": name, "fitted_on": bins, "seed": seed, "fit_cpu_s": stopwatch.cpu, **_scores(model, parts, seed)}


def _parts(data: Data) -> list[tuple[Recording, np.ndarray]]:
    """Return both parts of a recording with their running bins."""
    return [(data.train, data.running_train), (data.test, data.running_test)]


def _part(
    recording: Recording, running: np.ndarray, zones: tuple[float, float], bins: str
) -> tuple[Recording, np.ndarray]:
    """Return the bins to use of a part of the recording, and the number of the traversal of each."""
    number = traversals(recording.behavior["position"], *zones)
    if bins == "all":
        return recording, number
    return join_bins(recording, running), number[running]


def _scores(model: Any, parts: list[tuple[Recording, np.ndarray]], seed: int) -> Row:
    """Return the ring scores of the test part, and the R² of the position from nearest states, in traversals.

    The first seed also has the first bins of these traversals, for the figure.
    """
    from sklearn.neighbors import KNeighborsRegressor

    from kalmanssl.probes import ring_scores

    states = [model.transform(recording).mean for recording, _ in parts]
    position = [recording.behavior["position"] for recording, _ in parts]
    numbers = [number for _, number in parts]
    x, y = ([part[number >= 0] for part, number in zip(both, numbers, strict=True)] for both in (states, position))
    neighbors = KNeighborsRegressor(min(40, len(x[0]))).fit(x[0], y[0])
    A, center = (p.detach().numpy().astype(float) for p in (model.model_.predictor.A, model.model_.predictor.center))
    row: Row = {
        "position_r2": float(neighbors.score(x[1], y[1])),
        "spectral_radius": float(np.abs(np.linalg.eigvals(A)).max()),
    }
    # The parts are consecutive in time; a gap in the numbers keeps their traversals apart.
    number = np.concatenate([numbers[0], np.where(numbers[1] >= 0, numbers[1] + numbers[0].max() + 2, -1)])
    held_out = np.repeat([False, True], [len(part) for part in states])
    time = np.concatenate([recording.time for recording, _ in parts])
    try:
        ring = ring_scores(
            np.concatenate(states), A, np.concatenate(position), number, time, held_out,
            step=model.bin_size_ * model.bins_per_step_, center=center,
        )  # fmt: skip
    except InputError as error:
        return row | {"no_ring": str(error)}
    row |= {"period": ring.rotation.period, "decay_time": ring.rotation.decay_time}
    row |= {score: getattr(ring, score) for score in SCORES}
    if seed == 0:
        shown = np.flatnonzero(held_out & (number >= 0))[:EXAMPLE_BINS]
        columns = {"time": time, "position": np.concatenate(position), "phase": ring.phase}
        columns |= {"real": ring.coordinates[:, 0], "imaginary": ring.coordinates[:, 1]}
        row["example"] = {key: [float(f"{value:.7g}") for value in values[shown]] for key, values in columns.items()}
    return row


def _figure(row: Row) -> Figure:
    """Draw the states of the first test traversals, and their phase over time."""
    from kalmanssl.plotting import plot_phase, plot_ring

    columns = {key: np.array(values) for key, values in row["example"].items()}
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.6))
    plot_ring(np.stack([columns["real"], columns["imaginary"]], axis=1), columns["position"], unit="m", ax=left)
    plot_phase(columns["time"] - columns["time"][0], columns["phase"], columns["position"], ax=right)
    figure.suptitle(f"{row['name']}, fitted on {row['fitted_on']} bins")
    return figure


def _line(rows: list[Row]) -> tuple[str, ...]:
    """Return one line of the table: medians over seeds."""
    keys = (
        "position_r2", "period", "decay_time", "lap_time", "radius_variation", "turns_per_lap", "one_turn_laps",
        "phase_r2", "fit_cpu_s",
    )  # fmt: skip
    return (rows[0]["name"], rows[0]["fitted_on"], *(f"{median(rows, key):.3g}" for key in keys))
