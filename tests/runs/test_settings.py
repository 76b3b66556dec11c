"""Settings of a run, and the checks of output paths."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from kalmanssl.data import Recording
from kalmanssl.errors import InputError
from kalmanssl.runs import RunSettings
from kalmanssl.runs._behavior import period_of_angle
from kalmanssl.runs._files import check_new_output, is_run, read_json
from kalmanssl.runs._settings import parse_units


@pytest.mark.parametrize(
    ("chosen", "units"),
    [
        ([], "auto"),
        (["auto"], "auto"),
        (["all"], "all"),
        (["location=lCA1"], {"location": ["lCA1"]}),
        (["shank_id=1,2", "location=lCA1", "shank_id=3"], {"shank_id": [1, 2, 3], "location": ["lCA1"]}),
        (["quality=0.5", "good=True"], {"quality": [0.5], "good": [True]}),
    ],
)
def test_units_are_parsed_from_text(chosen, units):
    assert parse_units(chosen) == units


@pytest.mark.parametrize("chosen", ["lCA1", "=lCA1", "location="])
def test_units_without_column_or_value_are_rejected(chosen):
    with pytest.raises(InputError, match="COLUMN=VALUE") as error:
        parse_units([chosen])
    assert error.value.parameter == "units"


def test_given_settings_are_those_that_were_chosen():
    settings = RunSettings("rat.nwb", until=0.0, model={"latent_dim": 4})
    assert settings.given() == {"recording": "rat.nwb", "until": 0.0, "latent_dim": 4}


def test_settings_are_restored_from_json():
    settings = RunSettings("rat.nwb", units=["all"], end_zones=[0.1, 1.5], model={"epochs": 2})
    values = json.loads(json.dumps(dataclasses.asdict(settings) | {"recording_bytes": 7}))
    assert RunSettings.from_json(values) == settings


def test_existing_output_requires_overwrite(tmp_path):
    check_new_output(tmp_path / "new", overwrite=False)
    check_new_output(tmp_path, overwrite=True)
    with pytest.raises(InputError, match=str(tmp_path)) as error:
        check_new_output(tmp_path, overwrite=False)
    assert error.value.parameter == "overwrite"


@pytest.mark.parametrize("text", ["{", "[1]", "\x00"])
def test_damaged_json_is_reported_with_the_name_of_the_file(tmp_path, text):
    file = tmp_path / "metadata.json"
    file.write_text(text)
    with pytest.raises(InputError, match=r"metadata\.json is damaged"):
        read_json(file)
    assert not is_run(tmp_path)


def recording_of(position):
    time = np.arange(len(position)) * 0.1
    return Recording(np.ones((len(position), 2)), time, 0.1, ("1", "2"), behavior={"angle": position})


@pytest.mark.parametrize(
    ("unit", "angle", "found"),
    [
        ("radians", np.linspace(0.0, 6.28, 500), 2 * np.pi),
        ("deg", np.linspace(-180.0, 179.0, 500), 360.0),
        ("radians", np.linspace(0.0, 3.0, 500), None),  # half a circle
        ("radians", np.linspace(0.0, 60.0, 500), None),  # many turns
        ("rad/s", np.linspace(0.0, 6.28, 500), None),
        ("m", np.linspace(0.0, 6.28, 500), None),
        ("unknown", np.linspace(0.0, 6.28, 500), None),  # no jump: it may be anything
        ("unknown", np.linspace(0.0, 40.0, 500) % (2 * np.pi), 2 * np.pi),
        ("", (3.0 * np.arange(500.0)) % 360.0, 360.0),
    ],
)
def test_the_period_of_an_angle_around_the_whole_circle_is_found(unit, angle, found):
    angle[10] = np.nan
    recording = dataclasses.replace(recording_of(angle), behavior_unit={"angle": unit})
    assert period_of_angle(RunSettings("x"), recording, "angle") == (found and pytest.approx(found))
    for chosen in ({"period": 1.0}, {"period": 0.0}, {"discrete": True}, {"end_zones": [1.0, 2.0]}):
        assert period_of_angle(RunSettings("x", **chosen), recording, "angle") is None
    assert period_of_angle(RunSettings("x"), recording, None) is None
