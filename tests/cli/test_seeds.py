"""--seeds: several fits, and how well their latents agree."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cli_commands import SMALL, UNTIL, fails, invoke

from kalmanssl.data import Recording
from kalmanssl.identifiability import consistency
from kalmanssl.runs import Run
from kalmanssl.runs._fit import fit_phases
from kalmanssl.runs._seeds import seed_agreement, seeds_sentence


def test_latents_of_several_seeds_are_compared(recording, tmp_path):
    out = tmp_path / "run"
    args = ("--until", UNTIL, *SMALL, "--epochs", 1, "--seed", 3, "--seeds", 2, "--behavior", "none")
    result = invoke("fit", recording, "--out", out, *args)
    assert result.exit_code == 0, result.output
    phases = [line.split(": ")[1] for line in result.stderr.splitlines() if line.startswith("phase")]
    assert phases == ["reading", "encoder and dynamics", "fit 2 of 2", "evaluation"]
    run = Run.load(out)
    found = run.metadata["seeds"]
    assert found["seeds"] == [3, 4]
    assert f"mean {found['consistency']:.2f}" in result.stderr
    other = tmp_path / "other"
    single = ("--until", UNTIL, *SMALL, "--epochs", 1, "--seed", 4, "--behavior", "none")
    assert invoke("fit", recording, "--out", other, *single).exit_code == 0
    train, rest = Recording.from_nwb(recording).split(at=UNTIL)
    models = [run.model, Run.load(other).model]
    expected = consistency(*([model.transform(part).latent for model in models] for part in (train, rest)))
    assert found["consistency"] == pytest.approx(expected, abs=1e-3)
    assert invoke("report", out).exit_code == 0
    assert "The latents of 2 fits with other seeds" in (out / "report.html").read_text()
    metadata = json.loads((out / "metadata.json").read_text())
    metadata["seeds"]["pairs"] = {}
    (out / "metadata.json").write_text(json.dumps(metadata))
    assert "seeds" in fails("report", out, "--overwrite")


class Model:
    """A model with known latents."""

    def __init__(self, weights, n):
        self.weights, self.history_ = weights, {"held_out_score": [0.1, 0.3], "held_out_score_error": [0.2, 0.05]}
        self.noise_history_ = {"held_out_score": []}
        self.values = np.random.default_rng(0).standard_normal((n, 2))

    def transform(self, recording):
        values = self.values[: len(recording)]
        noise = np.random.default_rng(len(values) + int(100 * self.weights[0, 0])).standard_normal(values.shape)
        return type("Latents", (), {"latent": values @ self.weights + self.noise * noise})()

    noise = 0.0


@pytest.mark.parametrize(("noise", "word"), [(0.0, "agree well"), (0.4, "agree in part"), (5.0, "do not agree")])
def test_affine_maps_do_not_matter_for_the_agreement_and_noise_does(noise, word, monkeypatch):
    monkeypatch.setattr(Model, "noise", noise)
    turn = [[np.eye(2)], [np.array([[0.0, 1.0], [-1.0, 0.0]])], [np.array([[0.8, 0.6], [-0.6, 0.8]])]]
    models = [Model(weights, 4000) for (weights,) in turn]
    part = Recording.from_arrays(np.ones((4000, 2)))
    found = seed_agreement(models[0], 3, 5, lambda seed: models[seed - 5], part, None)
    assert found["seeds"] == [5, 6, 7]
    assert len(found["pairs"]) == 6
    assert found["gains"] == [0.3] * 3
    assert found["gain_errors"] == [0.05] * 3
    assert found["consistency"] == pytest.approx(1 / (1 + noise**2) ** 2, abs=0.03)
    assert word in seeds_sentence(found)
    assert "last fifth of the fitted part" in seeds_sentence(found)
    assert seeds_sentence(found).endswith("agreement is no proof")
    assert seeds_sentence(None) == ""


def test_shared_directions_do_not_depend_on_the_coordinates():
    rng = np.random.default_rng(2)
    common, part = rng.standard_normal((4000, 2)), Recording.from_arrays(np.ones((4000, 2)))
    shared, r2 = [], []
    for weight in (0.1, 10.0):  # of what each fit has alone, which is mixed into all latents
        models = []
        for _ in range(2):
            latent = np.concatenate([common, weight * rng.standard_normal((4000, 3))], axis=1) @ rng.normal(size=(5, 5))
            one = type("Latents", (), {"latent": latent})()
            kept = {"transform": lambda self, recording, one=one: one, "history_": {}, "noise_history_": {}}
            models.append(type("Fit", (), kept)())
        found = seed_agreement(models[0], 2, 0, lambda seed, models=models: models[seed], part, None)
        shared.append((found["shared"], found["latents"]))
        r2.append(found["consistency"])
        assert "share 2 of 5 directions" in seeds_sentence(found)
        assert "share" not in seeds_sentence({name: found[name] for name in found if name != "shared"})
    assert shared == [(2.0, 5), (2.0, 5)]
    assert r2[0] > 0.9 > 0.3 > r2[1]  # although what the fits share is the same


@pytest.mark.parametrize("seeds", ["1", "0", "-3", "21"])
def test_other_numbers_of_seeds_are_refused(recording, tmp_path, monkeypatch, seeds):
    monkeypatch.setattr("kalmanssl.training._loop._Loop.run", lambda *a, **k: pytest.fail("trained"))
    assert "--seeds must be a whole number, at " in fails("fit", recording, "--out", tmp_path / "run", "--seeds", seeds)


def test_phases_have_one_for_each_seed():
    from kalmanssl.runs import RunSettings

    names = [phase.name for phase in fit_phases(RunSettings("x", seeds=3), dims=1)]
    assert names[1:4] == ["encoder and dynamics", "fit 2 of 3", "fit 3 of 3"]
