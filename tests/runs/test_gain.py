"""The held-out gain of a run, in numbers and in words."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from kalmanssl.runs import gain_line, held_out_gain
from kalmanssl.runs._gain import gain_text


def model(first, second=(), weight=0.0, **more):
    history = {"held_out_score": first[0], "held_out_score_error": first[1], **more}
    noise = {"held_out_score": second[0], "held_out_score_error": second[1]} if second else {}
    return SimpleNamespace(history_=history, noise_history_=noise, behavior_weight=weight, activity_sampling_power=2.0)


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (0.9713, 0.312, "0.97 ± 0.31"),
        (-1.5, 12.3, "-2 ± 12"),
        (0.02, 0.0049, "0.0200 ± 0.0049"),
        (0.9713, math.nan, "0.971"),
        (math.nan, math.nan, "–"),
    ],
)
def test_a_gain_has_as_many_digits_as_its_error_allows(value, error, shown):
    assert gain_text(value, error) == shown


def test_the_gain_is_that_of_the_best_epoch_of_the_better_stage():
    found = held_out_gain(model(([0.1, 0.5, 0.4], [0.3, 0.2, 0.1]), ([0.45], [0.05])))
    assert (found.value, found.error) == (0.5, 0.2)
    found = held_out_gain(model(([0.1, math.nan], [0.3, 0.2]), ([0.45, 0.6], [0.05, 0.07])))
    assert (found.value, found.error) == (0.6, 0.07)
    assert held_out_gain(model(([], []))) is None
    assert gain_line(model(([], []))) == ""


def test_with_behavior_the_gain_is_without_the_log_density_and_has_no_error():
    found = held_out_gain(model(([1.0, 3.0], [0.1, 0.1]), weight=2.0, held_out_behavior=[0.0, 0.5]))
    assert found.value == 2.0
    assert math.isnan(found.error)


def test_the_line_says_what_the_gain_is():
    line = gain_line(model(([0.97], [0.31])))
    assert line.startswith("gain of the latents: 0.97 ± 0.31 nats per bin (how much better their past predicts them")
    assert line.endswith("± is one standard error over blocks of time)")
    assert "standard error" not in gain_line(model(([0.97], [math.nan])))


def test_the_line_has_the_gains_of_both_stages_because_they_compare_with_other_averages():
    line = gain_line(model(([1.86], [0.43]), ([0.97, 0.98], [0.6, 0.59])))
    assert "0.98 ± 0.59 nats per bin, and 1.86 ± 0.43 in windows with much activity (how" in line
