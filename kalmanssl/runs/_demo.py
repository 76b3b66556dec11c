"""The demo: simulate a small recording, then fit, decode, evaluate and report."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kalmanssl.errors import InputError
from kalmanssl.runs._files import check_new_output, is_run
from kalmanssl.runs._fit import fit_run
from kalmanssl.runs._run import Run, read_recording

__all__ = ["DemoSize", "run_demo"]


@dataclass(frozen=True)
class DemoSize:
    """Size of the simulated recording, and the settings of the model that is fitted to it.

    Attributes
    ----------
    n_units : int
        Number of simulated cells.
    duration : float
        Duration of the recording, seconds.
    fitted : float
        The model is fitted on this fraction of the recording, from its start.
    latent_dim, state_dim, epochs, batch_size : int
        See `KalmanSSL`.
    decoder : str
        See `RunSettings`.
    """

    n_units: int = 60
    duration: float = 900.0
    fitted: float = 2 / 3
    latent_dim: int = 12
    state_dim: int = 24
    epochs: int = 6
    batch_size: int = 64
    decoder: str = "ensemble"


SIZE = DemoSize()


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    overwrite: bool = False,
    logger: Callable[[str], None] = lambda line: None,
) -> Run:
    """Simulate a rat on a track, fit the first part, decode and score the rest, and write a report.

    Parameters
    ----------
    out : Path
        Output folder for `recording.nwb`, `run/`, `decoded.csv` and `report.html`.
    seed : int
        Seed of the simulation and of the fit.
    overwrite : bool
        Replace the output of an earlier demo.
    logger : callable
        Called with one line of text at each step.

    Returns
    -------
    Run
        With its evaluation on the held-out part.

    Raises
    ------
    InputError
        If `out` exists and `overwrite` is false, or if `out` contains files that the demo does not write.
    """
    from kalmanssl.datasets import place_cells
    from kalmanssl.runs._export import write_decoded

    size = SIZE
    _remove_earlier_demo(out, overwrite)
    recording, run_folder = out / "recording.nwb", out / "run"
    logger(f"simulating {size.duration:g} s of {size.n_units} place cells on a track")
    simulated = place_cells(n_units=size.n_units, duration=size.duration, random_state=seed)
    out.mkdir(parents=True, exist_ok=True)
    simulated.to_nwb(recording)
    length = float(simulated.behavior["position"].max())
    run = fit_run(
        recording,
        run_folder,
        logger=logger,
        until=round(float(simulated.time[0] + size.fitted * size.duration), 3),
        end_zones=[round(0.08 * length, 3), round(0.92 * length, 3)],
        decoder=size.decoder,
        latent_dim=size.latent_dim,
        state_dim=size.state_dim,
        epochs=size.epochs,
        batch_size=size.batch_size,
        random_state=seed,
    )
    rest = read_recording(recording, run.settings).restrict(start=run.settings.until)
    latents = run.model.transform(rest)
    write_decoded(
        run.require_decoder().predict(latents),
        out / "decoded.csv",
        latents=latents,
        recording=recording,
        behavior="position",
        unit="meters",
        made_by="kalmanssl demo",
        overwrite=False,
    )
    run.write_report(out / "report.html")
    return run


def _remove_earlier_demo(out: Path, overwrite: bool) -> None:
    """Remove `out` if it contains only the output of a demo; otherwise raise `InputError`."""
    check_new_output(out, overwrite)
    if not out.exists():
        return
    expected = {"recording.nwb", "run", "run.partial", "decoded.csv", "report.html"}
    is_folder = out.is_dir() and not out.is_symlink()
    others = sorted(p.name for p in out.iterdir() if p.name not in expected) if is_folder else [out.name]
    run = out / "run"
    if not others and run.exists() and not is_run(run):
        others = [run.name]
    if others:
        raise InputError(
            f"{out} contains files that the demo does not write ({', '.join(others)}): choose another folder",
            parameter="out",
        )
    shutil.rmtree(out)
