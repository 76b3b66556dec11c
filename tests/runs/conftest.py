"""A run with a short fit, and the page of its report."""

from __future__ import annotations

import pytest
from report_pages import simulated

from kalmanssl.decoding import PositionDecoder
from kalmanssl.estimator import KalmanSSL
from kalmanssl.runs import Evaluation, Run, RunSettings
from kalmanssl.runs._references import fit_references
from kalmanssl.runs.report._report import build_report


@pytest.fixture(scope="session")
def run():
    training, rest = simulated()
    small = {"latent_dim": 4, "state_dim": 8, "epochs": 1, "random_state": 0}
    settings = RunSettings(recording="a <b>rat</b>.nwb", end_zones=[0.15, 1.45], model=small)
    model = KalmanSSL(**small, progress=False).fit(training)
    metadata = {
        "recording": {
            "source": "a <b>rat</b>.nwb",
            "units": 20,
            "bin_size_s": 0.025,
            "spikes": 1234567,
            "start_s": 3600.0,
            "stop_s": 3840.0,
            "fitted_until_s": 3780.0,
            "fitted_s": 180.0,
            "notes": ["the clock was <odd>"],
        },
        "behavior": {"name": "position", "unit": "meters"},
        "reference": fit_references(training, "position", None, None),
    }
    decoder = PositionDecoder(regressor="linear").fit(model.transform(training), training.behavior["position"])
    run = Run(settings, model, decoder, metadata)
    run.evaluation = Evaluation.of(run, rest)
    return run


@pytest.fixture(scope="session")
def html(run):
    return build_report(run)
