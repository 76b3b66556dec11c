"""Times as text."""

from __future__ import annotations

import numpy as np

from kalmanssl import Recording
from kalmanssl.utils.text import duration_text, time_span, time_text


def test_rounding_errors_of_the_first_edge_are_not_shown() -> None:
    assert time_text(0.0125 - 0.5 * 0.025 + 7e-17) == "0"
    assert time_text(-1e-9) == "0"
    assert time_text(8426.9816 - 1e-12) == "8426.982"
    assert time_text(1200.0) == "1200"
    assert time_span(18079.5, 19320.000025) == "18079.5 to 19320 s"
    assert time_span(-0.25, 1700000000.125) == "-0.25 to 1700000000.125 s"


def test_a_recording_that_starts_at_zero_says_so() -> None:
    time = 0.0125 + 6.938893904e-17 + 0.025 * np.arange(40)
    assert "0 to 1 s" in repr(Recording.from_arrays(np.ones((40, 2)), bin_size=0.025, time=time))


def test_durations_have_a_unit_that_is_easy_to_read() -> None:
    found = [duration_text(seconds) for seconds in (0, 0.025, 12, 99.6, 100, 880, 6000, float("nan"))]
    assert found == ["0 s", "25 ms", "12 s", "99.6 s", "1.67 min", "14.7 min", "1.67 h", "–"]
