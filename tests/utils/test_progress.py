"""Progress of long work that is reported to a listener."""

from __future__ import annotations

import pytest

from kalmanssl.utils.progress import listen_to_progress, progress_part, report_progress


def test_shares_of_nested_parts_are_those_of_the_whole() -> None:
    heard: list[float] = []
    with listen_to_progress(heard.append):
        with progress_part(0.0, 0.5):
            report_progress(0.5)
            with progress_part(0.5, 1.0):
                report_progress(0.5)
        report_progress(0.9)
    report_progress(1.0)  # nobody listens any more
    assert heard == pytest.approx([0.25, 0.375, 0.5, 0.5, 0.9])


def test_without_a_listener_and_after_an_error_nothing_is_heard() -> None:
    report_progress(0.5)
    with progress_part(0.0, 1.0):
        report_progress(0.5)
    heard: list[float] = []
    with pytest.raises(ValueError, match="stop"), listen_to_progress(heard.append), progress_part(0.0, 0.5):
        raise ValueError("stop")
    report_progress(0.5)
    assert heard == []
