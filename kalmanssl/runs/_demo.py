"""The whole path on a simulated recording, small enough for a laptop."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kalmanssl.errors import InputError
from kalmanssl.runs._evaluation import Evaluation
from kalmanssl.runs._fit import fit_run
from kalmanssl.runs._run import RunSettings, is_run, read_recording

__all__ = ["DemoSize", "run_demo"]


@dataclass(frozen=True)
class DemoSize:
    """How much is simulated and how long is fitted.

    Attributes
    ----------
    n_units : int
    duration : float
        Seconds, of which the first `fitted` share is fitted.
    fitted : float
    latent_dim, state_dim, epochs, batch_size : int
        Of the model, see `KalmanSSL`.
    decoder : str
        See `PositionDecoder`.
    """

    n_units: int = 60
    duration: float = 900.0
    fitted: float = 2 / 3
    latent_dim: int = 12
    state_dim: int = 24
    epochs: int = 6
    batch_size: int = 64
    decoder: str = "mlp"


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    overwrite: bool = False,
    size: DemoSize | None = None,
    logger: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Simulate a rat on a track, fit on the first part, decode the rest, score it, and leave a report.

    Parameters
    ----------
    out : Path
        Folder that gets `recording.nwb`, `run/`, `decoded.csv` and `report.html`.
    seed : int
    overwrite : bool
        Replace what an earlier demo left in `out`.
    size : DemoSize, optional
    logger : callable
        Called with one line of text at each step.

    Raises
    ------
    InputError
        If `out` exists and `overwrite` is false, or holds what no demo has made.
    """
    from kalmanssl.datasets import place_cells
    from kalmanssl.runs._export import write_decoded
    from kalmanssl.runs._report import write_report

    size = size or DemoSize()
    _clear(out, overwrite)
    recording, run_folder = out / "recording.nwb", out / "run"
    logger(f"simulating {size.duration:g} s of {size.n_units} place cells on a track")
    simulated = place_cells(n_units=size.n_units, duration=size.duration, random_state=seed)
    out.mkdir(parents=True, exist_ok=True)
    simulated.to_nwb(recording)
    length = float(simulated.behavior["position"].max())
    settings = RunSettings(
        recording=str(recording),
        until=round(float(simulated.time[0] + size.fitted * size.duration), 3),
        end_zones=[round(0.08 * length, 3), round(0.92 * length, 3)],
        decoder=size.decoder,
        model={
            "latent_dim": size.latent_dim,
            "state_dim": size.state_dim,
            "epochs": size.epochs,
            "batch_size": size.batch_size,
            "random_state": seed,
        },
    )
    run = fit_run(settings, run_folder, logger=logger)
    rest = read_recording(recording, settings).restrict(start=settings.until)
    write_decoded(
        run.require_decoder().predict(run.model.transform(rest)),
        out / "decoded.csv",
        recording=recording,
        behavior="position",
        unit="meters",
        made_by="kalmanssl demo",
        overwrite=False,
    )
    write_report(run, out / "report.html")
    if run.evaluation is None:
        raise RuntimeError("a fitted run has no evaluation")
    return run.evaluation


def _clear(out: Path, overwrite: bool) -> None:
    """Make room, without touching what no demo has made."""
    if not out.exists():
        return
    if not overwrite:
        raise InputError(f"{out} exists: choose another --out, or replace the demo in it with --overwrite")
    made = {"recording.nwb", "run", "run.partial", "decoded.csv", "report.html"}
    strange = sorted(p.name for p in out.iterdir() if p.name not in made) if out.is_dir() else [out.name]
    run = out / "run"
    if strange or (run.exists() and not is_run(run)):
        raise InputError(f"{out} holds more than a demo ({', '.join(strange or ['run'])}): choose another --out")
    shutil.rmtree(out)
