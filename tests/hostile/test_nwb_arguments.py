"""Malformed arguments of `Recording.from_nwb` and `summarize_nwb`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import LONGEST_MESSAGE, assert_refused

from kalmanssl import Recording
from kalmanssl.data import summarize_nwb
from kalmanssl.errors import InputError

HUGE = "x" * 10_000
BAD: dict[str, list[Any]] = {
    "bin_size": ["0.1", True, np.nan, np.inf, -1.0, 0, 0.0, [0.1], np.array([0.1, 0.2]), 1j, 10**400, b"1", {}],
    "units": [
        3,
        0.5,
        None,
        ["all"],
        np.array(["all", "auto"]),
        b"all",
        True,
        "every",
        HUGE,
        {"shank": 77},
        {"no": 1},
        {3: 1},
        {"shank": {}},
        {"shank": None},
        {"shank": HUGE},
        {"shank": np.nan},
    ],
    "behavior": [
        3,
        0.5,
        True,
        b"pupil",
        [3],
        [None],
        [],
        {},
        {"a": 3},
        {3: "pupil"},
        {"a": None},
        "",
        HUGE,
        "a\nb",
        "nothing",
        "\udcff",
        np.array(["pupil"]),
        [[]],
    ],
    "epoch": [3, True, ["first"], b"first", "third", HUGE, "a\nb", "", np.array([1.0, 2.0]), {}],
    "random_state": [-1, 0.5, "0", True, [0], np.nan, 2**70],
    "activity": [3, True, ["units"], b"units", "nothing", HUGE, "", "a\nb", np.array(["units"]), {}],
    "session": [3, True, ["a"], b"a", {}],
}
CASES = {
    f"{name}={' '.join(repr(value).split())[:30]}": (name, value) for name, values in BAD.items() for value in values
}


@pytest.mark.parametrize(("name", "value"), CASES.values(), ids=CASES)
def test_malformed_arguments_are_refused(name: str, value: Any, session_file: Path) -> None:
    arguments = {"behavior": "mazeSpatialSeries"} | {name: value}
    match = "unit" if name == "units" else name
    assert_refused(lambda: Recording.from_nwb(session_file, **arguments), match)


NOT_NAMES = {key: case for key, case in CASES.items() if case[0] in ("units", "behavior", "activity")}


@pytest.mark.parametrize(("name", "value"), NOT_NAMES.values(), ids=NOT_NAMES)
def test_summaries_with_malformed_arguments_have_short_lines(name: str, value: Any, session_file: Path) -> None:
    try:
        text = str(summarize_nwb(session_file, **{name: value}))
    except InputError as error:
        text = str(error)
        assert len(text.splitlines()) == 1
    else:
        assert isinstance(value, str | list | dict)  # names that are not in the file are problems of the summary
    assert max(map(len, text.splitlines())) <= LONGEST_MESSAGE
