"""Whether noise that follows the activity helps: likelihood and calibration of the filter, and decoding.

Three models have the same encoder: "one stage" has the predictor that was trained with the encoder; "constant" is the
default, whose predictor was fitted once more to the latents; "activity" likewise, with noise that follows the activity.
They are fitted on the first 70 % of the training part of a recording and judged on the rest of it, so the test part
stays unseen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from measure import Stopwatch, machine_facts
from results_store import Results, Row
from suite import RESULTS, cli_errors, err_console
from thread_limits import limit_threads

from decoding.methods import FULL, QUICK, Preset
from decoding.options import DataFolder, Quick, Threads, data_folder
from decoding.ours import FittedModel, decode_latents, infer_latents
from decoding.recordings import RECORDINGS, SIMULATED, load, targets_of
from decoding.scores import score
from decoding.tasks import Data, Task
from kalmanssl.data import Recording
from kalmanssl.utils.validation import unknown_name_error

__all__ = ["main"]

NOISES = ("one stage", "constant", "activity")
RING = "ring with a common gain"
DEFAULT = {False: (RING, *RECORDINGS), True: (RING, "simulated ring")}  # by --quick
DURATION, QUICK_DURATION = 600.0, 100.0  # s, of the simulated ring with a common gain
SHARE = 0.7  # of the training part, to fit on
BLOCKS = 20  # of equal duration, for standard errors
SKIPPED = 2  # first steps of a segment, which depend on the initial state
DRAWS = 30  # for the true variance of the latents


def main(
    data: DataFolder = None,
    out: Annotated[Path, typer.Option(help="Folder of the results; a stopped run is resumed.")] = RESULTS
    / "decoding"
    / "noise",
    recording: Annotated[list[str] | None, typer.Option(help="Name of a recording; repeatable.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 3,
    threads: Threads = 1,
    decode: Annotated[bool, typer.Option(help="Whether to decode behavior, which takes most of the time.")] = True,
    quick: Quick = False,
) -> None:
    """Run the benchmark."""
    with cli_errors(out):
        names = list(recording or DEFAULT[quick])
        for name in names:
            if name not in (known := (RING, *RECORDINGS, *SIMULATED)):
                raise unknown_name_error("recording", name, known)
        folder = data_folder(data) if any(name in RECORDINGS for name in names) else Path()
        settings = {"quick": quick, "threads": threads, "share": SHARE}
        results = Results(out, settings, machine_facts(threads), ("data", "noise", "seed"))
        limit_threads(threads)
        preset = QUICK if quick else FULL
        for name in names:
            for seed in range(seeds):
                if any(results.is_pending(name, noise, seed) for noise in NOISES):
                    for row in _compare(name, folder, seed, preset, decode):
                        results.add(row)
                        err_console.print(_describe(row), markup=False, highlight=False)


def _compare(name: str, folder: Path, seed: int, preset: Preset, decode: bool) -> list[Row]:
    """Fit the models and judge them; gains in likelihood are those over one stage, and over constant noise."""
    data, rates = _data(name, folder, seed, QUICK_DURATION if preset is QUICK else DURATION)
    rows: list[Row] = []
    per_bin: dict[str, np.ndarray] = {}
    for noise in NOISES:
        row, per_bin[noise] = _measure(data, noise, seed, preset, decode, rates)
        rows.append({"data": name, "noise": noise, "seed": seed, **row})
    observed = per_bin["activity"] != 0  # a step without activity is missing for this model
    per_bin = {noise: log_likelihood[observed] for noise, log_likelihood in per_bin.items()}
    for row in rows:
        row["log_likelihood"] = float(per_bin[row["noise"]].mean())
        row["observed"] = float(observed.mean())
    for row in rows[1:]:
        row |= _gain("gain", per_bin[row["noise"]] - per_bin["one stage"])
    rows[2] |= _gain("gain_over_constant", per_bin["activity"] - per_bin["constant"])
    return rows


def _gain(name: str, difference: np.ndarray) -> Row:
    """Return the mean difference in log-likelihood, nats per bin, and its standard error over blocks of time."""
    blocks = [block.mean() for block in np.array_split(difference, BLOCKS)]
    return {name: float(difference.mean()), f"{name}_error": float(np.std(blocks, ddof=1) / BLOCKS**0.5)}


def _data(name: str, folder: Path, seed: int, duration: float) -> tuple[Data, np.ndarray | None]:
    """Return the part to fit on and the part to judge on, and for the simulated ring the true rates of the latter."""
    if name == RING:
        from kalmanssl.datasets import ring_cells

        whole = ring_cells(duration=duration, random_state=seed)
        fitted, judged = whole.split(at=SHARE * len(whole.time) * whole.bin_size)
        moving = [np.ones(len(part.time), dtype=bool) for part in (fitted, judged)]
        return Data(name, fitted, judged, *moving), judged.behavior["rate"]
    full = load(name, folder)
    time = full.train.time
    at = time[int(SHARE * len(time))]
    fitted, judged = full.train.split(at=at)
    running = full.running_train
    return Data(name, fitted, judged, running[time < at], running[time >= at], full.events, full.has_traversals), None


def _measure(
    data: Data, noise: str, seed: int, preset: Preset, decode: bool, rates: np.ndarray | None
) -> tuple[Row, np.ndarray]:
    """Fit one model; return its row and the log-likelihood of every bin of the part to judge on, nats."""
    from kalmanssl import KalmanSSL

    with Stopwatch() as fitting:
        settings = {"noise_epochs": 0} if noise == "one stage" else {"noise": noise}
        model = KalmanSSL(**{"random_state": seed, "progress": False} | preset.model | settings).fit(data.train)
    with Stopwatch() as filtering:
        latents = model.transform(data.test)
    row: Row = {
        "fit_cpu_s": fitting.cpu,
        "filter_cpu_s": filtering.cpu,
        "varies": noise == "activity" and model.model_.predictor.observation_noise.varies,
        **_calibration(model, data.test),
    }
    if rates is not None:
        true = _true_variance(model, rates * data.test.bin_size, latents.segment)
        found = np.log(latents.noise[model.bins_per_step_ :]).mean(1)
        active = latents.log_likelihood[model.bins_per_step_ :] != 0
        varies = np.ptp(found) > 0
        row["noise_correlation"] = float(np.corrcoef(found[active], true[active])[0, 1]) if varies else 0.0
    if decode and data.name != RING:
        fitted = infer_latents(model, data, fitting.cpu)
        row["scores"] = {
            target.name: _decode(fitted, Task(data, target), seed, preset) for target in targets_of(data.name)
        }
    return row, latents.log_likelihood


@torch.no_grad()
def _calibration(model: Any, recording: Recording) -> Row:
    """Return the mean squared whitened innovation, 1 if the covariances are right: over all, and in deciles.

    Steps without activity are left out.

    The deciles are those of the predicted variance (the determinant of the innovation's covariance).
    """
    from kalmanssl.kalman import whiten

    fitted = model.model_.double().eval()
    size, square = [], []
    for features in model.encoder_input(recording):
        if features.shape[1] <= SKIPPED:
            continue
        prediction = fitted.predictor(fitted.encoder(features), features)
        cov = prediction.filtered.innovation_cov.expand(*prediction.latent.shape, -1)
        white = whiten(prediction.filtered.innovation, cov)
        active = (features != 0).any(-1)[:, SKIPPED:]
        square.append(white.square().mean(-1)[:, SKIPPED:][active])
        size.append(torch.linalg.slogdet(cov).logabsdet[:, SKIPPED:][active])
    model.model_.float()
    square, order = torch.cat(square), torch.cat(size).argsort(stable=True)
    return {"nis": float(square.mean()), "nis_by_decile": [float(x.mean()) for x in square[order].chunk(10)]}


@torch.no_grad()
def _true_variance(model: Any, expected: np.ndarray, segment: np.ndarray) -> np.ndarray:
    """Return the mean over channels of the logarithm of the true variance of the latents, from new draws of the counts.

    `expected` are the expected counts (time, units) of a recording in one segment. The first step is left out.
    """
    assert segment[0] == segment[-1]
    step = model.bins_per_step_
    summed = np.cumsum(expected, axis=0)
    summed = summed[step:] - summed[:-step]
    rng = np.random.default_rng(0)
    encoder = model.model_.encoder
    draws = [encoder(torch.from_numpy(rng.poisson(summed)[None]).float())[0] for _ in range(DRAWS)]
    return torch.stack(draws).var(0).clamp_min(1e-12).log().mean(1).numpy()


def _decode(fitted: FittedModel, task: Task, seed: int, preset: Preset) -> dict[str, Any]:
    """Decode a behavior from the latents; return the main scores of the filter and of the smoother."""
    found = {}
    for smooth, name in ((False, "filter"), (True, "smoother")):
        prediction, _, _ = decode_latents(fitted, task, seed, smooth, preset.decoder)
        scores = score(prediction, task)
        found[name] = {
            part: {key: scores[part][key] for key in ("median_error", "mean_error", "r2", "crps", "coverage", "width")}
            for part in ("all", "running")
            if scores[part] is not None
        }
    return found


def _describe(row: Row) -> str:
    """Return the figures of a row as text."""
    gain = "".join(
        f", {name.replace('_', ' ')} {row[name]:.3f} ± {row[f'{name}_error']:.3f}"
        for name in ("gain", "gain_over_constant")
        if name in row
    )
    deciles = " ".join(f"{x:.2f}" for x in row["nis_by_decile"])
    parts = [
        f"{row['data']}, {row['noise']}, seed {row['seed']}: {row['log_likelihood']:.3f} nats per bin{gain}",
        f"NIS {row['nis']:.2f}, by decile {deciles}",
        f"fit {row['fit_cpu_s']:.1f} CPU s",
    ]
    if "noise_correlation" in row:
        parts.append(f"correlation with the true variance {row['noise_correlation']:.2f}")
    for target, scores in row.get("scores", {}).items():
        parts.append(f"{target}: " + ", ".join(f"{k} CRPS {v['all']['crps']:.3f}" for k, v in scores.items()))
    return "; ".join(parts)
