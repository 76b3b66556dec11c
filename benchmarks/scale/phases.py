"""The phases of a fit, each with its CPU time, wall time and peak memory; run in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from measure import Stopwatch, peak_memory_mb, reset_peak_memory

from scale.sizes import Size

__all__ = ["busy", "command", "in_new_process", "library", "sessions", "simulate", "split_time"]

R = TypeVar("R")
Phases = dict[str, dict[str, float]]

_HELD_OUT = 0.2  # last share of each recording


def in_new_process(work: Callable[..., R], *arguments: Any) -> R:
    """Return ``work(*arguments)``, computed in a new process, whose memory is then free again."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


@contextmanager
def busy(count: int) -> Iterator[list[BaseProcess]]:
    """Let so many other processes, which are yielded, keep a core busy each."""
    processes = [get_context("spawn").Process(target=_spin, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.join()


def _spin() -> None:
    while True:
        pass


def simulate(size: Size, folder: Path) -> list[Path]:
    """Write NWB files of simulated place cells, one for each session, and return their paths."""
    from kalmanssl.datasets import place_cells

    paths = []
    for number in range(size.sessions):
        recording = place_cells(n_units=size.units, duration=3600.0 * size.hours, random_state=number)
        recording = replace(recording, behavior={"position": recording.behavior["position"]})
        paths.append(folder / f"session_{number}.nwb")
        recording.to_nwb(paths[-1])
    return paths


def library(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Fit, calibrate and decode a recording with the calls of README, and return the phases and the scores."""
    from kalmanssl import KalmanSSL, PositionDecoder, Recording, cross_fit
    from kalmanssl.decoding import score_decoding

    phases: Phases = {}
    with _measured(phases, "read"):
        recording = Recording.from_nwb(path, bin_size=0.025)
    train, test = recording.split(at=split_time(recording))
    row = {"bins": len(recording), "training_bins": len(train)}
    with _measured(phases, "fit"):
        model = KalmanSSL(**settings).fit(train)
    with _measured(phases, "cross-fit"):
        held_out_fits = cross_fit(model, train)
    with _measured(phases, "transform"):
        latents, smoothed = (model.transform(train, smooth) for smooth in (False, True))
    position = train.behavior["position"]
    with _measured(phases, "fit decoder"):
        decoder = PositionDecoder(random_state=0)
        decoder.fit(latents, position, smoothed=smoothed, held_out_fits=held_out_fits)
    del latents, smoothed, held_out_fits
    for name, smooth in (("decode, filter", False), ("decode, smoother", True)):
        with _measured(phases, name):
            decoded = decoder.predict(model.transform(test, smooth))
            row[name] = {"crps": float(score_decoding(decoded, test.behavior["position"])["crps"])}
            del decoded
    return row | {"phases": phases}


def command(path: Path, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Fit and evaluate a file as the command line does, and write the report; return the phases."""
    from kalmanssl.data import Recording
    from kalmanssl.runs import fit_run

    phases: Phases = {}
    recording = Recording.from_nwb(path, bin_size=0.025)
    row, until = {"bins": len(recording)}, split_time(recording)
    del recording
    with _measured(phases, "fit and evaluate"):
        run = fit_run(path, folder / "run", logger=lambda line: None, until=until, bin_size=0.025, **settings)
    with _measured(phases, "report"):
        run.write_report(folder / "report.html")
    return row | {"phases": phases, "crps": run.evaluation.scores["all"]["crps"]}


def sessions(paths: list[Path], settings: dict[str, Any]) -> dict[str, Any]:
    """Fit sessions with shared dynamics, matched by position, and return the phases."""
    from kalmanssl import KalmanSSL, Recording

    phases: Phases = {}
    with _measured(phases, "read"):
        recordings = [Recording.from_nwb(path, bin_size=0.025) for path in paths]
        recordings = [replace(one, session=path.stem) for one, path in zip(recordings, paths, strict=True)]
    with _measured(phases, "fit"):
        model = KalmanSSL(**settings).fit(recordings, "position")
    with _measured(phases, "transform"):
        for one in recordings:
            model.transform(one)
    return {"bins": sum(map(len, recordings)), "phases": phases}


def split_time(recording: Any) -> float:
    """Return the time before which a recording is fitted, seconds."""
    return float(recording.time[0] + (1 - _HELD_OUT) * recording.duration)


@contextmanager
def _measured(phases: Phases, name: str) -> Iterator[None]:
    """Add the cost of what runs inside to the phases."""
    reset_peak_memory()
    with Stopwatch() as stopwatch:
        yield
    phases[name] = {"cpu_s": stopwatch.cpu, "wall_s": stopwatch.wall, "peak_mb": peak_memory_mb()}
