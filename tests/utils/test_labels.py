"""Labels: unknown ones, types, order, and messages that name the argument."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kalmanssl.errors import InputError
from kalmanssl.utils.labels import distinct_labels, label_column


def test_unknown_labels_are_none():
    values = np.array(["left", "", None, float("nan"), pd.NA, "right"], dtype=object)
    assert label_column("y", values).tolist() == ["left", None, None, None, None, "right"]
    assert distinct_labels("y", values) == ["left", "right"]


def test_labels_are_sorted_unless_pandas_gives_their_order():
    assert distinct_labels("y", [10, 9, 10]) == [9, 10]
    assert distinct_labels("y", pd.Categorical(["b", "a"], categories=["b", "c", "a"])) == ["b", "a"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["left", 1], r"y\['arm'\] mixes labels of the types number and text"),
        ([(1, 2), None], r"labels of the type tuple"),
        (["left", ""], "has the label 'left' only"),
        ([None, ""], "has no known label"),
        ([["a", "b"], ["c", "d"]], r"shape \(2, 2\): labels must be \(time,\)"),
    ],
)
def test_labels_that_cannot_be_used_are_refused_with_the_name_of_the_argument(values, message):
    given = values
    if isinstance(values[0], tuple | str) and len(values) == 2:
        given = np.empty(2, dtype=object)
        given[:] = values
    with pytest.raises(InputError, match=message) as caught:
        distinct_labels("y['arm']", given)
    assert caught.value.parameter == "y"
