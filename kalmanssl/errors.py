"""The errors that a caller can act on.

Everything that a user can correct raises `InputError`, in every sub-package; the command line prints its message on one
line and exits with code 2.
"""

from __future__ import annotations

__all__ = ["CollapseError", "DivergenceError", "InputError", "NotFiniteError", "RecordingWarning", "first_line"]


class InputError(ValueError):
    """Input that cannot be used. The message says what is wrong and how to correct it.

    Parameters
    ----------
    message : str
        One line.
    parameter : str, optional
        Name of the argument that is wrong, as in the signature of the function that raises; the command line shows the
        option of that name.
    """

    def __init__(self, message: str, *, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


class NotFiniteError(InputError):
    """Numbers that are NaN or infinite; before the first step of a training it is the input, later it diverged."""


class CollapseError(RuntimeError):
    """The latents lost their variance or entropy during training; the last good weights are kept."""


class DivergenceError(RuntimeError):
    """The loss or the parameters stopped being finite during training; the last good weights are kept."""


class RecordingWarning(UserWarning):
    """Something in a file was read differently from how it is written; the recording's notes say what."""


def first_line(error: BaseException) -> str:
    """Return what an error of another library says, as far as it goes into a message of one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
