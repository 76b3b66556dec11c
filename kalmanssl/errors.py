"""Exceptions and warnings.

Wrong input raises `InputError` in every sub-package. The command line prints its message on one line and exits with
code 2.
"""

from __future__ import annotations

__all__ = [
    "CalibrationWarning",
    "CollapseError",
    "DivergenceError",
    "DownloadError",
    "InputError",
    "NotFiniteError",
    "PeriodWarning",
    "RecordingWarning",
    "first_line",
]


class InputError(ValueError):
    """Input that cannot be used. The message says what is wrong and how to correct it.

    Parameters
    ----------
    message : str
        One line.
    parameter : str, optional
        Name of the argument that is wrong, as in the signature of the function that raises; the command line shows the
        option of that name. If an entry of an argument is wrong, such as ``behavior['speed']``, the attribute has the
        name before the bracket.
    """

    def __init__(self, message: str, *, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = None if parameter is None else parameter.partition("[")[0]


class NotFiniteError(InputError):
    """Values that are NaN or infinite. After the first step of training it means that training diverged."""


class DownloadError(InputError):
    """Data that could not be downloaded. The message says why, and whether to try again."""


class CollapseError(RuntimeError):
    """The latents lost their variance or entropy during training; the model has its last good weights."""


class DivergenceError(RuntimeError):
    """The loss or the gradient became NaN or infinite during training; the model has its last good weights."""


class CalibrationWarning(UserWarning):
    """Intervals are not calibrated, or on too few blocks of held-out time for their level."""


class PeriodWarning(UserWarning):
    """Behavior jumps between the ends of a whole circle, as angles do, but has no period."""


class RecordingWarning(UserWarning):
    """A value in a file was corrected on reading; `Recording.notes` has the details."""


def first_line(error: BaseException) -> str:
    """Return the first line of the message of an error, for use in a message of one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
